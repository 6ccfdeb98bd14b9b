/* Echoes what comes, on any number of connections, until it is killed. Prints its port.
 *
 * usage: tcp_echo [BYTES]
 *
 * With BYTES it closes each connection first, once so many have gone back. TIME_WAIT stays with who closes first:
 * here that is one port for all, where a relay's would be one each. For the same reason a connection that is open
 * when the echo is killed is reset: ten thousand ports of a relay in TIME_WAIT would leave none for the next.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define BUFFER (256 * 1024)
#define FDS (1 << 16)

/* What a socket did not take at once; nothing is read from it until that is gone. By descriptor. */
static struct conn {
	char *left;
	size_t at, end;
	unsigned long long echoed;
} conns[FDS];

static char buffer[BUFFER];
static unsigned long long limit;
static int poller;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void watch(int fd, int how, unsigned events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	if (epoll_ctl(poller, how, fd, &event) < 0)
		fail("tcp_echo: epoll_ctl");
}

static void linger(int fd, int on)
{
	struct linger value = {.l_onoff = on};

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, sizeof value) < 0)
		fail("tcp_echo: SO_LINGER");
}

static void drop(int fd, int orderly)
{
	if (orderly)
		linger(fd, 0);
	free(conns[fd].left);
	conns[fd] = (struct conn){0};
	close(fd);
}

static void take(int server)
{
	int on = 1, fd = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	if (fd < 0 || fd >= FDS)
		fail("tcp_echo: accept");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	linger(fd, 1);
	watch(fd, EPOLL_CTL_ADD, EPOLLIN);
}

/* Returns how much went out, or -1 if the connection is gone. */
static ssize_t give(int fd, const char *data, size_t size)
{
	ssize_t n = send(fd, data, size, MSG_NOSIGNAL);

	if (n < 0 && errno == EAGAIN)
		return 0;
	return n;
}

static void keep(int fd, size_t from, size_t size)
{
	struct conn *c = &conns[fd];

	c->left = malloc(size - from);
	if (!c->left)
		fail("tcp_echo: malloc");
	memcpy(c->left, buffer + from, size - from);
	c->at = 0;
	c->end = size - from;
	watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
}

static ssize_t give_left(int fd)
{
	struct conn *c = &conns[fd];
	ssize_t n = give(fd, c->left + c->at, c->end - c->at);

	if (n < 0)
		return n;
	c->at += (size_t)n;
	if (c->at == c->end) {
		free(c->left);
		c->left = NULL;
		watch(fd, EPOLL_CTL_MOD, EPOLLIN);
	}
	return n;
}

static void step(int fd)
{
	struct conn *c = &conns[fd];
	ssize_t got, gone;

	if (c->left) {
		gone = give_left(fd);
	} else {
		got = recv(fd, buffer, sizeof buffer, 0);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			drop(fd, got == 0);
			return;
		}
		gone = give(fd, buffer, (size_t)got);
		if (gone >= 0 && gone < got)
			keep(fd, (size_t)gone, (size_t)got);
	}
	if (gone < 0) {
		drop(fd, 0);
		return;
	}
	c->echoed += (unsigned long long)gone;
	if (limit && c->echoed >= limit)
		drop(fd, 1);
}

int main(int argc, char **argv)
{
	static struct epoll_event events[EVENTS];
	struct sockaddr_in here = {.sin_family = AF_INET};
	socklen_t size = sizeof here;
	int i, ready, server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (argc > 2)
		return 2;
	limit = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (server < 0 || poller < 0 || bind(server, (struct sockaddr *)&here, sizeof here) < 0 ||
	    listen(server, 4096) < 0 || getsockname(server, (struct sockaddr *)&here, &size) < 0)
		fail("tcp_echo");
	watch(server, EPOLL_CTL_ADD, EPOLLIN);
	printf("%d\n", ntohs(here.sin_port));
	fflush(stdout);
	for (;;) {
		ready = epoll_wait(poller, events, EVENTS, -1);
		if (ready < 0 && errno != EINTR)
			fail("tcp_echo: epoll_wait");
		for (i = 0; i < ready; i++) {
			if (events[i].data.fd == server)
				take(server);
			else
				step(events[i].data.fd);
		}
	}
}
