/*
 * api.h: what Python may call, read by the compiler and, between the two markers,
 * by cffi.
 *
 * Only integers, pointers and plain structs cross this line.  A function
 * returns a count or a state (>= 0), or -errno.  Nothing here knows of Python,
 * threads or signals: a caller that must not hold a lock while bytes move
 * releases it around the call.
 */
#ifndef SIO_API_H
#define SIO_API_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* The kernel takes no more than this in one call (MAX_RW_COUNT). */
#define SIO_MAX_COUNT 0x7ffff000

/* "No offset": use the file position, and move it. */
#define SIO_NO_OFFSET -1

/* Said by the raw calls alone: no errno has this number. */
#define SIO_BAD_COUNT -100000

/* ---- system calls, by number ------------------------------------------------ */

enum sio_call {
	SIO_CALL_SPLICE,
	SIO_CALL_TEE,
	SIO_CALL_VMSPLICE,
	SIO_CALL_SENDFILE,
	SIO_CALL_COPY_FILE_RANGE,
	SIO_CALL_READ,          /* read, pread, recv */
	SIO_CALL_WRITE,         /* write, pwrite, send */
	SIO_CALL_POLL,
	SIO_CALL_PIPE,
	SIO_CALL_SHUTDOWN,
	SIO_CALL_UNREAD,        /* ioctl FIONREAD */
	SIO_CALL_CLONE,         /* ioctl FICLONE */
	SIO_CALL_FALLOCATE,
	SIO_CALL_SEEK,          /* lseek SEEK_DATA, SEEK_HOLE */
	SIO_CALL_TRUNCATE,
	SIO_CALL_ACCEPT,
	SIO_CALL_SOCKET,
	SIO_CALL_CONNECT,
	SIO_CALL_PEEK,          /* recv MSG_PEEK */
	SIO_CALL_UNSENT,        /* ioctl SIOCOUTQ */
	SIO_CALL_EPOLL_CTL,
	SIO_CALL_EPOLL_WAIT
};

/* Which half of a transfer makes the call. */
enum sio_site {
	SIO_SITE_ANY,
	SIO_SITE_DIRECT,        /* from source to destination in one call */
	SIO_SITE_FILL,          /* from the source into pipe or buffer */
	SIO_SITE_DRAIN,         /* from pipe or buffer to the destination */
	SIO_SITE_MEMORY,        /* from the caller's memory to the destination */
	SIO_SITE_STAGE,         /* from the head into a sink's own pipe */
	SIO_SITE_DROP           /* what nobody wants (again) */
};

/* Of the tests: what system calls shall answer. */
struct sio_seam;

/* ---- one shim a system call: a count, or -errno -------------------------- */
/* `seam` is NULL outside the tests.  An offset pointer may be NULL. */

int64_t sio_tee(struct sio_seam *seam, int in, int out, int64_t len,
		uint32_t flags);
int64_t sio_vmsplice(struct sio_seam *seam, int fd, void **bases,
		     size_t *lens, size_t count, uint32_t flags);
int64_t sio_copy_file_range(struct sio_seam *seam, int in, int64_t *off_in,
			    int out, int64_t *off_out, int64_t len);
/* What recv would give, which stays there. */
int64_t sio_peek(struct sio_seam *seam, int fd, void *buf, int64_t len);
/* Bytes that a read gets at once; 0 when none, at the end, or at an urgent
 * byte. */
int sio_unread(struct sio_seam *seam, int fd);
/* Has a TCP socket told its peer to send no more?  0 also where the kernel does
 * not say so (before 6.2). */
int sio_window_closed(int fd);

/* Offsets by value, for Python's raw calls; SIO_NO_OFFSET where there is none.
 * A given offset is stated by `has` (bit 0: in, bit 1: out), so that a negative
 * one reaches the kernel and is refused there. */
int64_t sio_splice_at(int in, int64_t off_in, int out, int64_t off_out,
		      int has, int64_t len, uint32_t flags);
/* The same for the plain case; a negative count is SIO_BAD_COUNT. */
int64_t sio_splice_plain(int in, int out, int64_t len, uint32_t flags);
int64_t sio_try_splice_plain(int in, int out, int64_t len, uint32_t flags);
/* One stretch of memory that must not be written to: SIO_BAD_COUNT for the read
 * end of a pipe. */
int64_t sio_vmsplice_plain(int fd, const void *memory, size_t len,
			   uint32_t flags);
int64_t sio_sendfile_at(int out, int in, int64_t off_in, int has, int64_t len);

/* Grow as far towards capacity as is allowed, or shrink to it; the capacity
 * granted, or -errno (EBUSY: more is held than would fit). */
int64_t sio_pipe_resize(int fd, int64_t capacity);

/* One descriptor, close-on-exec, or -1; what opens it puts it there.  0 or -errno,
 * and then it is as it was. */
struct sio_owned {
	int32_t fd;
};

/* In a folder, or AT_FDCWD. */
int sio_owned_open(struct sio_owned *o, int folder, const char *path, int flags,
		   uint32_t mode);
int sio_owned_dup(struct sio_owned *o, int fd);
int sio_owned_memfd(struct sio_owned *o, const char *name, uint32_t flags);
/* The capacity granted, or -errno. */
int64_t sio_owned_pipe(struct sio_owned *reader, struct sio_owned *writer,
		       int64_t capacity);
/* Safe to repeat. */
void sio_owned_close(struct sio_owned *o);

/* How much of a *blocking* socket's send buffer is free; 0 when poll() would not
 * say POLLOUT. */
int64_t sio_socket_free(int fd, int tcp);
/* How many bytes surely fit into that, when they come from a pipe of so many
 * slots (0: from a file); at least 1. */
int64_t sio_room_for(int64_t free, int64_t slots);

/* ---- what a descriptor is ---------------------------------------------------- */

enum sio_kind {
	SIO_KIND_FILE,          /* seekable: regular file, memfd, block device */
	SIO_KIND_PIPE,          /* pipe or FIFO */
	SIO_KIND_TCP,
	SIO_KIND_SOCKET,        /* any other stream socket */
	SIO_KIND_TTY,
	SIO_KIND_OTHER          /* character devices and the rest */
};

struct sio_about {
	int32_t err;            /* not 0: the descriptor is not open */
	int32_t kind;           /* enum sio_kind */
	uint32_t mode;          /* st_mode */
	int32_t flags;          /* F_GETFL */
	int32_t domain;         /* of a socket; else 0 */
	int32_t type;
	int32_t protocol;
	int32_t listening;
	int32_t connected;
	int32_t seals;          /* F_GET_SEALS; 0 where there are none */
	uint64_t dev;
	uint64_t rdev;
	uint64_t ino;
	int64_t size;           /* st_size, or that of a block device */
	int64_t filesystem;     /* f_type of statfs, for regular files and directories */
	int32_t no_read;        /* a kernel object that has no such call */
	int32_t no_write;
};

void sio_about(int fd, struct sio_about *about);
/* STATX_ATTR_* of a descriptor, O_PATH too; 0 where the kernel does not tell. */
uint64_t sio_statx_attributes(int fd);

/* ---- one way --------------------------------------------------------------- */

enum sio_method {
	SIO_COPY_FILE_RANGE,
	SIO_SENDFILE,
	SIO_SPLICE,             /* one end is a pipe */
	SIO_SPLICE_PIPE,        /* through the transfer's private pipe */
	SIO_READ_WRITE,
	SIO_CLONE,              /* the blocks themselves, shared: a reflink */
	SIO_METHODS             /* how many there are */
};

enum sio_state {
	SIO_DONE,
	SIO_WANT_SRC,
	SIO_WANT_DST,
	SIO_BUDGET,
	SIO_INTERRUPTED,
	SIO_ERROR,
	SIO_TIMEOUT,            /* said by the drivers only */
	SIO_EVENT,              /* said by a relay: look at `finished` */
	SIO_FORKED              /* by the drivers: opened by another process */
};

enum sio_side { SIO_SIDE_NONE, SIO_SIDE_SRC, SIO_SIDE_DST };

struct sio_refusal {
	int32_t method;
	int32_t err;            /* 0: it answered 0 before the end of the file */
	int32_t call;
	int32_t site;
};

/* One piece of what is sent: `len` bytes of memory, or of the source from
 * `offset` on (len -1: to its end).  The memory is the caller's. */
struct sio_part {
	const unsigned char *memory;    /* NULL: of the source */
	int64_t offset;
	int64_t len;
};

enum sio_holes {
	SIO_HOLES_FILL,         /* a hole of the source is read as zeros */
	SIO_HOLES_KEEP,         /* it stays a hole */
	SIO_HOLES_MAKE          /* and so do blocks of zeros (by read and write) */
};

/* Which file, whatever number it has. */
struct sio_identity {
	uint64_t dev;
	uint64_t ino;           /* 0: any */
};

/* What a flow is made from; zeroed, but for what is said here. */
struct sio_transfer_config {
	struct sio_seam *seam;  /* NULL outside the tests */
	int32_t pid;            /* who alone may move its bytes; 0: this process */
	int32_t src;            /* to duplicate; -1: none */
	int32_t dst;
	int32_t src_kind;       /* enum sio_kind */
	int32_t dst_kind;
	struct sio_identity src_is;     /* what was looked at */
	struct sio_identity dst_is;
	int32_t nonblock;       /* both are known to be */
	int32_t methods[6];     /* in the order to try */
	int32_t method_count;
	int32_t adaptive;       /* small reads go by recv and send */
	int32_t small;          /* and that is how it begins */
	int32_t level_poll;     /* the driver's poll tells again what is left */
	int64_t left;           /* to be taken from src; -1: to its end */
	int64_t src_offset;     /* SIO_NO_OFFSET: the file position */
	int64_t dst_offset;
	int64_t pipe_size;      /* what to ask for; 0: the kernel's default */
	const struct sio_part *parts;   /* after `left`, which is 0; the caller's */
	int32_t part_count;
	int32_t holes;          /* enum sio_holes */
	int64_t extent;         /* data up to the first hole; 0: ask */
	int64_t reserve;        /* blocks to allocate before the first byte */
};

/* Why the last step ended with SIO_ERROR. */
struct sio_error {
	int32_t err;
	int32_t side;           /* enum sio_side */
	int32_t call;           /* enum sio_call */
	int32_t sticky;         /* the connection is gone: the error stays */
};

/* One flow. */
struct sio_transfer;

/* Without descriptors yet; NULL: no memory. */
struct sio_transfer *sio_transfer_new(const struct sio_transfer_config *config);
/* With what it owns. */
void sio_transfer_free(struct sio_transfer *t);
/* Duplicate both descriptors into t; -1 is none: a fan-out says at each step
 * what is read from.  0 or -errno, and its error's side; on failure t owns
 * nothing.  -ESTALE: the number is no longer that of what was looked at. */
int sio_transfer_open(struct sio_transfer *t,
		      const struct sio_transfer_config *config);
/* The second flow of two sockets: it uses the descriptors of the first, which
 * has to live longer. */
void sio_transfer_share(struct sio_transfer *t,
			const struct sio_transfer *first);
/* Bytes that belong before the source's: copied.  Before the first step.  So
 * many of them count as taken from what is left. */
int sio_transfer_prefix(struct sio_transfer *t, const void *data, int64_t len,
			int64_t counted);
/* The source has so much at least. */
void sio_transfer_expect(struct sio_transfer *t, int64_t known);
/* Close and free what t owns.  Safe to repeat. */
void sio_transfer_close(struct sio_transfer *t);

/* What it has moved, in all and by a method (SIO_METHODS: from memory).  These
 * alone may be asked for while another thread moves its bytes. */
int64_t sio_transfer_moved(const struct sio_transfer *t);
int64_t sio_transfer_moved_by(const struct sio_transfer *t, int method);

int64_t sio_transfer_taken(const struct sio_transfer *t);
/* -1: no limit. */
int64_t sio_transfer_left(const struct sio_transfer *t);
/* Bytes of holes, which are neither taken nor moved. */
int64_t sio_transfer_skipped(const struct sio_transfer *t);
/* The one that is tried next. */
int sio_transfer_method(const struct sio_transfer *t);
/* Its own descriptor of that side; -1: none. */
int sio_transfer_fd(const struct sio_transfer *t, int side);
/* Was it opened by this process? */
int sio_transfer_is_ours(const struct sio_transfer *t);
/* Both are the flow's, and live as long. */
const struct sio_error *sio_transfer_error(const struct sio_transfer *t);
/* From 0 on; NULL: there are no more. */
const struct sio_refusal *sio_transfer_refusal(const struct sio_transfer *t,
					       int number);

int64_t sio_transfer_held(const struct sio_transfer *t);
/* Read back up to len held bytes, which then count as never taken by dst. */
int64_t sio_transfer_take_held(struct sio_transfer *t, void *buf, int64_t len);
/* So many that were taken are to be read again, of a source that is a file. */
int sio_transfer_put_back(struct sio_transfer *t, int64_t len);
/* See whether the descriptors are nonblocking now. */
void sio_transfer_refresh(struct sio_transfer *t);

/* Refresh, then one step: for a driver that waits by other means. */
int sio_transfer_try(struct sio_transfer *t, int64_t ns);
/* Steps and poll() for ns nanoseconds; SIO_TIMEOUT when nothing moved for
 * idle_ns (-1: no limit).  A slice that ends while it waits is gone on with in
 * the poll(), without a look at either side. */
int sio_transfer_run(struct sio_transfer *t, int64_t ns, int64_t idle_ns);
/* The time in which nothing moves begins now. */
void sio_transfer_restart(struct sio_transfer *t);
/* Let another thread end a wait of sio_transfer_run, which is then
 * SIO_INTERRUPTED until it is heard: 0 or -errno. */
int sio_transfer_wakeable(struct sio_transfer *t);
void sio_transfer_wake(struct sio_transfer *t);
void sio_transfer_heard(struct sio_transfer *t);
/* The same, into memory: a count (0: end), or -state with its error set. */
int64_t sio_transfer_read(struct sio_transfer *t, void *buf, int64_t len,
			  int64_t ns, int64_t idle_ns);

/* ---- two ways -------------------------------------------------------------- */

enum sio_reason {
	SIO_REASON_NONE,
	SIO_REASON_EOF,
	SIO_REASON_IDLE,
	SIO_REASON_LIMIT,
	SIO_REASON_RESET_A,
	SIO_REASON_RESET_B,
	SIO_REASON_CANCELLED
};

/*
 * ab and ba: opened by the caller, who closes them after.  Half-close is done
 * here for sockets; for anything else the flow's own dst is closed, its bit is
 * set in `finished`, and SIO_EVENT tells the caller to close its own.
 */
struct sio_relay {
	struct sio_transfer *ab;
	struct sio_transfer *ba;
	int64_t limit_left;     /* both ways together; -1: none */
	int32_t stop_when_gone; /* bit 0: end all when b takes no more; bit 1: a */
	int32_t stop_at_eof;    /* bit 0: end all when a has ended; bit 1: b */
	int32_t closes;         /* the sockets are closed when both have ended */
	int32_t closes_later;   /* the caller closes the dst of what is finished */
	int32_t over;           /* bit 0: ab has ended; bit 1: ba */
	int32_t finished;
	int32_t reason;
	int32_t failed;         /* after SIO_ERROR: 0 ab, 1 ba */
	int32_t waiting;        /* the last slice ended in the poll(), in these states */
	int32_t state[2];
	int64_t active_ns;
	int64_t active_mark;
};

int sio_relay_run(struct sio_relay *r, int64_t ns, int64_t idle_ns);

/* ---- one to many ------------------------------------------------------------ */

enum sio_fate {
	SIO_FATE_OPEN,          /* it gets what comes */
	SIO_FATE_FAILED,        /* its `out` has the error */
	SIO_FATE_STALLED        /* it took nothing for too long */
};

/*
 * One of many.  Every byte that the head has let go of is in exactly one place:
 * in the sink's own pipe (staged), held by `out`, or moved.
 */
struct sio_sink {
	struct sio_transfer *out;       /* from a pipe to the sink; the caller's.
					 * NULL: the caller takes the bytes */
	int32_t pipe_r;         /* its own pipe; -1: none was needed yet */
	int32_t pipe_w;
	int64_t staged;         /* what is in it */
	int64_t got;            /* the source's first so many are not wanted again */
	int64_t teed;           /* of them, straight into the sink */
	int32_t full;           /* poll() has not said yet that it has room */
	int32_t fate;
	int64_t beyond;         /* got - base that its pipe could not reach past */
	int64_t full_ns;        /* since when it is; 0: it is not */
	int64_t full_mark;
};

/*
 * Zero it, set what stands before `sinks`, then open.  What the source has given
 * and not every sink has got is the head: the source itself if that is a pipe,
 * else a pipe of its own, or memory where tee() is refused.
 */
struct sio_fanout {
	struct sio_seam *seam;
	struct sio_transfer *in;        /* of the source; the caller's */
	int32_t sink_count;
	int32_t copying;        /* 1: no tee() from the start */
	int32_t wake_fd;        /* ends the wait when it can be read; -1: none.  The
				 * caller's */
	int64_t stall_ns;       /* a sink may be full for so long; -1: no limit */

	/* Its `out` is set after open.  Pipes first: they need no pipe between. */
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
	int32_t doubt;          /* a call did nothing that poll() knows nothing of:
				 * it is made again after the slice */
	int32_t woken;          /* by wake_fd */
	int32_t null_fd;        /* /dev/null, or -1 */
	int32_t head_r;
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

int sio_fanout_open(struct sio_fanout *f);
/* Until it is done, a sink's fate changes or the caller has bytes to take
 * (SIO_EVENT), nothing moved for idle_ns, wake_fd says so, or ns are over.  One
 * that waited goes on waiting, and asks for nothing else. */
int sio_fanout_run(struct sio_fanout *f, int64_t ns, int64_t idle_ns);
/* Take what is for sink i alone: from its pipe, and without `out` also from
 * memory.  A count, 0 when there is none, or -errno.  One that is detached has
 * none, but for the last: what its pipe still holds. */
int64_t sio_fanout_take(struct sio_fanout *f, int32_t i, void *buf, int64_t len);
/* The caller's own sink takes no more; safe to repeat. */
void sio_fanout_detach(struct sio_fanout *f, int32_t i);
/* At the end, how much was taken from the source, or given to some sink, that
 * not all have got; and take it: a count, or -errno. */
int64_t sio_fanout_rest(const struct sio_fanout *f);
int64_t sio_fanout_take_rest(struct sio_fanout *f, void *buf, int64_t len);
void sio_fanout_close(struct sio_fanout *f);

/* ---- many at once: an engine, one thread under one epoll -------------------- */

/* Where what has happened waits for Python: a list and an eventfd.  It outlives
 * every engine that writes to it. */
struct sio_news;
struct sio_engine;

/* The state of a link.  Those before SIO_PHASE_RELAY are of a proxy's. */
enum sio_phase {
	SIO_PHASE_NEW,
	SIO_PHASE_HEADER,       /* a PROXY protocol header is awaited */
	SIO_PHASE_PEEK,         /* the first bytes are awaited */
	SIO_PHASE_ASKED,        /* Python has been asked for the upstream */
	SIO_PHASE_CONNECT,
	SIO_PHASE_RELAY,
	SIO_PHASE_LINGER,       /* what was sent arrives before the reset does */
	SIO_PHASE_OVER
};

/* What a link has to tell. */
enum sio_told {
	SIO_TOLD_OVER = 1,
	SIO_TOLD_WRITER_B = 2,  /* all of ab is through: close the writer of b */
	SIO_TOLD_WRITER_A = 4,
	SIO_TOLD_ROUTE = 8,     /* peeked: which upstream? */
	SIO_TOLD_DOWN = 16,     /* an upstream refuses: `upstream`, `err` */
	SIO_TOLD_UP = 32        /* it does so no longer */
};

struct sio_peer {
	uint8_t ip[16];         /* IPv4 as ::ffff:a.b.c.d */
	uint16_t port;
	int16_t family;         /* AF_INET, AF_INET6, AF_UNIX; 0: not known */
};

struct sio_timer {
	int64_t due;
	int32_t place;          /* 0: not set */
	void (*fire)(struct sio_engine *e, struct sio_timer *timer);
};

/* What a link does when its engine lets it; the engine knows no more of it. */
struct sio_conn_ops;

/* A socket that is nonblocking while a link has it; see modes.c. */
struct sio_modes;
struct sio_loan {
	uint64_t device;
	uint64_t inode;
	int32_t fd;             /* -1: none */
	int32_t was_blocking;
	struct sio_loan *next;
};

/*
 * One relay of an engine.  Submitted by Python, which owns it and both flows,
 * and leaves them alone until SIO_TOLD_OVER; or made by the engine itself for a
 * connection that it accepted.
 */
struct sio_link {
	struct sio_relay relay;
	struct sio_news *news;
	int64_t idle_ns;        /* -1: no limit */
	int32_t one_way;        /* ab alone, and no half-close */
	int32_t accepted;       /* made by the engine */
	int32_t fds[4];         /* reader and writer of a, of b; -1: none */

	struct sio_modes *modes; /* NULL: no mode is to be put back */
	struct sio_loan loans[4];

	/* The engine's while it runs; afterwards to be read. */
	struct sio_engine *engine;
	const struct sio_conn_ops *ops;
	int32_t phase;
	int32_t failed;         /* 1: ab, 2: ba has an error that Python raises */
	int32_t err;            /* of connecting, or of a header */
	int32_t upstream;       /* its number, from the set's first on; -1: none */
	int32_t state[2];
	int32_t seen[4];        /* events that do not go away, by descriptor */
	int32_t parked;         /* until the timer: memory is short */
	int32_t muted;          /* bits: sources whose bytes wake nobody for now */
	int32_t index;
	int32_t is_ready;
	int64_t begun_ns;
	int64_t connected_ns;
	int64_t moved_ns;
	int64_t ended_ns;
	struct sio_timer timer;
	struct sio_link *next_ready;
	struct sio_link *next_done;

	/* Guarded by the engine's lock. */
	int32_t asked;          /* what Python asks of it; -1: it may not any more */
	int32_t is_cancelled;   /* before that, so that it ends as cancelled */
	int32_t released;
	struct sio_upstreams *answer;
	struct sio_link *next_asked;
	/* Guarded by the news' lock. */
	int32_t told;
	int32_t is_told;
	struct sio_link *next_told;

	/* Of an accepted connection. */
	struct sio_peer client;
	struct sio_peer server;         /* what the client connected to */
	int32_t lent;           /* Python looks at it: it may not be reused */
	int32_t won;            /* the slot of the attempt that connected */
	int32_t last_peek;      /* no more is awaited: the client has ended or the time is up */
	int64_t step_ns;        /* of SIO_PHASE_LINGER: between two looks */
	int64_t deadline;       /* of the phase; of a relay: a side was reset, 0 not */
	unsigned char *peeked;
	int32_t peeked_len;
	int32_t tries;          /* upstreams tried */
	int32_t chosen;         /* the one that is, in its set */
	int32_t short_of;       /* this machine could not even try */
	int32_t shortages;      /* how often, for this upstream */
	int32_t told_upstream;  /* of SIO_TOLD_DOWN and UP */
	int32_t told_err;
	int32_t next_address;
	int32_t attempts[3];    /* sockets that connect; -1: none */
	int32_t attempted[3];   /* to which address */
	struct sio_upstreams *routed;   /* what Python answered; else the common */
	struct sio_upstreams *tried;
};

struct sio_counts {
	int64_t active;
	int64_t total;
	int64_t a_to_b;
	int64_t b_to_a;
	int64_t copied;         /* of both: what went through user memory */
	int64_t failed;         /* no upstream took them */
	int64_t untold;         /* ended without a word: too many wait to be taken */
	int64_t full;           /* times that accept had no descriptor left */
	int64_t pipes_open;
	int64_t pipes_held;     /* those with a relay */
};

struct sio_news *sio_news_new(void);
void sio_news_free(struct sio_news *news);
int sio_news_fd(const struct sio_news *news);
/* Wait for something to take: 1, 0 after ms milliseconds, or -errno. */
int sio_news_wait(struct sio_news *news, int ms);
/* Make a wait end, now or later. */
void sio_news_wake(struct sio_news *news);
/* The next link, and in *told what it tells; NULL when there is none. */
struct sio_link *sio_news_take(struct sio_news *news, int32_t *told);

/* modes.c.  The table is never freed; NULL: no memory. */
struct sio_modes *sio_modes_new(void);
/* In a forked child, whose parent may have had it locked. */
void sio_modes_reset(struct sio_modes *modes);
/* Make the sockets among its fds nonblocking; put their modes back.  Both are
 * safe to repeat.  A link whose sockets are lent may not be freed. */
void sio_modes_lend(struct sio_modes *modes, struct sio_link *l);
void sio_modes_give_back(struct sio_link *l);

enum sio_stopped {
	SIO_STOPPED_NOTHING,    /* it is tried again, and waits meanwhile */
	SIO_STOPPED_ACCEPTING,
	SIO_STOPPED_ALL         /* the thread has ended, and every relay with it */
};

/* What an engine cannot do: the worst of it, or the last. */
struct sio_trouble {
	int32_t err;            /* 0: nothing */
	int32_t call;           /* enum sio_call */
	int32_t stopped;        /* enum sio_stopped */
	int64_t times;          /* how often something was */
};

/* NULL, and the errno and the name of the call that failed, on failure. */
struct sio_engine *sio_engine_new(int32_t pipes, int32_t *err,
				  const char **call);
void sio_engine_trouble(struct sio_engine *e, struct sio_trouble *trouble);
int sio_engine_start(struct sio_engine *e);
/* End every relay, and the thread.  What is told of it stays to be taken. */
void sio_engine_stop(struct sio_engine *e);
void sio_engine_free(struct sio_engine *e);
/* In a forked child: close what was copied, touch nothing else. */
void sio_engine_abandon(struct sio_engine *e);
/* 0, or -ESHUTDOWN: it is stopped; -ECHILD: it is another process's; or why it
 * has ended by itself. */
int sio_engine_submit(struct sio_engine *e, struct sio_link *link);
/* End it.  1: its reason is SIO_REASON_CANCELLED; 0: it has ended otherwise. */
int sio_engine_cancel(struct sio_link *link);
/* End it, without a word on whose behalf. */
void sio_engine_cut(struct sio_link *link);
void sio_engine_counts(struct sio_engine *e, struct sio_counts *counts);

/* ---- accepting and connecting ---------------------------------------------- */

/* Where connections go to, by number; each has the addresses of one name. */
struct sio_upstreams;

/* Who uses the numbers of a list: whoever made this, and each set with them,
 * which lasts as long as a link may name one.  The last frees it. */
int64_t *sio_users_new(void);
int64_t sio_users_count(const int64_t *users);
void sio_users_drop(int64_t *users);

/* Their numbers are `first` and those after it. */
struct sio_upstreams *sio_upstreams_new(int32_t count, int32_t first,
					int64_t *users);
int sio_upstreams_add(struct sio_upstreams *ups, int32_t number,
		      const void *address, int32_t len);
void sio_upstreams_free(struct sio_upstreams *ups);

struct sio_network {
	uint8_t ip[16];
	int32_t bits;           /* of 128; -1: a unix socket */
};

struct sio_gate_setup {
	struct sio_news *news;
	int32_t route;          /* ask Python */
	int32_t tell;           /* of each connection that ends, not only of failures */
	int32_t proxy_protocol; /* 0, 1 or 2: send that header */
	int32_t method;         /* enum sio_method: SPLICE_PIPE or READ_WRITE */
	int64_t idle_ns;
	int64_t connect_ns;
	int64_t peek_ns;
	int64_t most;           /* connections at once, all engines; -1: any */
	int64_t *open;          /* how many there are, all engines */
	const struct sio_network *trusted;
	int32_t trusted_count;
	int32_t shared;         /* other engines have the same listeners */
	int32_t keepalive;      /* silent seconds before TCP peers are probed; 0: never */
};

/* Segments leave at once, and after `keepalive` silent seconds, unless it is 0 or
 * its owner has switched that on already, the peer is asked whether it is there. */
void sio_tune(int fd, int32_t keepalive);

/* Before start.  The descriptors of listeners are duplicated.  Without a route
 * nothing is accepted before there are upstreams. */
int sio_engine_serve(struct sio_engine *e, const struct sio_gate_setup *setup,
		     const int32_t *listeners, int32_t count);
/* Connect to these from now on; the engine owns them. */
int sio_engine_upstreams(struct sio_engine *e, struct sio_upstreams *ups);
/* Accept no more, and go on with what there is. */
void sio_engine_close_gate(struct sio_engine *e);
/* The answer to SIO_TOLD_ROUTE: where to; NULL and more: peek again, NULL: nowhere. */
void sio_link_route(struct sio_link *link, struct sio_upstreams *ups,
		    int32_t more);
/* Python has read what the link of an accepted connection tells. */
void sio_link_release(struct sio_link *link);

/* ---- page_gift.c: memory into a pipe, copied once into pages given away ----------- */

/* What is mapped, faulted and dropped at once: a huge page of x86-64, and of
 * arm64 with pages of 4 KiB. */
#define SIO_GIFT_REGION 2097152

/* No huge page is to be had now.  No errno has this number. */
#define SIO_GIFT_SMALL -100001

struct sio_gift;

/* Owns a region of memory; NULL: no memory.  One call at a time. */
struct sio_gift *sio_gift_new(void);
/* What is in pipes stays there. */
void sio_gift_free(struct sio_gift *g);
/* Copy data into fresh pages and let the pipe fd have them.  Ends when all of
 * it is in the pipe, at a signal, after budget_ns, or when a pipe that may not
 * be waited for (SPLICE_F_NONBLOCK in flags) is full: the count, and -errno
 * only with nothing moved.  Without `small`, pages come from huge ones alone,
 * and SIO_GIFT_SMALL is the answer where there is none.  *count goes up by what
 * was moved, so that it is counted even if Python raises at once. */
int64_t sio_gift_write(struct sio_seam *seam, struct sio_gift *g, int fd,
		       const unsigned char *data, int64_t len, uint32_t flags,
		       int small, int64_t budget_ns, int64_t *count);
/* The same by write(2). */
int64_t sio_gift_put(struct sio_seam *seam, int fd, const unsigned char *data,
		     int64_t len, int64_t budget_ns, int64_t *count);
/* Does vmsplice map here (1) or copy (0)?  Tried in a pipe of its own. */
int64_t sio_gift_maps(struct sio_seam *seam);

/* cffi: end */

#endif
