/*
 * copy_file.c: a small file to a path, in one call.
 *
 * The long way (spliceio/_files) has the words, the options and every kind of
 * target.  This is the part of it that nearly every file takes, with no look that
 * it does not need: what is unusual in any way is left to the long way.
 *
 * Rule 1: SIO_UNTRIED, and nothing is there that was not there before; or all of
 *         it is done.  So whatever the kernel refuses is asked again by the long
 *         way, which says what it was.
 * Rule 2: a path is the old file or the whole new one.  A new file has no name
 *         (O_TMPFILE) before it is whole, where the filesystem has such; one
 *         that replaces another is made beside it and renamed, since no call
 *         links over a name.
 * Rule 3: who may use it is what the long way makes of it: an ACL, an attribute,
 *         another owner, a special bit, anything that the directory adds is its;
 *         and so is what of a source is to be preserved over an old file.
 * Rule 4: the paths of a new file are looked up as often as they are used; its
 *         directory is held open only where something has a name that may have to
 *         be removed.  Each look-up costs less than to open and to close it.
 */
#define _GNU_SOURCE
#include "api.h"
#include "base/faults.h"
#include "base/names.h"
#include "base/syscalls.h"
#include "transfer/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define ACL "system.posix_acl_access"
/* The least that a filesystem makes a hole of. */
#define BLOCK 512
/* How much of the name is in that of the part, and how long it gets. */
#define MOST_NAME 200
#define PART_NAME (MOST_NAME + sizeof("..12345678.part"))

struct job {
	struct sio_file_copy *c;
	struct sio_faults *faults;
	const char *dst;
	const char *name;       /* the last part of dst */
	int options;            /* enum sio_file_option */
	int src;
	int to;
	int folder;             /* of a part; else -1 */
	int is_new;
	int is_solid;           /* it has no hole, as far as can be told */
	struct sio_found old;
	struct stat from;
	int32_t order[6];       /* the methods to try */
	char part[PART_NAME];   /* "": there is none */
};

static void at(struct job *j, int phase)
{
	if (j->faults)
		j->faults->phase = phase;
}

/* Split dst: 1, or 0 where it has no name that a file could take. */
static int split(struct job *j)
{
	const char *slash = strrchr(j->dst, '/');
	size_t len = slash ? (size_t)(slash - j->dst) : 0;

	j->name = slash ? slash + 1 : j->dst;
	if (!*j->name || !strcmp(j->name, ".") || !strcmp(j->name, "..") ||
	    len >= sizeof(j->c->folder))
		return 0;
	memcpy(j->c->folder, j->dst, len);
	strcpy(j->c->folder + len, len ? "" : slash ? "/" : ".");
	return 1;
}

/* What is there, before the source may get the number that it names. */
static int look_at_target(struct job *j)
{
	const uint64_t fixed = SIO_ATTR_IMMUTABLE | SIO_ATTR_APPEND |
			       SIO_ATTR_MOUNT_ROOT;
	int err;

	at(j, SIO_PHASE_DRAIN);
	err = sio_found_at(j->faults, AT_FDCWD, j->dst, &j->old);
	j->is_new = err == -ENOENT;
	if (err)
		return j->is_new;
	/* What the kernel makes up has no blocks. */
	return (j->options & ~SIO_FILE_NAMED) == SIO_FILE_OVERWRITE && S_ISREG(j->old.mode) && j->old.blocks &&
	       !(j->old.mode & (S_ISUID | S_ISGID)) &&
	       !(j->old.attributes & fixed);
}

/* Are the best methods for it those that are here? */
static int suits(struct job *j, int64_t filesystem)
{
	const struct sio_file_pair pair = {
		.dst_kind = SIO_KIND_FILE,
		.may_share = 1,
		.in_one_call = 1,
		.src_filesystem = filesystem,
		.size = j->from.st_size,
	};
	int32_t n = sio_plan_file(&pair, j->order);

	return n == 1 || (n == 2 && j->order[0] == SIO_CLONE);
}

/* Is st_size how much a file has, and is it here?  What the kernel makes up has
 * no blocks; on some filesystems neither has a file that is empty, or lies in its
 * inode.  Network filesystems have no device. */
static int is_plain(struct job *j)
{
	int64_t filesystem = major(j->from.st_dev) ? 0 : SIO_ANY_FILESYSTEM;

	if (j->from.st_blocks && suits(j, filesystem))
		return 1;
	filesystem = sio_filesystem(j->faults, j->src);
	return sio_is_local(filesystem) && suits(j, filesystem);
}

/* Looked at before it is opened, because that lets a FIFO's writer go and a
 * device act. */
static int open_source(struct job *j, const char *path)
{
	const int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;

	at(j, SIO_PHASE_FILL);
	if (sio_stat(j->faults, path, &j->from) || !S_ISREG(j->from.st_mode) ||
	    j->from.st_size > SIO_FILE_MOST)
		return 0;
	j->src = sio_open_at(j->faults, AT_FDCWD, path, flags, 0);
	return j->src >= 0 && !sio_fstat(j->faults, j->src, &j->from) &&
	       S_ISREG(j->from.st_mode) && j->from.st_size <= SIO_FILE_MOST &&
	       is_plain(j) &&
	       (j->is_new || j->from.st_dev != j->old.is.dev ||
		j->from.st_ino != j->old.is.ino);
}

static int has_none(int64_t answer)
{
	return !answer || answer == -EOPNOTSUPP || answer == -ENOSYS ||
	       answer == -ENODATA;
}

/* Beside the target, in a directory that lets it be removed. */
static int make_part(struct job *j, uint32_t mode)
{
	struct sio_found folder;
	uint32_t bits;

	j->folder = sio_open_at(j->faults, AT_FDCWD, j->c->folder,
				O_PATH | O_DIRECTORY, 0);
	if (j->folder < 0 || sio_found_at(j->faults, j->folder, "", &folder) ||
	    (folder.attributes & SIO_ATTR_APPEND) ||
	    sio_random(j->faults, &bits) != sizeof(bits))
		return 0;
	(void)snprintf(j->part, sizeof(j->part), ".%.*s.%08x.part", MOST_NAME,
		       j->name, bits);
	j->to = sio_open_at(j->faults, j->folder, j->part,
			    O_WRONLY | O_CREAT | O_EXCL, mode);
	if (j->to < 0)
		j->part[0] = 0;
	return j->to >= 0;
}

/* The mode of the source; but the group bits of one with an ACL are its mask.
 * Where there are only files with a name, and one may be replaced that appears
 * meanwhile, it is made beside. */
static int make_new(struct job *j)
{
	uint32_t mode = j->from.st_mode & 0777;

	at(j, SIO_PHASE_FILL);
	if (((mode & 070) || (j->options & SIO_FILE_MODE)) &&
	    !has_none(sio_attribute(j->faults, j->src, ACL)))
		return 0;
	if ((j->options & SIO_FILE_XATTRS) &&
	    !has_none(sio_attributes(j->faults, j->src, NULL)))
		return 0;
	at(j, SIO_PHASE_DRAIN);
	j->to = j->options & SIO_FILE_NAMED ?
			-EOPNOTSUPP :
			sio_open_at(j->faults, AT_FDCWD, j->c->folder,
				    O_TMPFILE | O_WRONLY, mode);
	if ((j->to == -EOPNOTSUPP || j->to == -EISDIR) &&
	    (j->options & SIO_FILE_OVERWRITE))
		return make_part(j, mode);
	return j->to >= 0;
}

/* Closed to all but its owner, who has to be that of the old file; neither may
 * have more than a mode. */
static int make_successor(struct job *j)
{
	struct stat st;

	at(j, SIO_PHASE_DRAIN);
	return !sio_writable(j->faults, j->dst) &&
	       has_none(sio_attributes(j->faults, -1, j->dst)) &&
	       make_part(j, 0600) && !sio_fstat(j->faults, j->to, &st) &&
	       st.st_uid == j->old.uid && st.st_gid == j->old.gid &&
	       has_none(sio_attributes(j->faults, j->to, NULL));
}

/* A hole is read as zeros. */
static int has_zero_block(const unsigned char *data, int64_t len)
{
	for (int64_t i = 0; i < len; i += BLOCK) {
		size_t n = len - i < BLOCK ? (size_t)(len - i) : BLOCK;

		if (!data[i] && !memcmp(data + i, data + i + 1, n - 1))
			return 1;
	}
	return 0;
}

static int has_hole(struct job *j)
{
	int64_t end;

	if (j->is_solid)
		return 0;
	at(j, SIO_PHASE_FILL);
	end = sio_seek(j->faults, j->src, 0, 1);
	j->is_solid = end != -EINTR && (end < 0 || end >= j->from.st_size);
	return !j->is_solid;
}

/* 0 where there is not so much room. */
static int reserve(struct job *j)
{
	int err;

	if (!sio_plan_reserves(SIO_ANY_FILESYSTEM, j->from.st_size))
		return 1;
	at(j, SIO_PHASE_DIRECT);
	if (!sio_plan_reserves(sio_filesystem(j->faults, j->to), j->from.st_size))
		return 1;
	err = sio_fallocate(j->faults, j->to, j->from.st_size);
	return err != -ENOSPC && err != -EDQUOT && err != -EFBIG && err != -EINTR;
}

/* 1: its blocks are shared; -1: they cannot be. */
static int share(struct job *j)
{
	int64_t n;

	at(j, SIO_PHASE_DIRECT);
	n = sio_clone(j->faults, j->src, j->to);
	if (n == j->from.st_size)
		return 1;
	if (n != -EOPNOTSUPP && n != -EXDEV && n != -EINVAL)
		return 0;
	j->c->refused = (int32_t)-n;
	return -1;
}

/* All up to its end, which has to be where it was: one byte more is asked for. */
static int read_and_write(struct job *j)
{
	int64_t size = j->from.st_size, done = 0, len, n;

	do {
		len = size - done + 1;
		if (len > SIO_FILE_BUF)
			len = SIO_FILE_BUF;
		at(j, SIO_PHASE_FILL);
		n = sio_read(j->faults, j->src, &done, j->c->buf, len);
		if (n < 0 || (has_zero_block(j->c->buf, n) && has_hole(j)))
			return 0;
		at(j, SIO_PHASE_DRAIN);
		if (n && sio_write(j->faults, j->to, NULL, j->c->buf, n) != n)
			return 0;
		done += n;
	} while (n == len && done <= size);
	return done == size;
}

/* The method, or 0. */
static int move(struct job *j)
{
	int shared = j->order[0] == SIO_CLONE ? share(j) : -1;

	if (shared >= 0)
		return shared ? SIO_CLONE : 0;
	return reserve(j) && read_and_write(j) ? SIO_READ_WRITE : 0;
}

/* The owner has to be right already, and the directory may have added no ACL.
 * The times last: all else changes them. */
static int preserve(struct job *j)
{
	const struct timespec times[2] = { j->from.st_atim, j->from.st_mtim };
	struct stat st;

	at(j, SIO_PHASE_DRAIN);
	if ((j->options & SIO_FILE_OWNER) &&
	    (sio_fstat(j->faults, j->to, &st) || st.st_uid != j->from.st_uid ||
	     st.st_gid != j->from.st_gid))
		return 0;
	if ((j->options & SIO_FILE_MODE) &&
	    (!has_none(sio_attribute(j->faults, j->to, ACL)) ||
	     sio_chmod(j->faults, j->to, j->from.st_mode & 07777)))
		return 0;
	return !(j->options & SIO_FILE_TIMES) ||
	       !sio_utimes(j->faults, j->to, times);
}

static int publish(struct job *j)
{
	at(j, SIO_PHASE_DRAIN);
	if (!j->part[0])
		return !sio_link(j->faults, j->to, j->dst);
	if (!j->is_new && sio_chmod(j->faults, j->to, j->old.mode & 07777))
		return 0;
	if (sio_rename(j->faults, j->folder, j->part, j->name))
		return 0;
	j->part[0] = 0;
	return 1;
}

static int whole(struct job *j, const char *src)
{
	int method;

	if (!split(j) || !look_at_target(j) || !open_source(j, src))
		return 0;
	if (j->from.st_blocks * 512 < j->from.st_size && has_hole(j))
		return 0;
	if (!(j->is_new ? make_new(j) : make_successor(j)))
		return 0;
	method = move(j);
	return method && preserve(j) && publish(j) ? method : 0;
}

/* Of the process's own calls, so that no script of a test leaves anything. */
static void put_away(struct job *j)
{
	if (j->part[0])
		(void)unlinkat(j->folder, j->part, 0);
	if (j->src >= 0)
		close(j->src);
	if (j->to >= 0)
		close(j->to);
	if (j->folder >= 0)
		close(j->folder);
}

int64_t sio_copy_file(struct sio_file_copy *c, const char *src, const char *dst,
		      int options)
{
	struct job j = { .c = c, .faults = c->faults, .dst = dst,
			 .options = options, .src = -1, .to = -1, .folder = -1 };
	int method;

	c->refused = 0;
	method = whole(&j, src);
	put_away(&j);
	return method ? (int64_t)j.from.st_size << SIO_ACT_SHIFT | method :
			-SIO_UNTRIED;
}
