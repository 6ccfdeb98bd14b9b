/*
 * eagain.c: which end was it, when a call moves less than it was asked to?
 *
 * EAGAIN from splice names no side, and a short count may mean "empty", "full"
 * or nothing at all.  What may be concluded depends on the driver's poll: one
 * that tells again what is left (level) forgives a wrong guess; one that tells
 * each change once (edge) forgives none, so there only what is certain counts.
 * Moves nothing.
 */
#define _GNU_SOURCE
#include "transfer/eagain.h"
#include "base/errno_class.h"
#include "base/faults.h"
#include "base/syscalls.h"
#include "transfer/sockbuf.h"
#include "transfer/state.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

/* Which side made the call answer EAGAIN?  Into an empty pipe, only one can. */
static int side_not_ready(struct sio_transfer *t, int phase)
{
	struct pollfd fds[2] = {
		{ .fd = phase == SIO_PHASE_DRAIN ? -1 : t->src.fd,
		  .events = POLLIN, .revents = 0 },
		{ .fd = phase == SIO_PHASE_FILL ? -1 : t->dst.fd,
		  .events = POLLOUT, .revents = 0 },
	};

	(void)sio_poll(t->faults, fds, 2, 0);
	if (fds[1].fd >= 0 && !fds[1].revents)
		return SIO_WANT_DST;
	return fds[0].fd < 0 || fds[0].revents ? SIO_GO : SIO_WANT_SRC;
}

/* The same for a driver whose poll() tells again what is left: name the
 * likelier side without asking.  When it is the other one, poll() returns at
 * once, and that one is next. */
static int guess_side(struct sio_transfer *t, int phase)
{
	if (phase == SIO_PHASE_DRAIN) {
		t->eagain.guessed = 1;
		return SIO_WANT_DST;
	}
	if (t->src.kind == SIO_KIND_FILE) {
		t->eagain.guessed = 2; /* a file is never the one; if dst is not either, copy */
		return SIO_WANT_DST;
	}
	if (phase == SIO_PHASE_DIRECT && !t->eagain.yielded) {
		/* The other process gets its turn first: on a processor that
		 * is shared it has filled the pipe when we are back, for less
		 * than poll() costs. */
		t->eagain.yielded = 1;
		sched_yield();
		return SIO_GO;
	}
	if (t->eagain.guessed++)
		t->eagain.guess_dst = !t->eagain.guess_dst;
	return phase == SIO_PHASE_DIRECT && t->eagain.guess_dst ? SIO_WANT_DST
						       : SIO_WANT_SRC;
}

int sio_blocked_side(struct sio_transfer *t, int phase)
{
	int r;

	/* A nonblocking socket that says so is empty, or full, and its epoll
	 * will tell the change; but at an urgent byte it is not empty. */
	if (t->eagain.edge_poll && phase == SIO_PHASE_DRAIN && sio_is_socket(t->dst.kind))
		return SIO_WANT_DST;
	if (t->eagain.edge_poll && phase == SIO_PHASE_FILL && !t->src.special &&
	    sio_is_socket(t->src.kind))
		return SIO_WANT_SRC;
	if (t->eagain.level_poll && t->eagain.guessed < (phase == SIO_PHASE_DIRECT ? 2 : 1))
		return guess_side(t, phase);
	r = side_not_ready(t, phase);
	if (r != SIO_GO)
		return r;
	/* Ready by now, perhaps; or one of them lies: ask twice. */
	if (!t->eagain.unclear) {
		t->eagain.unclear = 1;
		return SIO_GO;
	}
	return SIO_TRY_COPY;
}

/* The file has no more at the position, as a read that takes nothing says. */
static int file_has_ended(const struct sio_transfer *t)
{
	int64_t at = t->src.offset, n;
	char byte;

	if (t->taken < t->src.known)
		return 0;
	if (at < 0)
		at = lseek(t->src.fd, 0, SEEK_CUR);
	if (at < 0)
		return 0;
	n = sio_read_cached(NULL, t->src.fd, &at, &byte, 1);
	/* On its disk, or where that is not told, there may be more. */
	if (n < 0 && !t->src.cached_only)
		n = sio_read(NULL, t->src.fd, &at, &byte, 1);
	return n == 0;
}

/* Of a pipe, a terminal or a device. */
static int stream_state(struct sio_transfer *t)
{
	struct pollfd p = { .fd = t->src.fd, .events = POLLIN, .revents = 0 };

	if (sio_unread(t->faults, t->src.fd) > 0)
		return SIO_WANT_DST;
	if (sio_poll(t->faults, &p, 1, 0) <= 0)
		return SIO_WANT_SRC;
	return p.revents & POLLHUP && !(p.revents & POLLIN) ? SIO_DONE :
							      SIO_WANT_DST;
}

static int socket_state(struct sio_transfer *t)
{
	char byte;
	int64_t n = sio_peek(t->faults, t->src.fd, &byte, 1);

	if (n == -EAGAIN)
		return SIO_WANT_SRC;
	/* Where the kernel decrypts: a record that is no data. */
	if (n == -EIO && t->src.kind == SIO_KIND_TCP) {
		n = sio_tls_head(t->faults, t->src.fd);
		if (n >= 0)
			return n ? SIO_WANT_DST : SIO_DONE;
		if (!sio_is_disconnect((int)-n))
			n = -EIO;
	}
	/* The look has taken the error off the socket. */
	if (n < 0)
		return sio_fail(t, (int)-n, SIO_SIDE_SRC, SIO_CALL_READ);
	return n ? SIO_WANT_DST : SIO_DONE;
}

/* An empty source is waited for, and not the destination: what comes from it
 * next may be its end. */
int sio_src_first(struct sio_transfer *t)
{
	int r;

	if (t->src.fd < 0)
		return SIO_WANT_DST;
	if (t->src.kind == SIO_KIND_FILE)
		r = file_has_ended(t) ? SIO_DONE : SIO_WANT_DST;
	else
		r = sio_is_socket(t->src.kind) ? socket_state(t) :
						 stream_state(t);
	if (r == SIO_DONE)
		t->src.eof = 1;
	return r;
}

/* A test that made the kernel's answer short did not make it say "empty". */
static int is_made_up(const struct sio_transfer *t)
{
	return t->faults && t->faults->capped;
}

int sio_short_is_dry(const struct sio_transfer *t)
{
	if (t->eagain.level_poll)
		return sio_is_socket(t->src.kind) && !t->src.tls;
	/* A unix socket also stops before and after descriptors in transit. */
	return t->eagain.edge_poll && t->src.kind == SIO_KIND_TCP && !t->src.special &&
	       !t->src.tls &&
	       !is_made_up(t);
}

int sio_short_is_full(const struct sio_transfer *t)
{
	return t->eagain.edge_poll && sio_is_socket(t->dst.kind) && !is_made_up(t);
}
