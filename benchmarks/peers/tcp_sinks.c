/* Accepts connections and drops their bytes in the kernel (MSG_TRUNC copies nothing), in one thread.
 * Prints its port, and at the end how many bytes came, the fewest and the most of one connection, and the seconds
 * from the first byte to the last end of file.
 *
 * usage: tcp_sinks CONNECTIONS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64
#define AT_ONCE (1 << 20)

struct conn {
	int fd;
	unsigned long long moved;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *call)
{
	fprintf(stderr, "tcp_sinks: %s: %s\n", call, strerror(errno));
	exit(1);
}

static int listening(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET};
	socklen_t size = sizeof here;
	int server = socket(AF_INET, SOCK_STREAM, 0);

	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (server < 0 || bind(server, (struct sockaddr *)&here, sizeof here) < 0 || listen(server, 1024) < 0 ||
	    getsockname(server, (struct sockaddr *)&here, &size) < 0)
		fail("listen");
	printf("%d\n", ntohs(here.sin_port));
	fflush(stdout);
	return server;
}

/* Takes what one connection has; 0 at its end. */
static int drop(struct conn *c)
{
	static char buffer[AT_ONCE];
	ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_TRUNC | MSG_DONTWAIT);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 1;
	if (n < 0)
		fail("recv");
	c->moved += (unsigned long long)n;
	return n > 0;
}

int main(int argc, char **argv)
{
	int i, count = argc == 2 ? atoi(argv[1]) : 0, open = 0, server, poller = epoll_create1(0);
	struct conn *conns = calloc((size_t)count + 1, sizeof *conns);
	unsigned long long all = 0, least = ~0ULL, most = 0;
	double start = 0;

	if (count < 1 || !conns || poller < 0)
		return 2;
	server = listening();
	for (; open < count; open++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &conns[open]};

		conns[open].fd = accept(server, NULL, NULL);
		if (conns[open].fd < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, conns[open].fd, &event) < 0)
			fail("accept");
	}
	while (open) {
		struct epoll_event events[EVENTS];
		int ready = epoll_wait(poller, events, EVENTS, -1);

		if (ready > 0 && start == 0)
			start = now();
		for (i = 0; i < ready; i++) {
			struct conn *c = events[i].data.ptr;

			if (!drop(c)) {
				close(c->fd);
				open--;
			}
		}
	}
	for (i = 0; i < count; i++) {
		all += conns[i].moved;
		least = conns[i].moved < least ? conns[i].moved : least;
		most = conns[i].moved > most ? conns[i].moved : most;
	}
	printf("%llu %llu %llu %.9f\n", all, least, most, now() - start);
	return 0;
}
