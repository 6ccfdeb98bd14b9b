/*
 * conn.c: what one link of an engine does when it may go on.
 *
 * Rule 1: a turn is bounded in bytes, and gives back what was lent to it.
 * Rule 2: a link that goes on by itself is ready again; any other waits for an
 *         edge of a descriptor, or for its timer.
 * Rule 3: a shortage of memory is waited out, any other error of a call that is
 *         no end of a connection is Python's to tell.
 * Rule 4: of an accepted connection, a side that is reset while what it sent is
 *         still to be read by the other ends it all in SIO_ARRIVE_NS.
 */
#define _GNU_SOURCE
#include "relay/conn.h"
#include "base/syscalls.h"
#include "loop/loop.h"
#include "loop/pipe_pool.h"
#include "loop/slots.h"
#include "loop/timers.h"
#include "relay/relay.h"
#include "transfer/state.h"
#include "transfer/step.h"
#include "transfer/wait.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURN_BYTES (1 << 20)
/* Memory is short: try again after so long. */
#define PARK_NS 50000000

enum { AB, BA, BOTH = 3 };

static struct sio_transfer *flow(struct sio_link *l, int d)
{
	return d == AB ? l->relay.ab : l->relay.ba;
}

static int is_over(const struct sio_link *l, int d)
{
	return l->relay.over & 1 << d;
}

int sio_tag_of_side(const struct sio_link *l, int side)
{
	return side == SIO_SLOT_B && l->won ? l->won : side;
}

void sio_start_relay(struct sio_engine *e, struct sio_link *l)
{
	for (int d = AB; d <= BA - l->one_way; d++) {
		struct sio_transfer *t = flow(l, d);

		t->pool = &e->pool;
		t->eagain.edge_poll = 1;
		t->eagain.level_poll = 0;
		l->state[d] = SIO_BUDGET;
	}
	l->phase = SIO_PHASE_RELAY;
	l->connected_ns = l->moved_ns = e->now;
	if (l->idle_ns >= 0)
		sio_timer_set(&e->timers, &l->timer, e->now + l->idle_ns);
	sio_push_ready(e, l);
}

/* ---- a turn -------------------------------------------------------------------- */

static int step(struct sio_link *l, int d)
{
	int state;

	if (!l->one_way) {
		state = sio_relay_turn(&l->relay, d, TURN_BYTES, -1);
	} else {
		state = sio_transfer_step(l->relay.ab, TURN_BYTES, -1);
		l->relay.failed = AB;
		if (state == SIO_DONE)
			l->relay.over = BOTH;
	}
	return state == SIO_INTERRUPTED ? SIO_BUDGET : state;
}

/* An error that is no end of a connection: memory may come back, a full disk
 * is Python's to tell. */
static void fault(struct sio_engine *e, struct sio_link *l)
{
	struct sio_transfer *t = flow(l, l->relay.failed);

	if (!l->one_way && (t->error.err == ENOMEM || t->error.err == ENOBUFS)) {
		l->parked = 1;
		l->state[l->relay.failed] = SIO_BUDGET;
		sio_timer_set(&e->timers, &l->timer, e->now + PARK_NS);
		return;
	}
	l->failed = l->relay.failed + 1;
	l->relay.over = BOTH;
}

/* The events of where flow d writes to. */
static int seen_at_dst(const struct sio_link *l, int d)
{
	int reader = d == AB ? 2 : 0;

	return l->seen[l->fds[reader + 1] >= 0 ? reader + 1 : reader];
}

static void look_at_dst(struct sio_link *l, int d)
{
	int seen = seen_at_dst(l, d) & (EPOLLERR | EPOLLHUP);

	if (!seen || is_over(l, d) || l->state[d] != SIO_WANT_SRC)
		return;
	if (!l->one_way) {
		sio_relay_look(&l->relay, d, seen);
	} else if (!l->relay.ab->dst.unwatch) {
		int err = sio_dst_gone(l->relay.ab, seen);

		if (err)
			l->state[d] = sio_transfer_gone(l->relay.ab, err);
	}
}

static void count_moved(struct sio_engine *e, struct sio_link *l,
			const int64_t *moved, int64_t copied)
{
	int64_t ab = l->relay.ab->moved - moved[AB];
	int64_t ba = l->relay.ba->moved - moved[BA];

	if (!ab && !ba)
		return;
	l->moved_ns = e->now;
	sio_count(&e->counts.a_to_b, ab);
	sio_count(&e->counts.b_to_a, ba);
	sio_count(&e->counts.copied,
		  l->relay.ab->methods.moved[SIO_READ_WRITE] +
		  l->relay.ba->methods.moved[SIO_READ_WRITE] - copied);
}

static void take_turns(struct sio_engine *e, struct sio_link *l)
{
	struct sio_relay *r = &l->relay;
	int64_t moved[2] = { r->ab->moved, r->ba->moved };
	int64_t copied = r->ab->methods.moved[SIO_READ_WRITE] +
			 r->ba->methods.moved[SIO_READ_WRITE];

	for (int d = AB; d <= BA; d++) {
		int64_t taken = flow(l, d)->taken;

		if (is_over(l, d))
			continue;
		if (l->state[d] == SIO_BUDGET || r->limit_left == 0) {
			l->state[d] = step(l, d);
			sio_transfer_release(flow(l, d));
		}
		if (flow(l, d)->taken != taken)
			l->moved_ns = e->now;
		look_at_dst(l, d);
		if (l->state[d] == SIO_ERROR)
			fault(e, l);
	}
	/* The errors that ba has left unread, because it has just ended. */
	look_at_dst(l, AB);
	count_moved(e, l, moved, copied);
}

/* While the destination is full, what comes from the source would wake us for
 * nothing, once a packet.  So the first time that it does is the last, until the
 * source is waited for again. */
static void mute(struct sio_engine *e, struct sio_link *l, int d, int in)
{
	int slot = d == AB ? SIO_SLOT_A : SIO_SLOT_B, bit = 1 << d;

	if (((l->muted & bit) == 0) == in)
		return;
	l->muted ^= bit;
	sio_watch_again(e, l, sio_tag_of_side(l, slot), l->fds[slot], in);
}

/* A pipe has no other half-close: ours is closed here, the owner's in Python. */
static void close_writers(struct sio_engine *e, struct sio_link *l)
{
	for (int d = AB; d <= BA; d++) {
		int slot = d == AB ? SIO_SLOT_B + 1 : SIO_SLOT_A + 1;

		if (!(l->relay.finished & 1 << d))
			continue;
		sio_unwatch(e, l->fds[slot]);
		close(l->fds[slot]);
		l->fds[slot] = flow(l, d)->dst.fd = -1;
	}
	sio_tell(l, l->relay.finished * SIO_TOLD_WRITER_B);
	l->relay.finished = 0;
}

/* Flow d is full, so it does not read, and its source's reset would be told only
 * behind what waits there.  EPIPE is no reset: it had said its end before. */
static void look_at_src(struct sio_link *l, int d)
{
	int side = d == AB ? SIO_SLOT_A : SIO_SLOT_B, err = 0;
	int broken = EPOLLERR | EPOLLHUP;
	socklen_t size = sizeof(err);

	if (l->state[d] != SIO_WANT_DST || (l->seen[side] & broken) != broken)
		return;
	/* The error is told once; the flow finds the end of file that is none. */
	l->seen[side] &= ~EPOLLERR;
	if (!getsockopt(l->fds[side], SOL_SOCKET, SO_ERROR, &err, &size) &&
	    err && err != EPIPE && !l->relay.reason)
		l->relay.reason = d == AB ? SIO_REASON_RESET_A :
					    SIO_REASON_RESET_B;
}

/* A side has been reset, and a flow is not through: it has so much time. */
static void heed_reset(struct sio_engine *e, struct sio_link *l)
{
	int32_t reason;

	for (int d = AB; d <= BA; d++)
		if (!is_over(l, d))
			look_at_src(l, d);
	reason = l->relay.reason;
	if (l->deadline || (reason != SIO_REASON_RESET_A &&
			    reason != SIO_REASON_RESET_B))
		return;
	l->deadline = e->now + SIO_ARRIVE_NS;
	if (!l->timer.place || l->timer.due > l->deadline)
		sio_timer_set(&e->timers, &l->timer, l->deadline);
}

void sio_link_run(struct sio_engine *e, struct sio_link *l)
{
	struct sio_relay *r = &l->relay;
	int64_t again;

	if (l->phase != SIO_PHASE_RELAY || l->parked)
		return;
	take_turns(e, l);
	if (r->finished)
		close_writers(e, l);
	if (r->over == BOTH) {
		if (!l->failed && !l->one_way && !r->reason)
			(void)sio_relay_ended(r);
		l->ops->on_end(e, l);
		return;
	}
	if (l->parked)
		return;
	if (l->accepted)
		heed_reset(e, l);
	sio_relay_heed_limit(&l->relay, l->state);
	if ((!is_over(l, AB) && l->state[AB] == SIO_BUDGET) ||
	    (!is_over(l, BA) && l->state[BA] == SIO_BUDGET)) {
		sio_push_ready(e, l);
		return;
	}
	for (int d = AB; d <= BA; d++)
		if (!is_over(l, d) && l->state[d] == SIO_WANT_SRC)
			mute(e, l, d, 1);
	again = e->now + e->stall_ns;
	if ((l->state[AB] == SIO_WANT_DST || l->state[BA] == SIO_WANT_DST) &&
	    (!l->timer.place || l->timer.due > again))
		sio_timer_set(&e->timers, &l->timer, again);
}

/* ---- what makes a link go on -------------------------------------------------- */

void sio_link_event(struct sio_engine *e, struct sio_link *l, int slot,
		    uint32_t events)
{
	/* Slots 0 and 1 are a's, which ab reads; all others b's. */
	int reads = slot < 2 ? AB : BA, writes = !reads;

	l->seen[slot] |= (int)(events & SIO_SPECIAL);
	if (events & (EPOLLIN | SIO_SPECIAL)) {
		flow(l, reads)->src.dry = 0;
		if (events & SIO_SPECIAL)
			flow(l, reads)->src.special = 1;
		if (l->state[reads] == SIO_WANT_SRC)
			l->state[reads] = SIO_BUDGET;
		else if (events & EPOLLIN && l->state[reads] == SIO_WANT_DST &&
			 !is_over(l, reads))
			mute(e, l, reads, 0);
	}
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR) &&
	    l->state[writes] == SIO_WANT_DST)
		l->state[writes] = SIO_BUDGET;
	if (events & (EPOLLHUP | EPOLLERR) || l->state[AB] == SIO_BUDGET ||
	    l->state[BA] == SIO_BUDGET)
		sio_push_ready(e, l);
}

void sio_link_timer(struct sio_engine *e, struct sio_link *l)
{
	int64_t due = INT64_MAX;

	if (l->idle_ns >= 0)
		due = l->moved_ns + l->idle_ns;
	if (l->deadline && l->deadline < due)
		due = l->deadline;
	if (due <= e->now) {
		l->relay.over = BOTH;
		if (due != l->deadline)
			l->relay.reason = SIO_REASON_IDLE;
		l->ops->on_end(e, l);
		return;
	}
	l->parked = 0;
	for (int d = AB; d <= BA; d++)
		if (l->state[d] == SIO_WANT_DST && !is_over(l, d))
			l->state[d] = SIO_BUDGET;
	if (due != INT64_MAX)
		sio_timer_set(&e->timers, &l->timer, due);
	sio_push_ready(e, l);
}

/* ---- one that Python has submitted ------------------------------------------------ */

void sio_link_cut(struct sio_engine *e, struct sio_link *l, int32_t asked)
{
	int err = sio_end_of(e);

	if (l->phase != SIO_PHASE_OVER) {
		l->relay.over = BOTH;
		if (l->phase != SIO_PHASE_LINGER)
			l->relay.reason = SIO_REASON_CANCELLED;
		if (err && l->accepted) {
			l->err = err;
		} else if (err) {
			l->failed = 1;
			(void)sio_fail(l->relay.ab, err, SIO_SIDE_NONE,
				       SIO_CALL_EPOLL_WAIT);
		}
		l->ops->on_end(e, l);
	}
	/* It may have ended by itself meanwhile; but whoever has cancelled it
	 * has been told that it ends like this. */
	if (asked & SIO_ASK_CANCEL)
		l->relay.reason = SIO_REASON_CANCELLED;
}

static void on_event(struct sio_engine *e, struct sio_link *l, int slot,
		     uint32_t events)
{
	if (l->phase == SIO_PHASE_RELAY)
		sio_link_event(e, l, slot, events);
}

static void on_timer(struct sio_engine *e, struct sio_timer *timer)
{
	sio_link_timer(e, sio_link_of(timer));
}

static void add(struct sio_engine *e, struct sio_link *l)
{
	l->index = -1;
	l->begun_ns = e->now;
	l->timer.fire = on_timer;
	l->relay.closes_later = 1;
	sio_count(&e->counts.total, 1);
	sio_count(&e->counts.active, 1);
	l->err = -sio_seat(e, l);
	for (int slot = 0; slot < 4 && !l->err; slot++) {
		int err = l->fds[slot] < 0 ? 0 :
			  -sio_watch(e, l, slot, l->fds[slot]);

		/* A regular file is always ready, and epoll refuses it. */
		if (err && err != EPERM)
			l->err = err;
	}
	if (l->one_way)
		l->relay.over |= 1 << BA;
	if (l->err) {
		l->relay.over = BOTH;
		l->ops->on_end(e, l);
		return;
	}
	sio_start_relay(e, l);
}

static void on_request(struct sio_engine *e, struct sio_link *l, int32_t asked)
{
	if (asked & SIO_ASK_ADD)
		add(e, l);
	if (asked & (SIO_ASK_CANCEL | SIO_ASK_CUT))
		sio_link_cut(e, l, asked);
}

static void on_end(struct sio_engine *e, struct sio_link *l)
{
	for (int slot = 0; slot < 4; slot++)
		sio_unwatch(e, l->fds[slot]);
	sio_transfer_leave_pool(l->relay.ab);
	sio_transfer_leave_pool(l->relay.ba);
	sio_link_over(e, l);
}

static void on_free(struct sio_engine *e, struct sio_link *l)
{
	(void)e;
	sio_tell(l, SIO_TOLD_OVER);
}

static const struct sio_conn_ops submitted = {
	.on_event = on_event,
	.on_run = sio_link_run,
	.on_request = on_request,
	.on_end = on_end,
	.on_free = on_free,
};

int sio_engine_submit(struct sio_engine *e, struct sio_link *link)
{
	int err;

	link->ops = &submitted;
	link->engine = e;
	err = sio_ask(e, link, SIO_ASK_ADD);
	if (err)
		link->engine = NULL;
	return err;
}
