/*
 * look.c: what a first try asks of a descriptor.
 *
 * Nothing is moved, changed or waited for here.
 */
#define _GNU_SOURCE
#include "transfer/look.h"

#include <linux/magic.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

int sio_option(int fd, int name)
{
	int value = -1;
	socklen_t size = sizeof(value);

	(void)getsockopt(fd, SOL_SOCKET, name, &value, &size);
	return value;
}

int sio_is_tcp(int fd)
{
	int protocol = sio_option(fd, SO_PROTOCOL);

	return protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
}

int sio_is_same(const struct sio_identity *one, const struct stat *st)
{
	return one->dev == st->st_dev && one->ino == st->st_ino;
}

int sio_look(int fd, struct sio_identity *id, struct stat *st)
{
	if (fstat(fd, st))
		return 0;
	id->dev = st->st_dev;
	id->ino = st->st_ino;
	return S_ISREG(st->st_mode) || S_ISFIFO(st->st_mode) ||
	       (S_ISSOCK(st->st_mode) &&
		sio_option(fd, SO_TYPE) == SOCK_STREAM);
}

int64_t sio_file_rest(int fd, const struct stat *st, int64_t offset)
{
	if (offset < 0)
		offset = lseek(fd, 0, SEEK_CUR);
	return offset < 0 || offset > st->st_size ? 0 : st->st_size - offset;
}

int sio_is_in_memory(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC;
}
