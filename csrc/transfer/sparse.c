/*
 * sparse.c: a target as sparse as its source, or sparser; its blocks reserved
 * before, its size settled after.
 *
 * Rule 1: only for a target whose position is ours and behind whose position
 *         there is nothing: a hole is made by not writing.
 * Rule 2: the source is read by offset, so that SEEK_DATA and SEEK_HOLE, which
 *         move its position, disturb nothing.
 * Rule 3: what SEEK_DATA calls data is asked for again at the end of each
 *         extent: a file that grows or shrinks meanwhile is copied as it is.
 */
#define _GNU_SOURCE
#include "transfer/sparse.h"
#include "base/syscalls.h"
#include "transfer/state.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The smallest block of the filesystems in use; a larger one only makes the
 * hole end at the next border. */
#define BLOCK 4096

int sio_reserve(struct sio_transfer *t)
{
	int err;

	sio_at(t, SIO_PHASE_DIRECT);
	err = -sio_fallocate(t->faults, t->dst.fd, t->sparse.reserve);
	if (err == EINTR)
		return SIO_INTERRUPTED;
	if (!err)
		t->sparse.reserved = t->sparse.reserve;
	t->sparse.reserve = 0;
	/* Not every filesystem can; a full one is better told now. */
	if (err == ENOSPC || err == EDQUOT || err == EFBIG)
		return sio_fail(t, err, SIO_SIDE_DST, SIO_CALL_FALLOCATE);
	return SIO_GO;
}

/* Move the target's position by n without writing. */
static int step_over(struct sio_transfer *t, int64_t n)
{
	if (lseek(t->dst.fd, (off_t)n, SEEK_CUR) < 0)
		return sio_fail(t, errno, SIO_SIDE_DST, SIO_CALL_SEEK);
	t->sparse.skipped += n;
	t->sparse.hole_last = 1;
	return SIO_GO;
}

int sio_next_extent(struct sio_transfer *t)
{
	int64_t data, end, hole;
	int r;

	sio_at(t, SIO_PHASE_FILL);
	data = sio_seek(t->faults, t->src.fd, t->src.offset, 0);
	if (data == -ENXIO) {
		end = lseek(t->src.fd, 0, SEEK_END);
		hole = end - t->src.offset;
		if (hole <= 0) {
			t->src.eof = 1;
			return SIO_GO;
		}
	} else if (data < 0) {
		if (data == -EINTR)
			return SIO_INTERRUPTED;
		t->sparse.extent = INT64_MAX; /* it cannot tell: all of it is data */
		return SIO_GO;
	} else {
		hole = data - t->src.offset;
		end = sio_seek(t->faults, t->src.fd, data, 1);
		if (end == -EINTR)
			return SIO_INTERRUPTED;
		t->sparse.extent = end > data ? end - data : INT64_MAX;
	}
	if (!hole)
		return SIO_GO;
	r = step_over(t, hole);
	if (r != SIO_GO)
		t->sparse.extent = 0;
	else
		t->src.offset += hole;
	return r;
}

static int is_zero(const unsigned char *at, int64_t len)
{
	return !at[0] && !memcmp(at, at + 1, (size_t)len - 1);
}

int64_t sio_zeros(const struct sio_transfer *t, int64_t *len)
{
	int64_t left = t->buf.len - t->buf.pos;
	int64_t offset = t->src.offset - left; /* in the file, of from[0] */
	const unsigned char *from = t->buf.data + t->buf.pos;
	int64_t run = 0, block;
	int zero = -1;

	for (; run < left; run += block) {
		block = BLOCK - (offset + run) % BLOCK;
		if (block > left - run)
			block = left - run;
		if (zero < 0)
			zero = is_zero(from + run, block);
		else if (zero != is_zero(from + run, block))
			break;
	}
	*len = run;
	return zero == 1 ? run : 0;
}

int sio_make_hole(struct sio_transfer *t, int64_t n)
{
	int r = step_over(t, n);

	if (r == SIO_GO)
		t->buf.pos += n;
	return r;
}

/* A hole at the end is made by setting the size; blocks reserved for what the
 * file then did not have go back. */
int sio_settle(struct sio_transfer *t)
{
	off_t at;
	int err;

	if (!t->sparse.hole_last && t->sparse.reserved <= t->moved)
		return SIO_DONE;
	at = lseek(t->dst.fd, 0, SEEK_CUR);
	sio_at(t, SIO_PHASE_DRAIN);
	err = at < 0 ? errno : -sio_truncate(t->faults, t->dst.fd, at);
	if (err)
		return sio_fail(t, err, SIO_SIDE_DST, SIO_CALL_TRUNCATE);
	t->sparse.hole_last = 0;
	t->sparse.reserved = 0;
	return SIO_DONE;
}
