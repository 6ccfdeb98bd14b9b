/*
 * conn.h: an accepted connection before its relay begins, and how it ends.
 */
#ifndef SIO_PROXY_CONN_H
#define SIO_PROXY_CONN_H

#include "api.h"
#include "proxy/types.h"

struct sockaddr_storage;

/* It has been accepted, or has c->base.err. */
void sio_proxy_conn_begin(struct sio_engine *e, struct sio_proxy_conn *c, int trusted);
void sio_proxy_conn_event(struct sio_engine *e, struct sio_conn *conn, int slot,
			  uint32_t events);
void sio_proxy_conn_request(struct sio_engine *e, struct sio_conn *conn,
			    int32_t requests);
void sio_proxy_conn_timer(struct sio_engine *e, struct sio_timer *timer);

/* The callbacks of the connector. */
void sio_proxy_conn_connected(struct sio_engine *e, struct sio_proxy_conn *c, int to_unix);

/* End it as its relay's reason says. */
void sio_proxy_conn_end(struct sio_engine *e, struct sio_proxy_conn *c);
void sio_close_side(struct sio_engine *e, struct sio_proxy_conn *c, int side,
		    int reset);
void sio_peer_of(const struct sockaddr_storage *from, struct sio_peer *peer);

#endif
