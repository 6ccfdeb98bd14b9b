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
	SIO_CALL_EPOLL_WAIT,
	SIO_CALL_STAT,          /* stat, fstat, statx */
	SIO_CALL_OPEN,
	SIO_CALL_ACCESS,
	SIO_CALL_STATFS,
	SIO_CALL_XATTR,         /* getxattr, listxattr */
	SIO_CALL_CHMOD,
	SIO_CALL_LINK,
	SIO_CALL_RENAME,
	SIO_CALL_UTIMES,
	SIO_CALL_RANDOM,
	SIO_CALL_TLS_HEAD       /* recvmsg MSG_PEEK: what kind of TLS record is next */
};

/* Which half of a transfer makes the call. */
enum sio_phase {
	SIO_PHASE_ANY,
	SIO_PHASE_DIRECT,        /* from source to destination in one call */
	SIO_PHASE_FILL,          /* from the source into pipe or buffer */
	SIO_PHASE_DRAIN,         /* from pipe or buffer to the destination */
	SIO_PHASE_MEMORY,        /* from the caller's memory to the destination */
	SIO_PHASE_STAGE,         /* from the head into a sink's own pipe */
	SIO_PHASE_DROP           /* what nobody wants (again) */
};

/* Of the tests: what system calls shall answer. */
struct sio_faults;

/* ---- one shim a system call: a count, or -errno -------------------------- */
/* `faults` is NULL outside the tests.  An offset pointer may be NULL. */

int64_t sio_tee(struct sio_faults *faults, int in, int out, int64_t len,
		uint32_t flags);
int64_t sio_vmsplice(struct sio_faults *faults, int fd, void **bases,
		     size_t *lens, size_t count, uint32_t flags);
int64_t sio_copy_file_range(struct sio_faults *faults, int in, int64_t *off_in,
			    int out, int64_t *off_out, int64_t len);
/* What recv would give, which stays there. */
int64_t sio_peek(struct sio_faults *faults, int fd, void *buf, int64_t len);
/* Bytes that a read gets at once; 0 when none, at the end, or at an urgent
 * byte. */
int sio_unread(struct sio_faults *faults, int fd);
/* Has a TCP socket told its peer to send no more?  0 also where the kernel does
 * not say so (before 6.2). */
int sio_window_closed(int fd);

/* What is next in a socket that the kernel decrypts: 0, the end that its peer has
 * told (close_notify); 1, another record that is no data; else -errno.  The
 * record stays. */
int64_t sio_tls_head(struct sio_faults *faults, int fd);

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
/* One that may be. */
int64_t sio_vmsplice_either(int fd, void *memory, size_t len, uint32_t flags);
int64_t sio_sendfile_at(int out, int in, int64_t off_in, int has, int64_t len);

/* Grow as far towards capacity as is allowed, or shrink to it; the capacity
 * granted, or -errno (EBUSY: more is held than would fit). */
int64_t sio_pipe_resize(int fd, int64_t capacity);

/* One descriptor, close-on-exec, or -1; what opens it puts it there.  0 or -errno,
 * and then it is as it was. */
struct sio_owned {
	int32_t fd;
};

/* How a path may be resolved (openat2(2)). */
#define SIO_RESOLVE_NO_MAGICLINKS 0x02  /* not through /proc/PID/fd */
#define SIO_RESOLVE_BENEATH 0x08        /* not out of the folder: EXDEV */
#define SIO_RESOLVE_CACHED 0x20         /* not if a disk is needed: EAGAIN (5.12) */

/* In a folder, or AT_FDCWD. */
int sio_owned_open(struct sio_owned *o, int folder, const char *path, int flags,
		   uint32_t mode);
/* By openat2(2), so that resolving the path does no more than it may: to read, in
 * a folder or AT_FDCWD.  -ENOSYS before Linux 5.6. */
int sio_owned_open_within(struct sio_owned *o, int folder, const char *path,
			  int flags, uint64_t resolve);
int sio_owned_dup(struct sio_owned *o, int fd);
int sio_owned_memfd(struct sio_owned *o, const char *name, uint32_t flags);
/* The capacity granted, or -errno. */
int64_t sio_owned_pipe(struct sio_owned *reader, struct sio_owned *writer,
		       int64_t capacity);
/* Safe to repeat. */
void sio_owned_close(struct sio_owned *o);

/* How much of a *blocking* socket's send buffer is free; 0 when poll() would not
 * say POLLOUT. */
int64_t sio_sockbuf_free(int fd, int tcp);
/* How many bytes surely fit into that, when they come from a pipe of so many
 * slots (0: from a file); at least 1. */
int64_t sio_sockbuf_fits(int64_t free, int64_t slots);

/* ---- what a descriptor is ---------------------------------------------------- */

enum sio_kind {
	SIO_KIND_FILE,          /* seekable: regular file, memfd, block device */
	SIO_KIND_PIPE,          /* pipe or FIFO */
	SIO_KIND_TCP,
	SIO_KIND_SOCKET,        /* any other stream socket */
	SIO_KIND_TTY,
	SIO_KIND_OTHER          /* character devices and the rest */
};

/* Python reads it at one stroke (spliceio/_kernel/fdinfo.py). */
struct sio_fdinfo {
	int32_t err;            /* not 0: the descriptor is not open */
	int32_t kind;           /* enum sio_kind */
	uint32_t mode;          /* st_mode */
	int32_t flags;          /* F_GETFL */
	int32_t domain;         /* of a socket; else 0 */
	int32_t type;
	int32_t protocol;
	uint8_t listening;
	uint8_t connected;
	int32_t seals;          /* F_GET_SEALS; 0 where there are none */
	uint64_t dev;
	uint64_t rdev;
	uint64_t ino;
	int64_t size;           /* st_size, or that of a block device */
	int64_t filesystem;     /* f_type of statfs, for regular files and directories */
	uint8_t no_read;        /* a kernel object that has no such call */
	uint8_t no_write;
};

void sio_fdinfo(int fd, struct sio_fdinfo *about);
/* Of a regular file: whether st_size is what it holds.  The kernel makes up some of
 * them when they are read. */
int sio_has_size(int64_t filesystem, int64_t size);
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
	SIO_FORKED,             /* by the drivers: opened by another process */
	SIO_UNTRIED,            /* by an act: nothing was touched */
	SIO_WANT_DISK           /* said to who waits for no disk: see cached.c */
};

enum sio_side { SIO_SIDE_NONE, SIO_SIDE_SRC, SIO_SIDE_DST };

struct sio_refusal {
	int32_t method;
	int32_t err;            /* 0: it answered 0 before the end of the file */
	int32_t call;
	int32_t phase;
};

/* One piece of what is sent: `len` bytes of memory, or of the source from
 * `offset` on (len -1: to its end).  The memory is the caller's. */
struct sio_segment {
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

/* Empty pipes that the blocking calls of this process share.  It is never freed. */
struct sio_spare_pipes;

/* NULL: no memory. */
struct sio_spare_pipes *sio_spare_pipes_new(void);
/* In a forked child, whose parent goes on using them: close the copies. */
void sio_spare_pipes_reset(struct sio_spare_pipes *shared);

/* What a flow is made from; zeroed, but for what is said here. */
struct sio_transfer_config {
	struct sio_faults *faults;  /* NULL outside the tests */
	int32_t pid;            /* who alone may move its bytes; 0: this process */
	int32_t src;            /* to duplicate; -1: none */
	int32_t dst;
	int32_t src_kind;       /* enum sio_kind */
	int32_t dst_kind;
	struct sio_identity src_is;     /* what was looked at */
	struct sio_identity dst_is;
	int32_t nonblock;       /* both are known to be */
	int32_t src_tls;        /* the kernel decrypts what comes from src */
	int32_t methods[6];     /* in the order to try */
	int32_t method_count;
	int32_t adaptive;       /* small reads go by recv and send */
	int32_t small;          /* and that is how it begins */
	int32_t level_poll;     /* the driver's poll tells again what is left */
	int64_t left;           /* to be taken from src; -1: to its end */
	int64_t src_offset;     /* SIO_NO_OFFSET: the file position */
	int64_t dst_offset;
	int64_t pipe_size;      /* what to ask for; 0: the kernel's default */
	struct sio_spare_pipes *spares; /* to take one from; NULL: a new one each */
	const struct sio_segment *segments;   /* after `left`, which is 0; the caller's */
	int32_t segment_count;
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
/* Bytes that belong before the source's: copied.  While nothing is held.  So
 * many of them count as taken from what is left. */
int sio_transfer_prefix(struct sio_transfer *t, const void *data, int64_t len,
			int64_t counted);
/* The source has so much at least. */
void sio_transfer_expect(struct sio_transfer *t, int64_t known);
/* The source has ended, as whoever reads it by other means was told. */
void sio_transfer_end(struct sio_transfer *t);
/* Close and free what t owns.  Safe to repeat. */
void sio_transfer_close(struct sio_transfer *t);

struct sio_transfer_report {
	int64_t moved;          /* in all */
	int64_t moved_by[6];    /* by each method */
	int64_t from_memory;    /* the rest: headers and trailers */
	int32_t method;         /* that is tried next */
	int32_t refusal_count;
};

/* What it has moved.  These alone may be asked for while another thread moves
 * its bytes. */
int64_t sio_transfer_moved(const struct sio_transfer *t);
void sio_transfer_report(const struct sio_transfer *t,
			 struct sio_transfer_report *report);

int64_t sio_transfer_taken(const struct sio_transfer *t);
/* -1: no limit. */
int64_t sio_transfer_left(const struct sio_transfer *t);
/* Bytes of holes, which are neither taken nor moved. */
int64_t sio_transfer_skipped(const struct sio_transfer *t);
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
/* The same, of about so many bytes, in a thread that waits for no disk either, and
 * whose poll tells again what is left. */
int sio_transfer_turn(struct sio_transfer *t, int64_t bytes);
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
void sio_transfer_clear_wake(struct sio_transfer *t);
/* The same, into memory: a count (0: end), or -state with its error set. */
int64_t sio_transfer_read(struct sio_transfer *t, void *buf, int64_t len,
			  int64_t ns, int64_t idle_ns);

/* ---- which methods, and the first try of them -------------------------------- */

/* Up to this size a read and a send cost no more than sendfile (measured). */
#define SIO_ACT_SMALL 16384
#define SIO_ACT_BUF 65536

/* What the order of methods depends on. */
struct sio_pair {
	int32_t src_kind;       /* enum sio_kind */
	int32_t dst_kind;
	int64_t src_filesystem; /* f_type, of files; 0: not known */
	int64_t dst_filesystem;
	int32_t has_dst_offset;
	int32_t cached_only;    /* nobody may wait for a disk */
	int64_t left;           /* what there is to move, where that is known; else -1 */
};

/* The methods to try, best first: how many of the six they are. */
int32_t sio_plan(const struct sio_pair *pair, int32_t *order);

#define SIO_ANY_FILESYSTEM -100000      /* nobody has asked yet; no errno */

/* The same for a file that is copied from its beginning to its end. */
struct sio_file_pair {
	int32_t dst_kind;
	int32_t may_share;      /* its blocks: dst is empty */
	int32_t sees_zeros;     /* every byte has to be looked at */
	int32_t in_one_call;    /* a first try, which may ask for no dst_filesystem */
	int64_t src_filesystem; /* f_type; 0: of a disk, or not known */
	int64_t dst_filesystem;
	int64_t size;           /* 0: nothing, or not known */
};

int32_t sio_plan_file(const struct sio_file_pair *pair, int32_t *order);

/* From this size on a file of an ext4 is written faster, when its blocks are
 * allocated before (measured). */
#define SIO_FILE_RESERVE 131072

/* Is that so of this one?  Of any filesystem: on one of them. */
int32_t sio_plan_reserves(int64_t filesystem, int64_t size);

enum sio_act_known {
	SIO_KNOWN_SRC = 1,      /* it is a stream socket, and its object is asked for */
	SIO_KNOWN_DST = 2,      /* its number once more before a transfer runs */
	SIO_CACHED_ONLY = 4     /* a file's bytes are read from memory or not at all */
};

struct sio_act {
	struct sio_faults *faults;
	struct sio_spare_pipes *spares; /* for what is left */
	int32_t known;          /* enum sio_act_known */
	int32_t method;         /* that moved them */
	int64_t moved;          /* in all */
	int64_t from_memory;    /* of them, from header and trailer */
	int64_t held;           /* the end of what was read into buf, not given */
	int64_t held_at;        /* where in buf that begins */
	struct sio_error error; /* a connection has ended; told once by the kernel */
	int32_t looked;         /* both ends are what a transfer takes, */
	struct sio_identity src;        /* and are these; 0 where that is known */
	struct sio_identity dst;
	int64_t off_dst;        /* in a file, of what is written next; -1: its position */
	struct sio_transfer *rest;      /* of what is left, once it has been made */
	int32_t state;                  /* in which its first slice ended */
	int64_t whole;                  /* what there is to move in all; -1: not known */
	struct sio_segment parts[3];    /* what it sends */
	unsigned char buf[SIO_ACT_BUF + 1];
};

#define SIO_ACT_SHIFT 3

/* Copy, or send a header, a piece of a file and a trailer, without waiting: when
 * all is done, the bytes moved << SIO_ACT_SHIFT | the method; -SIO_BUDGET with
 * what was done so far in a, or -SIO_UNTRIED. */
int64_t sio_act_copy(struct sio_act *a, int known, int src, int dst,
		     int64_t count, int64_t off_src, int64_t off_dst);
int64_t sio_act_send(struct sio_act *a, int known, int sock, int file,
		     int64_t offset, int64_t count, const void *header,
		     int64_t header_len, const void *trailer, int64_t trailer_len);
/* Go on where an act has stopped: make a->rest, the transfer of what is left, with
 * duplicates of what was looked at.  0, -SIO_ERROR with a->error, or -SIO_UNTRIED:
 * then nothing is made.  The arguments are those of the act; header and trailer are
 * the caller's as long as a->rest is. */
int sio_act_copy_rest(struct sio_act *a, int src, int dst, int64_t count,
		      int64_t off_src, int64_t off_dst);
int sio_act_send_rest(struct sio_act *a, int sock, int file, int64_t offset,
		      int64_t count, const void *header, int64_t header_len,
		      const void *trailer, int64_t trailer_len);
/* Run it for a slice: what is answered is as of the act, and when all is done,
 * a->rest is no more. */
int64_t sio_act_run(struct sio_act *a, int64_t slice_ns, int64_t idle_ns);
/* With what a->rest owns; a is the caller's. */
void sio_act_close(struct sio_act *a);

/* ---- a small file to a path -------------------------------------------------- */

#define SIO_FILE_MOST 1048576
#define SIO_FILE_BUF 262144

struct sio_file_copy {
	struct sio_faults *faults;
	int32_t refused;        /* why no blocks are shared: an errno; 0: it was not asked */
	char folder[4096];
	unsigned char buf[SIO_FILE_BUF];
};

/* What becomes of a file: it may replace one; of the source a new one gets ... */
enum sio_file_option {
	SIO_FILE_OVERWRITE = 1,
	SIO_FILE_MODE = 2,
	SIO_FILE_OWNER = 4,
	SIO_FILE_TIMES = 8,
	SIO_FILE_XATTRS = 16,
	SIO_FILE_NAMED = 32     /* never a file without a name */
};

/* Copy it, with its holes, to a name that is free, or to one that such a file has
 * and may be overwritten: the bytes << SIO_ACT_SHIFT | the method, or
 * -SIO_UNTRIED, and nothing is changed. */
int64_t sio_copy_file(struct sio_file_copy *c, const char *src, const char *dst,
		      int options);

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

/* ab and ba are opened by the caller, who closes them after. */
struct sio_relay_config {
	struct sio_transfer *ab;
	struct sio_transfer *ba;
	int64_t limit;          /* both ways together; -1: none */
	int32_t stop_when_gone; /* bit 0: end all when b takes no more; bit 1: a */
	int32_t stop_at_eof;    /* bit 0: end all when a has ended; bit 1: b */
};

struct sio_relay;

/* NULL: no memory. */
struct sio_engine;

/* The first try, on the caller's own sockets: ab, then ba. */
struct sio_relay_act {
	struct sio_faults *faults;
	int64_t moved[2];
	int64_t held[2];        /* the end of what was read into buf, not given */
	int64_t held_at[2];     /* where in buf that begins */
	struct sio_error error[2];      /* a connection has ended; told once */
	struct sio_identity a;  /* what was looked at */
	struct sio_identity b;
	unsigned char buf[2 * SIO_ACT_BUF];     /* a half for each way */
};

/* Where both sides have ended, what is left of it without waiting: SIO_DONE, which
 * counts as the engine's (NULL: nobody's); SIO_BUDGET with what was done so far in
 * r, or SIO_UNTRIED. */
int sio_act_relay(struct sio_relay_act *r, int a, int b,
		  struct sio_engine *engine);
/* Count that in the flows of the rest, before their first step. */
void sio_act_relay_resume(const struct sio_relay_act *r, struct sio_transfer *ab,
			  struct sio_transfer *ba);

struct sio_relay *sio_relay_new(const struct sio_relay_config *config);
void sio_relay_free(struct sio_relay *r);
/* SIO_EVENT: of what is no socket, close the writers that are finished. */
int sio_relay_run(struct sio_relay *r, int64_t ns, int64_t idle_ns);
/* Bit 0: the writer of b; bit 1: that of a.  Told once. */
int sio_relay_finished(struct sio_relay *r);
/* After SIO_ERROR: 0 ab, 1 ba. */
int sio_relay_failed(const struct sio_relay *r);
/* enum sio_reason. */
int sio_relay_reason(const struct sio_relay *r);

/* ---- one to many ------------------------------------------------------------ */

enum sio_fate {
	SIO_FATE_OPEN,          /* it gets what comes */
	SIO_FATE_FAILED,        /* its `out` has the error */
	SIO_FATE_STALLED        /* it took nothing for too long */
};

/* Both ways of bytes are flows of the caller's, who closes them after. */
struct sio_fanout_config {
	struct sio_transfer *in;        /* of the source */
	/* From a pipe to each sink; NULL: the caller takes the bytes.  Pipes
	 * first: they need no pipe between. */
	struct sio_transfer **out;
	int32_t sink_count;
	int32_t copying;        /* 1: no tee() from the start */
	int64_t stall_ns;       /* a sink may be full for so long; -1: no limit */
};

struct sio_fanout_report {
	int64_t progress;       /* changes whenever a byte moves */
	int64_t base;           /* how much of the source every sink has got */
	int32_t attached;       /* sinks that are */
	int32_t last;           /* which was detached last, with all that it held */
	int32_t refused;        /* why it is copying: an errno, and the call */
	int32_t refused_call;
	int32_t waiting;        /* the slice ended in poll(), with nothing to do */
	int32_t woken;          /* by wake_fd */
};

struct sio_fanout;

/* NULL: no memory. */
struct sio_fanout *sio_fanout_new(const struct sio_fanout_config *config);
/* With what it owns. */
void sio_fanout_free(struct sio_fanout *f);
void sio_fanout_report(const struct sio_fanout *f,
		       struct sio_fanout_report *report);
/* Of sink i: enum sio_fate; how much of the source it does not want again, and of
 * that, what was duplicated straight into it. */
int sio_fanout_fate(const struct sio_fanout *f, int32_t i);
int64_t sio_fanout_got(const struct sio_fanout *f, int32_t i);
int64_t sio_fanout_teed(const struct sio_fanout *f, int32_t i);
/* Until it is done, a sink's fate changes or the caller has bytes to take
 * (SIO_EVENT), nothing moved for idle_ns, wake_fd can be read (-1: none), or ns
 * are over.  One that waited goes on waiting, and asks for nothing else. */
int sio_fanout_run(struct sio_fanout *f, int64_t ns, int64_t idle_ns,
		   int wake_fd);
/* Take what is for sink i alone: from its pipe, and for the caller also from
 * memory.  A count, 0 when there is none, or -errno.  One that is detached has
 * none, but for the last: what its pipe still holds. */
int64_t sio_fanout_take(struct sio_fanout *f, int32_t i, void *buf, int64_t len);
/* What the caller took last and has not said to have. */
int64_t sio_fanout_handed(const struct sio_fanout *f);
void sio_fanout_accept(struct sio_fanout *f);
/* The caller's own sink takes no more; safe to repeat. */
void sio_fanout_detach(struct sio_fanout *f, int32_t i);
/* At the end, how much was taken from the source, or given to some sink, that
 * not all have got; and take it: a count, or -errno. */
int64_t sio_fanout_rest(const struct sio_fanout *f);
int64_t sio_fanout_take_rest(struct sio_fanout *f, void *buf, int64_t len);
/* What it owns, and the pipe that `in` fills; before `in` is closed. */
void sio_fanout_close(struct sio_fanout *f);

#define SIO_FAN_MOST 64 /* sinks of a first try */
#define SIO_ACT_TEE 7   /* besides enum sio_method */

struct sio_fan_sink {
	struct sio_identity is; /* what was looked at; 0 where that is known */
	int64_t moved;
	int32_t err;            /* a connection has ended; told once by the kernel */
	int32_t fd;
	int32_t flags;          /* -1: nothing has asked for them */
	uint32_t mode;
};

/* The first try of a fan-out, on the caller's own descriptors. */
struct sio_fan_act {
	struct sio_faults *faults;
	int32_t sink_count;     /* of those that were tried; 0: nothing was */
	int64_t taken;          /* from the source, in all */
	int64_t held;           /* the last so many of them, which are in buf */
	struct sio_error error; /* of the source, if it is a connection */
	struct sio_identity src;
	unsigned char how[SIO_FAN_MOST];        /* each sink got its bytes */
	struct sio_fan_sink each[SIO_FAN_MOST];
	unsigned char buf[SIO_ACT_BUF];
};

/* Of a sink: it is a stream socket, and its object is asked for its number once
 * more before what is left goes on. */
#define SIO_FAN_KNOWN 1073741824

/* Without waiting: the bytes that every sink has got, when all is done;
 * -SIO_BUDGET with what was done so far in a, or -SIO_UNTRIED.  Of the sinks
 * the numbers, and what is known. */
int64_t sio_act_fanout(struct sio_fan_act *a, int src, int64_t count,
		       const int32_t *sinks, int32_t sink_count);
/* Take what some sink has got and the source still has; what was taken in all. */
int64_t sio_act_fanout_settle(struct sio_fan_act *a, int src);
/* Go on from there, before the first run; the place of each sink among those of
 * f.  0 or -ENOMEM. */
int sio_fanout_resume(struct sio_fanout *f, const struct sio_fan_act *a,
		      const int32_t *places);

/* ---- many at once: an engine, one thread under one epoll -------------------- */

/* Where what has happened waits for Python: a list and an eventfd.  It outlives
 * every engine that writes to it. */
struct sio_completions;

/* What a connection has to tell. */
enum sio_event {
	SIO_EVENT_OVER = 1,
	SIO_EVENT_WRITER_B = 2,  /* all of ab is through: close the writer of b */
	SIO_EVENT_WRITER_A = 4,
	SIO_EVENT_ROUTE = 8,     /* peeked: which upstream? */
	SIO_EVENT_DOWN = 16,     /* an upstream refuses: `upstream`, `err` */
	SIO_EVENT_UP = 32        /* it does so no longer */
};

struct sio_peer {
	uint8_t ip[16];         /* IPv4 as ::ffff:a.b.c.d */
	uint16_t port;
	int16_t family;         /* AF_INET, AF_INET6, AF_UNIX; 0: not known */
};

/* A connection of an engine: a job that Python has made, or one that the engine
 * has accepted. */
struct sio_conn;

/* The blocking modes of sockets that engines have. */
struct sio_modes;

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

struct sio_completions *sio_completions_new(void);
void sio_completions_free(struct sio_completions *completions);
int sio_completions_fd(const struct sio_completions *completions);
/* Wait for something to take: 1, 0 after ms milliseconds, or -errno. */
int sio_completions_wait(struct sio_completions *completions, int ms);
/* Make a wait end, now or later. */
void sio_completions_wake(struct sio_completions *completions);
/* The next connection, and in *told what it tells; NULL when there is none. */
struct sio_conn *sio_completions_take(struct sio_completions *completions, int32_t *told);

/* The table is never freed; NULL: no memory. */
struct sio_modes *sio_modes_new(void);
/* In a forked child, whose parent may have had it locked. */
void sio_modes_reset(struct sio_modes *modes);

struct sio_job_config {
	struct sio_relay_config relay;  /* without ba: one flow, and no half-close */
	struct sio_completions *completions;
	int64_t idle_ns;        /* -1: no limit */
	int32_t fds[4];         /* reader and writer of a, of b; -1: none */
};

struct sio_job_report {
	int32_t err;            /* it could not even begin */
	int32_t failed;         /* 1: ab, 2: ba has an error */
	int32_t reason;         /* enum sio_reason */
	int32_t is_cancelled;
	int64_t ns;             /* how long it took */
};

/* NULL: no memory. */
struct sio_conn *sio_job_new(const struct sio_job_config *config);
/* With the modes of its sockets put back. */
void sio_job_free(struct sio_conn *conn);
/* Make its sockets nonblocking; put their modes back.  Both are safe to repeat. */
void sio_job_acquire(struct sio_conn *conn, struct sio_modes *modes);
void sio_job_release(struct sio_conn *conn);
/* Has an engine got it, or had it? */
int sio_job_is_taken(const struct sio_conn *conn);
/* Once it is over. */
void sio_job_report(const struct sio_conn *conn, struct sio_job_report *report);

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
/* End every relay, and the thread.  What is posted of it stays to be taken. */
void sio_engine_stop(struct sio_engine *e);
void sio_engine_free(struct sio_engine *e);
/* In a forked child: close what was copied, touch nothing else. */
void sio_engine_abandon(struct sio_engine *e);
/* 0, or -ESHUTDOWN: it is stopped; -ECHILD: it is another process's; or why it
 * has ended by itself. */
int sio_engine_submit(struct sio_engine *e, struct sio_conn *conn);
/* End it.  1: its reason is SIO_REASON_CANCELLED; 0: it has ended otherwise. */
int sio_engine_cancel(struct sio_conn *conn);
/* End it, without a word on whose behalf. */
void sio_engine_abort(struct sio_conn *conn);
void sio_engine_counts(struct sio_engine *e, struct sio_counts *counts);

/* ---- accepting and connecting ---------------------------------------------- */

/* Where connections go to, by number; each has the addresses of one name. */
struct sio_upstreams;

/* Who uses the numbers of a list: whoever made this, and each set with them,
 * which lasts as long as a connection may name one.  The last frees it. */
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

struct sio_proxy_config {
	struct sio_completions *completions;
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
int sio_engine_serve(struct sio_engine *e, const struct sio_proxy_config *setup,
		     const int32_t *listeners, int32_t count);
/* Connect to these from now on; the engine owns them. */
int sio_engine_upstreams(struct sio_engine *e, struct sio_upstreams *ups);
/* Accept no more, and go on with what there is. */
void sio_engine_close_listeners(struct sio_engine *e);
/* What is known of an accepted connection. */
struct sio_proxy_report {
	struct sio_peer client;
	int32_t upstream;       /* its number, from the set's first on; -1: none */
	int32_t event_upstream;  /* of SIO_EVENT_DOWN and UP */
	int32_t event_err;
	int32_t err;            /* of connecting, or of a header */
	int32_t reason;         /* enum sio_reason */
	int32_t tries;          /* upstreams tried */
	int32_t is_connected;   /* or was */
	int32_t peeked_len;
	const unsigned char *peeked;    /* with SIO_EVENT_ROUTE, until it is answered */
	int64_t a_to_b;
	int64_t b_to_a;
	int64_t ns;             /* how long it took, once it is over */
};

void sio_proxy_report(const struct sio_conn *conn,
		      struct sio_proxy_report *report);
/* The answer to SIO_EVENT_ROUTE: where to; NULL and more: peek again, NULL: nowhere. */
void sio_proxy_route(struct sio_conn *conn, struct sio_upstreams *ups,
		     int32_t more);
/* Python has read what an accepted connection tells. */
void sio_proxy_release(struct sio_conn *conn);

/* ---- page_gift.c: memory into a pipe, copied once into pages given away ----------- */

/* What is mapped, faulted and dropped at once: a huge page of x86-64, and of
 * arm64 with pages of 4 KiB. */
#define SIO_PAGE_GIFT_REGION 2097152

/* No huge page is to be had now.  No errno has this number. */
#define SIO_PAGE_GIFT_SMALL -100001

struct sio_page_gift;

/* Owns a region of memory; NULL: no memory.  One call at a time. */
struct sio_page_gift *sio_page_gift_new(void);
/* What is in pipes stays there. */
void sio_page_gift_free(struct sio_page_gift *g);
/* Copy data into fresh pages and let the pipe fd have them.  Ends when all of
 * it is in the pipe, at a signal, after budget_ns, or when a pipe that may not
 * be waited for (SPLICE_F_NONBLOCK in flags) is full: the count, and -errno
 * only with nothing moved.  Without `small`, pages come from huge ones alone,
 * and SIO_PAGE_GIFT_SMALL is the answer where there is none.  *count goes up by what
 * was moved, so that it is counted even if Python raises at once. */
int64_t sio_page_gift_write(struct sio_faults *faults, struct sio_page_gift *g, int fd,
		       const unsigned char *data, int64_t len, uint32_t flags,
		       int small, int64_t budget_ns, int64_t *count);
/* The same by write(2). */
int64_t sio_page_gift_put(struct sio_faults *faults, int fd, const unsigned char *data,
		     int64_t len, int64_t budget_ns, int64_t *count);
/* Does vmsplice map here (1) or copy (0)?  Tried in a pipe of its own. */
int64_t sio_page_gift_maps(struct sio_faults *faults);

/* cffi: end */

#endif
