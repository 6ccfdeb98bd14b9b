/*
 * spliceio.h: the whole C interface, read by the compiler and, between the two
 * markers, by cffi.
 *
 * Only integers, pointers and plain structs cross this line.  A function
 * returns a count or a state (>= 0), or -errno.  Nothing here knows of Python,
 * threads or signals: a caller that must not hold a lock while bytes move
 * releases it around the call.
 */
#ifndef SPLICEIO_H
#define SPLICEIO_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* The kernel takes no more than this in one call (MAX_RW_COUNT). */
#define SIO_MAX_COUNT 0x7ffff000

/* "No offset": use the file position, and move it. */
#define SIO_NO_OFFSET -1

/* Said by the raw calls alone: no errno has this number. */
#define SIO_BAD_COUNT -100000

/* ---- the test seam: what each system call shall answer ------------------ */

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
	SIO_CALL_TRUNCATE
};

/* Which half of a transfer makes the call. */
enum sio_site {
	SIO_SITE_ANY,
	SIO_SITE_DIRECT,        /* from source to destination in one call */
	SIO_SITE_FILL,          /* from the source into pipe or buffer */
	SIO_SITE_DRAIN,         /* from pipe or buffer to the destination */
	SIO_SITE_MEMORY         /* from the caller's memory to the destination */
};

enum sio_action {
	SIO_FAIL,               /* answer -value, do nothing */
	SIO_CAP,                /* do the call with at most value bytes */
	SIO_ZERO                /* answer 0, do nothing */
};

/* The first rule whose call and site match, and whose turns are not used up,
 * lets `skip` calls pass and then acts on `times` of them. */
struct sio_rule {
	int32_t call;
	int32_t site;
	int32_t skip;
	int32_t times;
	int32_t action;
	int64_t value;
};

struct sio_log_row {
	int32_t call;
	int32_t site;
	int32_t in;
	int32_t out;
	uint32_t flags;
	int64_t len;
	int64_t result;
};

/* Owned by the test; log_count goes on counting when the log is full. */
struct sio_seam {
	struct sio_rule *rules;
	int32_t rule_count;
	int32_t site;
	struct sio_log_row *log;
	int32_t log_size;
	int32_t log_count;
};

/* ---- one shim a system call: a count, or -errno -------------------------- */
/* `seam` is NULL outside the tests.  An offset pointer may be NULL. */

int64_t sio_splice(struct sio_seam *seam, int in, int64_t *off_in, int out,
		   int64_t *off_out, int64_t len, uint32_t flags);
int64_t sio_tee(struct sio_seam *seam, int in, int out, int64_t len,
		uint32_t flags);
int64_t sio_vmsplice(struct sio_seam *seam, int fd, void **bases,
		     size_t *lens, size_t count, uint32_t flags);
int64_t sio_sendfile(struct sio_seam *seam, int out, int in, int64_t *off_in,
		     int64_t len);
int64_t sio_copy_file_range(struct sio_seam *seam, int in, int64_t *off_in,
			    int out, int64_t *off_out, int64_t len);
int64_t sio_read(struct sio_seam *seam, int fd, int64_t *off, void *buf,
		 int64_t len);
int64_t sio_recv(struct sio_seam *seam, int fd, void *buf, int64_t len);
int64_t sio_write(struct sio_seam *seam, int fd, int64_t *off, const void *buf,
		  int64_t len);
/* `more`: MSG_MORE, something follows at once. */
int64_t sio_send(struct sio_seam *seam, int fd, const void *buf, int64_t len,
		 int more);
int sio_shutdown_write(struct sio_seam *seam, int fd);
/* Let out, an empty file, share the blocks of in; the size, or -errno. */
int64_t sio_clone(struct sio_seam *seam, int in, int out);
/* Blocks for len bytes from the position on; the size stays.  0 or -errno. */
int sio_fallocate(struct sio_seam *seam, int fd, int64_t len);
/* SEEK_DATA, or with `hole` SEEK_HOLE. */
int64_t sio_seek(struct sio_seam *seam, int fd, int64_t at, int hole);
int sio_truncate(struct sio_seam *seam, int fd, int64_t size);

/* Offsets by value, for Python's raw calls; SIO_NO_OFFSET where there is none.
 * A given offset is stated by `has` (bit 0: in, bit 1: out), so that a negative
 * one reaches the kernel and is refused there. */
int64_t sio_splice_at(int in, int64_t off_in, int out, int64_t off_out,
		      int has, int64_t len, uint32_t flags);
/* The same for the plain case; a negative count is SIO_BAD_COUNT. */
int64_t sio_splice_plain(int in, int out, int64_t len, uint32_t flags);
int64_t sio_try_splice_plain(int in, int out, int64_t len, uint32_t flags);
int64_t sio_sendfile_at(int out, int in, int64_t off_in, int has, int64_t len);

/* Two descriptors, close-on-exec; the capacity granted, or -errno.
 * capacity 0: the kernel's default. */
int64_t sio_pipe(struct sio_seam *seam, int *reader, int *writer,
		 int64_t capacity);
/* Grow as far towards capacity as is allowed, or shrink to it; the capacity
 * granted, or -errno (EBUSY: more is held than would fit). */
int64_t sio_pipe_resize(int fd, int64_t capacity);
/* Close both, once: each number is replaced by -1. */
void sio_pipe_close(int *reader, int *writer);

/* How much of a *blocking* socket's send buffer is free; 0 when poll() would not
 * say POLLOUT. */
int64_t sio_socket_free(int fd, int tcp);
/* How many bytes surely fit into that, when they come from a pipe of so many
 * slots (0: from a file); at least 1. */
int64_t sio_room_for(int64_t free, int64_t slots);
/* What the packets for so many slots cost the send buffer beside their data. */
int64_t sio_packet_cost(int64_t slots);

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
	int64_t filesystem;     /* f_type of statfs, for regular files */
};

void sio_about(int fd, struct sio_about *about);

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

/*
 * One flow.  Zero it, set the fields down to `adaptive`, then open.
 *
 * Owns src and dst (duplicates made by open), the private pipe and the buffer.
 * Every byte is in exactly one place: still in the source, in the pipe
 * (pipe_held), in the buffer (buf_len - buf_pos), or moved.
 */
struct sio_transfer {
	struct sio_seam *seam;
	int32_t src;
	int32_t dst;            /* -1: a transfer that is only read from */
	int32_t pid;            /* who opened it, and alone may move its bytes */
	int32_t src_kind;
	int32_t dst_kind;
	int32_t methods[6];     /* in the order to try */
	int32_t method_count;
	int64_t left;           /* still to be taken from src; -1: to its end */
	int64_t known;          /* what src has at least; 0: not known */
	int64_t off_src;        /* SIO_NO_OFFSET: the file position */
	int64_t off_dst;
	int64_t pipe_size;      /* what to ask for; 0: the kernel's default */
	int32_t adaptive;       /* small reads go by recv and send */
	int32_t level_poll;     /* the driver's poll tells again what is left */

	/* Set before the first step, with left = 0; owned by the caller. */
	const struct sio_part *parts;
	int32_t part_count;
	int32_t part;           /* the next one to begin, or in memory to go on with */
	int64_t part_pos;
	int64_t from_memory;    /* of moved: what came from memory parts */
	int32_t cork;           /* enum in parts.c: whose TCP_CORK it is */

	/* Between files, dst at a position of our own with nothing behind it. */
	int32_t holes;          /* enum sio_holes */
	int32_t hole_last;      /* nothing was written since the last hole */
	int64_t extent;         /* data up to the source's next hole; 0: ask */
	int64_t skipped;        /* bytes of holes, in neither taken nor moved */
	int64_t reserve;        /* blocks to allocate before the first byte */
	int64_t reserved;

	int32_t small;          /* now in that mode */
	int32_t current;        /* index into methods */
	int64_t moved;
	int64_t taken;
	int64_t by_method[6];
	struct sio_refusal refusals[8];
	int32_t refusal_count;

	int32_t err;
	int32_t err_side;
	int32_t err_call;
	int32_t err_method;
	int32_t sticky;         /* the connection is gone: the error stays */
	int32_t eof;

	int32_t pipe_r;
	int32_t pipe_w;
	int64_t pipe_held;
	int64_t slots;          /* of the pipe that dst is fed from; 0: none */
	int64_t dst_free;       /* of its send buffer, at least; 0: ask */
	unsigned char *buf;
	int64_t buf_size;
	int64_t buf_pos;
	int64_t buf_len;

	int64_t chunk;          /* bytes to ask for in one call */
	int32_t src_nonblock;
	int32_t dst_nonblock;
	int32_t src_ready;      /* poll has just said so */
	int32_t src_dry;        /* a short recv has just emptied it */
	int32_t dst_full;       /* it has just taken less than it was given */
	int32_t doubt;          /* EAGAIN though both ends looked ready */
	int32_t yielded;        /* the processor was given up once for it */
	int32_t guessed;        /* how many sides were waited for in vain */
	int32_t guess_dst;      /* the side that was right last time */
	int32_t unwatch_dst;    /* POLLERR that is no error: stop asking */
	int64_t active_ns;      /* when a byte last moved; 0: not begun */
	int64_t active_mark;
};

/* Duplicate both descriptors into t.  0 or -errno; on failure t owns nothing. */
int sio_transfer_open(struct sio_transfer *t, int src, int dst);
/* Bytes that belong before the source's: copied.  Before the first step. */
int sio_transfer_prefix(struct sio_transfer *t, const void *data, int64_t len);
/* Close and free what t owns.  Safe to repeat, and on a zeroed t. */
void sio_transfer_close(struct sio_transfer *t);

int64_t sio_transfer_held(const struct sio_transfer *t);
/* Read back up to len held bytes, which then count as never taken by dst. */
int64_t sio_transfer_take_held(struct sio_transfer *t, void *buf, int64_t len);
/* See whether the descriptors are nonblocking now. */
void sio_transfer_refresh(struct sio_transfer *t);

/* Advance without waiting, for at most ns nanoseconds and about `bytes` bytes. */
int sio_transfer_step(struct sio_transfer *t, int64_t bytes, int64_t ns);
/* Refresh, then one step: for a driver that waits by other means. */
int sio_transfer_try(struct sio_transfer *t, int64_t ns);
/* Steps and poll() for ns nanoseconds; SIO_TIMEOUT when nothing moved for
 * idle_ns (-1: no limit). */
int sio_transfer_run(struct sio_transfer *t, int64_t ns, int64_t idle_ns);
/* The same, into memory: a count (0: end), or -state with t->err set. */
int64_t sio_transfer_read(struct sio_transfer *t, void *buf, int64_t len,
			  int64_t ns, int64_t idle_ns);

/* ---- two ways -------------------------------------------------------------- */

enum sio_reason {
	SIO_REASON_NONE,
	SIO_REASON_EOF,
	SIO_REASON_IDLE,
	SIO_REASON_LIMIT,
	SIO_REASON_RESET_A,
	SIO_REASON_RESET_B
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
	int32_t over;           /* bit 0: ab has ended; bit 1: ba */
	int32_t finished;
	int32_t reason;
	int32_t failed;         /* after SIO_ERROR: 0 ab, 1 ba */
	int64_t active_ns;
	int64_t active_mark;
};

int sio_relay_run(struct sio_relay *r, int64_t ns, int64_t idle_ns);

/* cffi: end */

/* A slot of a pipe takes one page at the most (less than a page of 64 KiB only
 * makes the estimate careful). */
#define SIO_SLOT 4096

/* A range of more than this, when memory follows it, has its end sent apart. */
#define SIO_TAIL (128 << 10)

/* Of a step within the machine: something changed, look again. */
#define SIO_GO 64

/* Bytes that a read gets at once; 0 when none, at the end, or at an urgent
 * byte. */
int sio_unread(struct sio_seam *seam, int fd);

struct pollfd;

int64_t sio_now(void);
/* How many are ready, or -errno. */
int sio_poll(struct sio_seam *seam, struct pollfd *fds, int count, int ms);
/* Ready for `events` now?  An error or hang-up counts: the call will say. */
int sio_ready(struct sio_seam *seam, int fd, int events);
int64_t sio_seam_before(struct sio_seam *seam, int call, int64_t *len,
			int64_t *answer);
void sio_seam_after(struct sio_seam *seam, int call, int in, int out,
		    uint32_t flags, int64_t len, int64_t result);
int sio_is_socket(int kind);
/* Can the source be read now?  A driver's poll() that said so counts once. */
int sio_src_ready(struct sio_transfer *t);
/* How much of len to splice from the source without blocking; 0: wait. */
int64_t sio_src_has(struct sio_transfer *t, int64_t len);
/* How much of len the destination surely takes without blocking; 0: wait. */
int64_t sio_dst_room(struct sio_transfer *t, int64_t len, int by_write);
/* One try to read into buf, held bytes first: a count, 0 at the end, or
 * -errno. */
int64_t sio_transfer_pull(struct sio_transfer *t, void *buf, int64_t len);
/* Note when bytes last moved; how many nanoseconds ago that was. */
int64_t sio_idle_for(int64_t *active_ns, int64_t *active_mark, int64_t mark);
/* Milliseconds to wait: until the slice or the idle limit ends, rounded up. */
int sio_wait_ms(int64_t slice_end, int64_t idle_ns, int64_t idle);
/* Which site the next call is made from, for the seam. */
void sio_at(struct sio_transfer *t, int site);
/* So many bytes have reached dst. */
void sio_sent(struct sio_transfer *t, int64_t n);
/* Note the error; the state to return. */
int sio_fail(struct sio_transfer *t, int err, int side, int call);

/* parts.c.  Is the current part through, and is there another? */
int sio_more_parts(const struct sio_transfer *t);
/* Begin a part of the source, or send some of a part of memory. */
int sio_next_part(struct sio_transfer *t);
/* Before the source is read: cork the end of a range that memory follows. */
void sio_mind_cork(struct sio_transfer *t);
/* Take our cork off, and let nothing hold back what is in the socket. */
void sio_push(struct sio_transfer *t);

/* holes.c.  Allocate what is to be written. */
int sio_reserve(struct sio_transfer *t);
/* Skip the hole that the source is at, and learn how much data follows. */
int sio_next_extent(struct sio_transfer *t);
/* How many zeros to skip in the buffer; if none, *len: how much to write. */
int64_t sio_zeros(const struct sio_transfer *t, int64_t *len);
/* Skip that much of the buffer. */
int sio_make_hole(struct sio_transfer *t, int64_t n);
/* All is through: give dst its size. */
int sio_settle(struct sio_transfer *t);

/* Is err the end of a connection, after which no call can succeed? */
int sio_is_disconnect(int err);
/* While waiting for src: has dst gone?  0, or the errno to report. */
int sio_dst_gone(struct sio_transfer *t, int revents);

#endif
