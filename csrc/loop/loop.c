/*
 * loop.c: one thread and one epoll for thousands of connections.  What they
 * do is behind their ops; nothing here names it.
 *
 * Rule 1: the thread never waits but in epoll_wait(), and never touches Python:
 *         who has to wait for a disk asks disk.c.
 * Rule 2: events only mark what may go on; then each connection that may go on gets
 *         one turn of bounded size, in the order in which it became so.
 * Rule 3: descriptors are registered once, for everything, edge-triggered.  An
 *         edge is never forgotten: a flow stops only when a call has said
 *         "empty" or "full", and the next edge comes after that.
 * Rule 4: what another thread wants is put into the inbox, under the lock; all
 *         else belongs to the thread.
 * Rule 5: a connection that has ended is announced, or used again, only when all
 *         events that were fetched before are through.  An event names its connection
 *         by a number of the table and how often that number has been given
 *         out: an event that comes too late finds nobody.
 * Rule 6: deadlines lie in a heap; nothing looks at all connections.
 * Rule 7: what cannot wait cannot go on: when epoll_wait() fails, every connection ends
 *         with that error, and the thread too.
 */
#define _GNU_SOURCE
#include "loop/loop.h"
#include "base/syscalls.h"
#include "loop/completions.h"
#include "loop/pipe_pool.h"
#include "loop/slots.h"
#include "loop/timers.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS 256
#define STACK (256 << 10)
/* The kernel may have had no memory for a socket that has room, and then no
 * edge follows: a full destination is asked again after so long. */
#define STALL_NS 1000000000

/* By the clock, and by what a test has let pass. */
int64_t sio_engine_now(const struct sio_engine *e)
{
	return sio_now() + sio_counted(&e->skipped_ns);
}

/* ---- what an engine cannot do ------------------------------------------------------ */

void sio_engine_fails(struct sio_engine *e, int call, int err, int stopped)
{
	struct sio_trouble *t = &e->trouble;

	pthread_mutex_lock(&e->lock);
	if (stopped >= t->stopped) {
		t->err = err;
		t->call = call;
		t->stopped = stopped;
	}
	t->times++;
	if (stopped == SIO_STOPPED_ALL)
		e->stopped = 1;
	pthread_mutex_unlock(&e->lock);
	if (e->completions)
		sio_completions_wake(e->completions);
}

int sio_end_of(const struct sio_engine *e)
{
	return e->trouble.stopped == SIO_STOPPED_ALL ? e->trouble.err : 0;
}

void sio_engine_trouble(struct sio_engine *e, struct sio_trouble *trouble)
{
	pthread_mutex_lock(&e->lock);
	*trouble = e->trouble;
	pthread_mutex_unlock(&e->lock);
}

/* ---- a connection's life ------------------------------------------------------------ */

void sio_push_ready(struct sio_engine *e, struct sio_conn *c)
{
	if (c->is_ready)
		return;
	c->is_ready = 1;
	c->next_ready = NULL;
	if (e->first_ready)
		e->last_ready->next_ready = c;
	else
		e->first_ready = c;
	e->last_ready = c;
}

void sio_conn_post(struct sio_conn *c, int32_t what)
{
	/* Of a connection that Python owns nothing may be read once it is told. */
	int accepted = c->accepted;

	if (sio_completions_post(c->completions, c, what) && accepted)
		c->readers++;
}

static void push_done(struct sio_engine *e, struct sio_conn *c)
{
	c->next_done = NULL;
	if (e->done)
		e->last_done->next_done = c;
	else
		e->done = c;
	e->last_done = c;
}

void sio_conn_over(struct sio_engine *e, struct sio_conn *c)
{
	if (!c->ended_ns)
		c->ended_ns = sio_engine_now(e);
	sio_timer_clear(&e->timers, &c->timer);
	c->is_over = 1;
	if (!c->readers)
		push_done(e, c);
}

/* ---- the inbox ------------------------------------------------------------------ */

void sio_engine_wake(struct sio_engine *e)
{
	(void)!write(e->wakefd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

/* *is_cancelled: nothing may be read from the connection after this. */
static int request(struct sio_engine *e, struct sio_conn *c, int32_t what,
	       int *is_cancelled)
{
	int err = 0, was_empty;

	if (e->pid != getpid())
		return -ECHILD;
	pthread_mutex_lock(&e->lock);
	was_empty = !e->inbox;
	if (e->stopped) {
		err = sio_end_of(e) ? -sio_end_of(e) : -ESHUTDOWN;
	} else if (c->requests >= 0) {
		if (!c->requests) {
			c->next_request = e->inbox;
			e->inbox = c;
		}
		c->requests |= what;
		c->is_cancelled |= (what & SIO_REQUEST_CANCEL) != 0;
		if (what & SIO_REQUEST_RELEASE)
			c->released++;
	}
	*is_cancelled = c->is_cancelled;
	pthread_mutex_unlock(&e->lock);
	if (!err && was_empty)
		sio_engine_wake(e);
	return err;
}

int sio_request(struct sio_engine *e, struct sio_conn *c, int32_t what)
{
	int is_cancelled;

	return request(e, c, what, &is_cancelled);
}

static void tell_read(struct sio_conn *c)
{
	(void)sio_request(c->engine, c, SIO_REQUEST_READ);
}

static void read_inbox(struct sio_engine *e)
{
	struct sio_conn *first, *turned = NULL;

	pthread_mutex_lock(&e->lock);
	first = e->inbox;
	e->inbox = NULL;
	e->stopping = e->stopped;
	pthread_mutex_unlock(&e->lock);
	while (first) { /* it was pushed on a stack */
		struct sio_conn *next = first->next_request;

		first->next_request = turned;
		turned = first;
		first = next;
	}
	while (turned) {
		struct sio_conn *c = turned;
		int32_t requests;
		int was_over;

		pthread_mutex_lock(&e->lock);
		turned = c->next_request;
		requests = c->requests;
		c->requests = 0;
		c->readers -= c->released;
		c->released = 0;
		pthread_mutex_unlock(&e->lock);
		was_over = c->is_over;
		c->ops->on_request(e, c, requests);
		/* It was over before, and waited for Python to let go. */
		if (c->accepted && was_over && !c->readers)
			push_done(e, c);
	}
	if (e->server)
		e->server->ops->on_wake(e);
}

/* ---- what makes a connection go on ---------------------------------------------------- */

static void dispatch(struct sio_engine *e, const struct epoll_event *ev)
{
	int slot = (int)(ev->data.u64 & 7);
	uint32_t index = (uint32_t)(ev->data.u64 >> 3);
	uint32_t given = (uint32_t)(ev->data.u64 >> 35);
	struct sio_conn *c;

	if (slot == SIO_SLOT_ENGINE) {
		if (index)
			e->server->ops->on_listener(e, (int)index - 1);
		else
			read_inbox(e);
		return;
	}
	c = e->table[index].conn;
	if (c && e->table[index].given == given)
		c->ops->on_event(e, c, slot, ev->events);
}

static void fire_timers(struct sio_engine *e)
{
	struct sio_timer *timer;

	while ((timer = sio_timer_first(&e->timers)) && timer->due <= e->now) {
		sio_timer_clear(&e->timers, timer);
		timer->fire(e, timer);
	}
}

/* ---- the end of connections ------------------------------------------------------------ */

/* Nobody will ask anything of it any more: 1.  Else it waits. */
static int close_requests(struct sio_engine *e, struct sio_conn *c)
{
	int closed;

	pthread_mutex_lock(&e->lock);
	closed = !c->requests;
	if (closed)
		c->requests = -1;
	pthread_mutex_unlock(&e->lock);
	return closed;
}

static void reap(struct sio_engine *e)
{
	struct sio_conn *c = e->done, *next;

	e->done = NULL;
	for (; c; c = next) {
		next = c->next_done;
		if (!c->accepted && !close_requests(e, c)) {
			push_done(e, c);
			continue;
		}
		if (c->index >= 0)
			sio_slot_free(e, c);
		sio_count(&e->counts.active, -1);
		c->ops->on_free(e, c);
	}
}

/* ---- the thread ------------------------------------------------------------------- */

static int wait_ms(const struct sio_engine *e)
{
	const struct sio_timer *timer = sio_timer_first(&e->timers);
	int64_t ms;

	if (e->first_ready || e->stopping)
		return 0;
	if (!timer)
		return -1;
	ms = (timer->due - e->now + 999999) / 1000000;
	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

static void run_ready(struct sio_engine *e)
{
	struct sio_conn *c = e->first_ready;

	e->first_ready = e->last_ready = NULL;
	while (c) {
		struct sio_conn *next = c->next_ready;

		c->is_ready = 0;
		c->ops->on_run(e, c);
		c = next;
	}
}

static void *engine_thread(void *engine)
{
	struct sio_engine *e = engine;
	struct epoll_event events[EVENTS];

	while (!e->stopping) {
		int n = sio_epoll_wait(e->faults, e->epfd, events, EVENTS,
				       wait_ms(e));

		e->now = sio_engine_now(e);
		if (n < 0 && n != -EINTR) {
			sio_engine_fails(e, SIO_CALL_EPOLL_WAIT, -n,
					 SIO_STOPPED_ALL);
			read_inbox(e);
		}
		for (int i = 0; i < n; i++)
			dispatch(e, &events[i]);
		/* What is there goes before the shortest of timeouts counts. */
		run_ready(e);
		fire_timers(e);
		reap(e);
	}
	for (int32_t i = 0; i < e->size; i++)
		if (e->table[i].conn)
			e->table[i].conn->ops->on_request(e, e->table[i].conn,
							  SIO_REQUEST_ABORT);
	e->first_ready = NULL;
	reap(e);
	return NULL;
}

/* ---- from outside ------------------------------------------------------------------ */

/* What is missing to a new engine: 0, or -errno of *call. */
static int init_engine(struct sio_engine *e, int32_t pipes, const char **call)
{
	*call = "epoll_create1";
	e->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (e->epfd < 0)
		return -errno;
	*call = "eventfd";
	e->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->wakefd < 0)
		return -errno;
	*call = "malloc";
	if (sio_pool_open(&e->pool, pipes) || sio_slots_grow(e))
		return -ENOMEM;
	*call = "epoll_ctl";
	/* Each write to it is an edge, so it need never be read. */
	return sio_watch_engine(e, 0, e->wakefd, EPOLL_CTL_ADD,
				EPOLLIN | EPOLLET);
}

struct sio_engine *sio_engine_new(int32_t pipes, int32_t *err,
				  const char **call)
{
	struct sio_engine *e = calloc(1, sizeof(*e));

	*err = ENOMEM;
	*call = "malloc";
	if (!e)
		return NULL;
	e->pid = getpid();
	e->free_slot = -1;
	e->stall_ns = STALL_NS;
	e->epfd = e->wakefd = -1;
	pthread_mutex_init(&e->lock, NULL);
	sio_disk_init(&e->disk, tell_read);
	*err = -init_engine(e, pipes, call);
	if (!*err)
		return e;
	sio_engine_free(e);
	return NULL;
}

int sio_engine_start(struct sio_engine *e)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int err;

	/* A signal has to reach a thread that Python looks after. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	e->now = sio_now();
	err = pthread_create(&e->thread, &attr, engine_thread, e);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	e->started = !err;
	if (!err) /* what `top -H` shows */
		(void)pthread_setname_np(e->thread, "spliceio-engine");
	return -err;
}

void sio_engine_stop(struct sio_engine *e)
{
	if (e->pid != getpid())
		return;
	pthread_mutex_lock(&e->lock);
	e->stopped = 1;
	pthread_mutex_unlock(&e->lock);
	if (!e->started)
		return;
	sio_engine_wake(e);
	pthread_join(e->thread, NULL);
	sio_disk_stop(&e->disk);
	e->started = 0;
}

void sio_engine_free(struct sio_engine *e)
{
	if (!e || e->pid != getpid())
		return;
	sio_engine_stop(e);
	if (e->server)
		e->server->ops->on_free(e);
	sio_pool_close(&e->pool);
	sio_disk_free(&e->disk);
	sio_timers_free(&e->timers);
	free(e->table);
	if (e->wakefd >= 0)
		close(e->wakefd);
	if (e->epfd >= 0)
		close(e->epfd);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

void sio_engine_abandon(struct sio_engine *e)
{
	if (e->pid == getpid())
		return;
	close(e->epfd);
	close(e->wakefd);
	/* It is the parent's epoll: what is closed here is watched there on. */
	e->epfd = e->wakefd = -1;
	sio_pool_trim(&e->pool);
	sio_disk_abandon(&e->disk);
	if (e->server)
		e->server->ops->on_abandon(e);
}

int sio_engine_cancel(struct sio_conn *conn)
{
	int is_cancelled = 0;

	(void)request(conn->engine, conn, SIO_REQUEST_CANCEL, &is_cancelled);
	return is_cancelled;
}

void sio_engine_abort(struct sio_conn *conn)
{
	(void)sio_request(conn->engine, conn, SIO_REQUEST_ABORT);
}

void sio_engine_count(struct sio_engine *e, int64_t total, int64_t a_to_b,
		      int64_t b_to_a)
{
	pthread_mutex_lock(&e->lock);
	e->others.total += total;
	e->others.a_to_b += a_to_b;
	e->others.b_to_a += b_to_a;
	e->others.copied += a_to_b + b_to_a;
	pthread_mutex_unlock(&e->lock);
}

void sio_engine_counts(struct sio_engine *e, struct sio_counts *counts)
{
	const struct sio_counts *own = &e->counts;

	struct sio_counts others;

	pthread_mutex_lock(&e->lock);
	others = e->others;
	pthread_mutex_unlock(&e->lock);
	counts->active = sio_counted(&own->active);
	counts->total = sio_counted(&own->total) + others.total;
	counts->a_to_b = sio_counted(&own->a_to_b) + others.a_to_b;
	counts->b_to_a = sio_counted(&own->b_to_a) + others.b_to_a;
	counts->copied = sio_counted(&own->copied) + others.copied;
	counts->failed = sio_counted(&own->failed);
	counts->untold = sio_counted(&own->untold);
	counts->full = sio_counted(&own->full);
	counts->pipes_open = sio_counted(&e->pool.open);
	counts->pipes_held = sio_counted(&e->pool.held);
}
