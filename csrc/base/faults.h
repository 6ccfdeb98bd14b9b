/*
 * faults.h: lets a test script what a system call answers.
 *
 * Between the two markers is what the tests of Python may use; the package uses
 * none of it.
 */
#ifndef SIO_BASE_FAULTS_H
#define SIO_BASE_FAULTS_H

#include "api.h"

/* cffi: begin */

enum sio_action {
	SIO_FAIL,               /* answer -value, do nothing */
	SIO_CAP,                /* do the call with at most value bytes */
	SIO_ZERO,               /* answer 0, do nothing */
	SIO_SWAP                /* let a number be another's, whatever becomes of the call: of
	                         * value the lower half is the number, the upper the other */
};

/* The first rule whose call and phase match, and whose turns are not used up,
 * lets `skip` calls pass and then acts on `times` of them. */
struct sio_rule {
	int32_t call;
	int32_t phase;
	int32_t skip;
	int32_t times;
	int32_t action;
	int64_t value;
};

struct sio_log_row {
	int32_t call;
	int32_t phase;
	int32_t in;
	int32_t out;
	uint32_t flags;
	int64_t len;
	int64_t result;
};

/* Owned by the test; log_count goes on counting when the log is full. */
struct sio_faults {
	struct sio_rule *rules;
	int32_t rule_count;
	int32_t phase;
	int32_t capped;         /* the last call was given less than it asked */
	struct sio_log_row *log;
	int32_t log_size;
	int32_t log_count;
};

/* cffi: end */

int64_t sio_faults_before(struct sio_faults *faults, int call, int64_t *len,
			int64_t *answer);
void sio_faults_after(struct sio_faults *faults, int call, int in, int out,
		    uint32_t flags, int64_t len, int64_t result);

#endif
