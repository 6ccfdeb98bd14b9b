/*
 * wait.c: one transfer and poll().
 *
 * Knows of time and waiting, and nothing of how bytes move.  Returns at least
 * once a slice, so that whoever holds a lock or a signal gets its turn.  A fork
 * may come at any moment before a slice and never within one: the child's copy
 * is turned away here, or both would take bytes from the same source.
 */
#define _GNU_SOURCE
#include "transfer/wait.h"
#include "base/syscalls.h"
#include "transfer/sockbuf.h"
#include "transfer/state.h"
#include "transfer/step.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEP_BYTES (INT64_C(1) << 40)
#define MAX_PAUSE 32

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

int sio_tls_pause(struct sio_transfer *t)
{
	struct sio_src *src = &t->src;

	if (!src->tls)
		return 0;
	if (src->paused_at != t->taken || !sio_ready(t->faults, src->fd, POLLIN)) {
		src->paused_at = t->taken;
		src->pause_ms = 0;
	} else if (src->pause_ms < MAX_PAUSE) {
		src->pause_ms = src->pause_ms ? 2 * src->pause_ms : 1;
	}
	return src->pause_ms;
}

int sio_dst_gone(struct sio_transfer *t, int revents)
{
	int err = 0;
	socklen_t size = sizeof(err);

	if (!(revents & (POLLERR | POLLHUP | POLLNVAL)))
		return 0;
	if (t->dst.kind == SIO_KIND_PIPE)
		return EPIPE;
	if (t->dst.kind == SIO_KIND_TTY && revents & POLLHUP)
		return EIO;
	if (sio_is_socket(t->dst.kind)) {
		if (getsockopt(t->dst.fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0)
			return errno;
		if (err)
			return err;
		if (revents & POLLHUP)
			return EPIPE;
	}
	/* An error queue (MSG_ZEROCOPY, timestamps) raises POLLERR for ever. */
	t->dst.unwatch = 1;
	return 0;
}

int sio_transfer_gone(struct sio_transfer *t, int err)
{
	t->error.err = err;
	t->error.side = SIO_SIDE_DST;
	t->error.call = SIO_CALL_POLL;
	t->error.sticky = 1;
	return SIO_ERROR;
}

/* Wait for what the state asks: SIO_GO when it has come, SIO_BUDGET when the
 * slice is over, or another state to return. */
static int wait_for(struct sio_transfer *t, int state, int64_t slice_end,
		    int64_t idle_ns)
{
	int64_t idle = sio_idle_for(&t->wait.active_ns, &t->wait.active_mark,
				    t->taken + t->moved);
	struct pollfd fds[3] = {
		{ .fd = t->src.fd, .events = POLLIN, .revents = 0 },
		{ .fd = t->dst.fd, .events = 0, .revents = 0 },
		{ .fd = t->wait.wake_fd, .events = POLLIN, .revents = 0 },
	};
	int ms = sio_wait_ms(slice_end, idle_ns, idle), pause = 0, err, n;

	if (state == SIO_WANT_SRC)
		pause = sio_tls_pause(t);
	if (pause) {
		fds[0].fd = -1;
		ms = pause < ms ? pause : ms;
	}
	if (state == SIO_WANT_DST) {
		fds[0].fd = -1;
		fds[1].events = POLLOUT;
	} else if (t->dst.unwatch) {
		fds[1].fd = -1;
	}
	n = sio_poll(t->faults, fds, t->wait.wake_fd >= 0 ? 3 : 2, ms);
	if (n == -EINTR)
		return SIO_INTERRUPTED;
	if (n < 0) {
		t->error.err = -n;
		t->error.side = SIO_SIDE_NONE;
		t->error.call = SIO_CALL_POLL;
		return SIO_ERROR;
	}
	if (n == 0) {
		idle = sio_idle_for(&t->wait.active_ns, &t->wait.active_mark,
				    t->taken + t->moved);
		if (idle_ns >= 0 && idle >= idle_ns)
			return SIO_TIMEOUT;
		t->src.ready = pause && sio_now() < slice_end;
		return t->src.ready ? SIO_GO : SIO_BUDGET;
	}
	if (fds[2].revents)
		return SIO_INTERRUPTED;
	t->src.ready = fds[0].revents != 0;
	if (state == SIO_WANT_SRC && !t->src.ready) {
		err = sio_dst_gone(t, fds[1].revents);
		if (err)
			return sio_transfer_gone(t, err);
	}
	return SIO_GO;
}

int sio_transfer_wakeable(struct sio_transfer *t)
{
	int fd;

	if (t->wait.wake_fd >= 0)
		return 0;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	t->wait.wake_fd = fd;
	return 0;
}

void sio_transfer_wake(struct sio_transfer *t)
{
	if (t->wait.wake_fd >= 0)
		(void)!write(t->wait.wake_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

void sio_transfer_clear_wake(struct sio_transfer *t)
{
	uint64_t wakes;

	if (t->wait.wake_fd >= 0)
		(void)!read(t->wait.wake_fd, &wakes, sizeof(wakes));
}

void sio_transfer_restart(struct sio_transfer *t)
{
	t->wait.active_ns = t->wait.state = 0;
}

int sio_transfer_try(struct sio_transfer *t, int64_t ns)
{
	if (t->pid != getpid())
		return SIO_FORKED;
	sio_transfer_refresh(t);
	t->eagain.level_poll = t->wait.state = 0;
	return sio_transfer_step(t, STEP_BYTES, ns);
}

int sio_transfer_turn(struct sio_transfer *t, int64_t bytes)
{
	int state;

	if (t->pid != getpid())
		return SIO_FORKED;
	sio_transfer_refresh(t);
	t->eagain.level_poll = t->src.cached_only = 1;
	state = sio_transfer_step(t, bytes, -1);
	if (state == SIO_WANT_DISK)
		t->src.cached = 0; /* which nobody reads into memory here */
	t->eagain.level_poll = t->src.cached_only = 0;
	return state;
}

int sio_transfer_run(struct sio_transfer *t, int64_t ns, int64_t idle_ns)
{
	int64_t end = sio_now() + ns, left = ns;
	int state = t->wait.state, answer;

	if (t->pid != getpid())
		return SIO_FORKED;
	t->eagain.level_poll = 1;
	if (!state)
		sio_transfer_refresh(t);
	do {
		/* Late from poll(), it may be less than nothing, which would
		 * be no limit at all. */
		if (!state)
			state = sio_transfer_step(t, STEP_BYTES,
						  left > 0 ? left : 0);
		if (state != SIO_WANT_SRC && state != SIO_WANT_DST)
			return state;
		answer = wait_for(t, state, end, idle_ns);
		if (answer == SIO_BUDGET || answer == SIO_INTERRUPTED) {
			t->wait.state = state;
			return answer;
		}
		/* It was long ago that the modes were looked at. */
		if (t->wait.state)
			sio_transfer_refresh(t);
		t->wait.state = state = 0;
		if (answer != SIO_GO)
			return answer;
		left = end - sio_now();
	} while (left > 0);
	return SIO_BUDGET;
}

int64_t sio_transfer_read(struct sio_transfer *t, void *buf, int64_t len,
			  int64_t ns, int64_t idle_ns)
{
	int64_t end = sio_now() + ns, n;
	int state, waits = t->wait.state;

	if (t->pid != getpid())
		return -SIO_FORKED;
	t->dst.unwatch = 1;
	do {
		if (!waits) {
			sio_transfer_refresh(t);
			n = sio_transfer_pull(t, buf, len);
			if (n >= 0)
				return n;
			if (n == -EINTR)
				return -SIO_INTERRUPTED;
			if (n != -EAGAIN)
				return -SIO_ERROR;
		}
		state = wait_for(t, SIO_WANT_SRC, end, idle_ns);
		t->wait.state = waits = 0;
		if (state == SIO_BUDGET || state == SIO_INTERRUPTED)
			t->wait.state = SIO_WANT_SRC;
	} while (state == SIO_GO && sio_now() < end);
	return -(state == SIO_GO ? SIO_BUDGET : state);
}
