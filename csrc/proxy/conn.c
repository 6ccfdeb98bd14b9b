/*
 * conn.c: an accepted connection before its relay begins, and how it ends.
 *
 * Rule 1: before the relay, bytes of the client are only peeked at; all but a
 *         PROXY protocol header are still there for the upstream.
 * Rule 2: an end is passed on as what it was: end of file as end of file, a
 *         reset as a reset, and that only once what came before has arrived.
 *         What is aborted, or idle for too long, is reset: it has not ended.
 * Rule 3: what is too much to tell is counted instead.
 */
#define _GNU_SOURCE
#include "proxy/conn.h"
#include "base/syscalls.h"
#include "loop/completions.h"
#include "loop/loop.h"
#include "loop/pipe_pool.h"
#include "loop/slots.h"
#include "loop/timers.h"
#include "proxy/connector.h"
#include "proxy/proxy_header.h"
#include "relay/conn.h"
#include "transfer/state.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* So many that have ended may wait for Python to hear of it. */
#define MOST_POSTED 4096
/* What has been sent and not acknowledged is looked at after so long, then after
 * twice as long again, and so on: no event tells of it. */
#define LINGER_STEP_NS 1000000
/* No packet on a unix socket is as small: less is none, being let go of. */
#define LEAST_UNSENT 64

enum { A = SIO_SLOT_A, B = SIO_SLOT_B };

/* ---- the end ---------------------------------------------------------------------- */

void sio_close_side(struct sio_engine *e, struct sio_proxy_conn *c, int side,
		    int reset)
{
	const struct linger now = { .l_onoff = 1, .l_linger = 0 };
	int fd = c->base.fds[side];

	c->base.fds[side] = -1;
	if (fd < 0)
		return;
	sio_unwatch(e, fd);
	if (reset)
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static int is_unix(const struct sio_proxy_conn *c, int side)
{
	return (side == A ? c->base.relay.ab : c->base.relay.ba)->src.kind ==
	       SIO_KIND_SOCKET;
}

static void over(struct sio_engine *e, struct sio_proxy_conn *c)
{
	for (int d = 0; d < 2; d++) {
		struct sio_transfer *t = d ? c->base.relay.ba : c->base.relay.ab;

		sio_transfer_leave_pool(t);
		sio_transfer_close(t);
	}
	c->base.conn.ended_ns = sio_engine_now(e); /* Python may read it at once */
	if (sio_proxy_of(e)->config.tell || c->base.err || c->base.failed) {
		if (sio_completions_count(c->base.conn.completions) < MOST_POSTED)
			sio_conn_post(&c->base.conn, SIO_EVENT_OVER);
		else
			sio_count(&e->counts.untold, 1);
	}
	sio_relay_conn_over(e, &c->base);
}

/* ---- while what was sent before a reset arrives -------------------------------------- */

static int lingering_side(const struct sio_proxy_conn *c)
{
	return c->base.fds[A] >= 0 ? A : B;
}

static int has_arrived(struct sio_engine *e, const struct sio_proxy_conn *c)
{
	int side = lingering_side(c), fd = c->base.fds[side], err = 0;
	socklen_t size = sizeof(err);

	return fd < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0 ||
	       err || sio_unsent(e->faults, fd) <
			      (is_unix(c, side) ? LEAST_UNSENT : 1);
}

static void linger_on(struct sio_engine *e, struct sio_proxy_conn *c)
{
	if (e->now >= c->base.deadline || has_arrived(e, c)) {
		sio_close_side(e, c, lingering_side(c), 1);
		over(e, c);
		return;
	}
	sio_timer_set(&e->timers, &c->base.conn.timer,
		      c->step_ns && c->step_ns < c->base.deadline - e->now ?
		      e->now + c->step_ns : c->base.deadline);
}

/* A unix socket tells each packet that is read, and TCP, when asked so, that the
 * last byte has been sent; what comes in does not wake us. */
static void begin_linger(struct sio_engine *e, struct sio_proxy_conn *c)
{
	int side = lingering_side(c), fd = c->base.fds[side];

	c->base.phase = SIO_CONN_LINGER;
	c->step_ns = 0;
	if (!c->base.deadline)
		c->base.deadline = e->now + SIO_ARRIVE_NS;
	if (fd >= 0) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){ 1 },
				 sizeof(int));
		sio_watch_again(e, &c->base.conn, sio_tag_of_side(&c->base, side), fd, 0);
	}
	linger_on(e, c);
}

static void linger_event(struct sio_engine *e, struct sio_proxy_conn *c, int slot,
			 uint32_t events)
{
	if (slot != lingering_side(c))
		return;
	if (events & EPOLLOUT && !c->step_ns && !is_unix(c, slot))
		c->step_ns = LINGER_STEP_NS;
	linger_on(e, c);
}

void sio_proxy_conn_end(struct sio_engine *e, struct sio_proxy_conn *c)
{
	int reason = c->base.relay.reason;
	int aborted = reason == SIO_REASON_CANCELLED || reason == SIO_REASON_IDLE ||
		  c->base.failed || c->base.phase == SIO_CONN_LINGER;

	sio_connect_end(e, c);
	sio_timer_clear(&e->timers, &c->base.conn.timer);
	if (!aborted && c->base.phase == SIO_CONN_RELAY &&
	    (reason == SIO_REASON_RESET_A || reason == SIO_REASON_RESET_B)) {
		sio_close_side(e, c, reason == SIO_REASON_RESET_A ? A : B, 0);
		begin_linger(e, c);
		return;
	}
	sio_close_side(e, c, A, aborted);
	sio_close_side(e, c, B, aborted);
	over(e, c);
}

/* ---- from accept to the relay ------------------------------------------------------ */

static void set_flow(struct sio_engine *e, struct sio_proxy_conn *c, int d, int to_unix)
{
	struct sio_transfer *t = d ? c->base.relay.ba : c->base.relay.ab;
	int src = d ? B : A, dst = d ? A : B;
	int kinds[2] = {
		c->client.family == AF_UNIX ? SIO_KIND_SOCKET : SIO_KIND_TCP,
		to_unix ? SIO_KIND_SOCKET : SIO_KIND_TCP,
	};

	sio_transfer_init(t, &(struct sio_transfer_config){
		.faults = e->faults,
		.pid = e->pid,
		.src_kind = kinds[d],
		.dst_kind = kinds[!d],
		.nonblock = 1,
		.methods = { sio_proxy_of(e)->config.method, SIO_READ_WRITE },
		.method_count = sio_proxy_of(e)->config.method == SIO_READ_WRITE ? 1 : 2,
		.adaptive = 1,
		.small = 1,
		.left = -1,
		.src_offset = SIO_NO_OFFSET,
		.dst_offset = SIO_NO_OFFSET,
	});
	sio_transfer_use(t, c->base.fds[src], c->base.fds[dst]);
	t->src.special = (c->base.seen[src] & SIO_SPECIAL) != 0;
}

void sio_peer_of(const struct sockaddr_storage *from, struct sio_peer *peer)
{
	memset(peer, 0, sizeof(*peer));
	peer->family = (int16_t)from->ss_family;
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)from;

		peer->ip[10] = peer->ip[11] = 0xff;
		memcpy(peer->ip + 12, &v4->sin_addr, 4);
		peer->port = ntohs(v4->sin_port);
	} else if (from->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const void *)from;

		memcpy(peer->ip, &v6->sin6_addr, 16);
		peer->port = ntohs(v6->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
			peer->family = AF_INET;
	}
}

/* The upstream learns who the client is before it hears anything of it. */
static int send_header(struct sio_engine *e, struct sio_proxy_conn *c)
{
	unsigned char head[128];
	struct sockaddr_storage own;
	socklen_t size = sizeof(own);
	int len;

	if (!c->server.family && !getsockname(c->base.fds[A], (void *)&own, &size))
		sio_peer_of(&own, &c->server);
	len = sio_proxy_write(sio_proxy_of(e)->config.proxy_protocol, &c->client,
			      &c->server, head);
	/* Into an empty socket it goes whole. */
	return sio_send(e->faults, c->base.fds[B], head, len, 0) == len;
}

void sio_proxy_conn_connected(struct sio_engine *e, struct sio_proxy_conn *c, int to_unix)
{
	c->base.phase = SIO_CONN_RELAY;
	c->base.deadline = 0;
	if (sio_proxy_of(e)->config.proxy_protocol && !c->base.relay.reason &&
	    !send_header(e, c)) {
		c->base.err = ECONNRESET;
		c->base.relay.reason = SIO_REASON_RESET_B;
		sio_proxy_conn_end(e, c);
		return;
	}
	set_flow(e, c, 0, to_unix);
	set_flow(e, c, 1, to_unix);
	sio_start_relay(e, &c->base);
}

static void ask(struct sio_engine *e, struct sio_proxy_conn *c, int64_t len)
{
	free(c->peeked);
	c->peeked = NULL;
	c->peeked_len = 0;
	if (len > 0) {
		c->peeked = malloc((size_t)len);
		if (!c->peeked) {
			c->base.err = ENOMEM;
			sio_proxy_conn_end(e, c);
			return;
		}
		memcpy(c->peeked, sio_proxy_of(e)->peek_buf, (size_t)len);
		c->peeked_len = (int32_t)len;
	}
	c->base.phase = SIO_CONN_ASKED;
	sio_timer_clear(&e->timers, &c->base.conn.timer);
	sio_conn_post(&c->base.conn, SIO_EVENT_ROUTE);
}

static void peek(struct sio_engine *e, struct sio_proxy_conn *c)
{
	int64_t n = sio_peek(e->faults, c->base.fds[A], sio_proxy_of(e)->peek_buf, SIO_PEEK);

	if (n < 0 && n != -EAGAIN && n != -EINTR) {
		c->base.err = (int)-n;
		sio_proxy_conn_end(e, c);
		return;
	}
	if (n == SIO_PEEK || n == 0 || c->base.seen[A] & (EPOLLRDHUP | EPOLLPRI) ||
	    e->now >= c->base.deadline)
		c->last_peek = 1;
	/* Only what it has not seen yet is worth a question. */
	if (c->last_peek || n > c->peeked_len)
		ask(e, c, n);
	else
		sio_timer_set(&e->timers, &c->base.conn.timer, c->base.deadline);
}

/* Who it is is known: now, where to? */
static void greet(struct sio_engine *e, struct sio_proxy_conn *c)
{
	c->base.deadline = e->now + sio_proxy_of(e)->config.peek_ns;
	if (sio_proxy_of(e)->config.route) {
		c->base.phase = SIO_CONN_PEEK;
		peek(e, c);
	} else {
		sio_connect(e, c);
	}
}

static void read_header(struct sio_engine *e, struct sio_proxy_conn *c)
{
	unsigned char *buf = sio_proxy_of(e)->peek_buf;
	int64_t n = sio_peek(e->faults, c->base.fds[A], buf, SIO_PEEK);
	int r = 0;

	if (n > 0)
		r = sio_proxy_read(buf, (int32_t)n, &c->client, &c->server);
	if (n == 0 || n == SIO_PEEK || e->now >= c->base.deadline ||
	    c->base.seen[A] & EPOLLRDHUP)
		r = r ? r : -EPROTO; /* it will not get any longer */
	if (n < 0 && n != -EAGAIN && n != -EINTR)
		r = (int)n;
	/* It is all there, so it is read whole. */
	if (r > 0 && sio_recv(e->faults, c->base.fds[A], buf, r) != r)
		r = -EPROTO;
	if (r < 0) {
		c->base.err = -r;
		sio_proxy_conn_end(e, c);
	} else if (r > 0) {
		greet(e, c);
	} else {
		sio_timer_set(&e->timers, &c->base.conn.timer, c->base.deadline);
	}
}

void sio_proxy_conn_begin(struct sio_engine *e, struct sio_proxy_conn *c, int trusted)
{
	c->base.deadline = e->now + sio_proxy_of(e)->config.peek_ns;
	if (c->base.err) {
		sio_proxy_conn_end(e, c);
	} else if (trusted) {
		c->base.phase = SIO_CONN_HEADER;
		read_header(e, c);
	} else {
		greet(e, c);
	}
}

void sio_proxy_conn_event(struct sio_engine *e, struct sio_conn *conn, int slot,
			  uint32_t events)
{
	struct sio_proxy_conn *c = sio_proxy_conn_of(conn);

	if (slot >= SIO_SLOT_ATTEMPT && c->base.phase != SIO_CONN_CONNECT) {
		if (slot != c->base.tag_b)
			return;
		slot = B;
	}
	if (c->base.phase == SIO_CONN_RELAY) {
		sio_relay_conn_event(e, &c->base, slot, events);
		return;
	}
	if (slot < SIO_SLOT_ATTEMPT)
		c->base.seen[slot] |= (int)(events & SIO_SPECIAL);
	if (c->base.phase == SIO_CONN_CONNECT && slot >= SIO_SLOT_ATTEMPT) {
		sio_connect_event(e, c, slot, events);
	} else if (c->base.phase == SIO_CONN_LINGER) {
		linger_event(e, c, slot, events);
	} else if (c->base.phase != SIO_CONN_OVER && slot == A &&
		   events & (c->client.family == AF_UNIX ? EPOLLERR :
			     EPOLLERR | EPOLLHUP)) {
		/* On a unix socket a hang-up may have bytes before it. */
		/* The client has gone before anything was done for it. */
		c->base.err = ECONNRESET;
		sio_proxy_conn_end(e, c);
	} else if (c->base.phase == SIO_CONN_HEADER) {
		read_header(e, c);
	} else if (c->base.phase == SIO_CONN_PEEK) {
		peek(e, c);
	}
}

void sio_proxy_conn_timer(struct sio_engine *e, struct sio_timer *timer)
{
	struct sio_proxy_conn *c = sio_proxy_conn_of(sio_conn_of(timer));

	if (c->base.phase == SIO_CONN_RELAY) {
		sio_relay_conn_timer(e, &c->base);
	} else if (c->base.phase == SIO_CONN_CONNECT) {
		sio_connect_timer(e, c);
	} else if (c->base.phase == SIO_CONN_PEEK) {
		peek(e, c);
	} else if (c->base.phase == SIO_CONN_HEADER) {
		read_header(e, c);
	} else if (c->base.phase == SIO_CONN_LINGER) {
		c->step_ns *= 2;
		linger_on(e, c);
	}
}

static void routed(struct sio_engine *e, struct sio_proxy_conn *c, int more)
{
	pthread_mutex_lock(&e->lock);
	if (c->answer)
		c->routed = c->answer;
	c->answer = NULL;
	pthread_mutex_unlock(&e->lock);
	if (c->base.phase != SIO_CONN_ASKED) {
		sio_connect_end(e, c);
	} else if (c->routed) {
		sio_connect(e, c);
	} else if (more && !c->last_peek) {
		c->base.phase = SIO_CONN_PEEK;
		peek(e, c);
	} else {
		c->base.err = more ? ENODATA : 0;
		sio_proxy_conn_end(e, c);
	}
}

void sio_proxy_conn_request(struct sio_engine *e, struct sio_conn *conn,
			    int32_t requests)
{
	struct sio_proxy_conn *c = sio_proxy_conn_of(conn);

	if (requests & (SIO_REQUEST_CANCEL | SIO_REQUEST_ABORT))
		sio_relay_conn_abort(e, &c->base, requests);
	if (requests & SIO_REQUEST_ROUTE)
		routed(e, c, requests & SIO_REQUEST_MORE);
}
