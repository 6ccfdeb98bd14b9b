/*
 * loop.h: one thread and one epoll for thousands of connections.  What they
 * do is behind their ops; nothing here names it.
 */
#ifndef SIO_LOOP_LOOP_H
#define SIO_LOOP_LOOP_H

#include "api.h"
#include "loop/disk.h"
#include "loop/pipe_pool.h"
#include "loop/slots.h"
#include "loop/timers.h"

#include <pthread.h>
#include <stddef.h>

/* What another thread asks of a connection.  RELEASE goes with what says that
 * Python looks at it no more; what a floor above asks begins at OWN. */
enum sio_request {
	SIO_REQUEST_ADD = 1,
	SIO_REQUEST_CANCEL = 2,
	SIO_REQUEST_ABORT = 4,
	SIO_REQUEST_RELEASE = 8,
	SIO_REQUEST_READ = 16,  /* what disk.c was asked for is in memory */
	SIO_REQUEST_OWN = 32
};

/* What the engine calls, on its thread.  Each may end the connection. */
struct sio_conn_ops {
	/* An event of one of its descriptors. */
	void (*on_event)(struct sio_engine *e, struct sio_conn *c, int slot,
			 uint32_t events);
	/* It was ready, and this is its turn. */
	void (*on_run)(struct sio_engine *e, struct sio_conn *c);
	/* Another thread asks something of it, or the engine that it ends:
	 * enum sio_request. */
	void (*on_request)(struct sio_engine *e, struct sio_conn *c,
			   int32_t requests);
	/* It is over, or was refused: close what it has. */
	void (*on_end)(struct sio_engine *e, struct sio_conn *c);
	/* No event can name it any more: announce it, or use it again. */
	void (*on_free)(struct sio_engine *e, struct sio_conn *c);
};

/* What an engine knows of a connection; the first member of what the floors
 * above know.  Owns no descriptor. */
struct sio_conn {
	const struct sio_conn_ops *ops;
	struct sio_engine *engine;
	struct sio_completions *completions;
	struct sio_timer timer;
	struct sio_conn *next_ready;
	struct sio_conn *next_done;
	int64_t begun_ns;
	int64_t ended_ns;       /* 0: it is not over */
	int32_t index;          /* its slot; -1: none */
	int32_t is_ready;
	int32_t is_over;
	int32_t accepted;       /* made by the engine itself, which uses it again */
	int32_t readers;           /* Python looks at it: it may not be used again */

	/* Guarded by the engine's lock. */
	int32_t requests;          /* what Python asks of it; -1: it may not any more */
	int32_t is_cancelled;   /* before that, so that it ends as cancelled */
	int32_t released;
	struct sio_conn *next_request;
	/* Guarded by the lock of the completions. */
	int32_t events;
	int32_t is_posted;
	struct sio_conn *next_posted;
};

/* Whoever accepts connections for an engine: the first member of what it knows. */
struct sio_server {
	const struct sio_server_ops *ops;
};

struct sio_server_ops {
	/* A listener can be asked, by the number that it is watched with. */
	void (*on_listener)(struct sio_engine *e, int number);
	/* Something may have been asked of it. */
	void (*on_wake)(struct sio_engine *e);
	void (*on_free)(struct sio_engine *e);
	/* In a forked child: close what was copied. */
	void (*on_abandon)(struct sio_engine *e);
};

/* Owns the epoll, the eventfd that wakes it, the table of slots and the pool. */
struct sio_engine {
	int pid;
	int epfd;
	int wakefd;
	int started;
	pthread_t thread;
	struct sio_faults *faults;
	int64_t stall_ns;
	int64_t now;            /* of this round */
	int64_t skipped_ns;
	int32_t stopping;
	struct sio_slot *table;
	int32_t size;
	int32_t free_slot;
	struct sio_conn *first_ready;
	struct sio_conn *last_ready;
	struct sio_conn *done;
	struct sio_conn *last_done;
	struct sio_timers timers;
	struct sio_pipe_pool pool;
	struct sio_disk disk;
	struct sio_counts counts;
	struct sio_server *server;      /* NULL: it accepts nothing */
	struct sio_completions *completions;          /* woken when the engine is in trouble */
	pthread_mutex_t lock;
	/* Guarded by it. */
	struct sio_conn *inbox;
	int32_t stopped;
	struct sio_trouble trouble;
	struct sio_counts others;       /* of what was done without it */
};

int64_t sio_engine_now(const struct sio_engine *e);

/* Count what another thread has done in its place. */
void sio_engine_count(struct sio_engine *e, int64_t total, int64_t a_to_b,
		      int64_t b_to_a);

/* Let it be known that the call fails. */
void sio_engine_fails(struct sio_engine *e, int call, int err, int stopped);

/* The error that the thread ends with, if it does; else 0. */
int sio_end_of(const struct sio_engine *e);

/* It gets a turn in the next round. */
void sio_push_ready(struct sio_engine *e, struct sio_conn *c);
void sio_conn_post(struct sio_conn *c, int32_t what);

/* All that it owned is closed: what is left is to announce it. */
void sio_conn_over(struct sio_engine *e, struct sio_conn *c);

/* 0, or -ESHUTDOWN, -ECHILD. */
int sio_request(struct sio_engine *e, struct sio_conn *c, int32_t what);
void sio_engine_wake(struct sio_engine *e);

static inline struct sio_conn *sio_conn_of(struct sio_timer *timer)
{
	return (void *)((char *)timer - offsetof(struct sio_conn, timer));
}

#endif
