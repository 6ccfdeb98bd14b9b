/*
 * proxy_header.h: the PROXY protocol's header, read and written.
 */
#ifndef SIO_PROXY_PROXY_HEADER_H
#define SIO_PROXY_PROXY_HEADER_H

#include "api.h"

/* The length of the header, 0: more bytes are needed, or
 * -EPROTO.  *client and *server stay as they are where it names none. */
int sio_proxy_read(const unsigned char *data, int32_t len,
		   struct sio_peer *client, struct sio_peer *server);
/* Into out, of at least 108 bytes: the length. */
int sio_proxy_write(int version, const struct sio_peer *client,
		    const struct sio_peer *server, unsigned char *out);

#endif
