/*
 * syscalls.h: one shim a system call: a count or -errno, nothing else.
 */
#ifndef SIO_BASE_SYSCALLS_H
#define SIO_BASE_SYSCALLS_H

#include "api.h"

/* A slot of a pipe takes one page at the most (less than a page of 64 KiB only
 * makes the estimate careful). */
#define SIO_PIPE_SLOT 4096

struct sockaddr_storage;
struct pollfd;
struct epoll_event;
struct iovec;

/* `faults` is NULL outside the tests.  An offset pointer may be NULL. */
int64_t sio_splice(struct sio_faults *faults, int in, int64_t *off_in, int out,
		   int64_t *off_out, int64_t len, uint32_t flags);
int64_t sio_sendfile(struct sio_faults *faults, int out, int in, int64_t *off_in,
		     int64_t len);
int64_t sio_read(struct sio_faults *faults, int fd, int64_t *off, void *buf,
		 int64_t len);
int64_t sio_recv(struct sio_faults *faults, int fd, void *buf, int64_t len);
int64_t sio_write(struct sio_faults *faults, int fd, int64_t *off, const void *buf,
		  int64_t len);
/* `more`: MSG_MORE, something follows at once. */
int64_t sio_send(struct sio_faults *faults, int fd, const void *buf, int64_t len,
		 int more);
/* All of it in one message; seldom a part. */
int64_t sio_send_parts(struct sio_faults *faults, int fd, struct iovec *parts,
		       size_t count, int64_t len);
/* As sio_read, but -EAGAIN where the bytes would have to come from a disk. */
int64_t sio_read_cached(struct sio_faults *faults, int fd, int64_t *off,
			void *buf, int64_t len);
/* Whether all of it is in the page cache, or on its way there: 1 or 0; -errno
 * where the kernel does not tell. */
int sio_pages_cached(int fd, int64_t offset, int64_t len);
/* Let a record leave that was begun with MSG_MORE: the kernel holds it until more
 * comes, however long, and drops it at close().  Nothing on other sockets. */
void sio_tls_end_record(int fd);
/* A nonblocking socket, or -errno. */
int64_t sio_accept(struct sio_faults *faults, int fd, struct sockaddr_storage *from);
int64_t sio_socket(struct sio_faults *faults, int family);
int64_t sio_connect_to(struct sio_faults *faults, int fd,
		       const struct sockaddr_storage *to, uint32_t len);
/* 0 or -errno; how many events there are, or -errno. */
int sio_epoll_ctl(struct sio_faults *faults, int epfd, int op, int fd,
		  struct epoll_event *event);
int sio_epoll_wait(struct sio_faults *faults, int epfd, struct epoll_event *events,
		   int most, int ms);
/* Bytes that the peer's kernel (on a unix socket: its reader) has not got yet,
 * or -errno. */
int sio_unsent(struct sio_faults *faults, int fd);
int sio_shutdown_write(struct sio_faults *faults, int fd);
/* Let out, an empty file, share the blocks of in; the size, or -errno. */
int64_t sio_clone(struct sio_faults *faults, int in, int out);
/* Blocks for len bytes from the position on; the size stays.  0 or -errno. */
int sio_fallocate(struct sio_faults *faults, int fd, int64_t len);
/* SEEK_DATA, or with `hole` SEEK_HOLE. */
int64_t sio_seek(struct sio_faults *faults, int fd, int64_t at, int hole);
int sio_truncate(struct sio_faults *faults, int fd, int64_t size);

/* Two descriptors, close-on-exec; the capacity granted, or -errno.
 * capacity 0: the kernel's default. */
int64_t sio_pipe(struct sio_faults *faults, int *reader, int *writer,
		 int64_t capacity);
/* Close both, once: each number is replaced by -1. */
void sio_pipe_close(int *reader, int *writer);

/* What the packets for so many slots cost the send buffer beside their data. */
int64_t sio_packet_cost(int64_t slots);

int64_t sio_now(void);

/* Add to a number that this thread alone changes, and others read: whole, also
 * where 64 bits are two words. */
static inline void sio_count(int64_t *number, int64_t n)
{
	__atomic_store_n(number, *number + n, __ATOMIC_RELAXED);
}

static inline int64_t sio_counted(const int64_t *number)
{
	return __atomic_load_n(number, __ATOMIC_RELAXED);
}

/* How many are ready, or -errno. */
int sio_poll(struct sio_faults *faults, struct pollfd *fds, int count, int ms);

/* Ready for `events` now?  An error or hang-up counts: the call will say. */
int sio_ready(struct sio_faults *faults, int fd, int events);

#endif
