/*
 * connector.h: from an accepted connection to an upstream that answers.
 */
#ifndef SIO_PROXY_CONNECTOR_H
#define SIO_PROXY_CONNECTOR_H

#include "proxy/types.h"

/* Begin with the first upstream. */
void sio_connect(struct sio_engine *e, struct sio_proxy_conn *c);
void sio_connect_event(struct sio_engine *e, struct sio_proxy_conn *c, int slot,
		       uint32_t events);
void sio_connect_timer(struct sio_engine *e, struct sio_proxy_conn *c);

/* Close what still connects, and forget where to. */
void sio_connect_end(struct sio_engine *e, struct sio_proxy_conn *c);
void sio_upstreams_drop(struct sio_upstreams *ups);

/* The same upstreams, looked up again: what is known of them stays known. */
void sio_upstreams_inherit(struct sio_upstreams *ups,
			   const struct sio_upstreams *before);

#endif
