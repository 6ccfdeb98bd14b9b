/*
 * tune.h: what is set on a TCP socket before bytes are relayed.
 */
#ifndef SIO_PROXY_TUNE_H
#define SIO_PROXY_TUNE_H

#include "api.h"

/* As sio_tune, for a socket that nobody has set anything on. */
void sio_tune_new(int fd, int32_t keepalive);

#endif
