/*
 * conn.h: what one link of an engine does when it may go on.
 */
#ifndef SIO_RELAY_CONN_H
#define SIO_RELAY_CONN_H

#include "api.h"
#include "transfer/transfer.h"

#include <stddef.h>

/* How long what was sent may take to arrive before a reset is passed on. */
#define SIO_ARRIVE_NS 10000000000

/* What a relay does in an engine, for whoever has begun it. */
void sio_start_relay(struct sio_engine *e, struct sio_link *l);
void sio_link_run(struct sio_engine *e, struct sio_link *l);
void sio_link_event(struct sio_engine *e, struct sio_link *l, int slot,
		    uint32_t events);
void sio_link_timer(struct sio_engine *e, struct sio_link *l);

/* Someone wants it to end, or the engine does. */
void sio_link_cut(struct sio_engine *e, struct sio_link *l, int32_t asked);

/* The tag that a side of it was watched with: an attempt's socket keeps its own. */
int sio_tag_of_side(const struct sio_link *l, int side);

static inline struct sio_link *sio_link_of(struct sio_timer *timer)
{
	return (void *)((char *)timer - offsetof(struct sio_link, timer));
}

#endif
