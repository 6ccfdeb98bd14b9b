/*
 * conn.h: an accepted connection before its relay begins, and how it ends.
 */
#ifndef SIO_PROXY_CONN_H
#define SIO_PROXY_CONN_H

#include "api.h"
#include "proxy/connector.h"

struct sockaddr_storage;

/* The most that is peeked at. */
#define SIO_PEEK (16 << 10)

/* The listeners of an engine, and what is done with who comes. */
struct sio_gate {
	struct sio_gate_setup setup;
	struct sio_connector connector;
	int *listeners;
	unsigned char *early;   /* of each listener: who is accepted came before its options */
	int32_t count;
	int32_t closed;
	int32_t paused;
	int32_t failures;       /* of accept, since it gave a connection */
	struct sio_timer pause;
	unsigned char *peek_buf;
	struct sio_link *free_links;
	struct sio_slab *slabs;
	/* Guarded by the lock. */
	struct sio_upstreams *next_ups;
	int32_t close_asked;
};

/* It has been accepted, or has l->err. */
void sio_gate_begin(struct sio_engine *e, struct sio_link *l, int trusted);
void sio_gate_event(struct sio_engine *e, struct sio_link *l, int slot,
		    uint32_t events);
void sio_gate_request(struct sio_engine *e, struct sio_link *l, int32_t asked);
void sio_gate_timer(struct sio_engine *e, struct sio_timer *timer);

/* The callbacks of the connector. */
void sio_gate_connected(struct sio_engine *e, struct sio_link *l, int to_unix);

/* End an accepted link as its relay's reason says. */
void sio_gate_end(struct sio_engine *e, struct sio_link *l);
void sio_close_side(struct sio_engine *e, struct sio_link *l, int side,
		    int reset);
void sio_peer_of(const struct sockaddr_storage *from, struct sio_peer *peer);

#endif
