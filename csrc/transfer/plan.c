/*
 * plan.c: which methods suit a pair of descriptors, best first.
 *
 * Only a plan: the kernel has the last word, and what it refuses falls to the
 * next.  Here is the one place that orders them: for a first try, for a transfer,
 * for a file that is copied whole, and for Python, which explains.
 */
#define _GNU_SOURCE
#include "transfer/plan.h"

#include <linux/magic.h>
#include <sys/stat.h>

#define BTRFS_MAGIC 0x9123683E
#define XFS_MAGIC 0x58465342
#define OVERLAY_MAGIC 0x794c7630
#define NFS_MAGIC 0x6969
#define CIFS_MAGIC 0xFF534D42
#define SMB2_MAGIC 0xFE534D42
#define FUSE_MAGIC 0x65735546
#define CEPH_MAGIC 0x00C36400
/* Up to this size a pipe costs more to make than it saves (measured). */
#define NO_PIPE (512 << 10)
/* Up to this size it is not worth asking those who keep the files elsewhere. */
#define NOT_ELSEWHERE (64 << 10)

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

int sio_is_local(int64_t filesystem)
{
	return filesystem == EXT4_SUPER_MAGIC || filesystem == TMPFS_MAGIC ||
	       filesystem == BTRFS_MAGIC || filesystem == XFS_MAGIC ||
	       filesystem == OVERLAY_MAGIC;
}

/* There copy_file_range is more than a loop of splices: the server or the daemon
 * may do the work. */
static int offloads(int64_t filesystem)
{
	return filesystem == NFS_MAGIC || filesystem == CIFS_MAGIC ||
	       filesystem == SMB2_MAGIC || filesystem == FUSE_MAGIC ||
	       filesystem == CEPH_MAGIC;
}

/* A first try does not know where dst is, and leaves what might be. */
static int goes_elsewhere(const struct sio_file_pair *pair)
{
	if (pair->in_one_call)
		return pair->size > NOT_ELSEWHERE && pair->src_filesystem &&
		       !sio_is_local(pair->src_filesystem);
	return pair->src_filesystem == pair->dst_filesystem &&
	       offloads(pair->src_filesystem);
}

int32_t sio_plan_file(const struct sio_file_pair *pair, int32_t *order)
{
	int n = 0, is_small = pair->size > 0 && pair->size <= NO_PIPE;

	if (pair->sees_zeros) {
		order[0] = SIO_READ_WRITE;
		return 1;
	}
	if (pair->dst_kind == SIO_KIND_PIPE) {
		order[0] = SIO_SPLICE;
		order[1] = SIO_READ_WRITE;
		return 2;
	}
	if (pair->may_share && pair->size > 0)
		order[n++] = SIO_CLONE;
	if (pair->may_share && pair->size > 0 && goes_elsewhere(pair))
		order[n++] = SIO_COPY_FILE_RANGE;
	/* Measured: in one call no slower than sendfile, and faster on ext4.  In
	 * slices, sendfile and copy_file_range go by 64 KiB inside the kernel,
	 * a pipe of 1 MiB takes more. */
	if (!pair->in_one_call) {
		order[n + is_small] = SIO_SPLICE_PIPE;
		order[n + !is_small] = SIO_SENDFILE;
		n += 2;
	}
	order[n++] = SIO_READ_WRITE;
	return n;
}

/* On tmpfs that fills the pages with zeros first, and costs more than it saves. */
int32_t sio_plan_reserves(int64_t filesystem, int64_t size)
{
	return size >= SIO_FILE_RESERVE && (filesystem == EXT4_SUPER_MAGIC ||
					    filesystem == SIO_ANY_FILESYSTEM);
}
