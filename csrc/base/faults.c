/*
 * faults.c: lets a test script what a system call answers.
 *
 * Rule 1: without faults no shim comes here.
 * Rule 2: a capped call is a real one, so bytes stay true; only failures and
 *         zeros are invented.
 */
#include "base/faults.h"

#include <unistd.h>

static int matches(const struct sio_faults *faults, const struct sio_rule *rule,
		   int call)
{
	return rule->call == call && rule->times > 0 &&
	       (rule->phase == SIO_PHASE_ANY || rule->phase == faults->phase);
}

static void swap(struct sio_rule *rule)
{
	if (rule->skip > 0) {
		rule->skip--;
		return;
	}
	rule->times--;
	(void)dup2((int)(rule->value >> 32), (int)(rule->value & INT32_MAX));
}

int64_t sio_faults_before(struct sio_faults *faults, int call, int64_t *len,
			int64_t *answer)
{
	faults->capped = 0;
	for (int i = 0; i < faults->rule_count; i++) {
		struct sio_rule *rule = &faults->rules[i];

		if (!matches(faults, rule, call))
			continue;
		if (rule->action == SIO_SWAP) {
			swap(rule);
			continue;
		}
		if (rule->skip > 0) {
			rule->skip--;
			return 0;
		}
		rule->times--;
		if (rule->action == SIO_CAP) {
			if (*len > rule->value) {
				*len = rule->value;
				faults->capped = 1;
			}
			return 0;
		}
		*answer = rule->action == SIO_FAIL ? -rule->value : 0;
		return 1;
	}
	return 0;
}

void sio_faults_after(struct sio_faults *faults, int call, int in, int out,
		    uint32_t flags, int64_t len, int64_t result)
{
	if (faults->log_count < faults->log_size) {
		struct sio_log_row *row = &faults->log[faults->log_count];

		row->call = call;
		row->phase = faults->phase;
		row->in = in;
		row->out = out;
		row->flags = flags;
		row->len = len;
		row->result = result;
	}
	faults->log_count++;
}
