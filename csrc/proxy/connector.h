/*
 * connector.h: from an accepted connection to an upstream that answers.
 */
#ifndef SIO_PROXY_CONNECTOR_H
#define SIO_PROXY_CONNECTOR_H

#include "api.h"

/* What connector.c needs of whoever wants to be connected. */
struct sio_connector {
	/* fds[2] of the link is the upstream's socket. */
	void (*connected)(struct sio_engine *e, struct sio_link *l, int to_unix);
	/* No upstream takes it; why is in its err. */
	void (*failed)(struct sio_engine *e, struct sio_link *l);
	/* Descriptors are used up. */
	void (*shortage)(struct sio_engine *e);
	int64_t connect_ns;
	int32_t keepalive;      /* as of sio_tune_new */
	struct sio_upstreams *ups;      /* of links that were not routed */
	int32_t waiting;        /* links that are short of a descriptor */
};

/* Begin with the first upstream. */
void sio_connect(struct sio_engine *e, struct sio_link *l);
void sio_connect_event(struct sio_engine *e, struct sio_link *l, int slot,
		       uint32_t events);
void sio_connect_timer(struct sio_engine *e, struct sio_link *l);

/* Close what still connects, and forget where to. */
void sio_connect_end(struct sio_engine *e, struct sio_link *l);
void sio_upstreams_drop(struct sio_upstreams *ups);

/* The same upstreams, looked up again: what is known of them stays known. */
void sio_upstreams_inherit(struct sio_upstreams *ups,
			   const struct sio_upstreams *before);

#endif
