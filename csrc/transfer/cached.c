/*
 * cached.c: is what a flow reads next in memory, or on a disk?
 *
 * sendfile and splice wait for the disk, whatever the flags, and so does a thread
 * that serves others too.
 *
 * Rule 1: a page counts only if it can be read now: cachestat(2) counts those
 *         too that are on their way from the disk, so a byte of each stretch
 *         that the kernel reads at a time is read besides.
 * Rule 2: where neither can be asked, it is taken to be on a disk.
 * Not promised: that a page is not dropped between the look and the read.
 */
#define _GNU_SOURCE
#include "transfer/cached.h"
#include "base/syscalls.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the kernel reads ahead at a time, unless a disk says otherwise. */
#define READ_AHEAD (128 << 10)

/* 1 and 0, or -errno where RWF_NOWAIT is not known. */
static int can_read(struct sio_transfer *t, int64_t at)
{
	unsigned char byte;
	int64_t n = sio_read_cached(NULL, t->src.fd, &at, &byte, 1);

	return n >= 0 ? 1 : n == -EAGAIN ? 0 : (int)n;
}

static int is_cached(struct sio_transfer *t, int64_t from, int64_t end)
{
	int counted = sio_pages_cached(t->src.fd, from, end - from), read = 1;

	if (!counted)
		return 0;
	for (int64_t at = from; read == 1 && at < end; at += READ_AHEAD)
		read = can_read(t, at);
	if (read == 1)
		read = can_read(t, end - 1);
	return read < 0 ? counted == 1 : read;
}

int sio_src_is_cached(struct sio_transfer *t)
{
	struct stat st;
	int64_t at = t->src.offset, len = SIO_CACHED_WINDOW;

	if (t->src.cached > 0)
		return 1;
	if (at < 0)
		at = lseek(t->src.fd, 0, SEEK_CUR);
	if (t->left >= 0 && t->left < len)
		len = t->left;
	t->src.cached_at = at;
	t->src.cached = len;
	if (at < 0 || fstat(t->src.fd, &st))
		return 1;
	if (at + len > st.st_size)
		len = st.st_size - at;
	return len <= 0 || is_cached(t, at, at + len);
}
