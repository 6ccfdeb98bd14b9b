/*
 * fdinfo.c: what is this descriptor?  Asked once a transfer, never while bytes
 * move; changes nothing, and never fails: a closed number is an answer too.
 */
#define _GNU_SOURCE
#include "api.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* linux/magic.h has not all of them. */
#define CONFIGFS 0x62656570
#define FUSE 0x65735546

static int32_t option(int fd, int name)
{
	int value = 0;
	socklen_t size = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0)
		return 0;
	return value;
}

static int socket_kind(int fd, struct sio_fdinfo *about)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);
	int inet;

	about->domain = option(fd, SO_DOMAIN);
	about->type = option(fd, SO_TYPE);
	about->protocol = option(fd, SO_PROTOCOL);
	about->listening = option(fd, SO_ACCEPTCONN) != 0;
	about->connected = !getpeername(fd, (struct sockaddr *)&peer, &size) ||
			   errno != ENOTCONN;
	inet = about->domain == AF_INET || about->domain == AF_INET6;
	return inet && about->type == SOCK_STREAM &&
			       (about->protocol == IPPROTO_TCP ||
				about->protocol == IPPROTO_MPTCP)
		       ? SIO_KIND_TCP
		       : SIO_KIND_SOCKET;
}

static int64_t filesystem(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) ? 0 : (int64_t)fs.f_type;
}

static int file_kind(int fd, struct sio_fdinfo *about)
{
	uint64_t size;
	int seals = fcntl(fd, F_GET_SEALS);

	about->seals = seals < 0 ? 0 : seals;
	about->filesystem = filesystem(fd);
	if (S_ISBLK(about->mode) && !ioctl(fd, BLKGETSIZE64, &size))
		about->size = (int64_t)size;
	return SIO_KIND_FILE;
}

/* One that is hung up is a terminal still, and says EIO to every question. */
static int is_tty(int fd)
{
	return isatty(fd) || errno == EIO;
}

/* An epoll or a pidfd never becomes ready for bytes, and would be waited for in
 * vain.  A vector without a byte is refused where there is no call to read or
 * write, and else reaches nobody. */
static void ask_for_calls(int fd, struct sio_fdinfo *about)
{
	struct iovec none = { .iov_base = NULL, .iov_len = 0 };
	int unread;

	about->no_read = readv(fd, &none, 1) < 0 && errno == EINVAL;
	about->no_write = writev(fd, &none, 1) < 0 && errno == EINVAL;
	/* fanotify takes answers to its events and nothing else, and is never
	 * ready for them: the one nameless object that is written to and knows
	 * FIONREAD. */
	if (!(about->mode & S_IFMT) && !ioctl(fd, FIONREAD, &unread))
		about->no_write = 1;
}

void sio_fdinfo(int fd, struct sio_fdinfo *about)
{
	struct stat st;

	memset(about, 0, sizeof(*about));
	about->kind = SIO_KIND_OTHER;
	about->flags = fcntl(fd, F_GETFL);
	if (about->flags < 0 || fstat(fd, &st) < 0) {
		about->err = errno;
		return;
	}
	about->mode = st.st_mode;
	about->dev = st.st_dev;
	about->rdev = st.st_rdev;
	about->ino = st.st_ino;
	about->size = st.st_size;
	if (S_ISSOCK(st.st_mode))
		about->kind = socket_kind(fd, about);
	else if (S_ISFIFO(st.st_mode))
		about->kind = SIO_KIND_PIPE;
	else if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		about->kind = file_kind(fd, about);
	else if (S_ISCHR(st.st_mode) && is_tty(fd))
		about->kind = SIO_KIND_TTY;
	else if (S_ISDIR(st.st_mode))
		about->filesystem = filesystem(fd);
	else
		ask_for_calls(fd, about);
}

int sio_has_size(int64_t filesystem, int64_t size)
{
	switch (filesystem) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case SECURITYFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case CONFIGFS:
	case BPF_FS_MAGIC:
	case EFIVARFS_MAGIC:
	case PSTOREFS_MAGIC:
	case SELINUX_MAGIC:
	case BINFMTFS_MAGIC:
		return 0;
	case FUSE:
		return size != 0;
	default:
		return 1;
	}
}

uint64_t sio_statx_attributes(int fd)
{
#if defined(SYS_statx) && defined(STATX_ATTR_APPEND)
	struct statx found;

	if (!syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0, &found))
		return found.stx_attributes;
#endif
	return 0;
}
