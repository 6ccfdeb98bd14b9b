/* Throws away what a pipe brings, without copying it or by read(); says how much, and the seconds from first byte to end of file.
 *
 * usage: pipe_sink [read]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static char buffer[256 * 1024];
	unsigned long long moved = 0;
	double start = 0;
	int nowhere = open("/dev/null", O_WRONLY), copies = argc == 2 && strcmp(argv[1], "read") == 0;

	if (nowhere < 0)
		return 1;
	if (argc > 1 + copies)
		return 2;
	for (;;) {
		ssize_t n = copies ? read(0, buffer, sizeof buffer) : splice(0, NULL, nowhere, NULL, 1 << 20, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			perror("pipe_sink");
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
