/* Connects to an echo at 127.0.0.1 over and over, so many at once: each connection sends a message, compares what comes
 * back, waits for the other side to end, and closes. Prints the connections and the seconds that they took.
 *
 * usage: tcp_connect PORT CONNECTIONS AT_ONCE SIZE
 *
 * The other side is to close first, so that no port of this one stays in TIME_WAIT (see tcp_echo.c).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 1024
#define LARGEST (16 * 1024)
#define SOURCES 8

struct conn {
	int fd, sent;
	uint64_t number;
	size_t got;
};

static struct sockaddr_in to = {.sin_family = AF_INET};
static struct conn conns[MOST];
static char message[LARGEST], came[LARGEST];
static size_t size;
static int poller;
static long long begun, done, wanted;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	fprintf(stderr, "tcp_connect: %s (after %lld connections)\n", what, done);
	exit(1);
}

static void watch(struct conn *c, int how, unsigned events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (epoll_ctl(poller, how, c->fd, &event) < 0)
		fail(strerror(errno));
}

static void begin(struct conn *c)
{
	struct sockaddr_in from = {.sin_family = AF_INET};
	int on = 1;

	*c = (struct conn){.number = (uint64_t)begun++};
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(c->number % SOURCES));
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0 ||
	    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
	    bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0 ||
	    (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS))
		fail(strerror(errno));
	watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void ask(struct conn *c)
{
	memcpy(message, &c->number, sizeof c->number);
	/* The first thing in an empty socket buffer: it fits, or the connection has failed. */
	if (send(c->fd, message, size, MSG_NOSIGNAL) != (ssize_t)size)
		fail(strerror(errno));
	c->sent = 1;
	watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void take_answer(struct conn *c)
{
	ssize_t n = recv(c->fd, came, sizeof came, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		fail(strerror(errno));
	memcpy(message, &c->number, sizeof c->number);
	if (c->got + (size_t)n > size || memcmp(came, message + c->got, (size_t)n) != 0)
		fail("what came back is not what was sent");
	c->got += (size_t)n;
	if (n > 0)
		return;
	if (c->got < size)
		fail("a connection was ended before its message was back");
	close(c->fd);
	done++;
	if (begun < wanted)
		begin(c);
}

int main(int argc, char **argv)
{
	static struct epoll_event events[MOST];
	int i, ready, at_once;
	double start;

	if (argc != 5)
		return 2;
	to.sin_port = htons((unsigned short)atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	wanted = atoll(argv[2]);
	at_once = atoi(argv[3]);
	size = (size_t)atoll(argv[4]);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (at_once < 1 || at_once > MOST || at_once > wanted || size < sizeof(uint64_t) || size > LARGEST || poller < 0)
		return 2;
	memset(message, 'x', size);
	start = now();
	for (i = 0; i < at_once; i++)
		begin(&conns[i]);
	while (done < wanted) {
		ready = epoll_wait(poller, events, MOST, 30000);
		if (ready == 0)
			fail("nothing came for 30 s");
		for (i = 0; i < ready; i++) {
			struct conn *c = events[i].data.ptr;

			if (c->sent)
				take_answer(c);
			else
				ask(c);
		}
	}
	printf("%lld %.9f\n", done, now() - start);
	return 0;
}
