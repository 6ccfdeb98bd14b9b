/*
 * relay.c: two transfers back to back under one poll().
 *
 * Rule 1: a flow that ends by end of file passes it on once it holds nothing;
 *         the other flow goes on.
 * Rule 2: a reset is no end of file: nothing is passed on, the relay ends.
 * Rule 3: a destination that takes no more ends its own flow only.  What it
 *         sent before may still be on its way to the other side.
 * Rule 4: each flow gets a bounded turn, so neither starves the other.
 */
#define _GNU_SOURCE
#include "relay/relay.h"
#include "base/syscalls.h"
#include "transfer/sockbuf.h"
#include "transfer/state.h"
#include "transfer/step.h"
#include "transfer/wait.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TURN_BYTES (8 << 20)
#define TURN_NS 5000000

enum { AB, BA, BOTH = 3 };

static struct sio_transfer *flow(struct sio_relay *r, int d)
{
	return d == AB ? r->ab : r->ba;
}

static int is_over(const struct sio_relay *r, int d)
{
	return r->over & 1 << d;
}

static int reset_by(int side_a)
{
	return side_a ? SIO_REASON_RESET_A : SIO_REASON_RESET_B;
}

static void half_close(struct sio_relay *r, int d)
{
	struct sio_transfer *t = flow(r, d);

	if (r->closes && is_over(r, !d))
		return; /* which says the same with one call less */
	if (sio_is_socket(t->dst.kind)) {
		/* ENOTCONN: it has gone already, which the other flow tells. */
		(void)sio_shutdown_write(t->faults, t->dst.fd);
		return;
	}
	if (!r->closes_later) {
		close(t->dst.fd);
		t->dst.fd = -1;
	}
	r->finished |= 1 << d;
}

/* The source of flow d has ended, or the byte limit is reached. */
static void flow_done(struct sio_relay *r, int d)
{
	struct sio_transfer *t = flow(r, d);

	r->over |= 1 << d;
	if (!t->src.eof) {
		if (!r->reason)
			r->reason = SIO_REASON_LIMIT;
		return;
	}
	/* A send that met the reset took the error with it; what the kernel
	 * answers after that is 0, and no end of file. */
	if (r->reason == reset_by(d == AB))
		return;
	half_close(r, d);
	if (r->stop_at_eof & 1 << d)
		r->over = BOTH;
}

/* The destination of flow d takes no more. */
static void flow_blocked(struct sio_relay *r, int d, int err)
{
	struct sio_transfer *t = flow(r, d);

	r->over |= 1 << d;
	if (r->stop_when_gone & 1 << d)
		r->over = BOTH;
	/* EPIPE on TCP: it had said end of file before it refused more, so its
	 * own flow still ends well.  Any other error cut that one off too. */
	if (sio_is_socket(t->dst.kind) && err != EPIPE && !r->reason)
		r->reason = reset_by(d == BA);
}

static int flow_failed(struct sio_relay *r, int d)
{
	struct sio_transfer *t = flow(r, d);

	if (!t->error.sticky) {
		r->failed = d;
		return SIO_ERROR;
	}
	if (t->error.side == SIO_SIDE_DST) {
		flow_blocked(r, d, t->error.err);
		return SIO_DONE;
	}
	r->over = BOTH;
	r->reason = reset_by(d == AB);
	return SIO_DONE;
}

void sio_relay_init(struct sio_relay *r, const struct sio_relay_config *config)
{
	memset(r, 0, sizeof(*r));
	r->ab = config->ab;
	r->ba = config->ba;
	r->limit_left = config->limit;
	r->stop_when_gone = config->stop_when_gone;
	r->stop_at_eof = config->stop_at_eof;
}

struct sio_relay *sio_relay_new(const struct sio_relay_config *config)
{
	struct sio_relay *r = malloc(sizeof(*r));

	if (r)
		sio_relay_init(r, config);
	return r;
}

void sio_relay_free(struct sio_relay *r)
{
	free(r);
}

int sio_relay_finished(struct sio_relay *r)
{
	int finished = r->finished;

	r->finished = 0;
	return finished;
}

int sio_relay_failed(const struct sio_relay *r)
{
	return r->failed;
}

int sio_relay_reason(const struct sio_relay *r)
{
	return r->reason;
}

int sio_relay_step(struct sio_relay *r, int d, int64_t bytes, int64_t ns)
{
	struct sio_transfer *t = flow(r, d);
	int64_t before = t->taken;
	int state;

	if (r->limit_left >= 0)
		t->left = r->limit_left;
	state = sio_transfer_step(t, bytes, ns);
	if (r->limit_left >= 0)
		r->limit_left -= t->taken - before;
	if (state == SIO_DONE)
		flow_done(r, d);
	else if (state == SIO_ERROR)
		return flow_failed(r, d);
	return state;
}

void sio_relay_check_dst(struct sio_relay *r, int d, int revents)
{
	struct sio_transfer *t = flow(r, d);
	int err;

	/* While the other flow lives, it reads that side's errors; a look at
	 * SO_ERROR here would take them away from it. */
	if (t->dst.unwatch || (!is_over(r, !d) && sio_is_socket(t->dst.kind)))
		return;
	err = sio_dst_gone(t, revents);
	if (err)
		flow_blocked(r, d, err);
}

/* Ask poll about both flows; a flow that can go on becomes SIO_BUDGET. */
static int wait_both(struct sio_relay *r, int *state, int ms)
{
	struct pollfd fds[4];
	int pause[2] = { 0, 0 }, n;

	for (int d = AB; d <= BA; d++) {
		struct sio_transfer *t = flow(r, d);
		int src = !is_over(r, d) && state[d] == SIO_WANT_SRC;
		int dst = !is_over(r, d) && state[d] == SIO_WANT_DST;
		int watch = src && !t->dst.unwatch &&
			    (is_over(r, !d) || !sio_is_socket(t->dst.kind));

		if (src)
			pause[d] = sio_tls_pause(t);
		if (pause[d] && pause[d] < ms)
			ms = pause[d];
		fds[2 * d] = (struct pollfd){ src && !pause[d] ? t->src.fd : -1,
					      POLLIN, 0 };
		fds[2 * d + 1] = (struct pollfd){ dst || watch ? t->dst.fd : -1,
						  dst ? POLLOUT : 0, 0 };
	}
	n = sio_poll(r->ab->faults, fds, 4, ms);
	for (int d = AB; n >= 0 && d <= BA; d++)
		if (pause[d]) {
			flow(r, d)->src.ready = 1;
			state[d] = SIO_BUDGET;
		}
	for (int d = AB; n > 0 && d <= BA; d++) {
		struct sio_transfer *t = flow(r, d);

		if (pause[d]) {
			sio_relay_check_dst(r, d, fds[2 * d + 1].revents);
			continue;
		}
		t->src.ready = fds[2 * d].revents != 0;
		if (t->src.ready ||
		    (state[d] == SIO_WANT_DST && fds[2 * d + 1].revents)) {
			state[d] = SIO_BUDGET;
			continue;
		}
		sio_relay_check_dst(r, d, fds[2 * d + 1].revents);
	}
	return n;
}

static int busy(const struct sio_relay *r, const int *state)
{
	return (!is_over(r, AB) && state[AB] == SIO_BUDGET) ||
	       (!is_over(r, BA) && state[BA] == SIO_BUDGET);
}

static int64_t progress(const struct sio_relay *r)
{
	return r->ab->taken + r->ab->moved + r->ba->taken + r->ba->moved;
}

int sio_relay_ended(struct sio_relay *r)
{
	for (int d = AB; d <= BA && !r->reason; d++) {
		struct sio_transfer *t = flow(r, d);

		/* It refused bytes that were there, so this is no clean end. */
		if (t->error.sticky && sio_is_socket(t->dst.kind))
			r->reason = reset_by(d == BA);
	}
	if (!r->reason)
		r->reason = SIO_REASON_EOF;
	return SIO_DONE;
}

/* SIO_GO when something has happened, SIO_BUDGET when nothing has, or a state to
 * return. */
static int wait_turn(struct sio_relay *r, int64_t end, int64_t idle_ns)
{
	int64_t idle = sio_idle_for(&r->active_ns, &r->active_mark,
				    progress(r));
	int is_busy = busy(r, r->state), n;

	n = wait_both(r, r->state, is_busy ? 0 :
		      sio_wait_ms(end, idle_ns, idle));
	if (n == -EINTR)
		return SIO_INTERRUPTED;
	if (n < 0) {
		r->ab->error.err = -n;
		r->ab->error.side = SIO_SIDE_NONE;
		r->ab->error.call = SIO_CALL_POLL;
		r->failed = AB;
		return SIO_ERROR;
	}
	if (r->over == BOTH)
		return sio_relay_ended(r);
	if (n > 0 || is_busy)
		return SIO_GO;
	if (idle_ns < 0 || sio_idle_for(&r->active_ns, &r->active_mark,
					progress(r)) < idle_ns)
		return SIO_BUDGET;
	r->over = BOTH;
	r->reason = SIO_REASON_IDLE;
	return SIO_DONE;
}

void sio_relay_apply_limit(const struct sio_relay *r, int32_t *state)
{
	for (int d = AB; d <= BA; d++)
		if (!r->limit_left && state[d] == SIO_WANT_SRC)
			state[d] = SIO_BUDGET;
}

static int take_turns(struct sio_relay *r)
{
	for (int d = AB; d <= BA; d++) {
		if (is_over(r, d) || r->state[d] != SIO_BUDGET)
			continue;
		r->state[d] = sio_relay_step(r, d, TURN_BYTES, TURN_NS);
		if (r->state[d] == SIO_INTERRUPTED ||
		    r->state[d] == SIO_ERROR)
			return r->state[d];
	}
	sio_relay_apply_limit(r, r->state);
	if (r->finished)
		return SIO_EVENT;
	return r->over == BOTH ? sio_relay_ended(r) : SIO_GO;
}

static void begin_slice(struct sio_relay *r)
{
	sio_transfer_refresh(r->ab);
	sio_transfer_refresh(r->ba);
}

int sio_relay_run(struct sio_relay *r, int64_t ns, int64_t idle_ns)
{
	int64_t end = sio_now() + ns;
	int answer = SIO_GO, waits = r->waiting;

	if (r->ab->pid != getpid())
		return SIO_FORKED;
	if (!waits) {
		r->state[AB] = r->state[BA] = SIO_BUDGET;
		begin_slice(r);
	}
	do {
		if (!waits)
			answer = take_turns(r);
		if (answer != SIO_GO)
			return answer;
		answer = wait_turn(r, end, idle_ns);
		r->waiting = answer == SIO_BUDGET;
		if (waits && answer == SIO_GO)
			begin_slice(r);
		waits = 0;
	} while (answer == SIO_GO && sio_now() < end);
	return answer == SIO_GO ? SIO_BUDGET : answer;
}
