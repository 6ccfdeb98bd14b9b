/*
 * transfer.h: one flow of bytes, and the parts that it is made of.
 *
 * A transfer that is zeroed, and has not been through sio_transfer_init, owns
 * nothing.  Every byte is in exactly one place: still in the source, in the
 * pipe (pipe.held), in the buffer (buf.len - buf.pos), or moved.
 */
#ifndef SIO_TRANSFER_TRANSFER_H
#define SIO_TRANSFER_TRANSFER_H

#include "api.h"
#include "loop/pipe_pool.h"

/* Where bytes come from.  `fd` is a duplicate of the transfer's own, or with
 * `shares` another flow's to close; -1: a fan-out says at each step what is read
 * from. */
struct sio_src {
	int32_t fd;
	int32_t kind;           /* enum sio_kind */
	int64_t offset;         /* SIO_NO_OFFSET: the file position */
	int64_t known;          /* what it has at least; 0: not known */
	int32_t nonblock;
	int32_t eof;
	int32_t ready;          /* poll has just said so */
	int32_t dry;            /* a short recv has just emptied it */
	int32_t special;        /* an end or an urgent byte is due: it may look empty and not be */
	int32_t cached_only;    /* the driver must not wait for a disk: see cached.c */
	int64_t cached_at;      /* of the last look */
	int64_t cached;         /* bytes from here on that need no other */
	int32_t tls;            /* the kernel decrypts: a recv ends at a record that is no data */
	int32_t pause_ms;       /* see sio_tls_pause */
	int64_t paused_at;      /* bytes taken by then */
};

/* Where they go; `fd` as of the source, -1: they are only read. */
struct sio_dst {
	int32_t fd;
	int32_t kind;
	int64_t offset;
	int64_t free;           /* of its send buffer, at least; 0: ask */
	int64_t slots;          /* of the pipe that it is fed from; 0: none */
	int32_t nonblock;
	int32_t full;           /* it has just taken less than it was given */
	int32_t unwatch;        /* POLLERR that is no error: stop asking */
};

/* How bytes are moved: in the order to try, each left only for a refusal that
 * comes before it has moved a byte. */
struct sio_methods {
	int32_t order[6];
	int32_t count;
	int32_t current;        /* index into order */
	int32_t adaptive;       /* small reads go by recv and send */
	int32_t small;          /* now in that mode */
	int32_t refusal_count;
	int64_t moved[6];       /* by each */
	struct sio_refusal refusals[8];
};

/* What is sent besides one stretch of the source: see segments.c.  The array
 * and the memory that it names are the caller's. */
struct sio_segments {
	const struct sio_segment *each;
	int32_t count;
	int32_t next;           /* to begin, or in memory to go on with */
	int64_t pos;            /* in that */
	int64_t moved;          /* of all that was: what came from memory */
	int32_t cork;           /* enum in segments.c: whose TCP_CORK it is */
	int32_t more;           /* the last bytes went with MSG_MORE */
};

/* Between files, dst at a position of our own with nothing behind it: see
 * sparse.c. */
struct sio_sparse {
	int32_t holes;          /* enum sio_holes */
	int32_t hole_last;      /* nothing was written since the last hole */
	int64_t extent;         /* data up to the source's next hole; 0: ask */
	int64_t skipped;        /* bytes of holes, in neither taken nor moved */
	int64_t reserve;        /* blocks to allocate before the first byte */
	int64_t reserved;
};

/* Which end an EAGAIN may have come from, until a byte moves: see eagain.c. */
struct sio_eagain {
	int32_t level_poll;     /* the driver's poll tells again what is left */
	int32_t edge_poll;      /* or: it tells each change of a socket once */
	int32_t unclear;        /* EAGAIN though both ends looked ready */
	int32_t yielded;        /* the processor was given up once for it */
	int32_t guessed;        /* how many sides were waited for in vain */
	int32_t guess_dst;      /* the side that was right last time */
};

/* Of the driver that waits with poll(): see wait.c. */
struct sio_wait {
	int32_t state;          /* in which the last slice ended; 0: none */
	int32_t wake_fd;        /* an eventfd of its own that ends a wait; -1: none */
	int64_t active_ns;      /* when a byte last moved; 0: not begun */
	int64_t active_mark;
};

struct sio_transfer {
	struct sio_faults *faults;
	int32_t pid;            /* who opened it, and alone may move its bytes */
	int32_t shares;         /* src and dst are another's to close */
	int64_t left;           /* still to be taken from src; -1: to its end */
	int64_t taken;
	int64_t moved;
	int64_t chunk;          /* bytes to ask for in one call; 0: never initialised */
	int64_t pipe_size;      /* what to ask for; 0: the kernel's default */
	struct sio_src src;
	struct sio_dst dst;
	struct sio_methods methods;
	struct sio_error error;
	struct sio_pipe pipe;   /* its own, or the pool's while bytes are in it */
	struct sio_buf buf;     /* likewise */
	struct sio_pipe_pool *pool;     /* NULL: none */
	struct sio_spare_pipes *spares; /* where its own comes from; NULL: nowhere */
	struct sio_segments segments;
	struct sio_sparse sparse;
	struct sio_eagain eagain;
	struct sio_wait wait;
};

/* The one place that makes a transfer; it has no descriptors yet. */
void sio_transfer_init(struct sio_transfer *t,
		       const struct sio_transfer_config *config);
/* Use descriptors that somebody else closes, after it. */
void sio_transfer_use(struct sio_transfer *t, int src, int dst);
/* In a forked child: its copies of the pipe, and nothing else. */
void sio_transfer_abandon(struct sio_transfer *t);

#endif
