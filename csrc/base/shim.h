/*
 * shim.h: what makes a shim of a system call; for the units that have some.
 */
#ifndef SIO_BASE_SHIM_H
#define SIO_BASE_SHIM_H

#include "base/faults.h"

#include <errno.h>
#include <sys/types.h>

/* Wrap a call so that the faults are asked before it and note it after. */
#define SIO_SHIM(call, in, out, flags, expression)                            \
	do {                                                                  \
		int64_t n_ = 0;                                               \
		if (!faults || !sio_faults_before(faults, (call), &len, &n_))       \
			n_ = result((expression));                            \
		if (faults)                                                     \
			sio_faults_after(faults, (call), (in), (out), (flags),    \
				       len, n_);                              \
		return n_;                                                    \
	} while (0)

static inline int64_t result(ssize_t n)
{
	return n < 0 ? -errno : (int64_t)n;
}

#endif
