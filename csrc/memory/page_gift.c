/*
 * page_gift.c: memory into a pipe, copied once into pages that nobody writes again.
 *
 * Rule 1: a page that the kernel may have taken is never written again.  It is
 *         counted as used even where the pipe took a part of it, and dropped
 *         with its region; the pipe keeps it for as long as it needs it.
 * Rule 2: what the pipe did not take was not given: it is copied again.
 * Rule 3: the region is no child's.  After fork() a child finds fresh zeros
 *         there (MADV_WIPEONFORK) and never the pages that are in a pipe.
 *
 * The region is one huge page, given away a piece at a time.  A fresh page of
 * 4 KiB costs a fault that is dearer than the copy write(2) makes; one of 2 MiB
 * is faulted and cleared at once, and then gifting is the cheaper way.
 *
 * SPLICE_F_GIFT is not set.  It protects nothing, and it lets whoever empties
 * the pipe steal the page, which must not happen to a part of a huge one.
 */
#define _GNU_SOURCE
#include "api.h"
#include "base/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* Copied at once, so that the copy is still in the cache of the processor when
 * a reader on the same one takes it. */
#define PIECE (256 << 10)
/* One write(2), between two looks at the clock. */
#define PUT (1 << 20)

/* Owns its mapping; `used` counts the bytes given away from the beginning. */
struct sio_page_gift {
	unsigned char *base;
	int64_t used;
	int64_t page;
};

struct sio_page_gift *sio_page_gift_new(void)
{
	struct sio_page_gift *g = calloc(1, sizeof(*g));

	if (g)
		g->page = sysconf(_SC_PAGESIZE);
	return g;
}

static void drop(struct sio_page_gift *g)
{
	if (g->base)
		munmap(g->base, SIO_PAGE_GIFT_REGION);
	g->base = NULL;
}

void sio_page_gift_free(struct sio_page_gift *g)
{
	if (g)
		drop(g);
	free(g);
}

/* Map twice the size and cut the aligned half out: only aligned memory can
 * become one huge page. */
static int64_t reserve(struct sio_page_gift *g)
{
	const size_t size = SIO_PAGE_GIFT_REGION;
	unsigned char *got, *base;
	size_t before;

	got = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (got == MAP_FAILED)
		return -errno;
	before = (size - ((uintptr_t)got & (size - 1))) & (size - 1);
	base = got + before;
	if (before)
		munmap(got, before);
	munmap(base + size, size - before);
	if (madvise(base, size, MADV_WIPEONFORK)) {
		int64_t failed = -errno;

		munmap(base, size);
		return failed;
	}
	/* Refused where huge pages are not compiled in: have_huge() tells. */
	(void)madvise(base, size, MADV_HUGEPAGE);
	g->used = 0;
	g->base = base;
	return 0;
}

/* One byte was touched: is all of it there? */
static int have_huge(const struct sio_page_gift *g)
{
	unsigned char there = 0;

	g->base[0] = 0;
	return !mincore(g->base + SIO_PAGE_GIFT_REGION - g->page, (size_t)g->page,
			&there) && (there & 1);
}

/* See to it that there is a page to give which nobody has seen. */
static int64_t refresh(struct sio_page_gift *g, int small)
{
	int64_t failed = 0;

	if (g->base && g->used < SIO_PAGE_GIFT_REGION)
		return 0;
	/* Locked memory (mlockall) cannot be dropped, only unmapped. */
	if (g->base && madvise(g->base, SIO_PAGE_GIFT_REGION, MADV_DONTNEED))
		drop(g);
	if (!g->base)
		failed = reserve(g);
	if (failed)
		return failed;
	g->used = small || have_huge(g) ? 0 : SIO_PAGE_GIFT_REGION;
	return g->used ? SIO_PAGE_GIFT_SMALL : 0;
}

/* Give one piece; how much of it is in the pipe, or why nothing is.  *stop is
 * set when the pipe, a signal or the time ended it early. */
static int64_t give(struct sio_faults *faults, struct sio_page_gift *g, int fd,
		    const unsigned char *data, int64_t len, uint32_t flags,
		    int64_t until, int *stop)
{
	unsigned char *piece = g->base + g->used;
	int64_t n = 0, given = 0;

	memcpy(piece, data, (size_t)len);
	while (given < len && !*stop) {
		void *at = piece + given;
		size_t left = (size_t)(len - given);

		n = sio_vmsplice(faults, fd, &at, &left, 1, flags);
		if (n > 0)
			given += n;
		*stop = n <= 0 || sio_now() >= until;
	}
	g->used += (given + g->page - 1) / g->page * g->page;
	return given ? given : n;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t sio_page_gift_write(struct sio_faults *faults, struct sio_page_gift *g, int fd,
		       const unsigned char *data, int64_t len, uint32_t flags,
		       int small, int64_t budget_ns, int64_t *count)
{
	int64_t moved = 0, n = 0, until = sio_now() + budget_ns;
	int stop = 0;

	while (moved < len && !stop) {
		/* A full pipe is not worth a copy. */
		if ((flags & SPLICE_F_NONBLOCK) &&
		    !sio_ready(faults, fd, POLLOUT)) {
			n = -EAGAIN;
			break;
		}
		n = refresh(g, small);
		if (n)
			break;
		n = least(len - moved, least(PIECE, SIO_PAGE_GIFT_REGION - g->used));
		n = give(faults, g, fd, data + moved, n, flags, until, &stop);
		if (n > 0)
			moved += n;
	}
	*count += moved;
	return moved ? moved : n;
}

int64_t sio_page_gift_put(struct sio_faults *faults, int fd, const unsigned char *data,
		     int64_t len, int64_t budget_ns, int64_t *count)
{
	int64_t moved = 0, n = 0, until = sio_now() + budget_ns;

	while (moved < len) {
		int64_t asked = least(len - moved, PUT);

		n = sio_write(faults, fd, NULL, data + moved, asked);
		if (n > 0)
			moved += n;
		/* Short: a signal came, or a nonblocking pipe is full. */
		if (n < asked || sio_now() >= until)
			break;
	}
	*count += moved;
	return moved ? moved : n;
}

int64_t sio_page_gift_maps(struct sio_faults *faults)
{
	int reader = -1, writer = -1;
	struct sio_page_gift *g = sio_page_gift_new();
	int64_t count = 0;
	unsigned char byte = 1;
	int64_t n = g ? sio_pipe(NULL, &reader, &writer, 0) : -ENOMEM;

	if (n >= 0)
		n = sio_page_gift_write(faults, g, writer, &byte, 1, SPLICE_F_NONBLOCK,
				   1, 0, &count);
	if (n > 0 && g->base) {
		g->base[0] = 2;
		n = sio_read(NULL, reader, NULL, &byte, 1);
	}
	sio_pipe_close(&reader, &writer);
	sio_page_gift_free(g);
	return n < 0 ? n : byte == 2;
}
