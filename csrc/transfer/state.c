/*
 * state.c: what a transfer has done so far: counts, the method in use, the error
 * it ended with, and the bytes that it holds.
 *
 * Rule 1: nothing here makes a call on src or dst; what is held is given back
 *         from the pipe or the buffer.
 * Rule 2: an error that ends a connection is kept: the kernel tells it once.
 */
#include "transfer/state.h"
#include "base/errno_class.h"
#include "base/faults.h"
#include "base/syscalls.h"

#include <errno.h>
#include <string.h>

void sio_sent(struct sio_transfer *t, int64_t n)
{
	sio_count(&t->moved, n);
	if (t->off_dst >= 0)
		t->off_dst += n;
	t->dst_free -= n + sio_packet_cost(t->slots ? t->slots : n / SIO_SLOT);
	if (t->dst_free < 0)
		t->dst_free = 0;
	t->hole_last = 0;
	sio_trust(t);
}

/* A terminal whose other end is closed says EIO to both directions. */
static int is_hung_up(const struct sio_transfer *t, int err, int side)
{
	return err == EIO && side == SIO_SIDE_DST &&
	       t->dst_kind == SIO_KIND_TTY;
}

int sio_fail(struct sio_transfer *t, int err, int side, int call)
{
	if (err == EINTR)
		return SIO_INTERRUPTED;
	t->err = err;
	t->err_side = side;
	t->err_call = call;
	t->err_method = sio_method_of(t);
	/* A reset is told once, then the kernel answers 0: keep it. */
	t->sticky = sio_is_disconnect(err) || is_hung_up(t, err, side);
	return SIO_ERROR;
}

void sio_at(struct sio_transfer *t, int site)
{
	if (t->seam)
		t->seam->site = site;
}

int64_t sio_transfer_moved(const struct sio_transfer *t)
{
	return sio_counted(&t->moved);
}

int64_t sio_transfer_moved_by(const struct sio_transfer *t, int method)
{
	return sio_counted(method == SIO_METHODS ? &t->from_memory :
			   &t->by_method[method]);
}

int64_t sio_transfer_held(const struct sio_transfer *t)
{
	return t->pipe_held + t->buf_len - t->buf_pos;
}

int64_t sio_transfer_take_held(struct sio_transfer *t, void *buf, int64_t len)
{
	int64_t n = t->buf_len - t->buf_pos;

	if (!n && t->pipe_held) {
		n = sio_read(NULL, t->pipe_r, NULL, buf,
			     len < t->pipe_held ? len : t->pipe_held);
		if (n > 0)
			t->pipe_held -= n;
		return n;
	}
	if (n > len)
		n = len;
	if (n > 0)
		memcpy(buf, t->buf + t->buf_pos, (size_t)n);
	t->buf_pos += n;
	return n;
}
