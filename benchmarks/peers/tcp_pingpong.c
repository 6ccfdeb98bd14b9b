/* Plays ping-pong with an echo at 127.0.0.1 over many connections at once: each sends a message, waits for the whole of
 * it to come back, compares it, and sends the next.
 *
 * usage: tcp_pingpong PORT CONNECTIONS SIZE
 *
 * Opens them, a few at a time, each proved by one message there and back, and prints "ready". Then each line of standard
 * input is a number of seconds to play; the answer is the round trips and the seconds that they took. In between all is
 * silent. Ends at the end of its input, and then resets its connections.
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

#define AT_ONCE 64
#define EVENTS 256
#define LARGEST (1 << 20)
#define TURNS 4096
/* One source address has 28,000 ports, and some may be in TIME_WAIT. */
#define SOURCES 8

struct conn {
	int fd, waits_to_send;
	uint64_t turn;
	size_t sent, got;
};

static struct sockaddr_in to = {.sin_family = AF_INET};
static struct conn *conns;
static char pattern[LARGEST + TURNS], message[LARGEST], came[LARGEST];
static size_t size;
static int poller, count, asked, going;
static long long done;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	fprintf(stderr, "tcp_pingpong: %s (after %lld round trips)\n", what, done);
	exit(1);
}

static void watch(struct conn *c, int how, unsigned events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (epoll_ctl(poller, how, c->fd, &event) < 0)
		fail(strerror(errno));
	c->waits_to_send = !!(events & EPOLLOUT);
}

/* No two connections, and no two turns of one, have the same: what strays, is late or comes twice is found. */
static void compose(const struct conn *c)
{
	uint64_t tag[2] = {(uint64_t)(c - conns), c->turn};

	memcpy(message, pattern + (tag[0] + tag[1]) % TURNS, size);
	memcpy(message, tag, sizeof tag);
}

static void send_rest(struct conn *c)
{
	ssize_t n;

	compose(c);
	n = send(c->fd, message + c->sent, size - c->sent, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		fail(strerror(errno));
	if (n > 0)
		c->sent += (size_t)n;
	if ((c->sent < size) != c->waits_to_send)
		watch(c, EPOLL_CTL_MOD, c->sent < size ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void ask(struct conn *c)
{
	c->sent = c->got = 0;
	asked++;
	send_rest(c);
}

static void take_answer(struct conn *c)
{
	ssize_t n = recv(c->fd, came, size, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		fail(n ? strerror(errno) : "a connection was ended");
	compose(c);
	if ((size_t)n > c->sent - c->got || memcmp(came, message + c->got, (size_t)n) != 0)
		fail("what came back is not what was sent");
	c->got += (size_t)n;
	if (c->got < size)
		return;
	c->turn++;
	asked--;
	done++;
	if (going)
		ask(c);
}

static void step(void)
{
	static struct epoll_event events[EVENTS];
	int i, ready = epoll_wait(poller, events, EVENTS, 30000);

	if (ready == 0)
		fail("nothing came for 30 s");
	for (i = 0; i < ready; i++) {
		struct conn *c = events[i].data.ptr;

		if (c->waits_to_send && events[i].events & EPOLLOUT)
			send_rest(c);
		if (events[i].events & ~(unsigned)EPOLLOUT)
			take_answer(c);
	}
}

static void begin(struct conn *c)
{
	struct sockaddr_in from = {.sin_family = AF_INET};
	struct linger reset = {.l_onoff = 1};
	int on = 1;

	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)((c - conns) % SOURCES));
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0 ||
	    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
	    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0 ||
	    bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0 ||
	    (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS))
		fail(strerror(errno));
	watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
	asked++;
}

static void open_all(void)
{
	int begun = 0;

	while (done < count) {
		while (begun < count && asked < AT_ONCE)
			begin(&conns[begun++]);
		step();
	}
}

static void play(double seconds)
{
	double start = now();
	int i;

	done = 0;
	going = 1;
	for (i = 0; i < count; i++)
		ask(&conns[i]);
	while (asked) {
		step();
		going = going && now() < start + seconds;
	}
	printf("%lld %.9f\n", done, now() - start);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[64];
	uint64_t x = 88172645463325252u;
	size_t i;

	if (argc != 4)
		return 2;
	to.sin_port = htons((unsigned short)atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	count = atoi(argv[2]);
	size = (size_t)atoll(argv[3]);
	if (count < 1 || size < 2 * sizeof(uint64_t) || size > LARGEST)
		return 2;
	for (i = 0; i < sizeof pattern; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		pattern[i] = (char)x;
	}
	conns = calloc((size_t)count, sizeof *conns);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (!conns || poller < 0)
		fail(strerror(errno));
	open_all();
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin))
		play(atof(line));
	return 0;
}
