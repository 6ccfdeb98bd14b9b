/*
 * testing.h: what the tests reach into the C for, and nothing else calls.
 *
 * Between the two markers is what the tests of Python may call.
 */
#ifndef SIO_TESTING_TESTING_H
#define SIO_TESTING_TESTING_H

#include "api.h"

/* cffi: begin */

/* Before the first step: what the system calls of a flow shall answer. */
void sio_test_transfer(struct sio_transfer *t, struct sio_faults *faults);
/* The writer of its private pipe, and what ends a wait; -1: there is none. */
int sio_test_pipe_writer(const struct sio_transfer *t);
int sio_test_wake_fd(const struct sio_transfer *t);
/* Close the pipes that no call uses now. */
void sio_test_trim(struct sio_spare_pipes *shared);
/* Lock or unlock them, as another thread may have at any moment. */
void sio_test_lock(struct sio_spare_pipes *shared, int lock);
/* Of a fan-out: how much sink i has in its own pipe; whether some of a head in
 * memory has been given away;
 * whether the source has ended. */
int64_t sio_test_staged(const struct sio_fanout *f, int32_t i);
int sio_test_in_memory(const struct sio_fanout *f);
int sio_test_source_ended(const struct sio_fanout *f);
/* A sink that is full has been so for so much longer. */
void sio_test_full_for(struct sio_fanout *f, int32_t i, int64_t ns);
/* Of a job that is over: when it did, and when it should have for idling. */
int64_t sio_test_ended(const struct sio_conn *conn);
int64_t sio_test_idle_at(const struct sio_conn *conn);
/* So much is still to be taken. */
void sio_test_set_left(struct sio_transfer *t, int64_t left);

/* Before start: what the engine's system calls shall answer, and after how long
 * a full destination is asked again. */
void sio_test_engine(struct sio_engine *e, struct sio_faults *faults,
		     int64_t stall_ns);
/* Let so much time pass for it. */
void sio_test_skip(struct sio_engine *e, int64_t ns);

/* sio_proxy_read and sio_proxy_write. */
int sio_test_read_header(const unsigned char *data, int32_t len,
			 struct sio_peer *client, struct sio_peer *server);
int sio_test_write_header(int version, const struct sio_peer *client,
			  const struct sio_peer *server, unsigned char *out);

/* cffi: end */

#endif
