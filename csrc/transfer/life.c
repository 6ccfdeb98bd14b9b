/*
 * life.c: the life of a transfer around its steps: open, what it
 * holds, close.
 *
 * Every descriptor is duplicated here and closed here, and nowhere else but
 * for a relay's half-close.  Moves no byte from source to destination.
 */
#define _GNU_SOURCE
#include "transfer/transfer.h"
#include "base/syscalls.h"
#include "transfer/segments.h"
#include "transfer/sparse.h"
#include "transfer/state.h"

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

void sio_transfer_init(struct sio_transfer *t,
		       const struct sio_transfer_config *config)
{
	memset(t, 0, sizeof(*t));
	t->faults = config->faults;
	t->pid = config->pid ? config->pid : getpid();
	t->left = config->left;
	t->chunk = CHUNK;
	t->pipe_size = config->pipe_size;
	t->spares = config->spares;
	t->src.fd = t->dst.fd = -1;
	t->src.kind = config->src_kind;
	t->src.tls = config->src_tls;
	t->src.paused_at = -1;
	t->dst.kind = config->dst_kind;
	t->src.offset = config->src_offset;
	t->dst.offset = config->dst_offset;
	memcpy(t->methods.order, config->methods, sizeof(t->methods.order));
	t->methods.count = config->method_count;
	t->methods.adaptive = config->adaptive;
	t->methods.small = config->small;
	t->eagain.level_poll = config->level_poll;
	t->src.nonblock = t->dst.nonblock = config->nonblock;
	t->pipe.reader = t->pipe.writer = t->wait.wake_fd = -1;
	t->segments.each = config->segments;
	t->segments.count = config->segment_count;
	t->sparse.holes = config->holes;
	t->sparse.extent = config->extent;
	t->sparse.reserve = config->reserve;
}

struct sio_transfer *sio_transfer_new(const struct sio_transfer_config *config)
{
	struct sio_transfer *t = malloc(sizeof(*t));

	if (t)
		sio_transfer_init(t, config);
	return t;
}

void sio_transfer_free(struct sio_transfer *t)
{
	if (t)
		sio_transfer_close(t);
	free(t);
}

int sio_transfer_open(struct sio_transfer *t,
		      const struct sio_transfer_config *config)
{
	int err = duplicate(config->src, &config->src_is, &t->src.fd);

	t->error.side = SIO_SIDE_SRC;
	if (!err) {
		err = duplicate(config->dst, &config->dst_is, &t->dst.fd);
		t->error.side = SIO_SIDE_DST;
	}
	if (err) {
		sio_transfer_close(t);
		return err;
	}
	sio_transfer_refresh(t);
	return 0;
}

void sio_transfer_use(struct sio_transfer *t, int src, int dst)
{
	t->src.fd = src;
	t->dst.fd = dst;
	t->shares = 1;
}

void sio_transfer_share(struct sio_transfer *t, const struct sio_transfer *first)
{
	sio_transfer_use(t, first->dst.fd, first->src.fd);
	sio_transfer_refresh(t);
}

void sio_transfer_refresh(struct sio_transfer *t)
{
	int src = t->src.fd >= 0 ? fcntl(t->src.fd, F_GETFL) : 0;
	int dst = t->dst.fd >= 0 ? fcntl(t->dst.fd, F_GETFL) : 0;

	t->src.nonblock = src >= 0 && (src & O_NONBLOCK) != 0;
	t->dst.nonblock = dst >= 0 && (dst & O_NONBLOCK) != 0;
	t->dst.free = 0;
	if (t->src.kind == SIO_KIND_PIPE && t->src.fd >= 0) {
		int size = fcntl(t->src.fd, F_GETPIPE_SZ);

		t->dst.slots = size > 0 ? size / SIO_PIPE_SLOT : 0;
	}
}

int sio_transfer_prefix(struct sio_transfer *t, const void *data, int64_t len,
			int64_t counted)
{
	unsigned char *own;

	if (t->left >= 0)
		t->left -= counted;
	if (len <= 0)
		return 0;
	own = malloc((size_t)len);
	if (!own)
		return -ENOMEM;
	memcpy(own, data, (size_t)len);
	if (!t->buf.pooled)
		free(t->buf.data);
	t->buf.data = own;
	t->buf.pooled = 0;
	t->buf.size = t->buf.len = len;
	t->buf.pos = 0;
	t->taken += len;
	return 0;
}

void sio_transfer_expect(struct sio_transfer *t, int64_t known)
{
	t->src.known = known;
}

void sio_transfer_end(struct sio_transfer *t)
{
	t->src.eof = 1;
}

void sio_transfer_abandon(struct sio_transfer *t)
{
	if (t->chunk)
		sio_pipe_close(&t->pipe.reader, &t->pipe.writer);
}

void sio_transfer_close(struct sio_transfer *t)
{
	/* A zeroed t has never been opened: its 0 is nobody's descriptor. */
	if (!t->chunk)
		return;
	/* A stopped transfer's bytes leave; those of a forked child's copy are
	 * its parent's. */
	if (t->dst.fd >= 0 && (t->segments.count || t->sparse.reserved) &&
	    t->pid == getpid()) {
		if (t->segments.count)
			sio_push(t);
		/* Blocks that were reserved and got no bytes go back. */
		if (t->sparse.reserved)
			(void)sio_settle(t);
	}
	sio_spare_give(t->spares, &t->pipe, t->error.err);
	if (!t->shares)
		sio_pipe_close(&t->src.fd, &t->dst.fd);
	t->src.fd = t->dst.fd = -1;
	if (t->wait.wake_fd >= 0)
		close(t->wait.wake_fd);
	t->wait.wake_fd = -1;
	if (!t->buf.pooled) /* it is, in the middle of a turn of a fork's parent */
		free(t->buf.data);
	memset(&t->buf, 0, sizeof(t->buf));
	t->pipe.held = 0;
}
