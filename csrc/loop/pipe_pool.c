/*
 * pipe_pool.c: pipes and memory, in use only while bytes are in them.
 *
 * Rule 1: who has no bytes in flight has neither, so ten thousand idle relays
 *         cost no pipe and no buffer.
 * Rule 2: only an empty pipe comes back (see spare_pipes.c).
 * Rule 3: the number of pipes is bounded, and pipes that the user's quota makes
 *         tiny do not count as pipes.  Who gets none copies for this once.
 * Rule 4: there is one buffer, for one user at a time.  What is still in it when
 *         that one's turn is over moves to memory of its own.
 */
#define _GNU_SOURCE
#include "loop/pipe_pool.h"
#include "base/syscalls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BULK_BUF (128 << 10)
#define BUF_ALIGN 4096
/* Empty pipes that are kept for the next user. */
#define SPARE 16
/* After a refusal no pipe is made for this long. */
#define REFUSED_NS 100000000

int sio_pool_open(struct sio_pipe_pool *pool, int32_t most)
{
	memset(pool, 0, sizeof(*pool));
	pool->most = most;
	pool->spares.most = SPARE;
	pool->spares.each = calloc(SPARE, sizeof(*pool->spares.each));
	return pool->spares.each ? 0 : -ENOMEM;
}

void sio_pool_trim(struct sio_pipe_pool *pool)
{
	struct sio_pipe pipe;

	while (sio_spares_pop(&pool->spares, &pipe)) {
		sio_pipe_close(&pipe.reader, &pipe.writer);
		sio_count(&pool->open, -1);
	}
}

void sio_pool_close(struct sio_pipe_pool *pool)
{
	sio_pool_trim(pool);
	free(pool->spares.each);
	free(pool->buf);
	memset(pool, 0, sizeof(*pool));
}

/* Close a pipe that was made here, with what is in it. */
static void lose_pipe(struct sio_pipe_pool *pool, struct sio_pipe *pipe)
{
	sio_pipe_close(&pipe->reader, &pipe->writer);
	sio_count(&pool->open, -1);
}

static int64_t make_pipe(struct sio_pipe_pool *pool, struct sio_pipe *pipe,
			 struct sio_faults *faults)
{
	int64_t size;

	if (pool->open >= pool->most || sio_now() < pool->refused_until)
		return -EMFILE;
	size = sio_pipe(faults, &pipe->reader, &pipe->writer,
			SIO_PIPE_SIZE);
	if (size >= 0)
		sio_count(&pool->open, 1);
	if (size >= SIO_SMALLEST_PIPE)
		return size;
	if (size >= 0)
		lose_pipe(pool, pipe);
	pool->refused_until = sio_now() + REFUSED_NS;
	return size < 0 ? size : -EPERM;
}

int sio_pipe_acquire(struct sio_pipe_pool *pool, struct sio_pipe *pipe,
		     struct sio_faults *faults)
{
	int64_t size;

	if (!sio_spares_pop(&pool->spares, pipe)) {
		size = make_pipe(pool, pipe, faults);
		if (size < 0)
			return (int)size;
		pipe->size = size;
	}
	sio_count(&pool->held, 1);
	return 0;
}

static void take_pipe_back(struct sio_pipe_pool *pool, struct sio_pipe *pipe,
			   int suspect)
{
	sio_count(&pool->held, -1);
	if (!sio_spares_push(&pool->spares, pipe, suspect))
		lose_pipe(pool, pipe);
}

static int new_buffer(unsigned char **buf, int64_t size)
{
	void *made = NULL;

	/* Aligned, so that a source opened O_DIRECT can be read into it. */
	if (posix_memalign(&made, BUF_ALIGN, (size_t)size))
		return -ENOMEM;
	*buf = made;
	return 0;
}

int sio_buf_acquire(struct sio_pipe_pool *pool, struct sio_buf *buf, int bulk)
{
	int64_t size = bulk || pool ? BULK_BUF : SIO_SMALL_BUF;
	unsigned char *made = NULL;

	if (buf->data && (buf->size >= size || buf->len > buf->pos))
		return 0;
	if (pool && !pool->buf && new_buffer(&pool->buf, size))
		return -ENOMEM;
	if (!pool && new_buffer(&made, size))
		return -ENOMEM;
	free(buf->data);
	buf->data = pool ? pool->buf : made;
	buf->pooled = pool != NULL;
	buf->size = size;
	buf->pos = buf->len = 0;
	return 0;
}

/* What is left in the common buffer gets memory of its own size. */
static void keep_rest(struct sio_pipe_pool *pool, struct sio_buf *buf,
		      int64_t left)
{
	unsigned char *own = malloc((size_t)left);

	if (!own) {
		/* No memory: the buffer itself changes hands. */
		pool->buf = NULL;
		buf->pooled = 0;
		return;
	}
	memcpy(own, buf->data + buf->pos, (size_t)left);
	buf->data = own;
	buf->pooled = 0;
	buf->size = buf->len = left;
	buf->pos = 0;
}

void sio_pool_release(struct sio_pipe_pool *pool, struct sio_pipe *pipe,
		      struct sio_buf *buf, int suspect)
{
	int64_t left = buf->len - buf->pos;

	if (pipe->reader >= 0 && !pipe->held)
		take_pipe_back(pool, pipe, suspect);
	if (buf->data && left && buf->pooled)
		keep_rest(pool, buf, left);
	if (buf->data && !left) {
		if (!buf->pooled)
			free(buf->data);
		*buf = (struct sio_buf){ .data = NULL };
	}
}

void sio_pool_leave(struct sio_pipe_pool *pool, struct sio_pipe *pipe,
		    struct sio_buf *buf, int suspect)
{
	sio_pool_release(pool, pipe, buf, suspect);
	if (pipe->reader >= 0) {
		sio_count(&pool->held, -1);
		sio_count(&pool->open, -1);
	}
}
