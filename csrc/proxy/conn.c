/*
 * conn.c: an accepted connection before its relay begins, and how it ends.
 *
 * Rule 1: before the relay, bytes of the client are only peeked at; all but a
 *         PROXY protocol header are still there for the upstream.
 * Rule 2: an end is passed on as what it was: end of file as end of file, a
 *         reset as a reset, and that only once what came before has arrived.
 *         What is cut, or idle for too long, is reset: it has not ended.
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
#define MOST_TOLD 4096
/* What has been sent and not acknowledged is looked at after so long, then after
 * twice as long again, and so on: no event tells of it. */
#define LINGER_STEP_NS 1000000
/* No packet on a unix socket is as small: less is none, being let go of. */
#define LEAST_UNSENT 64

enum { A = SIO_SLOT_A, B = SIO_SLOT_B };

/* ---- the end ---------------------------------------------------------------------- */

void sio_close_side(struct sio_engine *e, struct sio_link *l, int side,
		    int reset)
{
	const struct linger now = { .l_onoff = 1, .l_linger = 0 };
	int fd = l->fds[side];

	l->fds[side] = -1;
	if (fd < 0)
		return;
	sio_unwatch(e, fd);
	if (reset)
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static int is_unix(const struct sio_link *l, int side)
{
	return (side == A ? l->relay.ab : l->relay.ba)->src.kind ==
	       SIO_KIND_SOCKET;
}

static void over(struct sio_engine *e, struct sio_link *l)
{
	for (int d = 0; d < 2; d++) {
		struct sio_transfer *t = d ? l->relay.ba : l->relay.ab;

		sio_transfer_leave_pool(t);
		sio_transfer_close(t);
	}
	l->ended_ns = sio_engine_now(e); /* Python may read it at once */
	if (e->gate->setup.tell || l->err || l->failed) {
		if (sio_news_count(l->news) < MOST_TOLD)
			sio_tell(l, SIO_TOLD_OVER);
		else
			sio_count(&e->counts.untold, 1);
	}
	sio_link_over(e, l);
}

/* ---- while what was sent before a reset arrives -------------------------------------- */

static int lingering_side(const struct sio_link *l)
{
	return l->fds[A] >= 0 ? A : B;
}

static int has_arrived(struct sio_engine *e, const struct sio_link *l)
{
	int side = lingering_side(l), fd = l->fds[side], err = 0;
	socklen_t size = sizeof(err);

	return fd < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0 ||
	       err || sio_unsent(e->seam, fd) <
			      (is_unix(l, side) ? LEAST_UNSENT : 1);
}

static void linger_on(struct sio_engine *e, struct sio_link *l)
{
	if (e->now >= l->deadline || has_arrived(e, l)) {
		sio_close_side(e, l, lingering_side(l), 1);
		over(e, l);
		return;
	}
	sio_timer_set(&e->timers, &l->timer,
		      l->step_ns && l->step_ns < l->deadline - e->now ?
		      e->now + l->step_ns : l->deadline);
}

/* A unix socket tells each packet that is read, and TCP, when asked so, that the
 * last byte has been sent; what comes in does not wake us. */
static void begin_linger(struct sio_engine *e, struct sio_link *l)
{
	int side = lingering_side(l), fd = l->fds[side];

	l->phase = SIO_PHASE_LINGER;
	l->step_ns = 0;
	if (!l->deadline)
		l->deadline = e->now + SIO_ARRIVE_NS;
	if (fd >= 0) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){ 1 },
				 sizeof(int));
		sio_watch_again(e, l, sio_tag_of_side(l, side), fd, 0);
	}
	linger_on(e, l);
}

static void linger_event(struct sio_engine *e, struct sio_link *l, int slot,
			 uint32_t events)
{
	if (slot != lingering_side(l))
		return;
	if (events & EPOLLOUT && !l->step_ns && !is_unix(l, slot))
		l->step_ns = LINGER_STEP_NS;
	linger_on(e, l);
}

void sio_gate_end(struct sio_engine *e, struct sio_link *l)
{
	int reason = l->relay.reason;
	int cut = reason == SIO_REASON_CANCELLED || reason == SIO_REASON_IDLE ||
		  l->failed || l->phase == SIO_PHASE_LINGER;

	sio_connect_end(e, l);
	sio_timer_clear(&e->timers, &l->timer);
	if (!cut && l->phase == SIO_PHASE_RELAY &&
	    (reason == SIO_REASON_RESET_A || reason == SIO_REASON_RESET_B)) {
		sio_close_side(e, l, reason == SIO_REASON_RESET_A ? A : B, 0);
		begin_linger(e, l);
		return;
	}
	sio_close_side(e, l, A, cut);
	sio_close_side(e, l, B, cut);
	over(e, l);
}

/* ---- from accept to the relay ------------------------------------------------------ */

static void set_flow(struct sio_engine *e, struct sio_link *l, int d, int to_unix)
{
	struct sio_transfer *t = d ? l->relay.ba : l->relay.ab;
	int src = d ? B : A, dst = d ? A : B;
	int kinds[2] = {
		l->client.family == AF_UNIX ? SIO_KIND_SOCKET : SIO_KIND_TCP,
		to_unix ? SIO_KIND_SOCKET : SIO_KIND_TCP,
	};

	sio_transfer_init(t, &(struct sio_transfer_config){
		.seam = e->seam,
		.pid = e->pid,
		.src_kind = kinds[d],
		.dst_kind = kinds[!d],
		.nonblock = 1,
		.methods = { e->gate->setup.method, SIO_READ_WRITE },
		.method_count = e->gate->setup.method == SIO_READ_WRITE ? 1 : 2,
		.adaptive = 1,
		.small = 1,
		.left = -1,
		.src_offset = SIO_NO_OFFSET,
		.dst_offset = SIO_NO_OFFSET,
	});
	sio_transfer_use(t, l->fds[src], l->fds[dst]);
	t->src.special = (l->seen[src] & SIO_SPECIAL) != 0;
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
static int send_header(struct sio_engine *e, struct sio_link *l)
{
	unsigned char head[128];
	struct sockaddr_storage own;
	socklen_t size = sizeof(own);
	int len;

	if (!l->server.family && !getsockname(l->fds[A], (void *)&own, &size))
		sio_peer_of(&own, &l->server);
	len = sio_proxy_write(e->gate->setup.proxy_protocol, &l->client,
			      &l->server, head);
	/* Into an empty socket it goes whole. */
	return sio_send(e->seam, l->fds[B], head, len, 0) == len;
}

void sio_gate_connected(struct sio_engine *e, struct sio_link *l, int to_unix)
{
	l->phase = SIO_PHASE_RELAY;
	l->deadline = 0;
	if (e->gate->setup.proxy_protocol && !l->relay.reason &&
	    !send_header(e, l)) {
		l->err = ECONNRESET;
		l->relay.reason = SIO_REASON_RESET_B;
		sio_gate_end(e, l);
		return;
	}
	set_flow(e, l, 0, to_unix);
	set_flow(e, l, 1, to_unix);
	sio_start_relay(e, l);
}

static void ask(struct sio_engine *e, struct sio_link *l, int64_t len)
{
	free(l->peeked);
	l->peeked = NULL;
	l->peeked_len = 0;
	if (len > 0) {
		l->peeked = malloc((size_t)len);
		if (!l->peeked) {
			l->err = ENOMEM;
			sio_gate_end(e, l);
			return;
		}
		memcpy(l->peeked, e->gate->peek_buf, (size_t)len);
		l->peeked_len = (int32_t)len;
	}
	l->phase = SIO_PHASE_ASKED;
	sio_timer_clear(&e->timers, &l->timer);
	sio_tell(l, SIO_TOLD_ROUTE);
}

static void peek(struct sio_engine *e, struct sio_link *l)
{
	int64_t n = sio_peek(e->seam, l->fds[A], e->gate->peek_buf, SIO_PEEK);

	if (n < 0 && n != -EAGAIN && n != -EINTR) {
		l->err = (int)-n;
		sio_gate_end(e, l);
		return;
	}
	if (n == SIO_PEEK || n == 0 || l->seen[A] & (EPOLLRDHUP | EPOLLPRI) ||
	    e->now >= l->deadline)
		l->last_peek = 1;
	/* Only what it has not seen yet is worth a question. */
	if (l->last_peek || n > l->peeked_len)
		ask(e, l, n);
	else
		sio_timer_set(&e->timers, &l->timer, l->deadline);
}

/* Who it is is known: now, where to? */
static void greet(struct sio_engine *e, struct sio_link *l)
{
	l->deadline = e->now + e->gate->setup.peek_ns;
	if (e->gate->setup.route) {
		l->phase = SIO_PHASE_PEEK;
		peek(e, l);
	} else {
		sio_connect(e, l);
	}
}

static void read_header(struct sio_engine *e, struct sio_link *l)
{
	unsigned char *buf = e->gate->peek_buf;
	int64_t n = sio_peek(e->seam, l->fds[A], buf, SIO_PEEK);
	int r = 0;

	if (n > 0)
		r = sio_proxy_read(buf, (int32_t)n, &l->client, &l->server);
	if (n == 0 || n == SIO_PEEK || e->now >= l->deadline ||
	    l->seen[A] & EPOLLRDHUP)
		r = r ? r : -EPROTO; /* it will not get any longer */
	if (n < 0 && n != -EAGAIN && n != -EINTR)
		r = (int)n;
	/* It is all there, so it is read whole. */
	if (r > 0 && sio_recv(e->seam, l->fds[A], buf, r) != r)
		r = -EPROTO;
	if (r < 0) {
		l->err = -r;
		sio_gate_end(e, l);
	} else if (r > 0) {
		greet(e, l);
	} else {
		sio_timer_set(&e->timers, &l->timer, l->deadline);
	}
}

void sio_gate_begin(struct sio_engine *e, struct sio_link *l, int trusted)
{
	l->deadline = e->now + e->gate->setup.peek_ns;
	if (l->err) {
		sio_gate_end(e, l);
	} else if (trusted) {
		l->phase = SIO_PHASE_HEADER;
		read_header(e, l);
	} else {
		greet(e, l);
	}
}

void sio_gate_event(struct sio_engine *e, struct sio_link *l, int slot,
		    uint32_t events)
{
	if (slot >= SIO_SLOT_ATTEMPT && l->phase != SIO_PHASE_CONNECT) {
		if (slot != l->won)
			return;
		slot = B;
	}
	if (l->phase == SIO_PHASE_RELAY) {
		sio_link_event(e, l, slot, events);
		return;
	}
	if (slot < SIO_SLOT_ATTEMPT)
		l->seen[slot] |= (int)(events & SIO_SPECIAL);
	if (l->phase == SIO_PHASE_CONNECT && slot >= SIO_SLOT_ATTEMPT) {
		sio_connect_event(e, l, slot, events);
	} else if (l->phase == SIO_PHASE_LINGER) {
		linger_event(e, l, slot, events);
	} else if (l->phase != SIO_PHASE_OVER && slot == A &&
		   events & (l->client.family == AF_UNIX ? EPOLLERR :
			     EPOLLERR | EPOLLHUP)) {
		/* On a unix socket a hang-up may have bytes before it. */
		/* The client has gone before anything was done for it. */
		l->err = ECONNRESET;
		sio_gate_end(e, l);
	} else if (l->phase == SIO_PHASE_HEADER) {
		read_header(e, l);
	} else if (l->phase == SIO_PHASE_PEEK) {
		peek(e, l);
	}
}

void sio_gate_timer(struct sio_engine *e, struct sio_timer *timer)
{
	struct sio_link *l = sio_link_of(timer);

	if (l->phase == SIO_PHASE_RELAY) {
		sio_link_timer(e, l);
	} else if (l->phase == SIO_PHASE_CONNECT) {
		sio_connect_timer(e, l);
	} else if (l->phase == SIO_PHASE_PEEK) {
		peek(e, l);
	} else if (l->phase == SIO_PHASE_HEADER) {
		read_header(e, l);
	} else if (l->phase == SIO_PHASE_LINGER) {
		l->step_ns *= 2;
		linger_on(e, l);
	}
}

static void routed(struct sio_engine *e, struct sio_link *l, int more)
{
	if (l->phase != SIO_PHASE_ASKED) {
		sio_connect_end(e, l);
	} else if (l->routed) {
		sio_connect(e, l);
	} else if (more && !l->last_peek) {
		l->phase = SIO_PHASE_PEEK;
		peek(e, l);
	} else {
		l->err = more ? ENODATA : 0;
		sio_gate_end(e, l);
	}
}

void sio_gate_request(struct sio_engine *e, struct sio_link *l, int32_t asked)
{
	if (asked & (SIO_ASK_CANCEL | SIO_ASK_CUT))
		sio_link_cut(e, l, asked);
	if (asked & SIO_ASK_ROUTE)
		routed(e, l, asked & SIO_ASK_MORE);
}
