/* The plainest splice loop: standard input to standard output, both pipes.
 *
 * usage: pipe_splice
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	for (;;) {
		ssize_t n = splice(0, NULL, 1, NULL, 1 << 20, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			perror("pipe_splice");
			return 1;
		}
		if (n == 0)
			return 0;
	}
}
