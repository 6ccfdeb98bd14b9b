/*
 * sockbuf.h: how much may be asked of a descriptor without blocking.
 */
#ifndef SIO_TRANSFER_SOCKBUF_H
#define SIO_TRANSFER_SOCKBUF_H

#include "transfer/transfer.h"

int sio_is_socket(int kind);

/* Can the source be read now?  A driver's poll() that said so counts once. */
int sio_src_ready(struct sio_transfer *t);

/* How much of len to splice from the source without blocking; 0: wait. */
int64_t sio_src_has(struct sio_transfer *t, int64_t len);

/* How much of len the destination surely takes without blocking; 0: wait. */
int64_t sio_sockbuf_room(struct sio_transfer *t, int64_t len, int by_write);

#endif
