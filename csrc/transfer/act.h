/*
 * act.h: how the first try of a copy or a send is told of.
 */
#ifndef SIO_TRANSFER_ACT_H
#define SIO_TRANSFER_ACT_H

#include "api.h"

/* A state, or all that was moved, as sio_act_copy answers it. */
int64_t sio_act_told(const struct sio_act *a, int state);

#endif
