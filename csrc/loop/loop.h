/*
 * loop.h: one thread and one epoll for thousands of relays.  What they do is
 * behind their ops; nothing here names it.
 */
#ifndef SIO_LOOP_LOOP_H
#define SIO_LOOP_LOOP_H

#include "api.h"
#include "loop/pipe_pool.h"
#include "loop/slots.h"
#include "loop/timers.h"

#include <pthread.h>

/* What the files of the engine share. */
enum sio_ask {
	SIO_ASK_ADD = 1,
	SIO_ASK_CANCEL = 2,
	SIO_ASK_ROUTE = 4,      /* answered; this and the next release the link */
	SIO_ASK_RELEASE = 8,
	SIO_ASK_MORE = 16,      /* with ROUTE: peek again */
	SIO_ASK_CUT = 32
};

/* What the engine calls, on its thread.  Each may end the link. */
struct sio_conn_ops {
	/* An event of one of its descriptors. */
	void (*on_event)(struct sio_engine *e, struct sio_link *l, int slot,
			 uint32_t events);
	/* It was ready, and this is its turn. */
	void (*on_run)(struct sio_engine *e, struct sio_link *l);
	/* Another thread asks something of it, or the engine that it ends:
	 * enum sio_ask. */
	void (*on_request)(struct sio_engine *e, struct sio_link *l,
			   int32_t asked);
	/* Its relay is over, or was refused: close what it has. */
	void (*on_end)(struct sio_engine *e, struct sio_link *l);
	/* No event can name it any more: announce it, or use it again. */
	void (*on_free)(struct sio_engine *e, struct sio_link *l);
};

/* Whoever accepts connections for an engine. */
struct sio_server_ops {
	/* A listener can be asked, by the number that it is watched with. */
	void (*on_listener)(struct sio_engine *e, int number);
	/* Something may have been asked of it. */
	void (*on_wake)(struct sio_engine *e);
	void (*on_free)(struct sio_engine *e);
	/* In a forked child: close what was copied. */
	void (*on_abandon)(struct sio_engine *e);
};

struct sio_engine {
	int pid;
	int epfd;
	int wakefd;
	int started;
	pthread_t thread;
	struct sio_seam *seam;
	int64_t stall_ns;
	int64_t now;            /* of this round */
	int64_t skipped_ns;
	int32_t stopping;
	struct sio_seat *table;
	int32_t size;
	int32_t free_seat;
	struct sio_link *first_ready;
	struct sio_link *last_ready;
	struct sio_link *done;
	struct sio_link *last_done;
	struct sio_timers timers;
	struct sio_pipe_pool pool;
	struct sio_counts counts;
	/* NULL: it accepts nothing. */
	const struct sio_server_ops *server;
	struct sio_gate *gate;
	struct sio_connector *connector;
	struct sio_news *news;          /* woken when the engine is in trouble */
	pthread_mutex_t lock;
	/* Guarded by it. */
	struct sio_link *inbox;
	int32_t stopped;
	struct sio_trouble trouble;
};

int64_t sio_engine_now(const struct sio_engine *e);

/* Let it be known that the call fails. */
void sio_engine_fails(struct sio_engine *e, int call, int err, int stopped);

/* The error that the thread ends with, if it does; else 0. */
int sio_end_of(const struct sio_engine *e);

/* It gets a turn in the next round. */
void sio_push_ready(struct sio_engine *e, struct sio_link *l);
void sio_tell(struct sio_link *l, int32_t what);

/* All that it owned is closed: what is left is to announce it. */
void sio_link_over(struct sio_engine *e, struct sio_link *l);

/* 0, or -ESHUTDOWN, -ECHILD. */
int sio_ask(struct sio_engine *e, struct sio_link *l, int32_t what);
void sio_engine_wake(struct sio_engine *e);

#endif
