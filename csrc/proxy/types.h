/*
 * types.h: what a proxy knows of its connections, and of itself.
 */
#ifndef SIO_PROXY_TYPES_H
#define SIO_PROXY_TYPES_H

#include "api.h"
#include "relay/conn.h"
#include "transfer/transfer.h"

/* The most that is peeked at. */
#define SIO_PEEK (16 << 10)

/* Of which attempt an event speaks: this and the two after it. */
#define SIO_SLOT_ATTEMPT 4

/* With SIO_REQUEST_RELEASE: the answer to SIO_EVENT_ROUTE; MORE: peek again. */
enum { SIO_REQUEST_ROUTE = SIO_REQUEST_OWN, SIO_REQUEST_MORE = 2 * SIO_REQUEST_OWN };

/* Before SIO_CONN_RELAY. */
enum {
	SIO_CONN_HEADER = SIO_CONN_OWN, /* a PROXY protocol header is awaited */
	SIO_CONN_PEEK,         /* the first bytes are awaited */
	SIO_CONN_ASKED,        /* Python has been asked for the upstream */
	SIO_CONN_CONNECT
};

/* An accepted connection.  Owns fds[0] and fds[2], the sockets that connect, the
 * pipes and buffers of its flows, and what was peeked. */
struct sio_proxy_conn {
	struct sio_relay_conn base;
	struct sio_transfer flows[2];
	struct sio_peer client;
	struct sio_peer server;         /* what the client connected to */
	unsigned char *peeked;
	struct sio_upstreams *routed;   /* what Python answered; else the common */
	struct sio_upstreams *tried;
	/* Guarded by the engine's lock: what Python has just answered. */
	struct sio_upstreams *answer;
	int64_t step_ns;        /* of SIO_CONN_LINGER: between two looks */
	int32_t peeked_len;
	int32_t last_peek;      /* no more is awaited: the client has ended or the time is up */
	int32_t tries;          /* upstreams tried */
	int32_t chosen;         /* the one that is, in its set */
	int32_t upstream;       /* its number, from the set's first on; -1: none */
	int32_t short_of;       /* this machine could not even try */
	int32_t shortages;      /* how often, for this upstream */
	int32_t event_upstream;  /* of SIO_EVENT_DOWN and UP */
	int32_t event_err;
	int32_t next_address;
	int32_t attempts[3];    /* sockets that connect; -1: none */
	int32_t attempted[3];   /* to which address */
};

static inline struct sio_proxy_conn *sio_proxy_conn_of(struct sio_conn *conn)
{
	return (struct sio_proxy_conn *)(void *)conn;
}

/* What connector.c needs of whoever wants to be connected. */
struct sio_connector {
	struct sio_server server;
	/* fds[2] is the upstream's socket. */
	void (*connected)(struct sio_engine *e, struct sio_proxy_conn *c,
			  int to_unix);
	/* No upstream takes it; why is in its err. */
	void (*failed)(struct sio_engine *e, struct sio_proxy_conn *c);
	/* Descriptors are used up. */
	void (*shortage)(struct sio_engine *e);
	int64_t connect_ns;
	struct sio_upstreams *ups;      /* of connections that were not routed */
	int32_t keepalive;      /* as of sio_tune_new */
	int32_t waiting;        /* connections that are short of a descriptor */
};

/* Owns the listeners of an engine, and the memory of who comes. */
struct sio_proxy {
	struct sio_connector connector;
	struct sio_proxy_config config;
	int *listeners;
	unsigned char *early;   /* of each listener: who is accepted came before its options */
	int32_t count;
	int32_t closed;
	int32_t paused;
	int32_t failures;       /* of accept, since it gave a connection */
	struct sio_timer pause;
	unsigned char *peek_buf;
	struct sio_conn *unused;
	struct sio_slab *slabs;
	/* Guarded by the lock. */
	struct sio_upstreams *next_ups;
	int32_t close_requested;
};

static inline struct sio_connector *sio_connector_of(const struct sio_engine *e)
{
	return (struct sio_connector *)(void *)e->server;
}

static inline struct sio_proxy *sio_proxy_of(const struct sio_engine *e)
{
	return (struct sio_proxy *)(void *)e->server;
}

#endif
