/*
 * relay.h: two transfers back to back under one poll().
 */
#ifndef SIO_RELAY_RELAY_H
#define SIO_RELAY_RELAY_H

#include "api.h"
#include "transfer/transfer.h"

/* One turn of flow d (0: ab, 1: ba); the state to return. */
int sio_relay_turn(struct sio_relay *r, int d, int64_t bytes, int64_t ns);

/* The byte limit is reached: a flow that waits for its source has ended too. */
void sio_relay_heed_limit(const struct sio_relay *r, int32_t *state);

/* Flow d waits for its source: has its destination gone, as revents say? */
void sio_relay_look(struct sio_relay *r, int d, int revents);

/* Both flows are over: find the reason. */
int sio_relay_ended(struct sio_relay *r);

#endif
