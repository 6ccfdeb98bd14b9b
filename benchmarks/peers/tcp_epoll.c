/* The least that a relay of many connections can do: epoll, one recv, one send.
 *
 * usage: tcp_epoll LISTEN_PORT UPSTREAM_PORT
 *
 * Until killed. It waits where a socket is full, for the upstream too, and knows of nothing that can go wrong: it is
 * here to show what the kernel asks for the moving of small messages, not to be right.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define BUFFER (64 * 1024)
#define FDS (1 << 16)

/* By descriptor: the other end, and whether this one has nothing more to say. */
static int other[FDS];
static char ended[FDS], buffer[BUFFER];
static struct sockaddr_in at = {.sin_family = AF_INET};
static int poller;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		fail("tcp_epoll: epoll_ctl");
	ended[fd] = 0;
}

static void take(int server)
{
	int a = accept4(server, NULL, NULL, SOCK_NONBLOCK), b = socket(AF_INET, SOCK_STREAM, 0);

	if (a < 0 || b < 0 || a >= FDS || b >= FDS || connect(b, (struct sockaddr *)&at, sizeof at) < 0 ||
	    fcntl(b, F_SETFL, O_NONBLOCK) < 0)
		fail("tcp_epoll: connect");
	other[a] = b;
	other[b] = a;
	watch(a);
	watch(b);
}

static void drop(int fd)
{
	/* Of two that were ready at once the second would be asked after it is closed. */
	ended[fd] = ended[other[fd]] = 1;
	close(other[fd]);
	close(fd);
}

static int put(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
		struct pollfd wait = {.fd = fd, .events = POLLOUT};

		if (n < 0 && errno != EAGAIN)
			return -1;
		if (n < 0)
			poll(&wait, 1, -1);
		else
			data += n, size -= (size_t)n;
	}
	return 0;
}

static void step(int fd)
{
	ssize_t n = ended[fd] ? -1 : recv(fd, buffer, sizeof buffer, 0);

	if (ended[fd] || (n < 0 && errno == EAGAIN))
		return;
	if (n < 0 || put(other[fd], buffer, (size_t)n) < 0 || (n == 0 && ended[other[fd]])) {
		drop(fd);
	} else if (n == 0) {
		ended[fd] = 1;
		epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL);
		shutdown(other[fd], SHUT_WR);
	}
}

int main(int argc, char **argv)
{
	static struct epoll_event events[EVENTS];
	int i, ready, on = 1, server = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 3 || server < 0)
		return 2;
	poller = epoll_create1(0);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	at.sin_port = htons((unsigned short)atoi(argv[1]));
	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (poller < 0 || bind(server, (struct sockaddr *)&at, sizeof at) < 0 || listen(server, 4096) < 0)
		fail("tcp_epoll: listen");
	at.sin_port = htons((unsigned short)atoi(argv[2]));
	watch(server);
	for (;;) {
		ready = epoll_wait(poller, events, EVENTS, -1);
		for (i = 0; i < ready; i++) {
			if (events[i].data.fd == server)
				take(server);
			else
				step(events[i].data.fd);
		}
	}
}
