/*
 * conn.h: what a relay in an engine does when it may go on.
 */
#ifndef SIO_RELAY_CONN_H
#define SIO_RELAY_CONN_H

#include "api.h"
#include "loop/loop.h"
#include "relay/relay.h"

/* How long what was sent may take to arrive before a reset is passed on. */
#define SIO_ARRIVE_NS 10000000000

/* Of which of fds an event speaks; a writer has the next number. */
#define SIO_SLOT_A 0
#define SIO_SLOT_B 2

/* Those of whoever prepares the relay begin at OWN. */
enum sio_conn_phase {
	SIO_CONN_NEW,
	SIO_CONN_RELAY,
	SIO_CONN_LINGER,       /* what was sent arrives before the reset does */
	SIO_CONN_OVER,
	SIO_CONN_OWN
};

/* Owns none of the descriptors: whoever embeds it says whose they are. */
struct sio_relay_conn {
	struct sio_conn conn;
	struct sio_relay relay;
	int64_t idle_ns;        /* -1: no limit */
	int64_t connected_ns;
	int64_t moved_ns;
	int64_t deadline;       /* of the phase; of a relay: a side was reset, 0 not */
	int32_t fds[4];         /* reader and writer of a, of b; -1: none */
	int32_t seen[4];        /* events that do not go away, by descriptor */
	int32_t phase;
	int32_t one_way;        /* ab alone, and no half-close */
	int32_t failed;         /* 1: ab, 2: ba has an error that Python raises */
	int32_t err;            /* why it could not even begin */
	int32_t state[2];
	int32_t parked;         /* until the timer: memory is short */
	int32_t muted;          /* bits: sources whose bytes wake nobody for now */
	int32_t tag_b;          /* the slot that b was watched with; 0: its own */
	int32_t disk_flow;      /* whose source is being read from its disk */
	struct sio_disk_read *disk_read;        /* NULL: neither's */
};

/* For whoever has begun it. */
void sio_start_relay(struct sio_engine *e, struct sio_relay_conn *c);
void sio_relay_conn_run(struct sio_engine *e, struct sio_conn *conn);
void sio_relay_conn_event(struct sio_engine *e, struct sio_relay_conn *c,
			  int slot, uint32_t events);
void sio_relay_conn_timer(struct sio_engine *e, struct sio_relay_conn *c);

/* What it has asked a disk for is in memory. */
void sio_relay_conn_read(struct sio_engine *e, struct sio_relay_conn *c);

/* Someone wants it to end, or the engine does. */
void sio_relay_conn_abort(struct sio_engine *e, struct sio_relay_conn *c,
			int32_t requests);

/* All that it owned is closed: what is left is to announce it. */
void sio_relay_conn_over(struct sio_engine *e, struct sio_relay_conn *c);

/* The tag that a side of it was watched with: an attempt's socket keeps its own. */
int sio_tag_of_side(const struct sio_relay_conn *c, int side);

#endif
