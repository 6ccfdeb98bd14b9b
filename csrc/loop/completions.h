/*
 * completions.h: what has happened, waiting for Python: a list of connections and
 * an eventfd.
 */
#ifndef SIO_LOOP_COMPLETIONS_H
#define SIO_LOOP_COMPLETIONS_H

#include "api.h"

/* 1: the connection was not yet in the list. */
int sio_completions_post(struct sio_completions *completions,
			 struct sio_conn *conn, int32_t what);
int32_t sio_completions_count(struct sio_completions *completions);

#endif
