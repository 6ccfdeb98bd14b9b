/* A TCP relay as one would write it by hand: poll, nonblocking splice, a private 1 MiB pipe each way, half-close honoured.
 *
 * usage: tcp_splice LISTEN_PORT UPSTREAM_PORT
 *
 * One connection at a time, until killed. It knows nothing of urgent bytes, resets that strand data,
 * or idle limits: it is here to be fast, not to be right.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIPE (1 << 20)

struct way {
	int src, dst, pipe[2];
	size_t held;
	int ended, done;
};

static int way_open(struct way *w, int src, int dst)
{
	*w = (struct way){.src = src, .dst = dst};
	if (pipe2(w->pipe, O_NONBLOCK) < 0)
		return -1;
	fcntl(w->pipe[1], F_SETPIPE_SZ, PIPE);
	return 0;
}

/* Fills and drains until an end would block; the pipe is emptied before the source is asked again. */
static int way_step(struct way *w)
{
	while (!w->done) {
		ssize_t n;

		while (w->held) {
			n = splice(w->pipe[0], NULL, w->dst, NULL, w->held, SPLICE_F_NONBLOCK);
			if (n < 0 && errno == EAGAIN)
				return 0;
			if (n <= 0)
				return -1;
			w->held -= (size_t)n;
		}
		if (w->ended) {
			shutdown(w->dst, SHUT_WR);
			w->done = 1;
			return 0;
		}
		n = splice(w->src, NULL, w->pipe[1], NULL, PIPE, SPLICE_F_NONBLOCK);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return -1;
		if (n == 0)
			w->ended = 1;
		w->held += (size_t)n;
	}
	return 0;
}

static void relay(int a, int b)
{
	struct way ways[2];
	int i;

	if (way_open(&ways[0], a, b) < 0 || way_open(&ways[1], b, a) < 0) {
		perror("tcp_splice: pipe");
		exit(1);
	}
	while (!ways[0].done || !ways[1].done) {
		struct pollfd wait[2] = {{.fd = a}, {.fd = b}};

		for (i = 0; i < 2; i++) {
			if (way_step(&ways[i]) < 0) {
				perror("tcp_splice: splice");
				exit(1);
			}
			if (ways[i].done)
				continue;
			if (ways[i].held)
				wait[1 - i].events |= POLLOUT;
			else
				wait[i].events |= POLLIN;
		}
		for (i = 0; i < 2; i++)
			if (!wait[i].events)
				wait[i].fd = -1;
		if (!ways[0].done || !ways[1].done)
			poll(wait, 2, -1);
	}
	for (i = 0; i < 2; i++) {
		close(ways[i].pipe[0]);
		close(ways[i].pipe[1]);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	int on = 1, server = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 3 || server < 0)
		return 2;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	at.sin_port = htons((unsigned short)atoi(argv[1]));
	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(server, (struct sockaddr *)&at, sizeof at) < 0 || listen(server, 8) < 0) {
		perror("tcp_splice: listen");
		return 1;
	}
	at.sin_port = htons((unsigned short)atoi(argv[2]));
	for (;;) {
		int a = accept4(server, NULL, NULL, SOCK_NONBLOCK);
		int b = socket(AF_INET, SOCK_STREAM, 0);

		if (a < 0 || b < 0 || connect(b, (struct sockaddr *)&at, sizeof at) < 0 ||
		    fcntl(b, F_SETFL, O_NONBLOCK) < 0) {
			perror("tcp_splice: connect");
			return 1;
		}
		relay(a, b);
		close(a);
		close(b);
	}
}
