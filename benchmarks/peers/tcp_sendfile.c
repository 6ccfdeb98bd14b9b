/* Sends a file to 127.0.0.1 with sendfile, TIMES times over one connection; prints the bytes and the cpu seconds they took.
 *
 * usage: tcp_sendfile PORT FILE TIMES
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

static double cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	unsigned long long moved = 0;
	int times, file, fd = socket(AF_INET, SOCK_STREAM, 0);
	double start;

	if (argc != 4 || fd < 0)
		return 2;
	to.sin_port = htons((unsigned short)atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	file = open(argv[2], O_RDONLY);
	if (file < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
		perror("tcp_sendfile");
		return 1;
	}
	start = cpu();
	for (times = atoi(argv[3]); times > 0; times--) {
		off_t offset = 0;

		for (;;) {
			ssize_t n = sendfile(fd, file, &offset, 0x7ffff000);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0) {
				perror("tcp_sendfile");
				return 1;
			}
			if (n == 0)
				break;
			moved += (unsigned long long)n;
		}
	}
	printf("%llu %.9f\n", moved, cpu() - start);
	return 0;
}
