/*
 * faults.h: lets a test script what a system call answers.
 */
#ifndef SIO_BASE_FAULTS_H
#define SIO_BASE_FAULTS_H

#include "api.h"

int64_t sio_seam_before(struct sio_seam *seam, int call, int64_t *len,
			int64_t *answer);
void sio_seam_after(struct sio_seam *seam, int call, int in, int out,
		    uint32_t flags, int64_t len, int64_t result);

#endif
