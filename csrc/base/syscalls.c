/*
 * syscalls.c: one shim a system call: a count or -errno, nothing else.
 *
 * No retry, no fallback, no waiting, no policy.  Lengths are clamped to what
 * the kernel takes in one call.  Offsets are 64 bits whatever the libc.
 */
#define _GNU_SOURCE
#include "base/syscalls.h"
#include "base/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef SYS_cachestat
#if defined(__alpha__) || defined(__mips__)
#define SYS_cachestat -1        /* their numbers are their own */
#else
#define SYS_cachestat 451       /* from Linux 6.5 on */
#endif
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
/* linux/sock_diag.h, which not every libc ships: indexes into SO_MEMINFO. */
enum { MEM_SNDBUF = 3, MEM_WMEM_ALLOC = 2, MEM_WMEM_QUEUED = 5, MEM_VARS = 9 };

/* linux/tcp.h, newer than most headers: tcp_info.tcpi_rcv_wnd, as words. */
enum { INFO_RCV_WND = 58, INFO_WORDS };

/* What one packet costs the send buffer beside its data. */
#define PACKET_COST 1280

static int64_t clamp(int64_t len)
{
	return len > SIO_MAX_COUNT ? SIO_MAX_COUNT : len;
}

int64_t sio_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t sio_splice(struct sio_faults *faults, int in, int64_t *off_in, int out,
		   int64_t *off_out, int64_t len, uint32_t flags)
{
	loff_t at_in = off_in ? *off_in : 0, at_out = off_out ? *off_out : 0;

	len = clamp(len);
	SIO_SHIM(SIO_CALL_SPLICE, in, out, flags,
		 splice(in, off_in ? &at_in : NULL, out,
			off_out ? &at_out : NULL, (size_t)len, flags));
}

int64_t sio_tee(struct sio_faults *faults, int in, int out, int64_t len,
		uint32_t flags)
{
	len = clamp(len);
	SIO_SHIM(SIO_CALL_TEE, in, out, flags,
		 tee(in, out, (size_t)len, flags));
}

/* Of so many parts, how many are needed for len bytes; the last is cut. */
static size_t trim(struct iovec *iov, size_t count, int64_t len)
{
	size_t used = 0;

	for (; used < count && len > 0; used++) {
		if ((int64_t)iov[used].iov_len > len)
			iov[used].iov_len = (size_t)len;
		len -= (int64_t)iov[used].iov_len;
	}
	return used;
}

int64_t sio_vmsplice(struct sio_faults *faults, int fd, void **bases,
		     size_t *lens, size_t count, uint32_t flags)
{
	struct iovec iov[IOV_MAX];
	int64_t len = 0;

	if (count > IOV_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		iov[i].iov_base = bases[i];
		iov[i].iov_len = lens[i];
		len += (int64_t)lens[i];
	}
	SIO_SHIM(SIO_CALL_VMSPLICE, -1, fd, flags,
		 vmsplice(fd, iov, faults ? trim(iov, count, len) : count, flags));
}

int64_t sio_sendfile(struct sio_faults *faults, int out, int in, int64_t *off_in,
		     int64_t len)
{
	off_t at = off_in ? (off_t)*off_in : 0;

	len = clamp(len);
	SIO_SHIM(SIO_CALL_SENDFILE, in, out, 0,
		 sendfile(out, in, off_in ? &at : NULL, (size_t)len));
}

int64_t sio_copy_file_range(struct sio_faults *faults, int in, int64_t *off_in,
			    int out, int64_t *off_out, int64_t len)
{
	loff_t at_in = off_in ? *off_in : 0, at_out = off_out ? *off_out : 0;

	len = clamp(len);
	SIO_SHIM(SIO_CALL_COPY_FILE_RANGE, in, out, 0,
		 copy_file_range(in, off_in ? &at_in : NULL, out,
				 off_out ? &at_out : NULL, (size_t)len, 0));
}

int64_t sio_read(struct sio_faults *faults, int fd, int64_t *off, void *buf,
		 int64_t len)
{
	SIO_SHIM(SIO_CALL_READ, fd, -1, 0,
		 off ? pread(fd, buf, (size_t)len, (off_t)*off)
		     : read(fd, buf, (size_t)len));
}

int64_t sio_recv(struct sio_faults *faults, int fd, void *buf, int64_t len)
{
	SIO_SHIM(SIO_CALL_READ, fd, -1, 0,
		 recv(fd, buf, (size_t)len, MSG_DONTWAIT));
}

int64_t sio_write(struct sio_faults *faults, int fd, int64_t *off, const void *buf,
		  int64_t len)
{
	SIO_SHIM(SIO_CALL_WRITE, -1, fd, 0,
		 off ? pwrite(fd, buf, (size_t)len, (off_t)*off)
		     : write(fd, buf, (size_t)len));
}

int64_t sio_send(struct sio_faults *faults, int fd, const void *buf, int64_t len,
		 int more)
{
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);

	SIO_SHIM(SIO_CALL_WRITE, -1, fd, (uint32_t)flags,
		 send(fd, buf, (size_t)len, flags));
}

int64_t sio_send_parts(struct sio_faults *faults, int fd, struct iovec *parts,
		       size_t count, int64_t len)
{
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
	struct msghdr message = { .msg_iov = parts };

	SIO_SHIM(SIO_CALL_WRITE, -1, fd, (uint32_t)flags,
		 (message.msg_iovlen = faults ? trim(parts, count, len) : count,
		  sendmsg(fd, &message, flags)));
}

/* Linux 4.14, and not on every filesystem; musl has no function for it before
 * 1.2.5.  The offset is in two words, also where one would do. */
static ssize_t read_nowait(int fd, struct iovec *part, int64_t at)
{
	return syscall(SYS_preadv2, fd, part, 1, (long)at,
		       (long)((uint64_t)at >> 32), RWF_NOWAIT);
}

int64_t sio_read_cached(struct sio_faults *faults, int fd, int64_t *off, void *buf,
			int64_t len)
{
	struct iovec part = { .iov_base = buf };

	SIO_SHIM(SIO_CALL_READ, fd, -1, 0,
		 (part.iov_len = (size_t)len,
		  read_nowait(fd, &part, off ? *off : -1)));
}

int sio_pages_cached(int fd, int64_t offset, int64_t len)
{
	struct { uint64_t offset, len; } range = { (uint64_t)offset, (uint64_t)len };
	struct { uint64_t cached, dirty, writeback, evicted, recent; } found;
	int64_t page = sysconf(_SC_PAGESIZE);

	if (syscall(SYS_cachestat, fd, &range, &found, 0))
		return -errno;
	return (int64_t)found.cached > (offset + len - 1) / page - offset / page;
}

int64_t sio_peek(struct sio_faults *faults, int fd, void *buf, int64_t len)
{
	SIO_SHIM(SIO_CALL_PEEK, fd, -1, 0,
		 recv(fd, buf, (size_t)len, MSG_DONTWAIT | MSG_PEEK));
}

/* linux/tls.h, and the types of RFC 8446 */
#define TLS_LEVEL 282
#define SET_RECORD_TYPE 1
#define GET_RECORD_TYPE 2
#define RECORD_ALERT 21
#define RECORD_DATA 23
#define CLOSE_NOTIFY 0

static ssize_t tls_head(int fd)
{
	unsigned char alert[2] = { 0, 1 }, type = RECORD_DATA;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(1)];
	} control;
	struct iovec part = { alert, sizeof(alert) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header;
	ssize_t n = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0)
		return n;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == TLS_LEVEL &&
	    header->cmsg_type == GET_RECORD_TYPE)
		type = *CMSG_DATA(header);
	if (type == RECORD_DATA) {
		errno = ENODATA;
		return -1;
	}
	return type != RECORD_ALERT || n < 2 || alert[1] != CLOSE_NOTIFY;
}

int64_t sio_tls_head(struct sio_faults *faults, int fd)
{
	int64_t len = 2;

	SIO_SHIM(SIO_CALL_TLS_HEAD, fd, -1, 0, tls_head(fd));
}

void sio_tls_end_record(int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(1)];
	} control = { .header = { .cmsg_len = CMSG_LEN(1),
				  .cmsg_level = TLS_LEVEL,
				  .cmsg_type = SET_RECORD_TYPE } };
	struct msghdr message = { .msg_control = &control,
				  .msg_controllen = sizeof(control) };

	*CMSG_DATA(&control.header) = RECORD_DATA;
	(void)sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int sio_window_closed(int fd)
{
	uint32_t info[INFO_WORDS] = { 0 };
	socklen_t size = sizeof(info);

	return !getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) &&
	       size == sizeof(info) && !info[INFO_RCV_WND];
}

static int64_t accept_shim(struct sio_faults *faults, int fd,
			   struct sockaddr_storage *from, int64_t len)
{
	socklen_t size = sizeof(*from);

	SIO_SHIM(SIO_CALL_ACCEPT, fd, -1, 0,
		 accept4(fd, (void *)from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

int64_t sio_accept(struct sio_faults *faults, int fd, struct sockaddr_storage *from)
{
	return accept_shim(faults, fd, from, 0);
}

static int64_t socket_shim(struct sio_faults *faults, int family, int64_t len)
{
	SIO_SHIM(SIO_CALL_SOCKET, -1, -1, (uint32_t)family,
		 socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

int64_t sio_socket(struct sio_faults *faults, int family)
{
	return socket_shim(faults, family, 0);
}

static int64_t connect_shim(struct sio_faults *faults, int fd,
			    const struct sockaddr_storage *to, uint32_t size,
			    int64_t len)
{
	SIO_SHIM(SIO_CALL_CONNECT, -1, fd, 0,
		 connect(fd, (const void *)to, size));
}

int64_t sio_connect_to(struct sio_faults *faults, int fd,
		       const struct sockaddr_storage *to, uint32_t len)
{
	return connect_shim(faults, fd, to, len, 0);
}

static int64_t shutdown_write(struct sio_faults *faults, int fd, int64_t len)
{
	SIO_SHIM(SIO_CALL_SHUTDOWN, -1, fd, 0, shutdown(fd, SHUT_WR));
}

int sio_shutdown_write(struct sio_faults *faults, int fd)
{
	return (int)shutdown_write(faults, fd, 0);
}

static int64_t clone_shim(struct sio_faults *faults, int in, int out, int64_t len)
{
	SIO_SHIM(SIO_CALL_CLONE, in, out, 0, ioctl(out, FICLONE, in));
}

int64_t sio_clone(struct sio_faults *faults, int in, int out)
{
	int64_t failed = clone_shim(faults, in, out, 0), size;

	if (failed)
		return failed;
	size = lseek(out, 0, SEEK_END);
	return size < 0 ? -errno : size;
}

static int64_t fallocate_shim(struct sio_faults *faults, int fd, int64_t at,
			      int64_t len)
{
	SIO_SHIM(SIO_CALL_FALLOCATE, -1, fd, FALLOC_FL_KEEP_SIZE,
		 fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len));
}

int sio_fallocate(struct sio_faults *faults, int fd, int64_t len)
{
	off_t at = lseek(fd, 0, SEEK_CUR);

	return at < 0 ? -errno : (int)fallocate_shim(faults, fd, at, len);
}

static int64_t seek_shim(struct sio_faults *faults, int fd, int64_t at, int hole,
			 int64_t len)
{
	SIO_SHIM(SIO_CALL_SEEK, fd, -1, (uint32_t)hole,
		 lseek(fd, (off_t)at, hole ? SEEK_HOLE : SEEK_DATA));
}

int64_t sio_seek(struct sio_faults *faults, int fd, int64_t at, int hole)
{
	return seek_shim(faults, fd, at, hole, 0);
}

static int64_t truncate_shim(struct sio_faults *faults, int fd, int64_t size,
			     int64_t len)
{
	SIO_SHIM(SIO_CALL_TRUNCATE, -1, fd, 0, ftruncate(fd, (off_t)size));
}

int sio_truncate(struct sio_faults *faults, int fd, int64_t size)
{
	return (int)truncate_shim(faults, fd, size, 0);
}

int64_t sio_splice_at(int in, int64_t off_in, int out, int64_t off_out,
		      int has, int64_t len, uint32_t flags)
{
	/* len 0 returns 0 before the kernel looks at anything: a closed
	 * descriptor would pass for an empty one. */
	if (len == 0 && (fcntl(in, F_GETFD) < 0 || fcntl(out, F_GETFD) < 0))
		return -errno;
	return sio_splice(NULL, in, has & 1 ? &off_in : NULL, out,
			  has & 2 ? &off_out : NULL, len, flags);
}

int64_t sio_splice_plain(int in, int out, int64_t len, uint32_t flags)
{
	if (len < 0)
		return SIO_BAD_COUNT;
	return sio_splice_at(in, 0, out, 0, 0, len, flags);
}

int64_t sio_try_splice_plain(int in, int out, int64_t len, uint32_t flags)
{
	return sio_splice_plain(in, out, len, flags | SPLICE_F_NONBLOCK);
}

int64_t sio_vmsplice_either(int fd, void *memory, size_t len, uint32_t flags)
{
	struct iovec part = { .iov_base = memory, .iov_len = len };
	int64_t n = vmsplice(fd, &part, 1, flags);

	return n < 0 ? -errno : n;
}

int64_t sio_vmsplice_plain(int fd, const void *memory, size_t len,
			   uint32_t flags)
{
	int mode = fcntl(fd, F_GETFL);

	if (mode < 0 || (mode & O_ACCMODE) == O_RDONLY)
		return SIO_BAD_COUNT;
	return sio_vmsplice_either(fd, (void *)(uintptr_t)memory, len, flags);
}

int64_t sio_sendfile_at(int out, int in, int64_t off_in, int has, int64_t len)
{
	return sio_sendfile(NULL, out, in, has ? &off_in : NULL, len);
}

static int64_t open_pipe(struct sio_faults *faults, int *ends, int64_t len)
{
	SIO_SHIM(SIO_CALL_PIPE, -1, -1, 0, pipe2(ends, O_CLOEXEC));
}

int64_t sio_pipe(struct sio_faults *faults, int *reader, int *writer,
		 int64_t capacity)
{
	int ends[2] = { -1, -1 };
	int64_t granted = open_pipe(faults, ends, capacity);

	if (granted)
		return granted;
	granted = sio_pipe_resize(ends[1], capacity);
	if (granted < 0)
		sio_pipe_close(&ends[0], &ends[1]);
	*reader = ends[0];
	*writer = ends[1];
	return granted;
}

int64_t sio_pipe_resize(int fd, int64_t capacity)
{
	int granted = fcntl(fd, F_GETPIPE_SZ);

	if (granted < 0)
		return -errno;
	if (capacity > INT_MAX / 2 + 1)
		capacity = INT_MAX / 2 + 1;
	/* Above pipe-max-size or the user's quota: EPERM.  Take the largest
	 * that is allowed, and never shrink what was asked to grow. */
	for (int64_t size = capacity; size > granted; size /= 2)
		if (fcntl(fd, F_SETPIPE_SZ, (int)size) >= 0)
			break;
	if (capacity > 0 && capacity < granted &&
	    fcntl(fd, F_SETPIPE_SZ, (int)capacity) < 0)
		return -errno;
	return fcntl(fd, F_GETPIPE_SZ);
}

void sio_pipe_close(int *reader, int *writer)
{
	int r = *reader, w = *writer;

	*reader = *writer = -1;
	if (r >= 0)
		close(r);
	if (w >= 0)
		close(w);
}

int64_t sio_sockbuf_fits(int64_t free, int64_t slots)
{
	int64_t data = free - free / 16;
	int64_t many = data - sio_packet_cost(slots);
	int64_t tiny = data / (1 + PACKET_COST / 16);
	int64_t room = many > tiny ? many : tiny;

	/* So few are one batch, and one packet always finds room. */
	return room > 16 ? room : 16;
}

/* The kernel sends sixteen slots at a time, each batch with a packet of its
 * own, and a slot may hold a single byte: then the packets outweigh the data. */
int64_t sio_packet_cost(int64_t slots)
{
	return (slots + 15) / 16 * PACKET_COST;
}

int64_t sio_sockbuf_free(int fd, int tcp)
{
	uint32_t mem[MEM_VARS] = { 0 };
	socklen_t size = sizeof(mem);
	int64_t sndbuf, used;

	if (!getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &size)) {
		sndbuf = mem[MEM_SNDBUF];
		used = mem[tcp ? MEM_WMEM_QUEUED : MEM_WMEM_ALLOC];
		/* The kernel's own conditions for POLLOUT:
		 * sk_stream_is_writeable, unix_writable. */
		if (tcp ? sndbuf - used >= used / 2 : used * 4 <= sndbuf)
			return sndbuf - used;
	}
	/* POLLOUT on a full socket: shut down or broken, and the call says so.
	 * From a kernel that does not tell the room: at least one batch. */
	return sio_ready(NULL, fd, POLLOUT);
}

static int64_t unread_shim(struct sio_faults *faults, int fd, int64_t len)
{
	int count = 0;

	SIO_SHIM(SIO_CALL_UNREAD, fd, -1, 0,
		 ioctl(fd, FIONREAD, &count) < 0 ? -1 : count);
}

int sio_unread(struct sio_faults *faults, int fd)
{
	return (int)unread_shim(faults, fd, 0);
}

static int64_t unsent_shim(struct sio_faults *faults, int fd, int64_t len)
{
	int count = 0;

	SIO_SHIM(SIO_CALL_UNSENT, -1, fd, 0,
		 ioctl(fd, TIOCOUTQ, &count) < 0 ? -1 : count);
}

int sio_unsent(struct sio_faults *faults, int fd)
{
	return (int)unsent_shim(faults, fd, 0);
}

static int64_t epoll_ctl_shim(struct sio_faults *faults, int epfd, int op, int fd,
			      struct epoll_event *event, int64_t len)
{
	SIO_SHIM(SIO_CALL_EPOLL_CTL, fd, -1, (uint32_t)op,
		 epoll_ctl(epfd, op, fd, event));
}

int sio_epoll_ctl(struct sio_faults *faults, int epfd, int op, int fd,
		  struct epoll_event *event)
{
	return (int)epoll_ctl_shim(faults, epfd, op, fd, event, 0);
}

static int64_t epoll_wait_shim(struct sio_faults *faults, int epfd,
			       struct epoll_event *events, int64_t len, int ms)
{
	SIO_SHIM(SIO_CALL_EPOLL_WAIT, epfd, -1, 0,
		 epoll_wait(epfd, events, (int)len, ms));
}

int sio_epoll_wait(struct sio_faults *faults, int epfd, struct epoll_event *events,
		   int most, int ms)
{
	return (int)epoll_wait_shim(faults, epfd, events, most, ms);
}

static int64_t poll_shim(struct sio_faults *faults, struct pollfd *fds,
			 int64_t len, int ms)
{
	SIO_SHIM(SIO_CALL_POLL, fds[0].fd, -1, (uint32_t)fds[0].events,
		 poll(fds, (nfds_t)len, ms));
}

int sio_poll(struct sio_faults *faults, struct pollfd *fds, int count, int ms)
{
	return (int)poll_shim(faults, fds, count, ms);
}

int sio_ready(struct sio_faults *faults, int fd, int events)
{
	struct pollfd p = { .fd = fd, .events = (short)events, .revents = 0 };

	return sio_poll(faults, &p, 1, 0) > 0;
}
