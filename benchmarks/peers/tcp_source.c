/* Sends one unchanging buffer to 127.0.0.1 for a fixed time, half-closes, and waits for the other side to end.
 *
 * usage: tcp_source PORT SECONDS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (256 * 1024)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static char buffer[BUFFER];
	struct sockaddr_in to = {.sin_family = AF_INET};
	unsigned long long moved = 0;
	double stop;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 3 || fd < 0)
		return 2;
	to.sin_port = htons((unsigned short)atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	memset(buffer, 'x', sizeof buffer);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
		perror("tcp_source: connect");
		return 1;
	}
	stop = now() + atof(argv[2]);
	while (now() < stop) {
		ssize_t n = send(fd, buffer, sizeof buffer, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			perror("tcp_source: send");
			return 1;
		}
		moved += (unsigned long long)n;
	}
	shutdown(fd, SHUT_WR);
	/* The end of the way back proves that the relay has let go of both directions. */
	while (recv(fd, buffer, sizeof buffer, 0) > 0)
		;
	printf("%llu\n", moved);
	return 0;
}
