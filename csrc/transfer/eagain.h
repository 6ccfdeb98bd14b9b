/*
 * eagain.h: which end was it, when a call moves less than it was asked to?
 */
#ifndef SIO_TRANSFER_EAGAIN_H
#define SIO_TRANSFER_EAGAIN_H

#include "transfer/transfer.h"

/* Neither end says that it is the one: only a copying call can tell. */
#define SIO_TRY_COPY 65

/* Which end made the call answer EAGAIN: SIO_WANT_SRC, SIO_WANT_DST,
 * SIO_GO to ask again, SIO_TRY_COPY. */
int sio_blocked_side(struct sio_transfer *t, int phase);

/* The destination takes no more, and nothing is held: SIO_WANT_DST if the source
 * has more, SIO_WANT_SRC if it is empty, SIO_DONE at its end, or SIO_ERROR. */
int sio_src_first(struct sio_transfer *t);

/* Does a read of less than was asked prove that the source is empty? */
int sio_short_is_dry(const struct sio_transfer *t);

/* Does a write of less than was given prove that the destination is full? */
int sio_short_is_full(const struct sio_transfer *t);

#endif
