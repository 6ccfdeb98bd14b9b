/*
 * listener.c: listeners, the connections of who comes, and what Python asks of both.
 *
 * Rule 1: a connection that cannot be served now stays in the backlog: accept
 *         is not asked while descriptors are used up or enough are open.
 * Rule 2: connections are used again, their memory is never given back while the
 *         engine lives.
 * Rule 3: no error makes it ask on and on: what is refused for good is told, and
 *         ends the listening; anything else that lasts is asked in pauses.
 * Rule 4: the listeners are duplicates: closing them here leaves the caller's.
 */
#define _GNU_SOURCE
#include "proxy/types.h"
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

struct sio_slab {
	struct sio_slab *next;
	struct sio_proxy_conn each[SLAB];
};

/* ---- whether connections are accepted ---------------------------------------------- */

/* Another duplicate, left open, would keep it in the epoll. */
static void retire(struct sio_engine *e, int number)
{
	int fd = sio_proxy_of(e)->listeners[number];

	sio_unwatch(e, fd);
	sio_proxy_of(e)->listeners[number] = -1;
	if (fd >= 0)
		close(fd);
}

static void close_listeners(struct sio_engine *e)
{
	struct sio_proxy *p = sio_proxy_of(e);

	for (int32_t i = 0; i < p->count; i++)
		retire(e, i);
	p->count = 0;
}

/* Accept nothing until a connection ends here, or the pause's timer, if it is set. */
static void hold(struct sio_engine *e)
{
	struct sio_proxy *p = sio_proxy_of(e);

	if (p->paused)
		return;
	p->paused = 1;
	for (int32_t i = 0; i < p->count; i++)
		sio_unwatch(e, p->listeners[i]);
}

static void pause_accepting(struct sio_engine *e)
{
	sio_timer_set(&e->timers, &sio_proxy_of(e)->pause, e->now + PAUSE_NS);
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
	struct sio_proxy *p = sio_proxy_of(e);
	uint32_t events = EPOLLIN | (p->config.shared ? EPOLLEXCLUSIVE : 0);

	if (p->connector.waiting) {
		sio_timer_set(&e->timers, &p->pause, e->now + PAUSE_NS);
		return;
	}
	sio_timer_clear(&e->timers, &p->pause);
	p->paused = 0;
	for (int32_t i = 0; i < p->count; i++) {
		int err = p->listeners[i] < 0 ? 0 :
			  -sio_watch_engine(e, i + 1, p->listeners[i],
					    EPOLL_CTL_ADD, events);

		if (err) {
			cannot_watch(e, err);
			return;
		}
	}
}

/* ---- connections ----------------------------------------------------------------- */

/* Nothing in it names a descriptor. */
static void blank(struct sio_proxy_conn *c)
{
	memset(c, 0, sizeof(*c));
	for (int i = 0; i < 4; i++)
		c->base.fds[i] = -1;
	for (int i = 0; i < 3; i++)
		c->attempts[i] = -1;
}

static void recycle(struct sio_engine *e, struct sio_conn *conn)
{
	struct sio_proxy_conn *c = sio_proxy_conn_of(conn);
	struct sio_proxy *p = sio_proxy_of(e);

	free(c->peeked);
	sio_upstreams_drop(c->tried);
	c->peeked = NULL;
	c->tried = NULL;
	conn->next_done = p->unused;
	p->unused = conn;
	__atomic_fetch_sub(p->config.open, 1, __ATOMIC_RELAXED);
	if (p->paused)
		resume_accepting(e);
	if (p->closed)
		sio_completions_wake(p->config.completions); /* somebody waits for the last */
}

static void on_end(struct sio_engine *e, struct sio_conn *conn)
{
	sio_proxy_conn_end(e, sio_proxy_conn_of(conn));
}

static const struct sio_conn_ops accepted_ops = {
	.on_event = sio_proxy_conn_event,
	.on_run = sio_relay_conn_run,
	.on_request = sio_proxy_conn_request,
	.on_end = on_end,
	.on_free = recycle,
};

/* More connections that can be used; 0 or -ENOMEM. */
static int add_slab(struct sio_proxy *p)
{
	struct sio_slab *slab = calloc(1, sizeof(*slab));

	if (!slab)
		return -ENOMEM;
	for (int i = 0; i < SLAB; i++) {
		struct sio_conn *conn = &slab->each[i].base.conn;

		blank(&slab->each[i]);
		conn->next_done = p->unused;
		p->unused = conn;
	}
	slab->next = p->slabs;
	p->slabs = slab;
	return 0;
}

static struct sio_proxy_conn *new_conn(struct sio_engine *e)
{
	struct sio_proxy *p = sio_proxy_of(e);
	struct sio_proxy_conn *c;
	struct sio_conn *conn;

	if (!p->unused && add_slab(p))
		return NULL;
	conn = p->unused;
	p->unused = conn->next_done;
	c = sio_proxy_conn_of(conn);
	blank(c);
	sio_relay_init(&c->base.relay, &(struct sio_relay_config){
		.ab = &c->flows[0],
		.ba = &c->flows[1],
		.limit = -1,
	});
	c->base.relay.closes = 1;
	c->base.idle_ns = p->config.idle_ns;
	conn->accepted = 1;
	conn->ops = &accepted_ops;
	conn->timer.fire = sio_proxy_conn_timer;
	conn->completions = p->config.completions;
	conn->engine = e;
	conn->begun_ns = e->now;
	c->upstream = conn->index = -1;
	return c;
}

/* ---- accepting ------------------------------------------------------------------- */

static int is_trusted(const struct sio_proxy_config *config,
		      const struct sio_peer *peer)
{
	for (int32_t i = 0; i < config->trusted_count; i++) {
		const struct sio_network *net = &config->trusted[i];
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
	struct sio_proxy_conn *c = new_conn(e);
	int err;

	if (!c || sio_slot_take(e, &c->base.conn)) {
		if (c) {
			c->base.conn.next_done = sio_proxy_of(e)->unused;
			sio_proxy_of(e)->unused = &c->base.conn;
		}
		close(fd);
		__atomic_fetch_sub(sio_proxy_of(e)->config.open, 1, __ATOMIC_RELAXED);
		pause_accepting(e);
		return;
	}
	sio_count(&e->counts.total, 1);
	sio_count(&e->counts.active, 1);
	c->base.fds[A] = fd;
	sio_peer_of(from, &c->client);
	c->base.err = err = -sio_watch(e, &c->base.conn, A, fd);
	sio_proxy_conn_begin(e, c, is_trusted(&sio_proxy_of(e)->config, &c->client));
	if (err)
		cannot_watch(e, err);
}

/* May there be one connection more?  It is counted, then. */
static int admit(const struct sio_proxy *p)
{
	int64_t open = __atomic_fetch_add(p->config.open, 1, __ATOMIC_RELAXED);

	if (p->config.most < 0 || open < p->config.most)
		return 1;
	__atomic_fetch_sub(p->config.open, 1, __ATOMIC_RELAXED);
	return 0;
}

/* Is the call itself refused, whoever asks?  Of no descriptor the kernel says
 * EBADF, and a sandbox what it always says. */
static int is_refused(struct sio_engine *e)
{
	struct sockaddr_storage from;

	return sio_accept(e->faults, -1, &from) != -EBADF;
}

/* There was no connection in the answer: 1 to ask on. */
static int handle_failure(struct sio_engine *e, int number, int err)
{
	struct sio_proxy *p = sio_proxy_of(e);
	int suspect = ++p->failures >= SUSPECT;

	if ((suspect || err == EINVAL) && is_refused(e)) {
		stop_accepting(e, SIO_CALL_ACCEPT, err);
		return 0;
	}
	switch (err) {
	case EAGAIN:
		p->early[number] = 0;
		if (suspect) /* others are faster, each time */
			p->failures = 0;
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
		sio_completions_wake(p->config.completions);
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
	struct sio_proxy *p = sio_proxy_of(e);

	for (int i = 0; i < ACCEPTS && !p->paused && number < p->count &&
			p->listeners[number] >= 0; i++) {
		struct sockaddr_storage from = { .ss_family = AF_UNIX };
		int64_t fd;

		if (!admit(p)) {
			hold(e);
			/* The one that ends may be another engine's. */
			if (p->config.shared)
				pause_accepting(e);
			return;
		}
		fd = sio_accept(e->faults, p->listeners[number], &from);
		if (fd >= 0) {
			p->failures = 0;
			if (p->early[number] && from.ss_family != AF_UNIX)
				sio_tune((int)fd, p->config.keepalive);
			begin(e, (int)fd, &from);
			continue;
		}
		__atomic_fetch_sub(p->config.open, 1, __ATOMIC_RELAXED);
		if (!handle_failure(e, number, (int)-fd))
			return;
	}
}

static void handle_requests(struct sio_engine *e)
{
	struct sio_proxy *p = sio_proxy_of(e);
	struct sio_upstreams *ups;
	int close_requested;

	pthread_mutex_lock(&e->lock);
	ups = p->next_ups;
	p->next_ups = NULL;
	close_requested = p->close_requested;
	pthread_mutex_unlock(&e->lock);
	if (ups) {
		sio_upstreams_inherit(ups, p->connector.ups);
		sio_upstreams_drop(p->connector.ups);
		p->connector.ups = ups;
		if (p->paused)
			resume_accepting(e);
	}
	if (close_requested && !p->closed) {
		close_listeners(e);
		p->closed = 1;
		sio_completions_wake(p->config.completions);
	}
}

/* ---- from outside -------------------------------------------------------------------- */

static void close_all(struct sio_engine *e, struct sio_proxy_conn *c)
{
	sio_close_side(e, c, A, 0);
	sio_close_side(e, c, B, 0);
	sio_connect_end(e, c);
	for (int d = 0; d < 2; d++)
		sio_transfer_abandon(&c->flows[d]);
}

static void free_proxy(struct sio_engine *e)
{
	struct sio_proxy *p = sio_proxy_of(e);

	close_listeners(e);
	while (p->slabs) {
		struct sio_slab *slab = p->slabs;

		p->slabs = slab->next;
		for (int i = 0; i < SLAB; i++) {
			free(slab->each[i].peeked);
			sio_upstreams_drop(slab->each[i].answer);
			sio_upstreams_drop(slab->each[i].tried);
		}
		free(slab);
	}
	sio_upstreams_drop(p->next_ups);
	sio_upstreams_drop(p->connector.ups);
	free(p->listeners);
	free(p->early);
	free(p->peek_buf);
	free(p);
}

static void abandon(struct sio_engine *e)
{
	struct sio_proxy *p = sio_proxy_of(e);

	for (int32_t i = 0; i < p->count; i++)
		if (p->listeners[i] >= 0)
			close(p->listeners[i]);
	for (struct sio_slab *slab = p->slabs; slab; slab = slab->next)
		for (int i = 0; i < SLAB; i++)
			close_all(e, &slab->each[i]);
}

static const struct sio_server_ops server_ops = {
	.on_listener = accept_all,
	.on_wake = handle_requests,
	.on_free = free_proxy,
	.on_abandon = abandon,
};

static void pause_over(struct sio_engine *e, struct sio_timer *timer)
{
	(void)timer;
	resume_accepting(e);
}

int sio_engine_serve(struct sio_engine *e, const struct sio_proxy_config *config,
		     const int32_t *listeners, int32_t count)
{
	struct sio_proxy *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->connector.server.ops = &server_ops;
	e->server = (void *)p;
	e->completions = config->completions;
	p->config = *config;
	p->pause.fire = pause_over;
	p->connector.connected = sio_proxy_conn_connected;
	p->connector.failed = sio_proxy_conn_end;
	p->connector.shortage = pause_accepting;
	p->connector.connect_ns = config->connect_ns;
	p->connector.keepalive = config->keepalive;
	p->listeners = calloc((size_t)count, sizeof(*p->listeners));
	p->early = calloc((size_t)count, sizeof(*p->early));
	p->peek_buf = malloc(SIO_PEEK);
	if (!p->listeners || !p->early || !p->peek_buf)
		return -ENOMEM;
	for (; p->count < count; p->count++) {
		int fd = fcntl(listeners[p->count], F_DUPFD_CLOEXEC, 3);

		if (fd < 0)
			return -errno;
		p->listeners[p->count] = fd;
		sio_tune(fd, p->config.keepalive);
		p->early[p->count] = 1;
	}
	p->paused = 1;
	if (p->config.route)
		resume_accepting(e);
	return 0;
}

int sio_engine_upstreams(struct sio_engine *e, struct sio_upstreams *ups)
{
	struct sio_upstreams *unused;

	if (e->pid != getpid())
		return -ECHILD;
	if (!sio_proxy_of(e)) {
		sio_upstreams_drop(ups);
		return -EINVAL;
	}
	pthread_mutex_lock(&e->lock);
	unused = sio_proxy_of(e)->next_ups;
	sio_proxy_of(e)->next_ups = ups;
	pthread_mutex_unlock(&e->lock);
	sio_upstreams_drop(unused);
	sio_engine_wake(e);
	return 0;
}

void sio_engine_close_listeners(struct sio_engine *e)
{
	if (e->pid != getpid() || !sio_proxy_of(e))
		return;
	pthread_mutex_lock(&e->lock);
	sio_proxy_of(e)->close_requested = 1;
	pthread_mutex_unlock(&e->lock);
	sio_engine_wake(e);
}

void sio_proxy_report(const struct sio_conn *conn,
		      struct sio_proxy_report *report)
{
	const struct sio_proxy_conn *c = (const void *)conn;

	report->client = c->client;
	report->upstream = c->upstream;
	report->event_upstream = c->event_upstream;
	report->event_err = c->event_err;
	report->err = c->base.err;
	report->reason = c->base.relay.reason;
	report->tries = c->tries;
	report->is_connected = c->base.connected_ns != 0;
	report->peeked_len = c->peeked_len;
	report->peeked = c->peeked;
	report->a_to_b = sio_counted(&c->flows[0].moved);
	report->b_to_a = sio_counted(&c->flows[1].moved);
	report->ns = conn->ended_ns - conn->begun_ns;
}

void sio_proxy_route(struct sio_conn *conn, struct sio_upstreams *ups,
		     int32_t more)
{
	struct sio_engine *e = conn->engine;

	if (e->pid == getpid()) {
		pthread_mutex_lock(&e->lock);
		sio_proxy_conn_of(conn)->answer = ups;
		pthread_mutex_unlock(&e->lock);
	}
	(void)sio_request(e, conn, SIO_REQUEST_RELEASE | SIO_REQUEST_ROUTE |
			       (more ? SIO_REQUEST_MORE : 0));
}

void sio_proxy_release(struct sio_conn *conn)
{
	(void)sio_request(conn->engine, conn, SIO_REQUEST_RELEASE);
}
