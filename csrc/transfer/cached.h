/*
 * cached.h: is what a flow reads next in memory, or on a disk?
 */
#ifndef SIO_TRANSFER_CACHED_H
#define SIO_TRANSFER_CACHED_H

#include "transfer/transfer.h"

/* How far one look goes, and so how much is read from a disk at a time. */
#define SIO_CACHED_WINDOW (1 << 20)

/* 0: it may be on a disk, and src.cached_at, src.cached say what is to be read
 * before the flow goes on.  Else it is not asked again for src.cached bytes. */
int sio_src_is_cached(struct sio_transfer *t);

#endif
