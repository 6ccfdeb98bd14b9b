/*
 * connector.c: from an accepted connection to an upstream that answers.
 *
 * Rule 1: upstreams are taken in turn.  One that refuses is passed over for a
 *         while, which doubles with each refusal; when all do, the one whose
 *         while ends first is tried all the same.
 * Rule 2: the addresses of one name are tried in their order, the next one when
 *         the one before has failed or has not answered for a quarter of a
 *         second; the first that answers is taken (RFC 8305).
 * Rule 3: a shortage of this machine's (descriptors, ports, memory) is nobody's
 *         refusal: it is waited out.
 * Nothing is read from the client here, so a connection that fails here can
 * still go somewhere else, whole.
 */
#define _GNU_SOURCE
#include "proxy/connector.h"
#include "base/syscalls.h"
#include "loop/loop.h"
#include "loop/pipe_pool.h"
#include "loop/slots.h"
#include "loop/timers.h"
#include "proxy/tune.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ATTEMPTS 3
#define NEXT_ADDRESS_NS 250000000
/* Doubled each time, five times at the most: nothing tells that it is over. */
#define SHORTAGE_NS 20000000
#define SHORTAGES 5
#define SHUNNED_NS 1000000000
#define SHUNNED_LONGEST_NS 30000000000

struct address {
	struct sockaddr_storage name;
	socklen_t len;
};

struct upstream {
	struct address *addresses;
	int32_t count;
	int32_t failures;
	int64_t shunned_at;
	int64_t shunned_until;
};

/* Owned by whoever counts in refs: an engine, and the connections that came with it,
 * those on the common set until Python has heard of their end. */
struct sio_upstreams {
	int64_t *users;         /* of its numbers; NULL: they are nobody's */
	int32_t refs;
	int32_t count;
	int32_t first;          /* the number of each[0] */
	int32_t next;
	struct upstream each[];
};

/* ---- the set --------------------------------------------------------------------- */

int64_t *sio_users_new(void)
{
	int64_t *users = malloc(sizeof(*users));

	if (users)
		*users = 1;
	return users;
}

int64_t sio_users_count(const int64_t *users)
{
	return __atomic_load_n(users, __ATOMIC_ACQUIRE);
}

void sio_users_drop(int64_t *users)
{
	if (users && !__atomic_sub_fetch(users, 1, __ATOMIC_ACQ_REL))
		free(users);
}

struct sio_upstreams *sio_upstreams_new(int32_t count, int32_t first,
					int64_t *users)
{
	struct sio_upstreams *ups;

	ups = calloc(1, sizeof(*ups) + (size_t)count * sizeof(ups->each[0]));
	if (ups) {
		ups->refs = 1;
		ups->count = count;
		ups->first = first;
		ups->users = users;
		if (users)
			__atomic_add_fetch(users, 1, __ATOMIC_RELAXED);
	}
	return ups;
}

int sio_upstreams_add(struct sio_upstreams *ups, int32_t number,
		      const void *address, int32_t len)
{
	struct upstream *u = &ups->each[number];
	size_t count = (size_t)u->count;
	struct address *grown;

	if (len < 0 || (size_t)len > sizeof(grown->name))
		return -EINVAL;
	grown = realloc(u->addresses, (count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	u->addresses = grown;
	memset(&grown[count], 0, sizeof(*grown));
	memcpy(&grown[count].name, address, (size_t)len);
	grown[count].len = (socklen_t)len;
	u->count++;
	return 0;
}

void sio_upstreams_drop(struct sio_upstreams *ups)
{
	if (!ups || --ups->refs)
		return;
	for (int32_t i = 0; i < ups->count; i++)
		free(ups->each[i].addresses);
	sio_users_drop(ups->users);
	free(ups);
}

void sio_upstreams_free(struct sio_upstreams *ups)
{
	sio_upstreams_drop(ups);
}

void sio_upstreams_inherit(struct sio_upstreams *ups,
			   const struct sio_upstreams *before)
{
	if (!before || before->first != ups->first ||
	    before->count != ups->count)
		return;
	ups->next = before->next;
	for (int32_t i = 0; i < ups->count; i++) {
		ups->each[i].failures = before->each[i].failures;
		ups->each[i].shunned_at = before->each[i].shunned_at;
		ups->each[i].shunned_until = before->each[i].shunned_until;
	}
}

static struct upstream *current(const struct sio_proxy_conn *c)
{
	return &c->tried->each[c->chosen];
}

/* The next in turn that is not passed over, or the one that is for least. */
static int32_t choose(struct sio_upstreams *ups, int64_t now)
{
	int32_t best = ups->next;

	for (int32_t i = 0; i < ups->count; i++) {
		int32_t n = (ups->next + i) % ups->count;

		if (ups->each[n].shunned_until <= now) {
			best = n;
			break;
		}
		if (ups->each[n].shunned_until < ups->each[best].shunned_until)
			best = n;
	}
	ups->next = (best + 1) % ups->count;
	return best;
}

/* ---- attempts --------------------------------------------------------------------- */

static void give_up(struct sio_engine *e, struct sio_proxy_conn *c, int attempt)
{
	int fd = c->attempts[attempt];

	c->attempts[attempt] = -1;
	if (fd < 0)
		return;
	sio_unwatch(e, fd);
	close(fd);
}

/* A place for one attempt more: the oldest has to go if there is none. */
static int free_slot(struct sio_engine *e, struct sio_proxy_conn *c)
{
	int oldest = 0;

	for (int i = 0; i < ATTEMPTS; i++) {
		if (c->attempts[i] < 0)
			return i;
		if (c->attempted[i] < c->attempted[oldest])
			oldest = i;
	}
	give_up(e, c, oldest);
	return oldest;
}

static int pending(const struct sio_proxy_conn *c)
{
	int n = 0;

	for (int i = 0; i < ATTEMPTS; i++)
		n += c->attempts[i] >= 0;
	return n;
}

/* While somebody waits for a descriptor, nobody else gets one by accept(). */
static void set_short(struct sio_engine *e, struct sio_proxy_conn *c, int is_short)
{
	sio_connector_of(e)->waiting += is_short - c->short_of;
	c->short_of = is_short;
}

void sio_connect_end(struct sio_engine *e, struct sio_proxy_conn *c)
{
	set_short(e, c, 0);
	for (int i = 0; i < ATTEMPTS; i++)
		give_up(e, c, i);
	if (!c->routed)
		return; /* the name of its upstream is needed to the end */
	sio_upstreams_drop(c->tried);
	sio_upstreams_drop(c->routed);
	c->tried = c->routed = NULL;
}

static int is_shortage(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOBUFS ||
	       err == ENOMEM || err == EAGAIN || err == EADDRNOTAVAIL ||
	       err == ENOSPC; /* of the user's watches */
}

static void won(struct sio_engine *e, struct sio_proxy_conn *c, int attempt,
		int seen)
{
	struct upstream *u = current(c);
	int to_unix = u->addresses[0].name.ss_family == AF_UNIX;

	c->base.fds[2] = c->attempts[attempt];
	c->attempts[attempt] = -1;
	c->base.tag_b = SIO_SLOT_ATTEMPT + attempt;
	c->base.seen[2] = seen;
	if (u->failures && !c->routed) {
		c->event_upstream = c->upstream;
		sio_conn_post(&c->base.conn, SIO_EVENT_UP);
	}
	u->failures = 0;
	u->shunned_until = 0;
	sio_connect_end(e, c);
	sio_timer_clear(&e->timers, &c->base.conn.timer);
	sio_connector_of(e)->connected(e, c, to_unix);
}

static int open_socket(struct sio_engine *e, const struct address *to)
{
	int fd = (int)sio_socket(e->faults, to->name.ss_family);

	if (fd >= 0 && to->name.ss_family != AF_UNIX)
		sio_tune_new(fd, sio_connector_of(e)->keepalive);
	return fd;
}

/* 1: connected, 0: under way, or -errno. */
static int attempt(struct sio_engine *e, struct sio_proxy_conn *c, int slot,
		   const struct address *to)
{
	int fd = open_socket(e, to), err;

	if (fd < 0)
		return fd;
	err = (int)sio_connect_to(e->faults, fd, &to->name, to->len);
	if (!err || err == -EINPROGRESS) {
		int watched = sio_watch(e, &c->base.conn, SIO_SLOT_ATTEMPT + slot, fd);

		if (!watched) {
			c->attempts[slot] = fd;
			return !err;
		}
		err = watched;
	}
	close(fd);
	return err;
}

static void arm(struct sio_engine *e, struct sio_proxy_conn *c, int64_t in)
{
	int64_t due = e->now + in;

	sio_timer_set(&e->timers, &c->base.conn.timer,
		      due < c->base.deadline ? due : c->base.deadline);
}

/* The upstream has no address left that could answer. */
static void shun(struct sio_engine *e, struct sio_proxy_conn *c)
{
	struct upstream *u = current(c);
	int64_t while_ns = SHUNNED_LONGEST_NS;

	for (int i = 0; i < ATTEMPTS; i++)
		give_up(e, c, i);
	/* Clients that came together are refused together: that counts once. */
	if (c->base.deadline - sio_connector_of(e)->connect_ns <= u->shunned_at)
		return;
	if (u->failures < 5)
		while_ns = (int64_t)SHUNNED_NS << u->failures;
	u->shunned_at = e->now;
	u->shunned_until = e->now + while_ns;
	if (!u->failures++ && !c->routed) {
		c->event_upstream = c->upstream;
		c->event_err = c->base.err;
		sio_conn_post(&c->base.conn, SIO_EVENT_DOWN);
	}
}

static void wait_out(struct sio_engine *e, struct sio_proxy_conn *c)
{
	set_short(e, c, 1);
	if (c->base.err == EMFILE || c->base.err == ENFILE) {
		sio_pool_trim(&e->pool);
		sio_connector_of(e)->shortage(e);
	}
	arm(e, c, (int64_t)SHORTAGE_NS << c->shortages);
	if (c->shortages < SHORTAGES)
		c->shortages++;
}

/* Try addresses until one is under way; 0: none is, and none is left. */
static int try_addresses(struct sio_engine *e, struct sio_proxy_conn *c)
{
	struct upstream *u = current(c);

	while (c->next_address < u->count) {
		int slot = free_slot(e, c), r;

		r = attempt(e, c, slot, &u->addresses[c->next_address]);
		c->attempted[slot] = c->next_address;
		if (r == 1) {
			won(e, c, slot, 0);
			return 1;
		}
		if (r < 0)
			c->base.err = -r;
		/* No local address: for IPv6, say, on a machine without. */
		if (r < 0 && is_shortage(-r) &&
		    (r != -EADDRNOTAVAIL || c->next_address + 1 == u->count)) {
			wait_out(e, c);
			return 1;
		}
		set_short(e, c, 0);
		c->next_address++;
		if (r == 0)
			break;
	}
	if (!pending(c))
		return 0;
	arm(e, c, c->next_address < u->count ? NEXT_ADDRESS_NS
					     : sio_connector_of(e)->connect_ns);
	return 1;
}

static void next_upstream(struct sio_engine *e, struct sio_proxy_conn *c)
{
	while (c->tries < c->tried->count) {
		c->tries++;
		c->chosen = choose(c->tried, e->now);
		c->upstream = c->tried->first + c->chosen;
		c->next_address = c->shortages = 0;
		set_short(e, c, 0);
		c->base.deadline = e->now + sio_connector_of(e)->connect_ns;
		if (try_addresses(e, c))
			return;
		shun(e, c);
	}
	sio_count(&e->counts.failed, 1);
	sio_connector_of(e)->failed(e, c);
}

static void go_on(struct sio_engine *e, struct sio_proxy_conn *c)
{
	if (try_addresses(e, c))
		return;
	shun(e, c);
	next_upstream(e, c);
}

void sio_connect(struct sio_engine *e, struct sio_proxy_conn *c)
{
	c->base.phase = SIO_CONN_CONNECT;
	c->tried = c->routed ? c->routed : sio_connector_of(e)->ups;
	c->tried->refs++;
	c->tries = 0;
	next_upstream(e, c);
}

void sio_connect_event(struct sio_engine *e, struct sio_proxy_conn *c, int slot,
		       uint32_t events)
{
	int n = slot - SIO_SLOT_ATTEMPT, err = 0;
	socklen_t size = sizeof(err);

	if (c->attempts[n] < 0)
		return;
	if (events & (EPOLLERR | EPOLLHUP)) {
		if (getsockopt(c->attempts[n], SOL_SOCKET, SO_ERROR, &err,
			       &size) < 0 || !err)
			err = ECONNREFUSED;
		if (err == ECONNRESET || err == EPIPE) {
			/* It had been connected, and may have said why. */
			c->base.relay.reason = SIO_REASON_RESET_B;
			won(e, c, n, (int)(events & SIO_SPECIAL));
			return;
		}
		c->base.err = err;
		give_up(e, c, n);
		go_on(e, c);
	} else if (events & EPOLLOUT) {
		won(e, c, n, (int)(events & (EPOLLRDHUP | EPOLLPRI)));
	}
}

void sio_connect_timer(struct sio_engine *e, struct sio_proxy_conn *c)
{
	if (e->now < c->base.deadline) {
		go_on(e, c);
		return;
	}
	if (pending(c))
		c->base.err = ETIMEDOUT;
	if (pending(c) || !c->short_of)
		shun(e, c);
	next_upstream(e, c);
}
