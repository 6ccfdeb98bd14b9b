/*
 * faults.c: lets a test script what a system call answers.
 *
 * Rule 1: with a NULL seam no shim comes here.
 * Rule 2: a capped call is a real one, so bytes stay true; only failures and
 *         zeros are invented.
 */
#include "base/faults.h"

static int matches(const struct sio_seam *seam, const struct sio_rule *rule,
		   int call)
{
	return rule->call == call && rule->times > 0 &&
	       (rule->site == SIO_SITE_ANY || rule->site == seam->site);
}

int64_t sio_seam_before(struct sio_seam *seam, int call, int64_t *len,
			int64_t *answer)
{
	seam->capped = 0;
	for (int i = 0; i < seam->rule_count; i++) {
		struct sio_rule *rule = &seam->rules[i];

		if (!matches(seam, rule, call))
			continue;
		if (rule->skip > 0) {
			rule->skip--;
			return 0;
		}
		rule->times--;
		if (rule->action == SIO_CAP) {
			if (*len > rule->value) {
				*len = rule->value;
				seam->capped = 1;
			}
			return 0;
		}
		*answer = rule->action == SIO_FAIL ? -rule->value : 0;
		return 1;
	}
	return 0;
}

void sio_seam_after(struct sio_seam *seam, int call, int in, int out,
		    uint32_t flags, int64_t len, int64_t result)
{
	if (seam->log_count < seam->log_size) {
		struct sio_log_row *row = &seam->log[seam->log_count];

		row->call = call;
		row->site = seam->site;
		row->in = in;
		row->out = out;
		row->flags = flags;
		row->len = len;
		row->result = result;
	}
	seam->log_count++;
}
