/*
 * plan.c: which methods suit a pair of descriptors, best first.
 *
 * Only a plan: the kernel has the last word, and what it refuses falls to the
 * next.  Here is the one place that orders them: for a first try, for a transfer,
 * and for Python, which explains.
 */
#define _GNU_SOURCE
#include "transfer/plan.h"

#include <linux/magic.h>
#include <sys/stat.h>

int sio_plain_kind(uint32_t mode)
{
	return S_ISREG(mode) ? SIO_KIND_FILE :
	       S_ISFIFO(mode) ? SIO_KIND_PIPE :
	       S_ISSOCK(mode) ? SIO_KIND_SOCKET : -1;
}

static int is_stream(int kind)
{
	return kind == SIO_KIND_TCP || kind == SIO_KIND_SOCKET;
}

static int is_at_most(const struct sio_pair *pair, int64_t most)
{
	return pair->left > 0 && pair->left <= most;
}

/* Nothing there goes by one call inside the kernel. */
static int through_memory(const struct sio_pair *pair, int32_t *order)
{
	/* What is written to a file may have to wait for its disk. */
	int takes = is_stream(pair->dst_kind) ||
		    (pair->dst_kind == SIO_KIND_FILE && !pair->cached_only);
	int is_small = takes && is_stream(pair->src_kind) &&
		       is_at_most(pair, SIO_ACT_BUF);

	order[is_small] = SIO_SPLICE_PIPE;
	order[!is_small] = SIO_READ_WRITE;
	return 2;
}

static int file_to_file(const struct sio_pair *pair, int32_t *order)
{
	int n = 0;
	/* Measured: twice as fast there. */
	int sendfile_first = pair->src_filesystem == TMPFS_MAGIC &&
			     pair->dst_filesystem == TMPFS_MAGIC;

	if (sendfile_first && !pair->has_dst_offset)
		order[n++] = SIO_SENDFILE;
	order[n++] = SIO_COPY_FILE_RANGE;
	/* It writes at the file position only. */
	if (!sendfile_first && !pair->has_dst_offset)
		order[n++] = SIO_SENDFILE;
	order[n++] = SIO_SPLICE_PIPE;
	order[n++] = SIO_READ_WRITE;
	return n;
}

int32_t sio_plan(const struct sio_pair *pair, int32_t *order)
{
	int is_small;

	if (pair->src_kind == SIO_KIND_PIPE || pair->dst_kind == SIO_KIND_PIPE) {
		order[0] = SIO_SPLICE;
		order[1] = SIO_READ_WRITE;
		return 2;
	}
	if (pair->src_kind != SIO_KIND_FILE)
		return through_memory(pair, order);
	if (pair->dst_kind == SIO_KIND_FILE)
		return file_to_file(pair, order);
	is_small = is_stream(pair->dst_kind) &&
		   is_at_most(pair, pair->cached_only ? SIO_ACT_BUF : SIO_ACT_SMALL);
	order[is_small] = SIO_SENDFILE;
	order[!is_small] = SIO_READ_WRITE;
	return 2;
}
