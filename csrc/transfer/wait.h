/*
 * wait.h: one transfer and poll().
 */
#ifndef SIO_TRANSFER_WAIT_H
#define SIO_TRANSFER_WAIT_H

#include "transfer/transfer.h"

/* Note when bytes last moved; how many nanoseconds ago that was. */
int64_t sio_idle_for(int64_t *active_ns, int64_t *active_mark, int64_t mark);

/* Milliseconds to wait: until the slice or the idle limit ends, rounded up. */
int sio_wait_ms(int64_t slice_end, int64_t idle_ns, int64_t idle);

/* The source has nothing, and poll() calls it readable: while a part of a TLS
 * record is there, Linux 6.1 does so, and 6.12 does not.  How many milliseconds to leave it
 * out of poll() for, 1 to 32; 0: poll() can be trusted. */
int sio_tls_pause(struct sio_transfer *t);

/* The destination has gone while the source was waited for; the state. */
int sio_transfer_gone(struct sio_transfer *t, int err);

/* While waiting for src: has dst gone?  0, or the errno to report. */
int sio_dst_gone(struct sio_transfer *t, int revents);

#endif
