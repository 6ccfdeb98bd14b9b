/* Accepts one connection and drops its bytes in the kernel (MSG_TRUNC copies nothing).
 * Prints its port, and at the end how many bytes came and the seconds from the first to end of file.
 *
 * usage: tcp_sink
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void)
{
	static char buffer[1 << 20];
	struct sockaddr_in here = {.sin_family = AF_INET};
	socklen_t size = sizeof here;
	unsigned long long moved = 0;
	double start = 0;
	int fd, server = socket(AF_INET, SOCK_STREAM, 0);

	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (server < 0 || bind(server, (struct sockaddr *)&here, sizeof here) < 0 || listen(server, 1) < 0 ||
	    getsockname(server, (struct sockaddr *)&here, &size) < 0) {
		perror("tcp_sink");
		return 1;
	}
	printf("%d\n", ntohs(here.sin_port));
	fflush(stdout);
	fd = accept(server, NULL, NULL);
	if (fd < 0) {
		perror("tcp_sink: accept");
		return 1;
	}
	for (;;) {
		ssize_t n = recv(fd, buffer, sizeof buffer, MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			perror("tcp_sink: recv");
			return 1;
		}
		if (n == 0)
			break;
		if (moved == 0)
			start = now();
		moved += (unsigned long long)n;
	}
	printf("%llu %.9f\n", moved, moved ? now() - start : 0.0);
	return 0;
}
