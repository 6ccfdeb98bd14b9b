/*
 * life.c: the life of a transfer around its steps: open, what it
 * holds, close.
 *
 * Every descriptor is duplicated here and closed here, and nowhere else but
 * for a relay's half-close.  Moves no byte from source to destination.
 */
#define _GNU_SOURCE
#include "api.h"
#include "base/syscalls.h"
#include "transfer/segments.h"
#include "transfer/sparse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One call to a socket: no client holds the thread for longer. */
#define CHUNK (2 << 20)

/* Another thread may close the number at any moment, and open something else
 * that gets it: what was duplicated has to be what was looked at. */
static int duplicate(int fd, const struct sio_identity *is, int32_t *made)
{
	struct stat st;

	if (fd < 0)
		return 0;
	*made = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (*made < 0)
		return -errno;
	if (is->ino && (fstat(*made, &st) < 0 || st.st_dev != is->dev ||
			st.st_ino != is->ino))
		return -ESTALE;
	return 0;
}

int sio_transfer_open(struct sio_transfer *t, int src, int dst)
{
	int err;

	t->src = t->dst = t->pipe_r = t->pipe_w = t->wake_fd = -1;
	t->chunk = CHUNK;
	t->pid = getpid();
	err = duplicate(src, &t->src_is, &t->src);
	t->err_side = SIO_SIDE_SRC;
	if (!err) {
		err = duplicate(dst, &t->dst_is, &t->dst);
		t->err_side = SIO_SIDE_DST;
	}
	if (err) {
		sio_transfer_close(t);
		return err;
	}
	sio_transfer_refresh(t);
	return 0;
}

void sio_transfer_share(struct sio_transfer *t, int src, int dst)
{
	t->pipe_r = t->pipe_w = t->wake_fd = -1;
	t->chunk = CHUNK;
	t->pid = getpid();
	t->src = src;
	t->dst = dst;
	t->shares = 1;
	sio_transfer_refresh(t);
}

void sio_transfer_refresh(struct sio_transfer *t)
{
	int src = t->src >= 0 ? fcntl(t->src, F_GETFL) : 0;
	int dst = t->dst >= 0 ? fcntl(t->dst, F_GETFL) : 0;

	t->src_nonblock = src >= 0 && (src & O_NONBLOCK) != 0;
	t->dst_nonblock = dst >= 0 && (dst & O_NONBLOCK) != 0;
	t->dst_free = 0;
	if (t->src_kind == SIO_KIND_PIPE && t->src >= 0) {
		int size = fcntl(t->src, F_GETPIPE_SZ);

		t->slots = size > 0 ? size / SIO_SLOT : 0;
	}
}

int sio_transfer_prefix(struct sio_transfer *t, const void *data, int64_t len)
{
	if (len <= 0)
		return 0;
	t->buf = malloc((size_t)len);
	if (!t->buf)
		return -ENOMEM;
	memcpy(t->buf, data, (size_t)len);
	t->buf_size = t->buf_len = len;
	t->buf_pos = 0;
	t->taken += len;
	return 0;
}

void sio_transfer_close(struct sio_transfer *t)
{
	/* A zeroed t has never been opened: its 0 is nobody's descriptor. */
	if (!t->chunk)
		return;
	/* A stopped transfer's bytes leave; those of a forked child's copy are
	 * its parent's. */
	if (t->dst >= 0 && t->pid == getpid()) {
		if (t->part_count)
			sio_push(t);
		/* Blocks that were reserved and got no bytes go back. */
		if (t->reserved)
			(void)sio_settle(t);
	}
	sio_pipe_close(&t->pipe_r, &t->pipe_w);
	if (!t->shares)
		sio_pipe_close(&t->src, &t->dst);
	t->src = t->dst = -1;
	if (t->wake_fd >= 0)
		close(t->wake_fd);
	t->wake_fd = -1;
	if (!t->buf_lent) /* it is, in the middle of a turn of a fork's parent */
		free(t->buf);
	t->buf = NULL;
	t->buf_size = t->buf_pos = t->buf_len = t->pipe_held = 0;
}
