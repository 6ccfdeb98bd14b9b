/*
 * modes.h: the blocking mode of sockets that engines have.
 */
#ifndef SIO_RELAY_MODES_H
#define SIO_RELAY_MODES_H

#include "api.h"

/* A socket that is nonblocking meanwhile. */
struct sio_saved_mode {
	uint64_t device;
	uint64_t inode;
	int32_t fd;             /* -1: none */
	int32_t was_blocking;
	struct sio_saved_mode *next;
};

/* Those of one job; zeroed, it has none. */
struct sio_saved_modes {
	struct sio_modes *modes; /* NULL: no mode is to be put back */
	struct sio_saved_mode each[4];
};

/* Make the sockets among fds nonblocking; put their modes back.  Both are safe to
 * repeat. */
void sio_modes_set(struct sio_saved_modes *saved_modes, struct sio_modes *modes,
		    const int32_t *fds);
void sio_modes_restore(struct sio_saved_modes *saved_modes);

#endif
