/*
 * names.h: one shim a system call that takes a name: 0, a count or -errno.
 *
 * `folder` is an open directory, or AT_FDCWD.
 */
#ifndef SIO_BASE_NAMES_H
#define SIO_BASE_NAMES_H

#include "api.h"

struct stat;
struct timespec;

/* linux/stat.h, which not every libc has. */
#define SIO_ATTR_IMMUTABLE 0x10
#define SIO_ATTR_APPEND 0x20
#define SIO_ATTR_MOUNT_ROOT 0x2000

/* What a name or, where it is "", an open file is. */
struct sio_found {
	uint64_t attributes;    /* STATX_ATTR_*; 0 where the kernel does not tell */
	struct sio_identity is;
	int64_t size;
	int64_t blocks;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
};

/* Close-on-exec. */
int sio_open_at(struct sio_faults *faults, int folder, const char *path, int flags,
		uint32_t mode);
/* What a name leads to. */
int sio_stat(struct sio_faults *faults, const char *path, struct stat *st);
int sio_fstat(struct sio_faults *faults, int fd, struct stat *st);
/* A link is not followed. */
int sio_found_at(struct sio_faults *faults, int folder, const char *path,
		 struct sio_found *found);
/* May the effective user write it?  -ENOSYS before Linux 5.8. */
int sio_writable(struct sio_faults *faults, const char *path);
/* The type of a filesystem. */
int64_t sio_filesystem(struct sio_faults *faults, int fd);
/* How many bytes an attribute of an open file takes. */
int64_t sio_attribute(struct sio_faults *faults, int fd, const char *name);
/* How many bytes the names of all attributes take; a NULL path: of an open file. */
int64_t sio_attributes(struct sio_faults *faults, int fd, const char *path);
int sio_chmod(struct sio_faults *faults, int fd, uint32_t mode);
/* Of the last access, and of the last change. */
int sio_utimes(struct sio_faults *faults, int fd, const struct timespec times[2]);
/* Give an open file without a name one that is free. */
int sio_link(struct sio_faults *faults, int fd, const char *path);
int sio_rename(struct sio_faults *faults, int folder, const char *from, const char *to);
/* Random bits, or -errno. */
int64_t sio_random(struct sio_faults *faults, uint32_t *bits);

#endif
