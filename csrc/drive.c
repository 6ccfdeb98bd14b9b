/*
 * drive.c: one transfer and poll().
 *
 * Knows of time and waiting, and nothing of how bytes move.  Returns at least
 * once a slice, so that whoever holds a lock or a signal gets its turn.  A fork
 * may come at any moment before a slice and never within one: the child's copy
 * is turned away here, or both would take bytes from the same source.
 */
#define _GNU_SOURCE
#include "spliceio.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEP_BYTES (INT64_C(1) << 40)

int64_t sio_idle_for(int64_t *active_ns, int64_t *active_mark, int64_t mark)
{
	int64_t now = sio_now();

	if (!*active_ns || *active_mark != mark) {
		*active_ns = now;
		*active_mark = mark;
	}
	return now - *active_ns;
}

int sio_wait_ms(int64_t slice_end, int64_t idle_ns, int64_t idle)
{
	int64_t ns = slice_end - sio_now();

	if (idle_ns >= 0 && idle_ns - idle < ns)
		ns = idle_ns - idle;
	if (ns <= 0)
		return 0;
	ns = (ns + 999999) / 1000000;
	return ns > INT_MAX ? INT_MAX : (int)ns;
}

int sio_dst_gone(struct sio_transfer *t, int revents)
{
	int err = 0;
	socklen_t size = sizeof(err);

	if (!(revents & (POLLERR | POLLHUP | POLLNVAL)))
		return 0;
	if (t->dst_kind == SIO_KIND_PIPE)
		return EPIPE;
	if (t->dst_kind == SIO_KIND_TTY && revents & POLLHUP)
		return EIO;
	if (sio_is_socket(t->dst_kind)) {
		if (getsockopt(t->dst, SOL_SOCKET, SO_ERROR, &err, &size) < 0)
			return errno;
		if (err)
			return err;
		if (revents & POLLHUP)
			return EPIPE;
	}
	/* An error queue (MSG_ZEROCOPY, timestamps) raises POLLERR for ever. */
	t->unwatch_dst = 1;
	return 0;
}

int sio_transfer_gone(struct sio_transfer *t, int err)
{
	t->err = err;
	t->err_side = SIO_SIDE_DST;
	t->err_call = SIO_CALL_POLL;
	t->err_method = t->methods[t->current];
	t->sticky = 1;
	return SIO_ERROR;
}

/* Wait for what the state asks; the state to return, or SIO_BUDGET to go on. */
static int wait_for(struct sio_transfer *t, int state, int64_t slice_end,
		    int64_t idle_ns)
{
	int64_t idle = sio_idle_for(&t->active_ns, &t->active_mark,
				    t->taken + t->moved);
	struct pollfd fds[2] = {
		{ .fd = t->src, .events = POLLIN, .revents = 0 },
		{ .fd = t->dst, .events = 0, .revents = 0 },
	};
	int err, n;

	if (state == SIO_WANT_DST) {
		fds[0].fd = -1;
		fds[1].events = POLLOUT;
	} else if (t->unwatch_dst) {
		fds[1].fd = -1;
	}
	n = sio_poll(t->seam, fds, 2, sio_wait_ms(slice_end, idle_ns, idle));
	if (n == -EINTR)
		return SIO_INTERRUPTED;
	if (n < 0) {
		t->err = -n;
		t->err_side = SIO_SIDE_NONE;
		t->err_call = SIO_CALL_POLL;
		return SIO_ERROR;
	}
	if (n == 0) {
		idle = sio_idle_for(&t->active_ns, &t->active_mark,
				    t->taken + t->moved);
		return idle_ns >= 0 && idle >= idle_ns ? SIO_TIMEOUT :
							 SIO_BUDGET;
	}
	t->src_ready = fds[0].revents != 0;
	if (state == SIO_WANT_SRC && !t->src_ready) {
		err = sio_dst_gone(t, fds[1].revents);
		if (err)
			return sio_transfer_gone(t, err);
	}
	return SIO_BUDGET;
}

int sio_transfer_try(struct sio_transfer *t, int64_t ns)
{
	if (t->pid != getpid())
		return SIO_FORKED;
	sio_transfer_refresh(t);
	t->level_poll = 0;
	return sio_transfer_step(t, STEP_BYTES, ns);
}

int sio_transfer_run(struct sio_transfer *t, int64_t ns, int64_t idle_ns)
{
	int64_t end = sio_now() + ns, left = ns;
	int state;

	if (t->pid != getpid())
		return SIO_FORKED;
	sio_transfer_refresh(t);
	t->level_poll = 1;
	do {
		/* Late from poll(), it may be less than nothing, which would
		 * be no limit at all. */
		state = sio_transfer_step(t, STEP_BYTES, left > 0 ? left : 0);
		if (state == SIO_WANT_SRC || state == SIO_WANT_DST)
			state = wait_for(t, state, end, idle_ns);
		else if (state == SIO_BUDGET)
			break;
		left = end - sio_now();
	} while (state == SIO_BUDGET && left > 0);
	return state;
}

int64_t sio_transfer_read(struct sio_transfer *t, void *buf, int64_t len,
			  int64_t ns, int64_t idle_ns)
{
	int64_t end = sio_now() + ns, n;
	int state;

	if (t->pid != getpid())
		return -SIO_FORKED;
	sio_transfer_refresh(t);
	t->unwatch_dst = 1;
	do {
		n = sio_transfer_pull(t, buf, len);
		if (n >= 0)
			return n;
		if (n == -EINTR)
			return -SIO_INTERRUPTED;
		if (n != -EAGAIN)
			return -SIO_ERROR;
		state = wait_for(t, SIO_WANT_SRC, end, idle_ns);
	} while (state == SIO_BUDGET && sio_now() < end);
	return -state;
}
