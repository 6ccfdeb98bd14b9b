/* Standard input to standard output and to further pipes, exactly, by the plain round: tee to a private pipe for each sink
 * but the last, then splice each to its sink, and to the last the same bytes from the source itself, which lets go of them.
 *
 * usage: pipe_tee PIPE_SIZE [FD ...]
 *
 * With a PIPE_SIZE other than 0 all pipes are made as large as that. Every call blocks, so each sink waits for all others.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SINKS 64
#define ALL 0x7ffff000

static void check(ssize_t n, const char *call)
{
	if (n < 0) {
		perror(call);
		exit(1);
	}
}

static void pass(int from, int to, ssize_t left)
{
	while (left) {
		ssize_t n = splice(from, NULL, to, NULL, (size_t)left, 0);

		if (n < 0 && errno == EINTR)
			continue;
		check(n, "pipe_tee: splice");
		left -= n;
	}
}

/* A private pipe is empty and has as many slots as the source, so all of what the first tee saw fits. */
static ssize_t share(int to, ssize_t want)
{
	ssize_t n;

	do
		n = tee(0, to, (size_t)want, 0);
	while (n < 0 && errno == EINTR);
	check(n, "pipe_tee: tee");
	return n;
}

int main(int argc, char **argv)
{
	int sinks[SINKS] = {1}, pipes[SINKS][2], count = argc - 1, size, i;

	if (argc < 2 || count > SINKS)
		return 2;
	size = atoi(argv[1]);
	for (i = 1; i < count; i++)
		sinks[i] = atoi(argv[i + 1]);
	for (i = 0; i < count; i++) {
		check(pipe(pipes[i]), "pipe_tee: pipe");
		if (size) {
			check(fcntl(pipes[i][1], F_SETPIPE_SZ, size), "pipe_tee: F_SETPIPE_SZ");
			check(fcntl(sinks[i], F_SETPIPE_SZ, size), "pipe_tee: F_SETPIPE_SZ");
		}
	}
	if (size)
		check(fcntl(0, F_SETPIPE_SZ, size), "pipe_tee: F_SETPIPE_SZ");
	for (;;) {
		ssize_t n = 0;

		for (i = 0; i < count - 1; i++) {
			ssize_t got = share(pipes[i][1], i ? n : ALL);

			if (i && got != n) {
				fprintf(stderr, "pipe_tee: a second tee gave %zd bytes, not %zd\n", got, n);
				return 1;
			}
			n = got;
			if (n == 0)
				return 0;
		}
		for (i = 0; i < count - 1; i++)
			pass(pipes[i][0], sinks[i], n);
		if (count > 1) {
			pass(0, sinks[i], n);
			continue;
		}
		n = splice(0, NULL, 1, NULL, ALL, 0);
		if (n < 0 && errno == EINTR)
			continue;
		check(n, "pipe_tee: splice");
		if (n == 0)
			return 0;
	}
}
