/*
 * step.h: the one-way state machine, one step at a time.
 */
#ifndef SIO_TRANSFER_STEP_H
#define SIO_TRANSFER_STEP_H

#include "transfer/transfer.h"

/* Advance without waiting, for at most ns nanoseconds (-1: no limit) and about
 * `bytes` bytes. */
int sio_transfer_step(struct sio_transfer *t, int64_t bytes, int64_t ns);

/* One try to read into buf, held bytes first: a count, 0 at the end, or
 * -errno. */
int64_t sio_transfer_pull(struct sio_transfer *t, void *buf, int64_t len);

#endif
