/*
 * names.c: one shim a system call that takes a name: 0, a count or -errno.
 *
 * As in syscalls.c: no retry, no fallback, no waiting, no policy.
 */
#define _GNU_SOURCE
#include "base/names.h"
#include "base/shim.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* linux/fcntl.h: newer than some headers. */
#ifndef AT_EACCESS
#define AT_EACCESS 0x200
#endif

/* glibc before 2.21 does not pass the mode of a file without a name on. */
static long open_file(int folder, const char *path, int flags, uint32_t mode)
{
	flags |= O_CLOEXEC;
	if ((flags & O_TMPFILE) == O_TMPFILE)
		return syscall(SYS_openat, folder, path, flags, mode);
	return openat(folder, path, flags, (mode_t)mode);
}

static int64_t open_shim(struct sio_faults *faults, int folder, const char *path,
			 int flags, uint32_t mode, int64_t len)
{
	SIO_SHIM(SIO_CALL_OPEN, folder, -1, (uint32_t)flags,
		 open_file(folder, path, flags, mode));
}

int sio_open_at(struct sio_faults *faults, int folder, const char *path, int flags,
		uint32_t mode)
{
	return (int)open_shim(faults, folder, path, flags, mode, 0);
}

static int64_t stat_shim(struct sio_faults *faults, const char *path,
			 struct stat *st, int64_t len)
{
	SIO_SHIM(SIO_CALL_STAT, -1, -1, 0, stat(path, st));
}

int sio_stat(struct sio_faults *faults, const char *path, struct stat *st)
{
	return (int)stat_shim(faults, path, st, 0);
}

static int64_t fstat_shim(struct sio_faults *faults, int fd, struct stat *st,
			  int64_t len)
{
	SIO_SHIM(SIO_CALL_STAT, fd, -1, 0, fstat(fd, st));
}

int sio_fstat(struct sio_faults *faults, int fd, struct stat *st)
{
	return (int)fstat_shim(faults, fd, st, 0);
}

/* A libc without struct statx: without the attributes, as on a kernel that does
 * not tell them. */
#if defined(SYS_statx) && defined(STATX_ATTR_APPEND)
static int ask(int folder, const char *path, struct sio_found *found)
{
	struct statx st;

	if (syscall(SYS_statx, folder, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH,
		    STATX_BASIC_STATS, &st))
		return -1;
	found->attributes = st.stx_attributes;
	found->is.dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	found->is.ino = st.stx_ino;
	found->size = (int64_t)st.stx_size;
	found->blocks = (int64_t)st.stx_blocks;
	found->mode = st.stx_mode;
	found->uid = st.stx_uid;
	found->gid = st.stx_gid;
	return 0;
}
#else
static int ask(int folder, const char *path, struct sio_found *found)
{
	struct stat st;

	if (fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -1;
	found->attributes = 0;
	found->is = (struct sio_identity){ st.st_dev, st.st_ino };
	found->size = st.st_size;
	found->blocks = st.st_blocks;
	found->mode = st.st_mode;
	found->uid = st.st_uid;
	found->gid = st.st_gid;
	return 0;
}
#endif

static int64_t found_shim(struct sio_faults *faults, int folder, const char *path,
			  struct sio_found *found, int64_t len)
{
	SIO_SHIM(SIO_CALL_STAT, folder, -1, AT_SYMLINK_NOFOLLOW,
		 ask(folder, path, found));
}

int sio_found_at(struct sio_faults *faults, int folder, const char *path,
		 struct sio_found *found)
{
	return (int)found_shim(faults, folder, path, found, 0);
}

/* The libc's own faccessat() makes it up of other calls, or forks. */
static long may_write(const char *path)
{
#ifdef SYS_faccessat2
	return syscall(SYS_faccessat2, AT_FDCWD, path, W_OK, AT_EACCESS);
#else
	(void)path;
	errno = ENOSYS;
	return -1;
#endif
}

static int64_t access_shim(struct sio_faults *faults, const char *path, int64_t len)
{
	SIO_SHIM(SIO_CALL_ACCESS, -1, -1, W_OK, may_write(path));
}

int sio_writable(struct sio_faults *faults, const char *path)
{
	return (int)access_shim(faults, path, 0);
}

static int64_t filesystem_shim(struct sio_faults *faults, int fd, struct statfs *fs,
			       int64_t len)
{
	SIO_SHIM(SIO_CALL_STATFS, fd, -1, 0, fstatfs(fd, fs));
}

int64_t sio_filesystem(struct sio_faults *faults, int fd)
{
	struct statfs fs = { 0 };
	int64_t err = filesystem_shim(faults, fd, &fs, 0);

	return err ? err : (int64_t)(uint32_t)fs.f_type;
}

static int64_t attribute_shim(struct sio_faults *faults, int fd, const char *name,
			      int64_t len)
{
	SIO_SHIM(SIO_CALL_XATTR, fd, -1, 0, fgetxattr(fd, name, NULL, 0));
}

int64_t sio_attribute(struct sio_faults *faults, int fd, const char *name)
{
	return attribute_shim(faults, fd, name, 0);
}

static int64_t attributes_shim(struct sio_faults *faults, int fd, const char *path,
			       int64_t len)
{
	SIO_SHIM(SIO_CALL_XATTR, fd, -1, 0,
		 path ? listxattr(path, NULL, 0) : flistxattr(fd, NULL, 0));
}

int64_t sio_attributes(struct sio_faults *faults, int fd, const char *path)
{
	return attributes_shim(faults, fd, path, 0);
}

static int64_t chmod_shim(struct sio_faults *faults, int fd, uint32_t mode,
			  int64_t len)
{
	SIO_SHIM(SIO_CALL_CHMOD, -1, fd, mode, fchmod(fd, (mode_t)mode));
}

int sio_chmod(struct sio_faults *faults, int fd, uint32_t mode)
{
	return (int)chmod_shim(faults, fd, mode, 0);
}

static int64_t utimes_shim(struct sio_faults *faults, int fd,
			   const struct timespec times[2], int64_t len)
{
	SIO_SHIM(SIO_CALL_UTIMES, -1, fd, 0, futimens(fd, times));
}

int sio_utimes(struct sio_faults *faults, int fd, const struct timespec times[2])
{
	return (int)utimes_shim(faults, fd, times, 0);
}

/* By its number, which takes a privilege before Linux 6.10; or by its link, which
 * takes a /proc. */
static int link_file(int fd, const char *path)
{
	char link[sizeof("/proc/self/fd/") + 3 * sizeof(fd)];

	if (!linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH))
		return 0;
	if (errno != ENOENT && errno != EINVAL)
		return -1;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

static int64_t link_shim(struct sio_faults *faults, int fd, const char *path,
			 int64_t len)
{
	SIO_SHIM(SIO_CALL_LINK, -1, fd, 0, link_file(fd, path));
}

int sio_link(struct sio_faults *faults, int fd, const char *path)
{
	return (int)link_shim(faults, fd, path, 0);
}

static int64_t rename_shim(struct sio_faults *faults, int folder, const char *from,
			   const char *to, int64_t len)
{
	SIO_SHIM(SIO_CALL_RENAME, -1, folder, 0, renameat(folder, from, folder, to));
}

int sio_rename(struct sio_faults *faults, int folder, const char *from, const char *to)
{
	return (int)rename_shim(faults, folder, from, to, 0);
}

static int64_t random_shim(struct sio_faults *faults, uint32_t *bits, int64_t len)
{
	SIO_SHIM(SIO_CALL_RANDOM, -1, -1, 0,
		 syscall(SYS_getrandom, bits, sizeof(*bits), 1 /* GRND_NONBLOCK */));
}

int64_t sio_random(struct sio_faults *faults, uint32_t *bits)
{
	return random_shim(faults, bits, sizeof(*bits));
}
