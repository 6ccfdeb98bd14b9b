/*
 * step.c: the one-way state machine, one step at a time.
 *
 * Rule 1: a step never waits, never touches Python, never prints.
 * Rule 2: what is held goes out before anything more is taken.  An empty pipe
 *         is the only one that can be trusted to have room, so EAGAIN while
 *         holding means the destination, EAGAIN while empty the source.
 * Rule 3: neither 0 nor EAGAIN from a zero-copy call is final.  A TCP urgent
 *         byte, a /proc file or a file that has just grown answer so too.
 *         So then it is copied: the answer of recv() or read() is final.
 * Rule 4: a method is left only for a refusal, and only with nothing moved by
 *         it; that is recorded.
 * Rule 5: a length given to splice is never more than what the pipe holds, and
 *         SPLICE_F_MORE is never set: either stalls TCP for 200 ms.
 * Rule 6: a full destination does not hide the end of the source: while nothing
 *         is held, the source is looked at before the destination is waited for.
 * Rule 7: a blocking descriptor is asked only after poll() said yes, and for no
 *         more than it surely takes.
 */
#define _GNU_SOURCE
#include "transfer/step.h"
#include "base/errno_class.h"
#include "base/syscalls.h"
#include "loop/pipe_pool.h"
#include "transfer/cached.h"
#include "transfer/eagain.h"
#include "transfer/segments.h"
#include "transfer/sockbuf.h"
#include "transfer/sparse.h"
#include "transfer/state.h"

#include <errno.h>
#include <sys/ioctl.h>

/* Below this a read, two splices cost more than one copy (measured). */
#define SMALL_READ (16 << 10)
/* One call between files grows to this while it takes less than 4 ms. */
#define MAX_CHUNK (64 << 20)
#define MIN_CHUNK (256 << 10)

/* ---- bookkeeping ----------------------------------------------------------- */

static void took(struct sio_transfer *t, int64_t n)
{
	t->taken += n;
	if (t->left >= 0)
		t->left -= n;
	if (t->src.offset >= 0)
		t->src.offset += n;
	t->sparse.extent -= n;
	t->src.cached -= n;
	sio_trust(t);
}

static void arrived(struct sio_transfer *t, int method, int64_t n)
{
	sio_count(&t->methods.moved[method], n);
	sio_sent(t, n);
}

static int64_t want(const struct sio_transfer *t, int64_t most)
{
	if (t->sparse.holes && t->sparse.extent < most)
		most = t->sparse.extent;
	if (t->src.cached_only && t->src.cached < most)
		most = t->src.cached;
	if (t->segments.next < t->segments.count && t->dst.kind == SIO_KIND_TCP &&
	    t->left > SIO_TAIL && most > t->left - SIO_TAIL / 2)
		most = t->left - SIO_TAIL / 2;
	return t->left >= 0 && t->left < most ? t->left : most;
}

static int next_method(struct sio_transfer *t, int err, int call, int phase)
{
	struct sio_refusal *r = &t->methods.refusals[t->methods.refusal_count++];

	r->method = sio_method_of(t);
	r->err = err;
	r->call = call;
	r->phase = phase;
	t->methods.current++;
	sio_trust(t);
	return SIO_GO;
}

static int has_next(const struct sio_transfer *t)
{
	return t->methods.current + 1 < t->methods.count;
}

/* Whatever the kernel says of reading a file without read() is no verdict on
 * the file: network filesystems answer EIO, ENOENT and ENODATA where read()
 * works, and where it does not, it says so itself.  What stands is an error of
 * the destination, and a shortage. */
static int is_no_verdict(const struct sio_transfer *t, int err)
{
	return t->src.kind == SIO_KIND_FILE && !sio_is_disconnect(err) &&
	       err != EINTR && err != ENOSPC && err != EDQUOT && err != EFBIG &&
	       err != EMSGSIZE && err != ENOMEM && err != ENOBUFS &&
	       err != ENOTCONN && err != EROFS;
}

static int refuse_or_fail(struct sio_transfer *t, int err, int side, int call,
			  int phase)
{
	/* What fails at the drain has been read. */
	int refused = sio_is_refusal(err) ||
		      (phase != SIO_PHASE_DRAIN && is_no_verdict(t, err));

	if (refused && has_next(t) && !t->methods.moved[sio_method_of(t)])
		return next_method(t, err, call, phase);
	return sio_fail(t, err, side, call);
}

/* ---- copying: the method of last resort, and the judge of all others ---------- */

/* A pty master says EIO once nobody has the slave open any more: its end.  Where
 * the kernel decrypts, splice says EINVAL and recv EIO to a record that is no
 * data: the peer's close_notify is the end, any other is EIO to both. */
static int64_t or_end(const struct sio_transfer *t, int64_t answer)
{
	unsigned number;
	int64_t head;

	if (answer != -EIO && answer != -EINVAL)
		return answer;
	if (t->src.kind == SIO_KIND_TTY && answer == -EIO)
		return ioctl(t->src.fd, TIOCGPTN, &number) ? answer : 0;
	if (t->src.kind != SIO_KIND_TCP)
		return answer;
	head = sio_tls_head(t->faults, t->src.fd);
	if (head >= 0)
		return head ? -EIO : 0;
	/* The look has taken it off the socket. */
	return sio_is_disconnect((int)-head) ? head : answer;
}

static int64_t read_some(struct sio_transfer *t, void *buf, int64_t len)
{
	sio_at(t, SIO_PHASE_FILL);
	if (sio_is_socket(t->src.kind)) {
		t->src.ready = 0;
		return or_end(t, sio_recv(t->faults, t->src.fd, buf, len));
	}
	if (!sio_src_ready(t))
		return -EAGAIN;
	return or_end(t, sio_read(t->faults, t->src.fd,
				  t->src.offset >= 0 ? &t->src.offset : NULL, buf,
				  len));
}

static int copy_in(struct sio_transfer *t)
{
	int64_t len, n;

	if (sio_buf_acquire(t->pool, &t->buf, sio_method_of(t) == SIO_READ_WRITE))
		return sio_fail(t, ENOMEM, SIO_SIDE_NONE, SIO_CALL_READ);
	len = want(t, t->methods.small ? SIO_SMALL_BUF : t->buf.size);
	n = read_some(t, t->buf.data, len);
	if (n > 0) {
		t->buf.pos = 0;
		t->buf.len = n;
		took(t, n);
		if (n == len && len >= SIO_SMALL_BUF)
			t->methods.small = 0;
		t->src.dry = n < len && sio_short_is_dry(t);
		return SIO_GO;
	}
	if (n == 0) {
		t->src.eof = 1;
		return SIO_DONE;
	}
	if (n == -EAGAIN)
		return SIO_WANT_SRC;
	return sio_fail(t, (int)-n, SIO_SIDE_SRC, SIO_CALL_READ);
}

static int copy_out(struct sio_transfer *t)
{
	int64_t len = t->buf.len - t->buf.pos, n;
	const unsigned char *from = t->buf.data + t->buf.pos;

	if (t->sparse.holes == SIO_HOLES_MAKE) {
		n = sio_zeros(t, &len);
		if (n)
			return sio_make_hole(t, n);
	}
	len = sio_sockbuf_room(t, len, 1);
	if (!len)
		return SIO_WANT_DST;
	sio_at(t, SIO_PHASE_DRAIN);
	n = sio_is_socket(t->dst.kind)
		? sio_send(t->faults, t->dst.fd, from, len, 0)
		: sio_write(t->faults, t->dst.fd,
			    t->dst.offset >= 0 ? &t->dst.offset : NULL, from, len);
	if (n > 0) {
		t->buf.pos += n;
		arrived(t, SIO_READ_WRITE, n);
		return n < len && sio_short_is_full(t) ? SIO_WANT_DST : SIO_GO;
	}
	if (n == -EAGAIN)
		return SIO_WANT_DST;
	return sio_fail(t, n ? (int)-n : EIO, SIO_SIDE_DST, SIO_CALL_WRITE);
}

/* The pipe's content into the buffer: after a refusal of the drain. */
static int copy_from_pipe(struct sio_transfer *t)
{
	int64_t len, n;

	if (sio_buf_acquire(t->pool, &t->buf, sio_method_of(t) == SIO_READ_WRITE))
		return sio_fail(t, ENOMEM, SIO_SIDE_NONE, SIO_CALL_READ);
	len = t->pipe.held < t->buf.size ? t->pipe.held : t->buf.size;
	sio_at(t, SIO_PHASE_FILL);
	n = sio_read(t->faults, t->pipe.reader, NULL, t->buf.data, len);
	if (n <= 0)
		return sio_fail(t, n ? (int)-n : EIO, SIO_SIDE_NONE, SIO_CALL_READ);
	t->pipe.held -= n;
	t->buf.pos = 0;
	t->buf.len = n;
	return SIO_GO;
}

/* A zero-copy call took nothing, saying 0 or EAGAIN. */
static int took_nothing(struct sio_transfer *t, int64_t answer, int call, int phase)
{
	int r;

	if (answer == -EAGAIN) {
		r = sio_blocked_side(t, phase);
		if (r != SIO_TRY_COPY)
			return r;
	}
	t->eagain.unclear = 0;
	/* A terminal says its end once: whoever asks again waits for another. */
	if (!answer && t->src.kind == SIO_KIND_TTY) {
		t->src.eof = 1;
		return SIO_DONE;
	}
	r = copy_in(t);
	if (r != SIO_GO || answer || t->src.kind != SIO_KIND_FILE ||
	    t->methods.moved[sio_method_of(t)])
		return r;
	/* 0 from the start, and yet there is data: not a way to read it. */
	if (has_next(t))
		return next_method(t, 0, call, phase);
	return sio_fail(t, EINVAL, SIO_SIDE_SRC, call);
}

/* ---- one call from source to destination --------------------------------------- */

static int call_of(int method)
{
	return method == SIO_COPY_FILE_RANGE ? SIO_CALL_COPY_FILE_RANGE :
	       method == SIO_SENDFILE ? SIO_CALL_SENDFILE : SIO_CALL_SPLICE;
}

static int64_t call_direct(struct sio_transfer *t, int method, int64_t len)
{
	int64_t *src_at = t->src.offset >= 0 ? &t->src.offset : NULL;
	int64_t *dst_at = t->dst.offset >= 0 ? &t->dst.offset : NULL;

	sio_at(t, SIO_PHASE_DIRECT);
	switch (method) {
	case SIO_COPY_FILE_RANGE:
		return sio_copy_file_range(t->faults, t->src.fd, src_at, t->dst.fd,
					   dst_at, len);
	case SIO_SENDFILE:
		return sio_sendfile(t->faults, t->dst.fd, t->src.fd, src_at, len);
	default:
		/* SPLICE_F_NONBLOCK */
		return or_end(t, sio_splice(t->faults, t->src.fd, src_at, t->dst.fd,
					    dst_at, len, 2));
	}
}

static int blame(const struct sio_transfer *t, int err)
{
	if (err == EPIPE || err == ENOSPC || err == EFBIG || err == EDQUOT ||
	    (err == EIO && t->src.kind == SIO_KIND_PIPE))
		return SIO_SIDE_DST;
	if (sio_is_disconnect(err))
		return sio_is_socket(t->src.kind) ? SIO_SIDE_SRC : SIO_SIDE_DST;
	if (err == EIO && t->src.kind == SIO_KIND_TCP)
		return SIO_SIDE_SRC;
	return SIO_SIDE_NONE;
}

/* The kernel asks a CIFS server for as much as it is asked for, and the server
 * answers EIO beyond the end of the file. */
static int64_t within_file(const struct sio_transfer *t, int64_t len)
{
	int64_t left = t->src.known - t->taken;

	return t->src.known && left < len ? left : len;
}

static int direct(struct sio_transfer *t, int method)
{
	int64_t len = sio_src_has(t, want(t, t->chunk)), n;

	if (!len)
		return SIO_WANT_SRC;
	len = sio_sockbuf_room(t, len, 0);
	if (!len)
		return SIO_WANT_DST;
	if (method == SIO_COPY_FILE_RANGE) {
		len = within_file(t, len);
		if (len <= 0) /* the end, unless it has grown */
			return copy_in(t);
	}
	n = call_direct(t, method, len);
	if (n > 0) {
		took(t, n);
		arrived(t, method, n);
		/* Asked for more, it gave the last byte that the file had. */
		if (method == SIO_SENDFILE && n < len && t->taken == t->src.known)
			t->src.eof = 1;
		/* Less than asked of a file that has more: the socket is full.
		 * poll() tells when it is not, for less than a call in vain. */
		t->dst.full = n < len && t->eagain.level_poll &&
			      (t->left > 0 || t->taken < t->src.known) &&
			      t->src.kind == SIO_KIND_FILE &&
			      sio_is_socket(t->dst.kind);
		return SIO_GO;
	}
	if (n == 0 || n == -EAGAIN)
		return took_nothing(t, n, call_of(method), SIO_PHASE_DIRECT);
	return refuse_or_fail(t, (int)-n, blame(t, (int)-n), call_of(method),
			      SIO_PHASE_DIRECT);
}

/* ---- two splices, through the private pipe ---------------------------------------- */

/* What is still to come; -1: nobody knows. */
static int64_t at_most(const struct sio_transfer *t)
{
	int64_t most = t->src.known > t->taken ? t->src.known - t->taken : t->left;

	return t->left >= 0 && t->left < most ? t->left : most;
}

/* It needs no pipe, unless splice alone may move it, or has moved what came before. */
static int is_little(const struct sio_transfer *t)
{
	int64_t most = at_most(t);

	return most >= 0 && most < SMALL_READ && has_next(t) &&
	       !t->methods.moved[sio_method_of(t)];
}

/* For what is known to be less than a pipe can hold, no more than needed. */
static int64_t own_size(const struct sio_transfer *t)
{
	int64_t most = at_most(t);

	if (most < 0 || most >= t->pipe_size)
		return t->pipe_size;
	return most <= SIO_SMALLEST_PIPE ? 0 : most;
}

/* 0 or -errno. */
static int need_pipe(struct sio_transfer *t)
{
	if (t->pool)
		return sio_pipe_acquire(t->pool, &t->pipe, t->faults);
	return sio_spare_take(t->spares, t->faults, own_size(t), &t->pipe);
}

static int fill(struct sio_transfer *t)
{
	int64_t len, n;

	if ((t->methods.adaptive && t->methods.small) || is_little(t))
		return copy_in(t);
	if (t->pipe.reader < 0) {
		n = need_pipe(t);
		/* A pipe of the pool may be there again next time. */
		if (n < 0 && t->pool)
			return copy_in(t);
		if (n < 0 && has_next(t))
			return next_method(t, (int)-n, SIO_CALL_PIPE,
					   SIO_PHASE_FILL);
		if (n < 0)
			return sio_fail(t, (int)-n, SIO_SIDE_NONE, SIO_CALL_PIPE);
		t->dst.slots = t->pipe.size / SIO_PIPE_SLOT;
	}
	len = sio_src_has(t, want(t, t->chunk));
	if (!len)
		return SIO_WANT_SRC;
	sio_at(t, SIO_PHASE_FILL);
	n = or_end(t, sio_splice(t->faults, t->src.fd,
				 t->src.offset >= 0 ? &t->src.offset : NULL,
				 t->pipe.writer, NULL, len, 2));
	if (n > 0) {
		took(t, n);
		t->pipe.held += n;
		t->methods.small = n < SMALL_READ;
		return SIO_GO;
	}
	if (n == 0 || n == -EAGAIN)
		return took_nothing(t, n, SIO_CALL_SPLICE, SIO_PHASE_FILL);
	return refuse_or_fail(t, (int)-n, SIO_SIDE_SRC, SIO_CALL_SPLICE,
			      SIO_PHASE_FILL);
}

static int drain_pipe(struct sio_transfer *t)
{
	int64_t len, n;
	int r;

	if (sio_method_of(t) != SIO_SPLICE_PIPE)
		return copy_from_pipe(t);
	len = sio_sockbuf_room(t, t->pipe.held, 0);
	if (!len)
		return SIO_WANT_DST;
	sio_at(t, SIO_PHASE_DRAIN);
	n = sio_splice(t->faults, t->pipe.reader, NULL, t->dst.fd,
		       t->dst.offset >= 0 ? &t->dst.offset : NULL, len, 2);
	if (n > 0) {
		t->pipe.held -= n;
		arrived(t, SIO_SPLICE_PIPE, n);
		return n < len && sio_short_is_full(t) ? SIO_WANT_DST : SIO_GO;
	}
	if (n < 0 && n != -EAGAIN)
		return refuse_or_fail(t, (int)-n, SIO_SIDE_DST, SIO_CALL_SPLICE,
				      SIO_PHASE_DRAIN);
	r = sio_blocked_side(t, SIO_PHASE_DRAIN);
	return r == SIO_TRY_COPY ? copy_from_pipe(t) : r;
}

/* ---- the machine ------------------------------------------------------------------- */

/* A block-sharing filesystem takes the whole file at once. */
static int share_blocks(struct sio_transfer *t)
{
	int64_t n;

	sio_at(t, SIO_PHASE_DIRECT);
	n = sio_clone(t->faults, t->src.fd, t->dst.fd);
	if (n < 0)
		return refuse_or_fail(t, (int)-n, SIO_SIDE_NONE, SIO_CALL_CLONE,
				      SIO_PHASE_DIRECT);
	took(t, n);
	arrived(t, SIO_CLONE, n);
	t->src.eof = 1;
	return SIO_GO;
}

static int advance(struct sio_transfer *t)
{
	int method = sio_method_of(t);

	if (t->buf.len > t->buf.pos)
		return copy_out(t);
	if (t->pipe.held)
		return drain_pipe(t);
	if (sio_more_segments(t))
		return sio_next_segment(t);
	if (t->src.eof || t->left == 0)
		return SIO_DONE;
	if (t->src.dry) {
		t->src.dry = 0;
		return SIO_WANT_SRC;
	}
	if (t->dst.full) {
		t->dst.full = 0;
		return SIO_WANT_DST;
	}
	if (method == SIO_CLONE)
		return share_blocks(t);
	if (t->src.cached_only && !sio_src_is_cached(t))
		return SIO_WANT_DISK;
	sio_cork_if_needed(t);
	if (t->sparse.reserve)
		return sio_reserve(t);
	if (t->sparse.holes && !t->sparse.extent)
		return sio_next_extent(t);
	if (method == SIO_READ_WRITE)
		return copy_in(t);
	if (method == SIO_SPLICE_PIPE)
		return fill(t);
	return direct(t, method);
}

/* Between files a call cannot be interrupted: keep each at a few milliseconds,
 * so that Ctrl-C and progress stay prompt on a slow disk. */
static void adapt_chunk(struct sio_transfer *t, int64_t took_ns)
{
	if (t->src.kind != SIO_KIND_FILE || t->dst.kind != SIO_KIND_FILE)
		return;
	if (took_ns < 4000000 && t->chunk < MAX_CHUNK)
		t->chunk *= 2;
	else if (took_ns > 16000000 && t->chunk > MIN_CHUNK)
		t->chunk /= 2;
}

int sio_transfer_step(struct sio_transfer *t, int64_t bytes, int64_t ns)
{
	int64_t begun = ns < 0 ? 0 : sio_now(), before = begun, now;
	int64_t enough = t->taken + t->moved + 2 * bytes;
	int r;

	if (t->error.sticky)
		return SIO_ERROR;
	t->error.err = 0;
	for (;;) {
		r = advance(t);
		if (r == SIO_WANT_DST && !sio_transfer_held(t) &&
		    !sio_more_segments(t))
			r = sio_src_first(t);
		if (r == SIO_DONE)
			r = sio_more_segments(t) ? SIO_GO : sio_settle(t);
		if (r == SIO_DONE || r == SIO_ERROR)
			sio_push(t);
		if (r != SIO_GO)
			return r;
		if (t->taken + t->moved >= enough)
			return SIO_BUDGET;
		if (ns < 0)
			continue;
		now = sio_now();
		adapt_chunk(t, now - before);
		before = now;
		if (now - begun >= ns)
			return SIO_BUDGET;
	}
}

int64_t sio_transfer_pull(struct sio_transfer *t, void *buf, int64_t len)
{
	int64_t n = sio_transfer_held(t);

	if (t->error.sticky)
		return -t->error.err;
	if (n)
		return sio_transfer_take_held(t, buf, len);
	len = want(t, len);
	if (t->src.eof || !len)
		return 0;
	n = read_some(t, buf, len);
	if (n > 0)
		took(t, n);
	else if (n == 0)
		t->src.eof = 1;
	else if (n != -EAGAIN)
		(void)sio_fail(t, (int)-n, SIO_SIDE_SRC, SIO_CALL_READ);
	return n;
}
