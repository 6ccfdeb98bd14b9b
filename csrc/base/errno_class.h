/*
 * errno_class.h: what an errno means for whoever moves bytes: the end of a
 * connection, or a refusal of this way for this pair.
 */
#ifndef SIO_BASE_ERRNO_CLASS_H
#define SIO_BASE_ERRNO_CLASS_H

#include "api.h"

/* Is err the end of a connection, after which no call can
 * succeed? */
int sio_is_disconnect(int err);

/* "This pair, this way: no." */
int sio_is_refusal(int err);

#endif
