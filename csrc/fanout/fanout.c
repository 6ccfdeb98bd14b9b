/*
 * fanout.c: one source to many sinks, exactly, by tee().
 *
 * tee() always begins at the head of a pipe and cannot go on where it stopped.
 * So for each sink it is counted how much of the source it has got, and from
 * how much on the head still holds it (base):
 *
 *	source  ...........|==== head ====|
 *	                 base            end
 *	a sink that has got base: tee() straight into it, when it is a pipe
 *	one that is ahead:        tee() into its own pipe, drop what it has, go on
 *	the last one at base:     splice() out of the head, which takes it away
 *
 * Rule 1: a sink's own pipe is empty when tee() fills it, or the sink is at
 *         base: what is dropped is then at its beginning.
 * Rule 2: the head lets go of what every attached sink has got, and no more.
 * Rule 3: the cheap moves come first; a sink's own pipe is filled on behalf of
 *         others only when otherwise everybody would sleep.
 * Rule 4: a sink that fails, or is full for too long, is detached; nobody else
 *         loses a byte by it.
 * Rule 5: an error of the source is told when everything before it is through.
 */
#define _GNU_SOURCE
#include "base/errno_class.h"
#include "base/syscalls.h"
#include "fanout/head.h"
#include "transfer/state.h"
#include "transfer/step.h"
#include "transfer/wait.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define TURN_BYTES (8 << 20)
#define TURN_NS 5000000
#define NONBLOCK 2 /* SPLICE_F_NONBLOCK */

static int is_open(const struct sio_sink *s)
{
	return s->fate == SIO_FATE_OPEN;
}

/* Bytes are on their way to it, or in the hands of the caller. */
static int holds(const struct sio_sink *s)
{
	return s->pipe.held || (s->out && sio_transfer_held(s->out));
}

static int is_pipe(const struct sio_sink *s)
{
	return s->out && s->out->dst.kind == SIO_KIND_PIPE;
}

/* Once: what is counted here is what keeps the others going. */
static void detach(struct sio_fanout *f, struct sio_sink *s, int fate)
{
	if (!is_open(s))
		return;
	s->fate = fate;
	f->changed = 1;
	if (--f->attached) {
		sio_spare_give(f->spares, &s->pipe, fate == SIO_FATE_FAILED);
		s->pipe.held = 0;
	} else {
		f->last = (int32_t)(s - f->sinks);
	}
}

static void sink_failed(struct sio_fanout *f, struct sio_sink *s, int err,
			int call)
{
	(void)sio_fail(s->out, err, SIO_SIDE_DST, call);
	detach(f, s, SIO_FATE_FAILED);
}

/* ---- one sink -------------------------------------------------------------------- */

/* Let `out` move so much of a pipe; how much it took from it. */
static int64_t move_from(struct sio_fanout *f, struct sio_sink *s, int fd,
			 int64_t len)
{
	struct sio_transfer *t = s->out;
	int64_t taken = t->taken, moved = t->moved;
	int own = t->src.fd, r;

	t->src.fd = fd;
	t->left = len;
	r = sio_transfer_step(t, TURN_BYTES, TURN_NS);
	t->src.fd = own;
	t->src.eof = 0;
	f->progress += t->taken - taken + t->moved - moved;
	s->full = r == SIO_WANT_DST;
	/* It was told how much is there; or its time was over, perhaps before it
	 * began. */
	f->retry |= r == SIO_WANT_SRC || r == SIO_BUDGET;
	if (r == SIO_ERROR)
		detach(f, s, SIO_FATE_FAILED);
	f->interrupted = r == SIO_INTERRUPTED;
	return t->taken - taken;
}

/* Write from a head that is in memory, which is the buffer of `out` meanwhile. */
static int write_head(struct sio_fanout *f, struct sio_sink *s)
{
	struct sio_transfer *t = s->out;
	struct sio_buf own = t->buf;

	t->buf = (struct sio_buf){
		.data = f->mem,
		.size = f->mem_size,
		.pos = f->mem_pos + s->got - f->base,
		.len = f->mem_len,
		.pooled = 1,
	};
	(void)move_from(f, s, t->src.fd, 0);
	s->got = f->base + t->buf.pos - f->mem_pos;
	t->buf = own;
	t->buf.pos = t->buf.len = 0;
	return f->interrupted ? SIO_INTERRUPTED : 0;
}

/* What its own pipe or `out` has, to the sink. */
static int flush(struct sio_fanout *f, struct sio_sink *s)
{
	int64_t n;

	if (!s->out || s->full)
		return 0;
	n = move_from(f, s, s->pipe.reader, s->pipe.held);
	if (s->pipe.reader >= 0) /* the last sink keeps it, with what is in it */
		s->pipe.held -= n;
	return f->interrupted ? SIO_INTERRUPTED : 0;
}

static int refused(struct sio_fanout *f, int64_t n, int call)
{
	if (n >= 0 || !sio_is_refusal((int)-n))
		return 0;
	sio_head_copy(f, (int)-n, call);
	return 1;
}

/* Into its own pipe; what it has got already is dropped at once. */
static int stage(struct sio_fanout *f, struct sio_sink *s)
{
	int64_t again = s->got - f->base, n;

	if (s->pipe.reader < 0) {
		n = sio_spare_take(f->spares, f->faults, SIO_PIPE_SIZE, &s->pipe);
		if (n < 0) {
			sio_head_copy(f, (int)-n, SIO_CALL_PIPE);
			return 0;
		}
		if (s->out && s->out->dst.slots < s->pipe.size / SIO_PIPE_SLOT)
			s->out->dst.slots = s->pipe.size / SIO_PIPE_SLOT;
	}
	sio_at(f->in, SIO_PHASE_STAGE);
	n = sio_tee(f->faults, sio_head_fd(f), s->pipe.writer, f->end - f->base,
		    NONBLOCK);
	if (n == -EINTR)
		return SIO_INTERRUPTED;
	if (n == 0 || n == -EAGAIN) {
		f->retry |= !s->pipe.held; /* there is room, and something to fill it */
		return 0;
	}
	if (refused(f, n, SIO_CALL_TEE))
		return 0;
	if (n < 0 && s->out) {
		sink_failed(f, s, (int)-n, SIO_CALL_TEE);
		return 0;
	}
	if (n < 0) {
		/* No error of the caller's sink, which has none: copy. */
		sio_head_copy(f, (int)-n, SIO_CALL_TEE);
		return 0;
	}
	if (n <= again)
		s->beyond = again; /* its pipe is too small to reach past it */
	if (n < again)
		again = n;
	if (sio_pipe_drop(f, s->pipe.reader, again) < again && s->out) {
		sink_failed(f, s, EIO, SIO_CALL_READ);
		return 0;
	}
	if (n == again)
		return 0;
	s->pipe.held += n - again;
	s->got += n - again;
	f->progress += n - again;
	return flush(f, s);
}

static int tee_straight(struct sio_fanout *f, struct sio_sink *s)
{
	int64_t want = f->end - s->got, n;

	sio_at(f->in, SIO_PHASE_DIRECT);
	n = sio_tee(f->faults, sio_head_fd(f), s->out->dst.fd, want, NONBLOCK);
	if (n == -EINTR)
		return SIO_INTERRUPTED;
	if (n > 0) {
		s->got += n;
		s->teed += n;
		f->progress += n;
	} else if (n < 0 && n != -EAGAIN && !refused(f, n, SIO_CALL_TEE)) {
		sink_failed(f, s, (int)-n, SIO_CALL_TEE);
		return 0;
	}
	s->full = n == -EAGAIN || (n > 0 && n < want);
	f->retry |= n == 0;
	return 0;
}

/* How far all others have come, when s alone is at base; else base.
 *
 * Looked for from s on, round to s again, and only as far as the next at base:
 * for all that are at base together that is one look at each sink, and not one
 * at each for each. */
static int64_t others_got(const struct sio_fanout *f, const struct sio_sink *s)
{
	int32_t at = (int32_t)(s - f->sinks);
	int64_t least = f->end;

	for (int32_t step = 1; step < f->sink_count; step++) {
		const struct sio_sink *other;

		at = at + 1 < f->sink_count ? at + 1 : 0;
		other = &f->sinks[at];
		if (is_open(other) && other->got < least)
			least = other->got;
		if (least == f->base)
			break;
	}
	return least;
}

static int take_away(struct sio_fanout *f, struct sio_sink *s, int64_t len)
{
	int64_t n = move_from(f, s, sio_head_fd(f), len);

	s->got += n;
	sio_head_left(f, n);
	return f->interrupted ? SIO_INTERRUPTED : 0;
}

static int serve(struct sio_fanout *f, struct sio_sink *s)
{
	int64_t others;

	if (holds(s)) {
		int r = flush(f, s);

		if (r || holds(s))
			return r;
	}
	if (!is_open(s) || s->full || s->got >= f->end)
		return 0;
	if (sio_head_in_memory(f))
		return s->out ? write_head(f, s) : 0;
	if (f->copying)
		return 0;
	others = s->out && s->got == f->base ? others_got(f, s) : f->base;
	if (others > f->base)
		return take_away(f, s, others - f->base);
	if (!is_pipe(s))
		return s->beyond == s->got - f->base ? 0 : stage(f, s);
	return s->got == f->base ? tee_straight(f, s) : 0;
}

/* ---- all of them ------------------------------------------------------------------- */

/* Nobody can move: let sinks that are full, or ahead, use their own pipes, so
 * that the head can let go of something or they get something. */
static int make_room(struct sio_fanout *f)
{
	int hungry = 0, r = 0;

	if (f->copying || sio_head_in_memory(f))
		return 0;
	for (int32_t i = 0; i < f->sink_count; i++)
		hungry |= is_open(&f->sinks[i]) && f->sinks[i].got == f->end;
	for (int32_t i = 0; !r && i < f->sink_count; i++) {
		struct sio_sink *s = &f->sinks[i];
		int64_t ahead = s->got - f->base;

		if (!is_open(s) || s->got >= f->end || s->beyond == ahead ||
		    (holds(s) && (ahead || !s->out)) || (s->full && !hungry))
			continue;
		r = stage(f, s);
	}
	return r;
}

static int pass(struct sio_fanout *f)
{
	int64_t base = f->base;
	int r = sio_head_look(f);

	for (int32_t i = 0; !r && i < f->sink_count; i++)
		if (is_open(&f->sinks[i]))
			r = serve(f, &f->sinks[i]);
	sio_head_let_go(f);
	for (int32_t i = 0; f->base != base && i < f->sink_count; i++)
		f->sinks[i].beyond = -1;
	return r;
}

static int is_through(const struct sio_fanout *f)
{
	if (!f->eof || f->base < f->end)
		return 0;
	for (int32_t i = 0; i < f->sink_count; i++)
		if (is_open(&f->sinks[i]) && holds(&f->sinks[i]))
			return 0;
	return !f->copying || f->direct || !f->head_held;
}

/* The caller has something to take for a sink of its own. */
static int caller_is_due(const struct sio_fanout *f)
{
	for (int32_t i = 0; i < f->sink_count; i++) {
		const struct sio_sink *s = &f->sinks[i];

		if (!s->out && is_open(s) &&
		    (s->pipe.held || (sio_head_in_memory(f) && s->got < f->end)))
			return 1;
	}
	return 0;
}

/* ---- waiting ------------------------------------------------------------------------- */

/* Since when each is full; in how many nanoseconds the first has stalled. */
static int64_t until_stalled(struct sio_fanout *f)
{
	int64_t now = sio_now(), first = INT64_MAX;

	for (int32_t i = 0; i < f->sink_count; i++) {
		struct sio_sink *s = &f->sinks[i];
		int64_t mark = s->out ? s->out->moved + s->teed : 0;

		if (!is_open(s) || !s->full)
			s->full_ns = 0;
		else if (!s->full_ns || s->full_mark != mark)
			s->full_ns = now;
		s->full_mark = mark;
		if (s->full_ns && s->full_ns + f->stall_ns - now < first)
			first = s->full_ns + f->stall_ns - now;
	}
	return first;
}

static void drop_stalled(struct sio_fanout *f)
{
	int64_t now = sio_now();

	for (int32_t i = 0; i < f->sink_count; i++) {
		struct sio_sink *s = &f->sinks[i];

		if (is_open(s) && s->full && s->full_ns &&
		    now - s->full_ns >= f->stall_ns)
			detach(f, s, SIO_FATE_STALLED);
	}
}

static void ask_for(struct sio_fanout *f)
{
	f->fds[0] = (struct pollfd){ f->want_src ? f->in->src.fd : -1, POLLIN, 0 };
	for (int32_t i = 0; i < f->sink_count; i++) {
		struct sio_sink *s = &f->sinks[i];
		int watch = is_open(s) && s->out &&
			    (s->full || !s->out->dst.unwatch);

		f->fds[i + 1] = (struct pollfd){ watch ? s->out->dst.fd : -1,
						 s->full ? POLLOUT : 0, 0 };
	}
	f->fds[f->sink_count + 1] = (struct pollfd){ f->wake_fd, POLLIN, 0 };
}

static void handle_poll(struct sio_fanout *f)
{
	short source = f->fds[0].revents;

	f->in->src.ready = source != 0;
	/* A pipe that is empty and has no writer any more. */
	if (f->direct && source && !(source & POLLIN) &&
	    sio_unread(f->faults, f->in->src.fd) <= 0)
		f->eof = 1;
	for (int32_t i = 0; i < f->sink_count; i++) {
		struct sio_sink *s = &f->sinks[i];
		short said = f->fds[i + 1].revents;
		int err;

		if (!said)
			continue;
		if (s->full) {
			s->full = 0; /* or in trouble, which the next call tells */
			continue;
		}
		err = sio_dst_gone(s->out, said);
		if (err)
			sink_failed(f, s, err, SIO_CALL_POLL);
	}
}

static int wait_all(struct sio_fanout *f, int64_t slice_end, int64_t idle_ns)
{
	int64_t idle = sio_idle_for(&f->active_ns, &f->active_mark, f->progress);
	int64_t stall = f->stall_ns < 0 ? -1 : until_stalled(f);
	int64_t limit = idle_ns, spent = idle;
	int pause = f->want_src ? sio_tls_pause(f->in) : 0, ms, n;

	if (stall >= 0 && stall != INT64_MAX &&
	    (idle_ns < 0 || stall < idle_ns - idle)) {
		limit = stall > 0 ? stall : 0;
		spent = 0;
	}
	ask_for(f);
	ms = sio_wait_ms(slice_end, limit, spent);
	if (pause) {
		f->fds[0].fd = -1;
		ms = pause < ms ? pause : ms;
	}
	n = sio_poll(f->faults, f->fds, f->sink_count + 2, ms);
	if (n == -EINTR)
		return SIO_INTERRUPTED;
	if (n < 0)
		return sio_fail(f->in, -n, SIO_SIDE_NONE, SIO_CALL_POLL);
	if (n > 0)
		handle_poll(f);
	f->woken = n > 0 && f->fds[f->sink_count + 1].revents;
	if (f->stall_ns >= 0)
		drop_stalled(f);
	if (pause && n >= 0)
		f->in->src.ready = 1;
	f->waiting = n == 0 && !f->changed && !f->retry && !pause;
	if (n > 0 || f->changed || idle_ns < 0)
		return SIO_BUDGET;
	idle = sio_idle_for(&f->active_ns, &f->active_mark, f->progress);
	return idle >= idle_ns ? SIO_TIMEOUT : SIO_BUDGET;
}

static void refresh(struct sio_fanout *f)
{
	sio_transfer_refresh(f->in);
	for (int32_t i = 0; i < f->sink_count; i++) {
		struct sio_transfer *t = f->sinks[i].out;
		int64_t slots = t ? t->dst.slots : 0;

		if (!t || !is_open(&f->sinks[i]))
			continue;
		sio_transfer_refresh(t);
		t->dst.slots = slots > f->in->dst.slots ? slots : f->in->dst.slots;
	}
}

/* Nobody can move.  Before the wait the others get the processor once. */
static int must_wait(struct sio_fanout *f, int64_t *yielded)
{
	if (*yielded == f->progress)
		return 1;
	*yielded = f->progress;
	sched_yield();
	for (int32_t i = 0; i < f->sink_count; i++)
		f->sinks[i].full = 0;
	return 0;
}

/* Move what can be moved: the state to return, or SIO_BUDGET to go on.  Then
 * f->waiting is set when there is nothing to do but to wait. */
static int advance(struct sio_fanout *f, int64_t *yielded)
{
	int64_t before = f->progress;
	int r;

	f->retry = 0;
	r = pass(f);
	if (r)
		return r;
	if (f->changed)
		return SIO_EVENT;
	if (is_through(f))
		return f->failed ? SIO_ERROR : SIO_DONE;
	if (f->progress == before) {
		r = make_room(f);
		if (r)
			return r;
	}
	if (f->changed)
		return SIO_EVENT;
	if (f->progress != before)
		return SIO_BUDGET;
	if (caller_is_due(f))
		return SIO_EVENT;
	f->waiting = must_wait(f, yielded);
	return SIO_BUDGET;
}

int sio_fanout_run(struct sio_fanout *f, int64_t ns, int64_t idle_ns,
		   int wake_fd)
{
	int64_t slice_end = sio_now() + ns, yielded = -1;
	int r = SIO_BUDGET;

	if (f->in->pid != getpid())
		return SIO_FORKED;
	if (!f->attached)
		return SIO_DONE;
	if (!f->waiting)
		refresh(f);
	f->changed = f->woken = 0;
	f->wake_fd = wake_fd;
	do {
		if (!f->waiting)
			r = advance(f, &yielded);
		if (r == SIO_BUDGET && f->waiting)
			r = wait_all(f, slice_end, idle_ns);
		if (r != SIO_BUDGET)
			f->waiting = 0;
		else if (f->changed)
			r = SIO_EVENT;
	} while (r == SIO_BUDGET && !f->woken && sio_now() < slice_end);
	return r;
}

int64_t sio_fanout_take(struct sio_fanout *f, int32_t i, void *buf, int64_t len)
{
	struct sio_sink *s = &f->sinks[i];
	int64_t n = s->pipe.held < len ? s->pipe.held : len;

	if (n > 0) {
		sio_at(f->in, SIO_PHASE_DRAIN);
		n = sio_read(f->faults, s->pipe.reader, NULL, buf, n);
		if (n > 0)
			s->pipe.held -= n;
	} else if (!s->out && is_open(s) && sio_head_in_memory(f) &&
		   s->got < f->end) {
		n = f->end - s->got < len ? f->end - s->got : len;
		memcpy(buf, f->mem + f->mem_pos + s->got - f->base, (size_t)n);
		s->got += n;
	}
	if (!s->out && n > 0)
		f->handed = n;
	return n;
}

void sio_fanout_detach(struct sio_fanout *f, int32_t i)
{
	f->waiting = 0;
	detach(f, &f->sinks[i], SIO_FATE_FAILED);
}

/* ---- what it has to say ------------------------------------------------------------------ */

void sio_fanout_report(const struct sio_fanout *f,
		       struct sio_fanout_report *report)
{
	report->progress = f->progress;
	report->base = f->base;
	report->attached = f->attached;
	report->last = f->last;
	report->refused = f->refused;
	report->refused_call = f->refused_call;
	report->waiting = f->waiting;
	report->woken = f->woken;
}

int sio_fanout_fate(const struct sio_fanout *f, int32_t i)
{
	return f->sinks[i].fate;
}

int64_t sio_fanout_got(const struct sio_fanout *f, int32_t i)
{
	return f->sinks[i].got;
}

int64_t sio_fanout_teed(const struct sio_fanout *f, int32_t i)
{
	return f->sinks[i].teed;
}

int64_t sio_fanout_handed(const struct sio_fanout *f)
{
	return f->handed;
}

void sio_fanout_accept(struct sio_fanout *f)
{
	f->handed = 0;
}
