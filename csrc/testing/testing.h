/*
 * testing.h: what the tests reach into the C for, and nothing else calls.
 *
 * Between the two markers is what the tests of Python may call.
 */
#ifndef SIO_TESTING_TESTING_H
#define SIO_TESTING_TESTING_H

#include "api.h"

/* cffi: begin */

/* Before start: what the engine's system calls shall answer, and after how long
 * a full destination is asked again. */
void sio_test_engine(struct sio_engine *e, struct sio_seam *seam,
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
