/*
 * sparse.h: a target as sparse as its source, or sparser; its blocks reserved
 * before, its size settled after.
 */
#ifndef SIO_TRANSFER_SPARSE_H
#define SIO_TRANSFER_SPARSE_H

#include "transfer/transfer.h"

/* Allocate what is to be written. */
int sio_reserve(struct sio_transfer *t);

/* Skip the hole that the source is at, and learn how much data follows. */
int sio_next_extent(struct sio_transfer *t);

/* How many zeros to skip in the buffer; if none, *len: how much to write. */
int64_t sio_zeros(const struct sio_transfer *t, int64_t *len);

/* Skip that much of the buffer. */
int sio_make_hole(struct sio_transfer *t, int64_t n);

/* All is through: give dst its size. */
int sio_settle(struct sio_transfer *t);

#endif
