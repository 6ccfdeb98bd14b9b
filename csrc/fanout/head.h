/*
 * head.h: what the source has given and not every sink has got.
 */
#ifndef SIO_FANOUT_HEAD_H
#define SIO_FANOUT_HEAD_H

#include "fanout/types.h"

/* See what the head has, and let it take more: 0,
 * SIO_INTERRUPTED or SIO_ERROR. */
int sio_head_look(struct sio_fanout *f);

/* Is it in memory? */
int sio_head_in_memory(const struct sio_fanout *f);

/* The descriptor that it is read from, when it is in a pipe. */
int sio_head_fd(const struct sio_fanout *f);

/* n bytes have left it, for sinks that all others are ahead of. */
void sio_head_left(struct sio_fanout *f, int64_t n);

/* Let go of what every sink has got. */
void sio_head_let_go(struct sio_fanout *f);

/* No tee() any more: on with memory. */
void sio_head_copy(struct sio_fanout *f, int err, int call);

/* Read and forget n bytes of a pipe that holds them; how many it were. */
int64_t sio_pipe_drop(struct sio_fanout *f, int fd, int64_t n);

#endif
