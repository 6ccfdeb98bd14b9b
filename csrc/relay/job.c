/*
 * job.c: a relay, or one flow, that Python has submitted to an engine.
 *
 * Rule 1: from sio_engine_submit until SIO_EVENT_OVER it is the engine's.
 * Rule 2: it is freed with the modes of its sockets put back.
 */
#define _GNU_SOURCE
#include "relay/job.h"
#include "base/syscalls.h"
#include "loop/slots.h"
#include "loop/timers.h"
#include "transfer/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { AB, BA, BOTH = 3 };

static struct sio_relay_conn *relay_of(struct sio_conn *conn)
{
	return &sio_job_of(conn)->base;
}

static void on_event(struct sio_engine *e, struct sio_conn *conn, int slot,
		     uint32_t events)
{
	struct sio_relay_conn *c = relay_of(conn);

	if (c->phase == SIO_CONN_RELAY)
		sio_relay_conn_event(e, c, slot, events);
}

static void on_timer(struct sio_engine *e, struct sio_timer *timer)
{
	sio_relay_conn_timer(e, relay_of(sio_conn_of(timer)));
}

static void on_end(struct sio_engine *e, struct sio_conn *conn)
{
	struct sio_relay_conn *c = relay_of(conn);

	for (int slot = 0; slot < 4; slot++)
		sio_unwatch(e, c->fds[slot]);
	sio_transfer_leave_pool(c->relay.ab);
	sio_transfer_leave_pool(c->relay.ba);
	sio_relay_conn_over(e, c);
}

static void add(struct sio_engine *e, struct sio_relay_conn *c)
{
	c->conn.index = -1;
	c->conn.begun_ns = e->now;
	c->conn.timer.fire = on_timer;
	c->relay.closes_later = 1;
	sio_count(&e->counts.total, 1);
	sio_count(&e->counts.active, 1);
	c->err = -sio_slot_take(e, &c->conn);
	for (int slot = 0; slot < 4 && !c->err; slot++) {
		int err = c->fds[slot] < 0 ? 0 :
			  -sio_watch(e, &c->conn, slot, c->fds[slot]);

		/* A regular file is always ready, and epoll refuses it. */
		if (err && err != EPERM)
			c->err = err;
	}
	if (c->one_way)
		c->relay.over |= 1 << BA;
	if (c->err) {
		c->relay.over = BOTH;
		on_end(e, &c->conn);
		return;
	}
	sio_start_relay(e, c);
}

static void on_request(struct sio_engine *e, struct sio_conn *conn,
		       int32_t requests)
{
	if (requests & SIO_REQUEST_ADD)
		add(e, relay_of(conn));
	if (requests & SIO_REQUEST_READ)
		sio_relay_conn_read(e, relay_of(conn));
	if (requests & (SIO_REQUEST_CANCEL | SIO_REQUEST_ABORT))
		sio_relay_conn_abort(e, relay_of(conn), requests);
}

static void on_free(struct sio_engine *e, struct sio_conn *conn)
{
	(void)e;
	sio_conn_post(conn, SIO_EVENT_OVER);
}

static const struct sio_conn_ops job_ops = {
	.on_event = on_event,
	.on_run = sio_relay_conn_run,
	.on_request = on_request,
	.on_end = on_end,
	.on_free = on_free,
};

/* ---- from outside -------------------------------------------------------------------- */

struct sio_conn *sio_job_new(const struct sio_job_config *config)
{
	struct sio_job *job;
	int one_way = !config->relay.ba;

	job = calloc(1, sizeof(*job) + (one_way ? sizeof(job->none[0]) : 0));
	if (!job)
		return NULL;
	sio_relay_init(&job->base.relay, &config->relay);
	if (one_way)
		job->base.relay.ba = job->none;
	job->base.one_way = one_way;
	job->base.idle_ns = config->idle_ns;
	memcpy(job->base.fds, config->fds, sizeof(job->base.fds));
	job->base.conn.completions = config->completions;
	return &job->base.conn;
}

void sio_job_free(struct sio_conn *conn)
{
	if (conn)
		sio_modes_restore(&sio_job_of(conn)->saved_modes);
	free(conn);
}

void sio_job_acquire(struct sio_conn *conn, struct sio_modes *modes)
{
	sio_modes_set(&sio_job_of(conn)->saved_modes, modes, relay_of(conn)->fds);
}

void sio_job_release(struct sio_conn *conn)
{
	sio_modes_restore(&sio_job_of(conn)->saved_modes);
}

int sio_job_is_taken(const struct sio_conn *conn)
{
	return conn->engine != NULL;
}

void sio_job_report(const struct sio_conn *conn, struct sio_job_report *report)
{
	const struct sio_relay_conn *c = (const void *)conn;

	report->err = c->err;
	report->failed = c->failed;
	report->reason = c->relay.reason;
	report->is_cancelled = conn->is_cancelled;
	report->ns = conn->ended_ns - conn->begun_ns;
}

int sio_engine_submit(struct sio_engine *e, struct sio_conn *conn)
{
	int err;

	conn->ops = &job_ops;
	conn->engine = e;
	err = sio_request(e, conn, SIO_REQUEST_ADD);
	if (err)
		conn->engine = NULL;
	return err;
}
