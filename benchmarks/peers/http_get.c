/* Gets one path of 127.0.0.1 over and over, on so many connections at once; bodies are dropped in the kernel (MSG_TRUNC copies nothing).
 * Prints the requests, the bytes of their bodies, the seconds they took and the connections they needed.
 *
 * usage: http_get PORT PATH LENGTH REQUESTS CONNECTIONS
 *
 * Every answer must be a 200 of LENGTH bytes, by Content-Length or in chunks. A connection that the server closes after an answer is made anew.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD 4096
#define CONNECTIONS 64
#define DROP (1 << 20)

struct conn {
	int fd;
	int answered; /* since it was connected */
	int in_body, ends;
	size_t have; /* of the head, and what came with it */
	long long left; /* of the body, or of the chunk */
	int chunked, in_size, digits;
	long long size, got; /* of this chunk, and of all before it */
	char head[HEAD + 1];
};

static struct sockaddr_in to = {.sin_family = AF_INET};
static char request[1024], scrap[DROP];
static size_t request_size;
static long long length, asked, answers, wanted, connects;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	fprintf(stderr, "http_get: %s (after %lld answers)\n", what, answers);
	exit(1);
}

static void ask(struct conn *c)
{
	c->have = 0;
	c->in_body = 0;
	/* A kept connection may have been closed meanwhile: the next read tells. */
	if (send(c->fd, request, request_size, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		fail(strerror(errno));
}

static void open_and_ask(struct conn *c)
{
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0)
		fail(strerror(errno));
	connects++;
	c->answered = 0;
	ask(c);
}

/* The value of a header field, or NULL. */
static const char *field(const char *head, const char *name)
{
	size_t size = strlen(name);
	const char *line;

	for (line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (!strncasecmp(line, name, size) && line[size] == ':')
			return line + size + 1 + strspn(line + size + 1, " ");
	}
	return NULL;
}

/* Takes one byte of what stands around chunks, or up to `many` of what is in them; returns how many.  The last line ends
 * the body: in_body is then 2. */
static long long take_chunk(struct conn *c, char byte, long long many)
{
	if (!c->in_size) {
		if (many > c->left)
			many = c->left;
		c->left -= many;
		c->got += many;
		if (!c->left) {
			c->in_size = 1;
			c->digits = 0;
			c->size = 0;
		}
		return many;
	}
	if (byte == '\n') {
		if (c->digits > 0 && c->size) {
			c->in_size = 0;
			c->left = c->size;
		} else if (c->digits > 0) {
			c->digits = -1; /* the chunk of no size: one empty line more */
		}
		if (c->digits == -1 && c->size == -1) {
			if (c->got != length)
				fail("the length is not the file's");
			c->in_body = 2;
		}
		if (c->digits == -1)
			c->size = -1;
	} else if (byte != '\r' && c->digits >= 0) {
		c->digits++;
		c->size = c->size * 16 + (byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10);
	}
	return 1;
}

/* Returns 0 until the head is whole. */
static int take_head(struct conn *c)
{
	const char *size, *connection;
	char *end;

	c->head[c->have] = 0;
	end = strstr(c->head, "\r\n\r\n");
	if (!end) {
		if (c->have == HEAD)
			fail("the head is too long");
		return 0;
	}
	end[2] = 0;
	if (strncmp(c->head, "HTTP/1.", 7) || strncmp(c->head + 8, " 200", 4))
		fail("the status is not 200");
	size = field(c->head, "Content-Length");
	c->chunked = field(c->head, "Transfer-Encoding") != NULL;
	if (!c->chunked && (!size || atoll(size) != length))
		fail("the length is not the file's");
	connection = field(c->head, "Connection");
	if (c->head[7] == '0')
		c->ends = !connection || strncasecmp(connection, "keep-alive", 10);
	else
		c->ends = connection && !strncasecmp(connection, "close", 5);
	c->in_body = 1;
	if (c->chunked) {
		char *byte = end + 4, *after = c->head + c->have;

		c->in_size = 1;
		c->digits = 0;
		c->size = c->got = c->left = 0;
		while (byte < after)
			byte += take_chunk(c, *byte, after - byte);
		return 1;
	}
	c->left = length - ((long long)c->have - (end + 4 - c->head));
	if (c->left < 0)
		fail("more came than was promised");
	return 1;
}

static ssize_t more(struct conn *c)
{
	if (c->in_body && c->chunked && c->in_size)
		return recv(c->fd, scrap, 1, MSG_DONTWAIT);
	if (c->in_body)
		return recv(c->fd, scrap, c->left < DROP ? (size_t)c->left : DROP, MSG_DONTWAIT | MSG_TRUNC);
	return recv(c->fd, c->head + c->have, HEAD - c->have, MSG_DONTWAIT);
}

static void end_of_answer(struct conn *c)
{
	answers++;
	c->answered++;
	if (c->ends || asked == wanted) {
		close(c->fd);
		c->fd = -1;
	}
	if (asked == wanted)
		return;
	asked++;
	if (c->fd < 0)
		open_and_ask(c);
	else
		ask(c);
}

/* Reads until there is nothing to read or nothing left to ask for. */
static void step(struct conn *c)
{
	while (c->fd >= 0) {
		ssize_t n = more(c);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if ((n == 0 || (n < 0 && (errno == ECONNRESET || errno == EPIPE))) && c->answered && !c->in_body &&
		    c->have == 0) {
			close(c->fd);
			open_and_ask(c);
			continue;
		}
		if (n <= 0)
			fail(n ? strerror(errno) : "the connection ended in the middle of an answer");
		if (c->in_body && c->chunked) {
			take_chunk(c, scrap[0], n);
		} else if (c->in_body) {
			c->left -= n;
		} else {
			c->have += (size_t)n;
			if (!take_head(c))
				continue;
		}
		if (c->chunked ? c->in_body == 2 : c->left == 0)
			end_of_answer(c);
	}
}

int main(int argc, char **argv)
{
	static struct conn conns[CONNECTIONS];
	static struct pollfd wait[CONNECTIONS];
	int i, count;
	double start;

	if (argc != 6)
		return 2;
	to.sin_port = htons((unsigned short)atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	request_size = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n\r\n", argv[2],
					argv[1]);
	length = atoll(argv[3]);
	wanted = atoll(argv[4]);
	count = atoi(argv[5]);
	if (request_size >= sizeof request || count < 1 || count > CONNECTIONS || count > wanted)
		return 2;
	start = now();
	for (i = 0; i < count; i++) {
		asked++;
		open_and_ask(&conns[i]);
	}
	while (answers < wanted) {
		for (i = 0; i < count; i++) {
			wait[i].fd = conns[i].fd;
			wait[i].events = POLLIN;
		}
		if (poll(wait, (nfds_t)count, 30000) == 0)
			fail("nothing came for 30 s");
		for (i = 0; i < count; i++)
			if (wait[i].fd >= 0 && wait[i].revents)
				step(&conns[i]);
	}
	printf("%lld %lld %.9f %lld\n", answers, answers * length, now() - start, connects);
	return 0;
}
