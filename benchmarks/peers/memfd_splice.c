/* Splices a memfd with the bytes of a file to standard output, again and again for a fixed time, then says how much went in.
 *
 * usage: memfd_splice FILE SECONDS PIPE_SIZE
 *
 * The clock starts once more than any pipe can hold has gone, as in pipe_source. With a PIPE_SIZE other than 0 the pipe is
 * made as large as that.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WARM (2 * 1024 * 1024)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(ssize_t n, const char *call)
{
	if (n < 0) {
		perror(call);
		exit(1);
	}
}

static loff_t copy_of(const char *path, int memory)
{
	int file = open(path, O_RDONLY);
	struct stat about;
	loff_t left;

	check(file, "memfd_splice: open");
	check(fstat(file, &about), "memfd_splice: fstat");
	for (left = about.st_size; left;) {
		ssize_t n = sendfile(memory, file, NULL, (size_t)left);

		check(n ? n : -1, "memfd_splice: sendfile");
		left -= n;
	}
	return about.st_size;
}

int main(int argc, char **argv)
{
	unsigned long long moved = 0;
	double stop = 0;
	loff_t size;
	int memory;

	if (argc != 4)
		return 2;
	memory = memfd_create("body", 0);
	check(memory, "memfd_splice: memfd_create");
	size = copy_of(argv[1], memory);
	if (atoi(argv[3]))
		check(fcntl(1, F_SETPIPE_SZ, atoi(argv[3])), "memfd_splice: F_SETPIPE_SZ");
	while (stop == 0 || now() < stop) {
		loff_t at = 0;

		while (at < size) {
			ssize_t n = splice(memory, &at, 1, NULL, (size_t)(size - at), 0);

			if (n < 0 && errno == EINTR)
				continue;
			check(n ? n : -1, "memfd_splice: splice");
			moved += (unsigned long long)n;
		}
		if (stop == 0 && moved > WARM)
			stop = now() + atof(argv[2]);
	}
	fprintf(stderr, "%llu\n", moved);
	return 0;
}
