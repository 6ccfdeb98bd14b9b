/*
 * owned.c: a descriptor that has its owner before it exists.
 *
 * Python may run a signal handler that raises between the return of os.open()
 * and the name given to the number.  Here the number goes into the owner's
 * memory within the call that makes it, and leaves it within the one that
 * closes it.
 */
#define _GNU_SOURCE
#include "base/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers that a manylinux image builds with; one number, but for
 * alpha. */
#ifdef SYS_openat2
#define SYS_OPENAT2 SYS_openat2
#else
#define SYS_OPENAT2 437
#endif

static int keep(struct sio_owned *o, int64_t fd)
{
	if (fd < 0)
		return -errno;
	sio_owned_close(o);
	o->fd = (int32_t)fd;
	return 0;
}

int sio_owned_open(struct sio_owned *o, int folder, const char *path, int flags,
		   uint32_t mode)
{
	return keep(o, openat(folder, path, flags | O_CLOEXEC, (mode_t)mode));
}

int sio_owned_open_within(struct sio_owned *o, int folder, const char *path,
			  int flags, uint64_t resolve)
{
	struct how {
		uint64_t flags;
		uint64_t mode;
		uint64_t resolve;
	} how = { (uint64_t)(flags | O_CLOEXEC | O_LARGEFILE), 0, resolve };

	return keep(o, syscall(SYS_OPENAT2, folder, path, &how, sizeof(how)));
}

int sio_owned_dup(struct sio_owned *o, int fd)
{
	return keep(o, fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

int sio_owned_memfd(struct sio_owned *o, const char *name, uint32_t flags)
{
	return keep(o, syscall(SYS_memfd_create, name, flags));
}

int64_t sio_owned_pipe(struct sio_owned *reader, struct sio_owned *writer,
		       int64_t capacity)
{
	int r = -1, w = -1;
	int64_t granted = sio_pipe(NULL, &r, &w, capacity);

	if (granted >= 0) {
		sio_owned_close(reader);
		sio_owned_close(writer);
		reader->fd = r;
		writer->fd = w;
	}
	return granted;
}

void sio_owned_close(struct sio_owned *o)
{
	/* Two threads may come at once. */
	int fd = __atomic_exchange_n(&o->fd, -1, __ATOMIC_ACQ_REL);

	if (fd >= 0)
		close(fd);
}
