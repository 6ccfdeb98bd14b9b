/*
 * loop.c: one thread and one epoll for thousands of relays.  What they do is
 * behind their ops; nothing here names it.
 *
 * Rule 1: the thread never waits but in epoll_wait(), and never touches Python.
 * Rule 2: events only mark what may go on; then each link that may go on gets
 *         one turn of bounded size, in the order in which it became so.
 * Rule 3: descriptors are registered once, for everything, edge-triggered.  An
 *         edge is never forgotten: a flow stops only when a call has said
 *         "empty" or "full", and the next edge comes after that.
 * Rule 4: what another thread wants is put into the inbox, under the lock; all
 *         else belongs to the thread.
 * Rule 5: a link that has ended is announced, or used again, only when all
 *         events that were fetched before are through.  An event names its link
 *         by a number of the table and how often that number has been given
 *         out: an event that comes too late finds nobody.
 * Rule 6: deadlines lie in a heap; nothing looks at all links.
 * Rule 7: what cannot wait cannot go on: when epoll_wait() fails, every link ends
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
	if (e->news)
		sio_news_wake(e->news);
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

/* ---- a link's life ------------------------------------------------------------ */

void sio_push_ready(struct sio_engine *e, struct sio_link *l)
{
	if (l->is_ready)
		return;
	l->is_ready = 1;
	l->next_ready = NULL;
	if (e->first_ready)
		e->last_ready->next_ready = l;
	else
		e->first_ready = l;
	e->last_ready = l;
}

void sio_tell(struct sio_link *l, int32_t what)
{
	/* Of a link that Python owns nothing may be read once it is told. */
	int accepted = l->accepted;

	if (sio_news_tell(l->news, l, what) && accepted)
		l->lent++;
}

static void push_done(struct sio_engine *e, struct sio_link *l)
{
	l->next_done = NULL;
	if (e->done)
		e->last_done->next_done = l;
	else
		e->done = l;
	e->last_done = l;
}

void sio_link_over(struct sio_engine *e, struct sio_link *l)
{
	if (!l->ended_ns)
		l->ended_ns = sio_engine_now(e);
	sio_timer_clear(&e->timers, &l->timer);
	l->phase = SIO_PHASE_OVER;
	if (!l->lent)
		push_done(e, l);
}

/* ---- the inbox ------------------------------------------------------------------ */

void sio_engine_wake(struct sio_engine *e)
{
	(void)!write(e->wakefd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

/* *is_cancelled: nothing may be read from the link after this. */
static int ask(struct sio_engine *e, struct sio_link *l, int32_t what,
	       int *is_cancelled)
{
	int err = 0, was_empty;

	if (e->pid != getpid())
		return -ECHILD;
	pthread_mutex_lock(&e->lock);
	was_empty = !e->inbox;
	if (e->stopped) {
		err = sio_end_of(e) ? -sio_end_of(e) : -ESHUTDOWN;
	} else if (l->asked >= 0) {
		if (!l->asked) {
			l->next_asked = e->inbox;
			e->inbox = l;
		}
		l->asked |= what;
		l->is_cancelled |= (what & SIO_ASK_CANCEL) != 0;
		if (what & (SIO_ASK_RELEASE | SIO_ASK_ROUTE))
			l->released++;
	}
	*is_cancelled = l->is_cancelled;
	pthread_mutex_unlock(&e->lock);
	if (!err && was_empty)
		sio_engine_wake(e);
	return err;
}

int sio_ask(struct sio_engine *e, struct sio_link *l, int32_t what)
{
	int is_cancelled;

	return ask(e, l, what, &is_cancelled);
}

static void read_inbox(struct sio_engine *e)
{
	struct sio_link *first, *turned = NULL;

	pthread_mutex_lock(&e->lock);
	first = e->inbox;
	e->inbox = NULL;
	e->stopping = e->stopped;
	pthread_mutex_unlock(&e->lock);
	while (first) { /* it was pushed on a stack */
		struct sio_link *next = first->next_asked;

		first->next_asked = turned;
		turned = first;
		first = next;
	}
	while (turned) {
		struct sio_link *l = turned;
		int32_t asked;
		int was_over;

		pthread_mutex_lock(&e->lock);
		turned = l->next_asked;
		asked = l->asked;
		l->asked = 0;
		if (l->answer)
			l->routed = l->answer;
		l->answer = NULL;
		l->lent -= l->released;
		l->released = 0;
		pthread_mutex_unlock(&e->lock);
		was_over = l->phase == SIO_PHASE_OVER;
		l->ops->on_request(e, l, asked);
		/* It was over before, and waited for Python to let go. */
		if (l->accepted && was_over && !l->lent)
			push_done(e, l);
	}
	if (e->server)
		e->server->on_wake(e);
}

/* ---- what makes a link go on ---------------------------------------------------- */

static void dispatch(struct sio_engine *e, const struct epoll_event *ev)
{
	int slot = (int)(ev->data.u64 & 7);
	uint32_t index = (uint32_t)(ev->data.u64 >> 3);
	uint32_t given = (uint32_t)(ev->data.u64 >> 35);
	struct sio_link *l;

	if (slot == SIO_SLOT_ENGINE) {
		if (index)
			e->server->on_listener(e, (int)index - 1);
		else
			read_inbox(e);
		return;
	}
	l = e->table[index].link;
	if (l && e->table[index].given == given)
		l->ops->on_event(e, l, slot, ev->events);
}

static void fire_timers(struct sio_engine *e)
{
	struct sio_timer *timer;

	while ((timer = sio_timer_first(&e->timers)) && timer->due <= e->now) {
		sio_timer_clear(&e->timers, timer);
		timer->fire(e, timer);
	}
}

/* ---- the end of links ------------------------------------------------------------ */

/* Nobody will ask anything of it any more: 1.  Else it waits. */
static int seal(struct sio_engine *e, struct sio_link *l)
{
	int sealed;

	pthread_mutex_lock(&e->lock);
	sealed = !l->asked;
	if (sealed)
		l->asked = -1;
	pthread_mutex_unlock(&e->lock);
	return sealed;
}

static void bury(struct sio_engine *e)
{
	struct sio_link *l = e->done, *next;

	e->done = NULL;
	for (; l; l = next) {
		next = l->next_done;
		if (!l->accepted && !seal(e, l)) {
			push_done(e, l);
			continue;
		}
		if (l->index >= 0)
			sio_unseat(e, l);
		sio_count(&e->counts.active, -1);
		l->ops->on_free(e, l);
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
	struct sio_link *l = e->first_ready;

	e->first_ready = e->last_ready = NULL;
	while (l) {
		struct sio_link *next = l->next_ready;

		l->is_ready = 0;
		l->ops->on_run(e, l);
		l = next;
	}
}

static void *engine_thread(void *engine)
{
	struct sio_engine *e = engine;
	struct epoll_event events[EVENTS];

	while (!e->stopping) {
		int n = sio_epoll_wait(e->seam, e->epfd, events, EVENTS,
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
		bury(e);
	}
	for (int32_t i = 0; i < e->size; i++)
		if (e->table[i].link)
			e->table[i].link->ops->on_request(e, e->table[i].link,
							  SIO_ASK_CUT);
	e->first_ready = NULL;
	bury(e);
	return NULL;
}

/* ---- from outside ------------------------------------------------------------------ */

/* What is missing to a new engine: 0, or -errno of *call. */
static int furnish(struct sio_engine *e, int32_t pipes, const char **call)
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
	if (sio_pool_open(&e->pool, pipes) || sio_table_grow(e))
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
	e->free_seat = -1;
	e->stall_ns = STALL_NS;
	e->epfd = e->wakefd = -1;
	pthread_mutex_init(&e->lock, NULL);
	*err = -furnish(e, pipes, call);
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
	e->started = 0;
}

void sio_engine_free(struct sio_engine *e)
{
	if (!e || e->pid != getpid())
		return;
	sio_engine_stop(e);
	if (e->server)
		e->server->on_free(e);
	sio_pool_close(&e->pool);
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
	if (e->server)
		e->server->on_abandon(e);
}

int sio_engine_cancel(struct sio_link *link)
{
	int is_cancelled = 0;

	(void)ask(link->engine, link, SIO_ASK_CANCEL, &is_cancelled);
	return is_cancelled;
}

void sio_engine_cut(struct sio_link *link)
{
	(void)sio_ask(link->engine, link, SIO_ASK_CUT);
}

void sio_engine_counts(struct sio_engine *e, struct sio_counts *counts)
{
	const struct sio_counts *c = &e->counts;

	counts->active = sio_counted(&c->active);
	counts->total = sio_counted(&c->total);
	counts->a_to_b = sio_counted(&c->a_to_b);
	counts->b_to_a = sio_counted(&c->b_to_a);
	counts->copied = sio_counted(&c->copied);
	counts->failed = sio_counted(&c->failed);
	counts->untold = sio_counted(&c->untold);
	counts->full = sio_counted(&c->full);
	counts->pipes_open = sio_counted(&e->pool.open);
	counts->pipes_held = sio_counted(&e->pool.held);
}
