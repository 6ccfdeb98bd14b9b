/*
 * job.h: a relay, or one flow, that Python has submitted to an engine.
 */
#ifndef SIO_RELAY_JOB_H
#define SIO_RELAY_JOB_H

#include "api.h"
#include "relay/conn.h"
#include "relay/modes.h"
#include "transfer/transfer.h"

/* Python owns it, both flows and the descriptors, and leaves them alone until
 * SIO_EVENT_OVER. */
struct sio_job {
	struct sio_relay_conn base;
	struct sio_saved_modes saved_modes;
	struct sio_transfer none[];     /* the way back of one flow: zeroed */
};

static inline struct sio_job *sio_job_of(struct sio_conn *conn)
{
	return (struct sio_job *)(void *)conn;
}

#endif
