/*
 * pipe_pool.h: pipes and memory, in use only while bytes are in them.
 */
#ifndef SIO_LOOP_PIPE_POOL_H
#define SIO_LOOP_PIPE_POOL_H

#include "loop/spare_pipes.h"

/* A read that fills this much is no small one. */
#define SIO_SMALL_BUF (32 << 10)
/* With less than this a pipe costs more calls than copying. */
#define SIO_SMALLEST_PIPE (64 << 10)

/* Bytes from pos to len are held.  Owns `data`, unless that is the pool's. */
struct sio_buf {
	unsigned char *data;
	int64_t size;
	int64_t pos;
	int64_t len;
	int32_t pooled;
};

/* Owns the spare pipes and the buffer; counts those that are in use. */
struct sio_pipe_pool {
	int64_t open;           /* pipes there are, those in use too */
	int64_t held;           /* in use */
	int32_t most;
	struct sio_spares spares;
	int64_t refused_until;
	unsigned char *buf;
};

int sio_pool_open(struct sio_pipe_pool *pool, int32_t most);

/* Close the pipes that nobody uses. */
void sio_pool_trim(struct sio_pipe_pool *pool);
void sio_pool_close(struct sio_pipe_pool *pool);

/* A pipe for who has none: 0, or -errno. */
int sio_pipe_acquire(struct sio_pipe_pool *pool, struct sio_pipe *pipe,
		     struct sio_faults *faults);

/* A buffer, if there is none yet; 0 or -ENOMEM.  Without a pool it is its own,
 * a small one unless `bulk`. */
int sio_buf_acquire(struct sio_pipe_pool *pool, struct sio_buf *buf, int bulk);

/* After a turn: take back what holds no bytes.  A pipe that is `suspect` may
 * hold some, and is closed. */
void sio_pool_release(struct sio_pipe_pool *pool, struct sio_pipe *pipe,
		      struct sio_buf *buf, int suspect);

/* At the end: what still holds bytes is no more the pool's to count. */
void sio_pool_leave(struct sio_pipe_pool *pool, struct sio_pipe *pipe,
		    struct sio_buf *buf, int suspect);

#endif
