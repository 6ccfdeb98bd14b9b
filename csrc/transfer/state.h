/*
 * state.h: what a transfer has done so far: counts, the method in use, the error
 * it ended with, and the bytes that it holds.
 */
#ifndef SIO_TRANSFER_STATE_H
#define SIO_TRANSFER_STATE_H

#include "transfer/transfer.h"

/* Of a step within the machine: something changed, look again. */
#define SIO_GO 64

static inline int sio_method_of(const struct sio_transfer *t)
{
	return t->methods.order[t->methods.current];
}

/* Which phase the next call belongs to, for the faults. */
void sio_at(struct sio_transfer *t, int phase);

/* Bytes flow: what was suspected of either side is settled. */
static inline void sio_trust(struct sio_transfer *t)
{
	t->eagain.unclear = t->eagain.guessed = t->eagain.yielded = 0;
}

/* So many bytes have reached dst. */
void sio_sent(struct sio_transfer *t, int64_t n);

/* After a turn: what holds no bytes goes back to the pool, if there is one. */
static inline void sio_transfer_release(struct sio_transfer *t)
{
	if (t->pool)
		sio_pool_release(t->pool, &t->pipe, &t->buf, t->error.err);
}

/* At the end: what still holds bytes is the flow's own from now on. */
static inline void sio_transfer_leave_pool(struct sio_transfer *t)
{
	if (t->pool)
		sio_pool_leave(t->pool, &t->pipe, &t->buf, t->error.err);
	t->pool = NULL;
}

/* Note the error; the state to return. */
int sio_fail(struct sio_transfer *t, int err, int side, int call);

#endif
