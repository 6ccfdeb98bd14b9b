/*
 * relay.h: two transfers back to back under one poll().
 */
#ifndef SIO_RELAY_RELAY_H
#define SIO_RELAY_RELAY_H

#include "api.h"
#include "transfer/transfer.h"

/* Owns neither flow.  Half-close is done here for sockets; for anything else the
 * flow's own dst is closed, its bit is set in `finished`, and SIO_EVENT tells the
 * caller to close its own. */
struct sio_relay {
	struct sio_transfer *ab;
	struct sio_transfer *ba;
	int64_t limit_left;     /* both ways together; -1: none */
	int32_t stop_when_gone; /* bit 0: end all when b takes no more; bit 1: a */
	int32_t stop_at_eof;    /* bit 0: end all when a has ended; bit 1: b */
	int32_t closes;         /* the sockets are closed when both have ended */
	int32_t closes_later;   /* the caller closes the dst of what is finished */
	int32_t over;           /* bit 0: ab has ended; bit 1: ba */
	int32_t finished;
	int32_t reason;
	int32_t failed;         /* after SIO_ERROR: 0 ab, 1 ba */
	int32_t waiting;        /* the last slice ended in the poll(), in these states */
	int32_t state[2];
	int64_t active_ns;
	int64_t active_mark;
};

void sio_relay_init(struct sio_relay *r, const struct sio_relay_config *config);

/* One turn of flow d (0: ab, 1: ba); the state to return. */
int sio_relay_step(struct sio_relay *r, int d, int64_t bytes, int64_t ns);

/* The byte limit is reached: a flow that waits for its source has ended too. */
void sio_relay_apply_limit(const struct sio_relay *r, int32_t *state);

/* Flow d waits for its source: has its destination gone, as revents say? */
void sio_relay_check_dst(struct sio_relay *r, int d, int revents);

/* Both flows are over: find the reason. */
int sio_relay_ended(struct sio_relay *r);

#endif
