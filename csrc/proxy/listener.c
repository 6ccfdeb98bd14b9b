/*
 * listener.c: listeners, the links of who comes, and what Python asks of both.
 *
 * Rule 1: a connection that cannot be served now stays in the backlog: accept
 *         is not asked while descriptors are used up or enough are open.
 * Rule 2: links are used again, their memory is never given back while the
 *         engine lives.
 * Rule 3: no error makes it ask on and on: what is refused for good is told, and
 *         ends the listening; anything else that lasts is asked in pauses.
 * Rule 4: the listeners are duplicates: closing them here leaves the caller's.
 */
#define _GNU_SOURCE
#include "api.h"
#include "base/syscalls.h"
#include "loop/loop.h"
#include "loop/pipe_pool.h"
#include "loop/slots.h"
#include "loop/timers.h"
#include "proxy/conn.h"
#include "proxy/connector.h"
#include "relay/conn.h"
#include "transfer/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS 64
#define PAUSE_NS 100000000
/* After so many answers without a connection it may be the call that is refused. */
#define SUSPECT 64
#define SLAB 32

enum { A = SIO_SLOT_A, B = SIO_SLOT_B };

struct accepted {
	struct sio_link link;
	struct sio_transfer flows[2];
};

struct sio_slab {
	struct sio_slab *next;
	struct accepted each[SLAB];
};

/* ---- whether connections are accepted ---------------------------------------------- */

/* Another duplicate, left open, would keep it in the epoll. */
static void retire(struct sio_engine *e, int number)
{
	int fd = e->gate->listeners[number];

	sio_unwatch(e, fd);
	e->gate->listeners[number] = -1;
	if (fd >= 0)
		close(fd);
}

static void close_listeners(struct sio_engine *e)
{
	struct sio_gate *g = e->gate;

	for (int32_t i = 0; i < g->count; i++)
		retire(e, i);
	g->count = 0;
}

/* Accept nothing until a link ends here, or the pause's timer, if it is set. */
static void hold(struct sio_engine *e)
{
	struct sio_gate *g = e->gate;

	if (g->paused)
		return;
	g->paused = 1;
	for (int32_t i = 0; i < g->count; i++)
		sio_unwatch(e, g->listeners[i]);
}

static void pause_accepting(struct sio_engine *e)
{
	sio_timer_set(&e->timers, &e->gate->pause, e->now + PAUSE_NS);
	hold(e);
}

/* It is so for good: nobody is accepted any more. */
static void stop_accepting(struct sio_engine *e, int call, int err)
{
	close_listeners(e);
	sio_engine_fails(e, call, err, SIO_STOPPED_ACCEPTING);
}

/* It may be better after a while. */
static void accept_later(struct sio_engine *e, int call, int err)
{
	sio_engine_fails(e, call, err, SIO_STOPPED_NOTHING);
	pause_accepting(e);
}

/* The user's watches, or the kernel's memory, are used up; or it is refused. */
static void cannot_watch(struct sio_engine *e, int err)
{
	if (err == ENOSPC || err == ENOMEM)
		accept_later(e, SIO_CALL_EPOLL_CTL, err);
	else
		stop_accepting(e, SIO_CALL_EPOLL_CTL, err);
}

static void resume_accepting(struct sio_engine *e)
{
	struct sio_gate *g = e->gate;
	uint32_t events = EPOLLIN | (g->setup.shared ? EPOLLEXCLUSIVE : 0);

	if (g->connector.waiting) {
		sio_timer_set(&e->timers, &g->pause, e->now + PAUSE_NS);
		return;
	}
	sio_timer_clear(&e->timers, &g->pause);
	g->paused = 0;
	for (int32_t i = 0; i < g->count; i++) {
		int err = g->listeners[i] < 0 ? 0 :
			  -sio_watch_engine(e, i + 1, g->listeners[i],
					    EPOLL_CTL_ADD, events);

		if (err) {
			cannot_watch(e, err);
			return;
		}
	}
}

/* ---- links ----------------------------------------------------------------------- */

/* Nothing in it names a descriptor. */
static void blank(struct accepted *a)
{
	memset(a, 0, sizeof(*a));
	for (int i = 0; i < 4; i++)
		a->link.fds[i] = -1;
	for (int i = 0; i < 3; i++)
		a->link.attempts[i] = -1;
}

static void recycle(struct sio_engine *e, struct sio_link *l)
{
	struct sio_gate *g = e->gate;

	free(l->peeked);
	sio_upstreams_drop(l->tried);
	l->peeked = NULL;
	l->tried = NULL;
	l->next_done = g->free_links;
	g->free_links = l;
	__atomic_fetch_sub(g->setup.open, 1, __ATOMIC_RELAXED);
	if (g->paused)
		resume_accepting(e);
	if (g->closed)
		sio_news_wake(g->setup.news); /* somebody waits for the last */
}

static const struct sio_conn_ops accepted_ops = {
	.on_event = sio_gate_event,
	.on_run = sio_link_run,
	.on_request = sio_gate_request,
	.on_end = sio_gate_end,
	.on_free = recycle,
};

/* More links that can be used; 0 or -ENOMEM. */
static int add_slab(struct sio_gate *g)
{
	struct sio_slab *slab = calloc(1, sizeof(*slab));

	if (!slab)
		return -ENOMEM;
	for (int i = 0; i < SLAB; i++) {
		blank(&slab->each[i]);
		slab->each[i].link.next_done = i ? &slab->each[i - 1].link :
						   g->free_links;
	}
	g->free_links = &slab->each[SLAB - 1].link;
	slab->next = g->slabs;
	g->slabs = slab;
	return 0;
}

static struct sio_link *new_link(struct sio_engine *e)
{
	struct sio_gate *g = e->gate;
	struct sio_link *l;
	struct accepted *a;

	if (!g->free_links && add_slab(g))
		return NULL;
	l = g->free_links;
	g->free_links = l->next_done;
	a = (struct accepted *)(void *)l;
	blank(a);
	l->relay.ab = &a->flows[0];
	l->relay.ba = &a->flows[1];
	l->relay.limit_left = -1;
	l->relay.closes = 1;
	l->accepted = 1;
	l->ops = &accepted_ops;
	l->timer.fire = sio_gate_timer;
	l->news = g->setup.news;
	l->engine = e;
	l->idle_ns = g->setup.idle_ns;
	l->begun_ns = e->now;
	l->upstream = l->index = -1;
	return l;
}

/* ---- accepting ------------------------------------------------------------------- */

static int is_trusted(const struct sio_gate_setup *setup,
		      const struct sio_peer *peer)
{
	for (int32_t i = 0; i < setup->trusted_count; i++) {
		const struct sio_network *net = &setup->trusted[i];
		int bytes = net->bits / 8, rest = net->bits % 8;

		if (net->bits < 0 || peer->family == AF_UNIX) {
			if (net->bits < 0 && peer->family == AF_UNIX)
				return 1;
			continue;
		}
		if (!memcmp(net->ip, peer->ip, (size_t)bytes) &&
		    (!rest || !((net->ip[bytes] ^ peer->ip[bytes]) >> (8 - rest))))
			return 1;
	}
	return 0;
}

static void begin(struct sio_engine *e, int fd,
		  const struct sockaddr_storage *from)
{
	struct sio_link *l = new_link(e);
	int err;

	if (!l || sio_seat(e, l)) {
		if (l) {
			l->next_done = e->gate->free_links;
			e->gate->free_links = l;
		}
		close(fd);
		__atomic_fetch_sub(e->gate->setup.open, 1, __ATOMIC_RELAXED);
		pause_accepting(e);
		return;
	}
	sio_count(&e->counts.total, 1);
	sio_count(&e->counts.active, 1);
	l->fds[A] = fd;
	sio_peer_of(from, &l->client);
	l->err = err = -sio_watch(e, l, A, fd);
	sio_gate_begin(e, l, is_trusted(&e->gate->setup, &l->client));
	if (err)
		cannot_watch(e, err);
}

/* May there be one connection more?  It is counted, then. */
static int admit(const struct sio_gate *g)
{
	int64_t open = __atomic_fetch_add(g->setup.open, 1, __ATOMIC_RELAXED);

	if (g->setup.most < 0 || open < g->setup.most)
		return 1;
	__atomic_fetch_sub(g->setup.open, 1, __ATOMIC_RELAXED);
	return 0;
}

/* Is the call itself refused, whoever asks?  Of no descriptor the kernel says
 * EBADF, and a sandbox what it always says. */
static int is_refused(struct sio_engine *e)
{
	struct sockaddr_storage from;

	return sio_accept(e->seam, -1, &from) != -EBADF;
}

/* There was no connection in the answer: 1 to ask on. */
static int heed_failure(struct sio_engine *e, int number, int err)
{
	struct sio_gate *g = e->gate;
	int suspect = ++g->failures >= SUSPECT;

	if ((suspect || err == EINVAL) && is_refused(e)) {
		stop_accepting(e, SIO_CALL_ACCEPT, err);
		return 0;
	}
	switch (err) {
	case EAGAIN:
		g->early[number] = 0;
		if (suspect) /* others are faster, each time */
			g->failures = 0;
		return 0;
	case EINVAL:
	case EBADF:
	case ENOTSOCK:
		retire(e, number); /* its owner has shut it down */
		return 0;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		/* The listener stays readable, and to ask again at once would
		 * be to spin. */
		sio_pool_trim(&e->pool);
		sio_count(&e->counts.full, 1);
		sio_news_wake(g->setup.news);
		pause_accepting(e);
		return 0;
	default:
		/* That one has gone: ECONNABORTED, EPROTO, EPERM of a firewall,
		 * and what the network says of it.  The next may be there. */
		if (!suspect)
			return 1;
		accept_later(e, SIO_CALL_ACCEPT, err);
		return 0;
	}
}

static void accept_all(struct sio_engine *e, int number)
{
	struct sio_gate *g = e->gate;

	for (int i = 0; i < ACCEPTS && !g->paused && number < g->count &&
			g->listeners[number] >= 0; i++) {
		struct sockaddr_storage from = { .ss_family = AF_UNIX };
		int64_t fd;

		if (!admit(g)) {
			hold(e);
			/* The one that ends may be another engine's. */
			if (g->setup.shared)
				pause_accepting(e);
			return;
		}
		fd = sio_accept(e->seam, g->listeners[number], &from);
		if (fd >= 0) {
			g->failures = 0;
			if (g->early[number] && from.ss_family != AF_UNIX)
				sio_tune((int)fd, g->setup.keepalive);
			begin(e, (int)fd, &from);
			continue;
		}
		__atomic_fetch_sub(g->setup.open, 1, __ATOMIC_RELAXED);
		if (!heed_failure(e, number, (int)-fd))
			return;
	}
}

static void heed_requests(struct sio_engine *e)
{
	struct sio_gate *g = e->gate;
	struct sio_upstreams *ups;
	int close_asked;

	pthread_mutex_lock(&e->lock);
	ups = g->next_ups;
	g->next_ups = NULL;
	close_asked = g->close_asked;
	pthread_mutex_unlock(&e->lock);
	if (ups) {
		sio_upstreams_inherit(ups, g->connector.ups);
		sio_upstreams_drop(g->connector.ups);
		g->connector.ups = ups;
		if (g->paused)
			resume_accepting(e);
	}
	if (close_asked && !g->closed) {
		close_listeners(e);
		g->closed = 1;
		sio_news_wake(g->setup.news);
	}
}

/* ---- from outside -------------------------------------------------------------------- */

static void close_all(struct sio_engine *e, struct accepted *a)
{
	sio_close_side(e, &a->link, A, 0);
	sio_close_side(e, &a->link, B, 0);
	sio_connect_end(e, &a->link);
	for (int d = 0; d < 2; d++)
		sio_transfer_abandon(&a->flows[d]);
}

static void free_gate(struct sio_engine *e)
{
	struct sio_gate *g = e->gate;

	close_listeners(e);
	while (g->slabs) {
		struct sio_slab *slab = g->slabs;

		g->slabs = slab->next;
		for (int i = 0; i < SLAB; i++) {
			free(slab->each[i].link.peeked);
			sio_upstreams_drop(slab->each[i].link.answer);
			sio_upstreams_drop(slab->each[i].link.tried);
		}
		free(slab);
	}
	sio_upstreams_drop(g->next_ups);
	sio_upstreams_drop(g->connector.ups);
	free(g->listeners);
	free(g->early);
	free(g->peek_buf);
	free(g);
}

static void abandon(struct sio_engine *e)
{
	struct sio_gate *g = e->gate;

	for (int32_t i = 0; i < g->count; i++)
		if (g->listeners[i] >= 0)
			close(g->listeners[i]);
	for (struct sio_slab *slab = g->slabs; slab; slab = slab->next)
		for (int i = 0; i < SLAB; i++)
			close_all(e, &slab->each[i]);
}

static const struct sio_server_ops server_ops = {
	.on_listener = accept_all,
	.on_wake = heed_requests,
	.on_free = free_gate,
	.on_abandon = abandon,
};

static void pause_over(struct sio_engine *e, struct sio_timer *timer)
{
	(void)timer;
	resume_accepting(e);
}

int sio_engine_serve(struct sio_engine *e, const struct sio_gate_setup *setup,
		     const int32_t *listeners, int32_t count)
{
	struct sio_gate *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	e->gate = g;
	e->server = &server_ops;
	e->connector = &g->connector;
	e->news = setup->news;
	g->setup = *setup;
	g->pause.fire = pause_over;
	g->connector.connected = sio_gate_connected;
	g->connector.failed = sio_gate_end;
	g->connector.shortage = pause_accepting;
	g->connector.connect_ns = setup->connect_ns;
	g->connector.keepalive = setup->keepalive;
	g->listeners = calloc((size_t)count, sizeof(*g->listeners));
	g->early = calloc((size_t)count, sizeof(*g->early));
	g->peek_buf = malloc(SIO_PEEK);
	if (!g->listeners || !g->early || !g->peek_buf)
		return -ENOMEM;
	for (; g->count < count; g->count++) {
		int fd = fcntl(listeners[g->count], F_DUPFD_CLOEXEC, 3);

		if (fd < 0)
			return -errno;
		g->listeners[g->count] = fd;
		sio_tune(fd, g->setup.keepalive);
		g->early[g->count] = 1;
	}
	g->paused = 1;
	if (g->setup.route)
		resume_accepting(e);
	return 0;
}

int sio_engine_upstreams(struct sio_engine *e, struct sio_upstreams *ups)
{
	struct sio_upstreams *unused;

	if (e->pid != getpid())
		return -ECHILD;
	if (!e->gate) {
		sio_upstreams_drop(ups);
		return -EINVAL;
	}
	pthread_mutex_lock(&e->lock);
	unused = e->gate->next_ups;
	e->gate->next_ups = ups;
	pthread_mutex_unlock(&e->lock);
	sio_upstreams_drop(unused);
	sio_engine_wake(e);
	return 0;
}

void sio_engine_close_gate(struct sio_engine *e)
{
	if (e->pid != getpid() || !e->gate)
		return;
	pthread_mutex_lock(&e->lock);
	e->gate->close_asked = 1;
	pthread_mutex_unlock(&e->lock);
	sio_engine_wake(e);
}

void sio_link_route(struct sio_link *link, struct sio_upstreams *ups,
		    int32_t more)
{
	struct sio_engine *e = link->engine;

	if (e->pid == getpid()) {
		pthread_mutex_lock(&e->lock);
		link->answer = ups;
		pthread_mutex_unlock(&e->lock);
	}
	(void)sio_ask(e, link, SIO_ASK_ROUTE | (more ? SIO_ASK_MORE : 0));
}

void sio_link_release(struct sio_link *link)
{
	(void)sio_ask(link->engine, link, SIO_ASK_RELEASE);
}

