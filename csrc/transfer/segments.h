/*
 * segments.h: what is sent need not be one stretch of a file: a header, ranges of
 * the file, a trailer, in that order and in the same segments.
 */
#ifndef SIO_TRANSFER_SEGMENTS_H
#define SIO_TRANSFER_SEGMENTS_H

#include "transfer/transfer.h"

/* A range of more than this, when memory follows it, has its end sent apart. */
#define SIO_TAIL (128 << 10)

/* Is the current part through, and is there another? */
int sio_more_segments(const struct sio_transfer *t);

/* Begin a part of the source, or send some of a part of memory. */
int sio_next_segment(struct sio_transfer *t);

/* Before the source is read: cork the end of a range that memory follows. */
void sio_cork_if_needed(struct sio_transfer *t);

/* Take our cork off, and let nothing hold back what is in the socket. */
void sio_push(struct sio_transfer *t);
/* The same for a socket that we have not corked; no socket is left as it is. */
void sio_push_now(int fd);

#endif
