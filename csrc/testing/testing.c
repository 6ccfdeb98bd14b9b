/*
 * testing.c: what the tests reach into the C for, and nothing else calls.
 *
 * Changes nothing that is not asked for here: without a call from a test it is
 * as if it were not there.
 */
#include "testing/testing.h"
#include "base/syscalls.h"
#include "fanout/types.h"
#include "loop/loop.h"
#include "proxy/proxy_header.h"
#include "relay/conn.h"
#include "transfer/transfer.h"

int64_t sio_test_staged(const struct sio_fanout *f, int32_t i)
{
	return f->sinks[i].pipe.held;
}

int sio_test_in_memory(const struct sio_fanout *f)
{
	return f->mem_len > f->mem_pos && f->mem_pos > 0;
}

int sio_test_source_ended(const struct sio_fanout *f)
{
	return f->eof;
}

void sio_test_full_for(struct sio_fanout *f, int32_t i, int64_t ns)
{
	if (f->sinks[i].full_ns)
		f->sinks[i].full_ns -= ns;
}

int64_t sio_test_ended(const struct sio_conn *conn)
{
	return conn->ended_ns;
}

int64_t sio_test_idle_at(const struct sio_conn *conn)
{
	const struct sio_relay_conn *c = (const void *)conn;

	return c->moved_ns + c->idle_ns;
}

void sio_test_transfer(struct sio_transfer *t, struct sio_faults *faults)
{
	t->faults = faults;
}

int sio_test_pipe_writer(const struct sio_transfer *t)
{
	return t->pipe.writer;
}

int sio_test_wake_fd(const struct sio_transfer *t)
{
	return t->wait.wake_fd;
}

void sio_test_trim(struct sio_spare_pipes *shared)
{
	sio_spare_trim(shared);
}

void sio_test_lock(struct sio_spare_pipes *shared, int lock)
{
	if (lock)
		pthread_mutex_lock(&shared->lock);
	else
		pthread_mutex_unlock(&shared->lock);
}

void sio_test_set_left(struct sio_transfer *t, int64_t left)
{
	t->left = left;
}

void sio_test_engine(struct sio_engine *e, struct sio_faults *faults,
		     int64_t stall_ns)
{
	e->faults = faults;
	e->stall_ns = stall_ns;
}

void sio_test_skip(struct sio_engine *e, int64_t ns)
{
	sio_count(&e->skipped_ns, ns);
	sio_engine_wake(e);
}

int sio_test_read_header(const unsigned char *data, int32_t len,
			 struct sio_peer *client, struct sio_peer *server)
{
	return sio_proxy_read(data, len, client, server);
}

int sio_test_write_header(int version, const struct sio_peer *client,
			  const struct sio_peer *server, unsigned char *out)
{
	return sio_proxy_write(version, client, server, out);
}
