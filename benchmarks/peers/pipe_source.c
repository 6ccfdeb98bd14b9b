/* Feeds a pipe for a fixed time, as cheaply as the kernel allows, then says how much went in.
 *
 * usage: pipe_source SECONDS vmsplice|write [PIPE_SIZE]
 *
 * With a PIPE_SIZE other than 0 the pipe is made as large as that.
 * The clock starts once more than any pipe can hold has gone, so that the start of the process that
 * reads it is not part of the time. The buffer never changes, which is what makes vmsplice safe here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (256 * 1024)
#define WARM (2 * 1024 * 1024)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	unsigned long long moved = 0;
	double seconds, stop = 0;
	int map_pages;
	char *buffer;

	if (argc != 3 && argc != 4)
		return 2;
	if (argc == 4 && atoi(argv[3]) && fcntl(1, F_SETPIPE_SZ, atoi(argv[3])) < 0) {
		perror("pipe_source: F_SETPIPE_SZ");
		return 1;
	}
	seconds = atof(argv[1]);
	map_pages = strcmp(argv[2], "vmsplice") == 0;
	buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
		return 1;
	memset(buffer, 'x', BUFFER);
	while (stop == 0 || now() < stop) {
		struct iovec part = {buffer, BUFFER};

		while (part.iov_len) {
			ssize_t n = map_pages ? vmsplice(1, &part, 1, 0) : write(1, part.iov_base, part.iov_len);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0) {
				perror("pipe_source");
				return 1;
			}
			part.iov_base = (char *)part.iov_base + n;
			part.iov_len -= (size_t)n;
			moved += (unsigned long long)n;
		}
		if (stop == 0 && moved > WARM)
			stop = now() + seconds;
	}
	fprintf(stderr, "%llu\n", moved);
	return 0;
}
