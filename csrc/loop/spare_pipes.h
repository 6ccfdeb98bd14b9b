/*
 * spare_pipes.h: empty pipes that are kept for the next user.
 */
#ifndef SIO_LOOP_SPARE_PIPES_H
#define SIO_LOOP_SPARE_PIPES_H

#include "api.h"

#include <pthread.h>

/* How many a process may have: of 1 MiB each, of the 64 MiB that a user's processes
 * may have together. */
#define SIO_SPARES 4
/* What a pipe between two ends is asked to hold. */
#define SIO_PIPE_SIZE (1 << 20)

/* Owns both descriptors; -1: there is no pipe. */
struct sio_pipe {
	int32_t reader;
	int32_t writer;
	int64_t held;           /* bytes in it */
	int64_t size;
	int32_t pid;            /* whose spare pipe it is to be again; 0: nobody's */
	struct sio_identity is; /* then: which pipe it is */
};

/* Of one thread.  The memory is the owner's, the pipes in it are the stack's. */
struct sio_spares {
	struct sio_pipe *each;
	int32_t count;
	int32_t most;
};

/* Of a process; owns those in its stack. */
struct sio_spare_pipes {
	pthread_mutex_t lock;
	int32_t pid;            /* who may use them */
	int32_t open;           /* how many there are, those in use too */
	struct sio_spares spares;
	struct sio_pipe each[SIO_SPARES];
};

/* 1, and there is no pipe any more where it was; 0: it is the caller's to close. */
int sio_spares_push(struct sio_spares *spares, struct sio_pipe *pipe, int suspect);
/* 0: there is none. */
int sio_spares_pop(struct sio_spares *spares, struct sio_pipe *pipe);

/* A pipe for who has none: 0, or -errno.  One of the process's; when all of those
 * are in use, or a test has to see it made, a new one of `size`, 0 for the kernel's
 * default.  `shared` may be NULL. */
int sio_spare_take(struct sio_spare_pipes *shared, struct sio_faults *faults,
		   int64_t size, struct sio_pipe *pipe);
/* Give it back, or close it: for every pipe, whoever's.  `shared` may be NULL. */
void sio_spare_give(struct sio_spare_pipes *shared, struct sio_pipe *pipe,
		    int suspect);
/* Close those that nobody uses. */
void sio_spare_trim(struct sio_spare_pipes *shared);

#endif
