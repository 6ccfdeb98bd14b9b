/*
 * conn.c: what a relay in an engine does when it may go on.
 *
 * Rule 1: a turn is bounded in bytes, and gives back what it has of the pool.
 * Rule 2: a relay that goes on by itself is ready again; any other waits for an
 *         edge of a descriptor, or for its timer.
 * Rule 3: a shortage of memory is waited out, any other error of a call that is
 *         no end of a connection is Python's to tell.
 * Rule 4: of an accepted connection, a side that is reset while what it sent is
 *         still to be read by the other ends it all in SIO_ARRIVE_NS.
 */
#define _GNU_SOURCE
#include "relay/conn.h"
#include "base/syscalls.h"
#include "loop/disk.h"
#include "loop/loop.h"
#include "loop/pipe_pool.h"
#include "loop/slots.h"
#include "loop/timers.h"
#include "relay/relay.h"
#include "transfer/cached.h"
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

static struct sio_transfer *flow(struct sio_relay_conn *c, int d)
{
	return d == AB ? c->relay.ab : c->relay.ba;
}

static int is_over(const struct sio_relay_conn *c, int d)
{
	return c->relay.over & 1 << d;
}

int sio_tag_of_side(const struct sio_relay_conn *c, int side)
{
	return side == SIO_SLOT_B && c->tag_b ? c->tag_b : side;
}

void sio_start_relay(struct sio_engine *e, struct sio_relay_conn *c)
{
	for (int d = AB; d <= BA - c->one_way; d++) {
		struct sio_transfer *t = flow(c, d);

		t->pool = &e->pool;
		t->eagain.edge_poll = 1;
		t->eagain.level_poll = 0;
		t->src.cached_only = t->src.kind == SIO_KIND_FILE;
		c->state[d] = SIO_BUDGET;
	}
	c->phase = SIO_CONN_RELAY;
	c->connected_ns = c->moved_ns = e->now;
	if (c->idle_ns >= 0)
		sio_timer_set(&e->timers, &c->conn.timer, e->now + c->idle_ns);
	sio_push_ready(e, &c->conn);
}

/* ---- a turn -------------------------------------------------------------------- */

static int step(struct sio_relay_conn *c, int d)
{
	int state;

	if (!c->one_way) {
		state = sio_relay_step(&c->relay, d, TURN_BYTES, -1);
	} else {
		state = sio_transfer_step(c->relay.ab, TURN_BYTES, -1);
		c->relay.failed = AB;
		if (state == SIO_DONE)
			c->relay.over = BOTH;
	}
	return state == SIO_INTERRUPTED ? SIO_BUDGET : state;
}

/* An error that is no end of a connection: memory may come back, a full disk
 * is Python's to tell. */
static void fault(struct sio_engine *e, struct sio_relay_conn *c)
{
	struct sio_transfer *t = flow(c, c->relay.failed);

	if (!c->one_way && (t->error.err == ENOMEM || t->error.err == ENOBUFS)) {
		c->parked = 1;
		c->state[c->relay.failed] = SIO_BUDGET;
		sio_timer_set(&e->timers, &c->conn.timer, e->now + PARK_NS);
		return;
	}
	c->failed = c->relay.failed + 1;
	c->relay.over = BOTH;
}

/* The threads of disk.c wait for it.  One flow at a time: the other looks again
 * when that is done. */
static void ask_disk(struct sio_engine *e, struct sio_relay_conn *c, int d)
{
	struct sio_transfer *t = flow(c, d);
	int64_t len = t->src.cached, ahead = SIO_CACHED_WINDOW;

	if (c->disk_read)
		return;
	if (t->left >= 0 && t->left - len < ahead)
		ahead = t->left - len;
	c->disk_read = sio_disk_ask(&e->disk, &c->conn, t->src.fd,
				    t->src.cached_at, len, ahead);
	c->disk_flow = d;
	if (!c->disk_read)
		c->state[d] = SIO_BUDGET; /* there is nobody else to wait */
}

static void no_disk(struct sio_engine *e, struct sio_relay_conn *c)
{
	if (c->disk_read)
		sio_disk_release(&e->disk, c->disk_read);
	c->disk_read = NULL;
}

void sio_relay_conn_read(struct sio_engine *e, struct sio_relay_conn *c)
{
	if (c->phase != SIO_CONN_RELAY || !c->disk_read)
		return;
	no_disk(e, c);
	for (int d = AB; d <= BA; d++) {
		if (c->state[d] != SIO_WANT_DISK)
			continue;
		c->state[d] = SIO_BUDGET;
		if (d != c->disk_flow)
			flow(c, d)->src.cached = 0;
	}
	sio_push_ready(e, &c->conn);
}

/* The events of where flow d writes to. */
static int seen_at_dst(const struct sio_relay_conn *c, int d)
{
	int reader = d == AB ? 2 : 0;

	return c->seen[c->fds[reader + 1] >= 0 ? reader + 1 : reader];
}

static void look_at_dst(struct sio_relay_conn *c, int d)
{
	int seen = seen_at_dst(c, d) & (EPOLLERR | EPOLLHUP);

	if (!seen || is_over(c, d) || c->state[d] != SIO_WANT_SRC)
		return;
	if (!c->one_way) {
		sio_relay_check_dst(&c->relay, d, seen);
	} else if (!c->relay.ab->dst.unwatch) {
		int err = sio_dst_gone(c->relay.ab, seen);

		if (err)
			c->state[d] = sio_transfer_gone(c->relay.ab, err);
	}
}

static void count_moved(struct sio_engine *e, struct sio_relay_conn *c,
			const int64_t *moved, int64_t copied)
{
	int64_t ab = c->relay.ab->moved - moved[AB];
	int64_t ba = c->relay.ba->moved - moved[BA];

	if (!ab && !ba)
		return;
	c->moved_ns = e->now;
	sio_count(&e->counts.a_to_b, ab);
	sio_count(&e->counts.b_to_a, ba);
	sio_count(&e->counts.copied,
		  c->relay.ab->methods.moved[SIO_READ_WRITE] +
		  c->relay.ba->methods.moved[SIO_READ_WRITE] - copied);
}

/* Most turns move one small message: what only a side in trouble needs is not
 * looked at unless one is. */
static int in_trouble(const struct sio_relay_conn *c)
{
	return (c->seen[0] | c->seen[1] | c->seen[2] | c->seen[3]) &
	       (EPOLLERR | EPOLLHUP);
}

static void take_turns(struct sio_engine *e, struct sio_relay_conn *c)
{
	struct sio_relay *r = &c->relay;
	int looks = in_trouble(c);
	int64_t moved[2] = { r->ab->moved, r->ba->moved };
	int64_t copied = r->ab->methods.moved[SIO_READ_WRITE] +
			 r->ba->methods.moved[SIO_READ_WRITE];

	for (int d = AB; d <= BA; d++) {
		int64_t taken = flow(c, d)->taken;

		if (is_over(c, d))
			continue;
		if (c->state[d] == SIO_BUDGET || r->limit_left == 0) {
			c->state[d] = step(c, d);
			sio_transfer_release(flow(c, d));
		}
		if (flow(c, d)->taken != taken)
			c->moved_ns = e->now;
		if (looks)
			look_at_dst(c, d);
		if (c->state[d] == SIO_ERROR)
			fault(e, c);
		if (c->state[d] == SIO_WANT_DISK)
			ask_disk(e, c, d);
	}
	/* The errors that ba has left unread, because it has just ended. */
	if (looks)
		look_at_dst(c, AB);
	count_moved(e, c, moved, copied);
}

/* While the destination is full, what comes from the source would wake us for
 * nothing, once a packet.  So the first time that it does is the last, until the
 * source is waited for again. */
static void mute(struct sio_engine *e, struct sio_relay_conn *c, int d, int in)
{
	int slot = d == AB ? SIO_SLOT_A : SIO_SLOT_B, bit = 1 << d;

	if (((c->muted & bit) == 0) == in)
		return;
	c->muted ^= bit;
	sio_watch_again(e, &c->conn, sio_tag_of_side(c, slot), c->fds[slot], in);
}

/* A pipe has no other half-close: ours is closed here, the owner's in Python. */
static void close_writers(struct sio_engine *e, struct sio_relay_conn *c)
{
	for (int d = AB; d <= BA; d++) {
		int slot = d == AB ? SIO_SLOT_B + 1 : SIO_SLOT_A + 1;

		if (!(c->relay.finished & 1 << d))
			continue;
		sio_unwatch(e, c->fds[slot]);
		close(c->fds[slot]);
		c->fds[slot] = flow(c, d)->dst.fd = -1;
	}
	sio_conn_post(&c->conn, c->relay.finished * SIO_EVENT_WRITER_B);
	c->relay.finished = 0;
}

/* Flow d is full, so it does not read, and its source's reset would be told only
 * behind what waits there.  EPIPE is no reset: it had said its end before. */
static void look_at_src(struct sio_relay_conn *c, int d)
{
	int side = d == AB ? SIO_SLOT_A : SIO_SLOT_B, err = 0;
	int broken = EPOLLERR | EPOLLHUP;
	socklen_t size = sizeof(err);

	if (c->state[d] != SIO_WANT_DST || (c->seen[side] & broken) != broken)
		return;
	/* The error is told once; the flow finds the end of file that is none. */
	c->seen[side] &= ~EPOLLERR;
	if (!getsockopt(c->fds[side], SOL_SOCKET, SO_ERROR, &err, &size) &&
	    err && err != EPIPE && !c->relay.reason)
		c->relay.reason = d == AB ? SIO_REASON_RESET_A :
					    SIO_REASON_RESET_B;
}

/* A side has been reset, and a flow is not through: it has so much time. */
static void handle_reset(struct sio_engine *e, struct sio_relay_conn *c)
{
	int32_t reason;

	for (int d = AB; d <= BA; d++)
		if (!is_over(c, d))
			look_at_src(c, d);
	reason = c->relay.reason;
	if (c->deadline || (reason != SIO_REASON_RESET_A &&
			    reason != SIO_REASON_RESET_B))
		return;
	c->deadline = e->now + SIO_ARRIVE_NS;
	if (!c->conn.timer.place || c->conn.timer.due > c->deadline)
		sio_timer_set(&e->timers, &c->conn.timer, c->deadline);
}

void sio_relay_conn_run(struct sio_engine *e, struct sio_conn *conn)
{
	struct sio_relay_conn *c = (struct sio_relay_conn *)(void *)conn;
	struct sio_relay *r = &c->relay;
	int64_t again;

	if (c->phase != SIO_CONN_RELAY || c->parked)
		return;
	take_turns(e, c);
	if (r->finished)
		close_writers(e, c);
	if (r->over == BOTH) {
		if (!c->failed && !c->one_way && !r->reason)
			(void)sio_relay_ended(r);
		c->conn.ops->on_end(e, &c->conn);
		return;
	}
	if (c->parked)
		return;
	if (c->conn.accepted && (r->reason || in_trouble(c)))
		handle_reset(e, c);
	if (!r->limit_left)
		sio_relay_apply_limit(r, c->state);
	if ((!is_over(c, AB) && c->state[AB] == SIO_BUDGET) ||
	    (!is_over(c, BA) && c->state[BA] == SIO_BUDGET)) {
		sio_push_ready(e, &c->conn);
		return;
	}
	for (int d = AB; c->muted && d <= BA; d++)
		if (!is_over(c, d) && c->state[d] == SIO_WANT_SRC)
			mute(e, c, d, 1);
	again = e->now + e->stall_ns;
	if ((c->state[AB] == SIO_WANT_DST || c->state[BA] == SIO_WANT_DST) &&
	    (!c->conn.timer.place || c->conn.timer.due > again))
		sio_timer_set(&e->timers, &c->conn.timer, again);
}

/* ---- what makes a relay go on -------------------------------------------------- */

void sio_relay_conn_event(struct sio_engine *e, struct sio_relay_conn *c,
			  int slot, uint32_t events)
{
	/* Slots 0 and 1 are a's, which ab reads; all others b's. */
	int reads = slot < 2 ? AB : BA, writes = !reads;

	c->seen[slot] |= (int)(events & SIO_SPECIAL);
	if (events & (EPOLLIN | SIO_SPECIAL)) {
		flow(c, reads)->src.dry = 0;
		if (events & SIO_SPECIAL)
			flow(c, reads)->src.special = 1;
		if (c->state[reads] == SIO_WANT_SRC)
			c->state[reads] = SIO_BUDGET;
		else if (events & EPOLLIN && c->state[reads] == SIO_WANT_DST &&
			 !is_over(c, reads))
			mute(e, c, reads, 0);
	}
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR) &&
	    c->state[writes] == SIO_WANT_DST)
		c->state[writes] = SIO_BUDGET;
	if (events & (EPOLLHUP | EPOLLERR) || c->state[AB] == SIO_BUDGET ||
	    c->state[BA] == SIO_BUDGET)
		sio_push_ready(e, &c->conn);
}

void sio_relay_conn_timer(struct sio_engine *e, struct sio_relay_conn *c)
{
	int64_t due = INT64_MAX;

	if (c->idle_ns >= 0)
		due = c->moved_ns + c->idle_ns;
	if (c->deadline && c->deadline < due)
		due = c->deadline;
	if (due <= e->now) {
		c->relay.over = BOTH;
		if (due != c->deadline)
			c->relay.reason = SIO_REASON_IDLE;
		c->conn.ops->on_end(e, &c->conn);
		return;
	}
	c->parked = 0;
	for (int d = AB; d <= BA; d++)
		if (c->state[d] == SIO_WANT_DST && !is_over(c, d))
			c->state[d] = SIO_BUDGET;
	if (due != INT64_MAX)
		sio_timer_set(&e->timers, &c->conn.timer, due);
	sio_push_ready(e, &c->conn);
}

/* ---- the end ----------------------------------------------------------------------- */

void sio_relay_conn_abort(struct sio_engine *e, struct sio_relay_conn *c,
			int32_t requests)
{
	int err = sio_end_of(e);

	if (c->phase != SIO_CONN_OVER) {
		c->relay.over = BOTH;
		if (c->phase != SIO_CONN_LINGER)
			c->relay.reason = SIO_REASON_CANCELLED;
		if (err && c->conn.accepted) {
			c->err = err;
		} else if (err) {
			c->failed = 1;
			(void)sio_fail(c->relay.ab, err, SIO_SIDE_NONE,
				       SIO_CALL_EPOLL_WAIT);
		}
		c->conn.ops->on_end(e, &c->conn);
	}
	/* It may have ended by itself meanwhile; but whoever has cancelled it
	 * has been told that it ends like this. */
	if (requests & SIO_REQUEST_CANCEL)
		c->relay.reason = SIO_REASON_CANCELLED;
}

void sio_relay_conn_over(struct sio_engine *e, struct sio_relay_conn *c)
{
	no_disk(e, c);
	c->phase = SIO_CONN_OVER;
	sio_conn_over(e, &c->conn);
}
