/*
 * types.h: a fan-out and its sinks.
 */
#ifndef SIO_FANOUT_TYPES_H
#define SIO_FANOUT_TYPES_H

#include "api.h"
#include "transfer/transfer.h"

/*
 * One of many.  Every byte that the head has let go of is in exactly one place:
 * in the sink's own pipe (staged), held by `out`, or moved.
 */
struct sio_sink {
	struct sio_transfer *out;       /* from a pipe to the sink; the caller's.
					 * NULL: the caller takes the bytes */
	struct sio_pipe pipe;   /* its own, with what is staged */
	int64_t got;            /* the source's first so many are not wanted again */
	int64_t teed;           /* of them, straight into the sink */
	int32_t full;           /* poll() has not said yet that it has room */
	int32_t fate;
	int64_t beyond;         /* got - base that its pipe could not reach past */
	int64_t full_ns;        /* since when it is; 0: it is not */
	int64_t full_mark;
};

/*
 * Owns its sinks, the reader of head, null_fd and `mem`; of `in`, the dst that feeds the head.
 * What the source has given
 * and not every sink has got is the head: the source itself if that is a pipe,
 * else a pipe of its own, or memory where tee() is refused.
 */
struct sio_fanout {
	struct sio_faults *faults;
	struct sio_spare_pipes *spares; /* where its pipes come from; NULL: nowhere */
	struct sio_transfer *in;        /* of the source; the caller's */
	int32_t sink_count;
	int32_t copying;        /* 1: no tee() from the start */
	int32_t wake_fd;        /* ends the wait when it can be read; -1: none */
	int64_t stall_ns;       /* a sink may be full for so long; -1: no limit */

	/* Pipes first: they need no pipe between. */
	struct sio_sink *sinks;
	int64_t base;           /* how much of the source every sink has got */
	int64_t end;            /* and how much of it there is */
	int32_t attached;
	int64_t handed;         /* by the last take without `out`; the caller's */
	int32_t last;           /* which was detached last, with all that it held */
	int32_t direct;         /* the source is the head */
	int32_t eof;
	int32_t failed;         /* `in` has the error, told when all is through */
	int32_t refused;        /* why it is copying: an errno, and the call */
	int32_t refused_call;
	int32_t changed;        /* a sink's fate has */
	int32_t want_src;
	int32_t interrupted;    /* the last move was, after what it took */
	int32_t waiting;        /* the slice ended in poll(), with nothing to do */
	int32_t retry;          /* a call did nothing that poll() knows nothing of:
				 * it is made again after the slice */
	int32_t woken;          /* by wake_fd */
	int32_t null_fd;        /* /dev/null, or -1 */
	struct sio_pipe head;
	int64_t head_held;
	int64_t full_at;        /* base when the head took no more */
	unsigned char *mem;
	int64_t mem_size;
	int64_t mem_pos;
	int64_t mem_len;
	int64_t progress;
	int64_t active_ns;
	int64_t active_mark;
	struct pollfd *fds;
};

#endif
