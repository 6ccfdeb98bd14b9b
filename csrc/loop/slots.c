/*
 * slots.c: whose event is it?  The slots of an engine's connections.
 *
 * epoll gives back a number that was handed to it: which slot, which of the
 * connection's descriptors, and how often the slot has been given out.  So an
 * event that comes after its connection has left finds nobody, whatever is there
 * now, and no pointer has to outlive anything.
 */
#define _GNU_SOURCE
#include "loop/slots.h"
#include "base/syscalls.h"
#include "loop/loop.h"
#include "loop/timers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

static uint64_t tag_of(uint32_t index, uint32_t given, int slot)
{
	return (uint64_t)given << 35 | (uint64_t)index << 3 | (uint64_t)slot;
}

int sio_slots_grow(struct sio_engine *e)
{
	int32_t size = e->size ? 2 * e->size : 64;
	struct sio_slot *table;

	table = realloc(e->table, (size_t)size * sizeof(*table));
	if (!table)
		return -ENOMEM;
	e->table = table;
	if (sio_timers_reserve(&e->timers, size + 1))
		return -ENOMEM;
	for (int32_t i = size - 1; i >= e->size; i--) {
		table[i] = (struct sio_slot){ NULL, 0, e->free_slot };
		e->free_slot = i;
	}
	e->size = size;
	return 0;
}

int sio_slot_take(struct sio_engine *e, struct sio_conn *c)
{
	struct sio_slot *slot;

	if (e->free_slot < 0 && sio_slots_grow(e))
		return -ENOMEM;
	c->index = e->free_slot;
	slot = &e->table[c->index];
	e->free_slot = slot->next_free;
	slot->conn = c;
	return 0;
}

void sio_slot_free(struct sio_engine *e, struct sio_conn *c)
{
	struct sio_slot *slot = &e->table[c->index];

	slot->conn = NULL;
	/* 29 bits: what the tag has room for. */
	slot->given = (slot->given + 1) & 0x1fffffff;
	slot->next_free = e->free_slot;
	e->free_slot = c->index;
}

static int watch(struct sio_engine *e, struct sio_conn *c, int slot, int fd,
		 int op, int in)
{
	struct epoll_event ev = {
		/* Bytes that come raise what is urgent, too. */
		.events = EPOLLOUT | EPOLLRDHUP | EPOLLET |
			  (in ? EPOLLIN | EPOLLPRI : 0U),
		.data.u64 = tag_of((uint32_t)c->index,
				   e->table[c->index].given, slot),
	};

	return sio_epoll_ctl(e->faults, e->epfd, op, fd, &ev);
}

int sio_watch(struct sio_engine *e, struct sio_conn *c, int slot, int fd)
{
	return watch(e, c, slot, fd, EPOLL_CTL_ADD, 1);
}

void sio_unwatch(struct sio_engine *e, int fd)
{
	if (fd >= 0)
		(void)sio_epoll_ctl(e->faults, e->epfd, EPOLL_CTL_DEL, fd, NULL);
}

void sio_watch_again(struct sio_engine *e, struct sio_conn *c, int slot, int fd,
		     int in)
{
	(void)watch(e, c, slot, fd, EPOLL_CTL_MOD, in);
}

int sio_watch_engine(struct sio_engine *e, int number, int fd, int op,
		       uint32_t events)
{
	struct epoll_event ev = {
		.events = events,
		.data.u64 = tag_of((uint32_t)number, 0, SIO_SLOT_ENGINE),
	};

	return sio_epoll_ctl(e->faults, e->epfd, op, fd, &ev);
}
