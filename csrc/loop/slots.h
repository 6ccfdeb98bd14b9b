/*
 * slots.h: whose event is it?  The seats of an engine's connections.
 */
#ifndef SIO_LOOP_SLOTS_H
#define SIO_LOOP_SLOTS_H

#include "api.h"

#include <sys/epoll.h>

/* Of which descriptor of a connection an event speaks: below this. */
#define SIO_SLOT_ENGINE 7

/* Events after which "empty" has to be proved. */
#define SIO_SPECIAL (EPOLLRDHUP | EPOLLPRI | EPOLLHUP | EPOLLERR)

struct sio_slot {
	struct sio_conn *conn;
	uint32_t given;         /* how often */
	int32_t next_free;
};

/* A place in the table; 0 or -ENOMEM. */
int sio_slot_take(struct sio_engine *e, struct sio_conn *c);

/* Register for every event, once; 0 or -errno. */
int sio_watch(struct sio_engine *e, struct sio_conn *c, int slot, int fd);

/* Without `in`, what comes to be read raises no event any more; with it, it
 * does, and what has come meanwhile too. */
void sio_watch_again(struct sio_engine *e, struct sio_conn *c, int slot, int fd,
		     int in);

/* The same for what is no connection's: 0 the wake-up, from 1 on listeners. */
int sio_watch_engine(struct sio_engine *e, int number, int fd, int op,
		     uint32_t events);

/* Before anything that is watched is closed: another duplicate, a child's say,
 * would keep it watched, and its events would come in the name of what has its
 * place next. */
void sio_unwatch(struct sio_engine *e, int fd);
void sio_slot_free(struct sio_engine *e, struct sio_conn *c);
int sio_slots_grow(struct sio_engine *e);

#endif
