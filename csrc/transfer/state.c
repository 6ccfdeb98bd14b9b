/*
 * state.c: what a transfer has done so far: counts, the method in use, the error
 * it ended with, and the bytes that it holds.
 *
 * Rule 1: nothing here reads from src or writes to dst; what is held is given
 *         back from the pipe or the buffer.
 * Rule 2: an error that ends a connection is kept: the kernel tells it once.
 */
#define _GNU_SOURCE
#include "transfer/state.h"
#include "base/errno_class.h"
#include "base/faults.h"
#include "base/syscalls.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void sio_sent(struct sio_transfer *t, int64_t n)
{
	sio_count(&t->moved, n);
	if (t->dst.offset >= 0)
		t->dst.offset += n;
	t->dst.free -= n + sio_packet_cost(t->dst.slots ? t->dst.slots : n / SIO_PIPE_SLOT);
	if (t->dst.free < 0)
		t->dst.free = 0;
	t->sparse.hole_last = t->segments.more = 0;
	sio_trust(t);
}

/* A terminal whose other end is closed says EIO to both directions. */
static int is_hung_up(const struct sio_transfer *t, int err, int side)
{
	return err == EIO && side == SIO_SIDE_DST &&
	       t->dst.kind == SIO_KIND_TTY;
}

int sio_fail(struct sio_transfer *t, int err, int side, int call)
{
	if (err == EINTR)
		return SIO_INTERRUPTED;
	t->error.err = err;
	t->error.side = side;
	t->error.call = call;
	/* A reset is told once, then the kernel answers 0: keep it. */
	t->error.sticky = sio_is_disconnect(err) || is_hung_up(t, err, side);
	return SIO_ERROR;
}

void sio_at(struct sio_transfer *t, int phase)
{
	if (t->faults)
		t->faults->phase = phase;
}

int64_t sio_transfer_moved(const struct sio_transfer *t)
{
	return sio_counted(&t->moved);
}

void sio_transfer_report(const struct sio_transfer *t,
			 struct sio_transfer_report *report)
{
	for (int method = 0; method < SIO_METHODS; method++)
		report->moved_by[method] = sio_counted(&t->methods.moved[method]);
	report->from_memory = sio_counted(&t->segments.moved);
	report->moved = sio_counted(&t->moved);
	report->method = sio_method_of(t);
	report->refusal_count = t->methods.refusal_count;
}

int64_t sio_transfer_taken(const struct sio_transfer *t)
{
	return t->taken;
}

int64_t sio_transfer_left(const struct sio_transfer *t)
{
	return t->left;
}

int64_t sio_transfer_skipped(const struct sio_transfer *t)
{
	return t->sparse.skipped;
}

int sio_transfer_fd(const struct sio_transfer *t, int side)
{
	return side == SIO_SIDE_SRC ? t->src.fd : t->dst.fd;
}

int sio_transfer_is_ours(const struct sio_transfer *t)
{
	return t->pid == getpid();
}

const struct sio_error *sio_transfer_error(const struct sio_transfer *t)
{
	return &t->error;
}

const struct sio_refusal *sio_transfer_refusal(const struct sio_transfer *t,
					       int number)
{
	return number < t->methods.refusal_count ?
		       &t->methods.refusals[number] : NULL;
}

int64_t sio_transfer_held(const struct sio_transfer *t)
{
	return t->pipe.held + t->buf.len - t->buf.pos;
}

int64_t sio_transfer_take_held(struct sio_transfer *t, void *buf, int64_t len)
{
	int64_t n = t->buf.len - t->buf.pos;

	if (!n && t->pipe.held) {
		n = sio_read(NULL, t->pipe.reader, NULL, buf,
			     len < t->pipe.held ? len : t->pipe.held);
		if (n > 0)
			t->pipe.held -= n;
		return n;
	}
	if (n > len)
		n = len;
	if (n > 0)
		memcpy(buf, t->buf.data + t->buf.pos, (size_t)n);
	t->buf.pos += n;
	return n;
}

int sio_transfer_put_back(struct sio_transfer *t, int64_t len)
{
	if (t->left >= 0)
		t->left += len;
	if (t->src.offset >= 0)
		t->src.offset -= len;
	else if (lseek(t->src.fd, (off_t)-len, SEEK_CUR) < 0)
		return -errno;
	return 0;
}
