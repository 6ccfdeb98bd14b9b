/*
 * syscalls.h: one shim a system call: a count or -errno, nothing else.
 */
#ifndef SIO_BASE_SYSCALLS_H
#define SIO_BASE_SYSCALLS_H

#include "api.h"

/* A slot of a pipe takes one page at the most (less than a page of 64 KiB only
 * makes the estimate careful). */
#define SIO_SLOT 4096
int64_t sio_now(void);

/* Add to a number that this thread alone changes, and others read: whole, also
 * where 64 bits are two words. */
static inline void sio_count(int64_t *number, int64_t n)
{
	__atomic_store_n(number, *number + n, __ATOMIC_RELAXED);
}

static inline int64_t sio_counted(const int64_t *number)
{
	return __atomic_load_n(number, __ATOMIC_RELAXED);
}

/* How many are ready, or -errno. */
int sio_poll(struct sio_seam *seam, struct pollfd *fds, int count, int ms);

/* Ready for `events` now?  An error or hang-up counts: the call will say. */
int sio_ready(struct sio_seam *seam, int fd, int events);

#endif
