/*
 * state.h: what a transfer has done so far: counts, the method in use, the error
 * it ended with, and the bytes that it holds.
 */
#ifndef SIO_TRANSFER_STATE_H
#define SIO_TRANSFER_STATE_H

#include "api.h"

/* Of a step within the machine: something changed, look again. */
#define SIO_GO 64

static inline int sio_method_of(const struct sio_transfer *t)
{
	return t->methods[t->current];
}

/* Which site the next call is made from, for the seam. */
void sio_at(struct sio_transfer *t, int site);

/* Bytes flow: what was suspected of either side is settled. */
static inline void sio_trust(struct sio_transfer *t)
{
	t->doubt = t->guessed = t->yielded = 0;
}

/* So many bytes have reached dst. */
void sio_sent(struct sio_transfer *t, int64_t n);

/* Note the error; the state to return. */
int sio_fail(struct sio_transfer *t, int err, int side, int call);

#endif
