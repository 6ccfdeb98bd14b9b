/*
 * act.c: the first try of a copy or a send, on the caller's own descriptors.
 *
 * Most work is small: one call takes the bytes, another gives them, and all is
 * done.  So nothing is duplicated, made or waited for before that was tried.
 * What is left when it says SIO_BUDGET goes on in rest.c.
 *
 * Rule 1: one call that takes and one that gives, or one that does both; what
 *         more there is to do may wait, and what waits is duplicated first.
 * Rule 2: no call can block on a socket, a pipe or a terminal.  A file may have
 *         to be read from its disk, and then dst is looked at again.
 * Rule 3: what is unusual is not touched: SIO_UNTRIED, and the long way finds
 *         the words.  So is what can be asked again without loss.
 * Rule 4: every byte taken is given, held in buf, or back in its file.
 */
#define _GNU_SOURCE
#include "api.h"
#include "base/errno_class.h"
#include "base/faults.h"
#include "base/syscalls.h"
#include "transfer/act.h"
#include "transfer/look.h"
#include "transfer/plan.h"
#include "transfer/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static void at(struct sio_act *a, int phase)
{
	if (a->faults)
		a->faults->phase = phase;
}

static int look_at(int fd, int is_known, struct sio_identity *is, struct stat *st)
{
	if (!is_known)
		return sio_look(fd, is, st);
	is->ino = 0;
	st->st_mode = S_IFSOCK;
	return 1;
}

static int look(struct sio_act *a, int src, int dst, struct stat *from,
		struct stat *to)
{
	a->moved = a->from_memory = a->held = a->error.err = 0;
	a->method = SIO_READ_WRITE;
	a->looked = src != dst &&
		    look_at(src, a->known & SIO_KNOWN_SRC, &a->src, from) &&
		    look_at(dst, a->known & SIO_KNOWN_DST, &a->dst, to) &&
		    (!a->src.ino || !a->dst.ino || !sio_is_same(&a->src, to));
	return a->looked;
}

static int is_cached_only(const struct sio_act *a)
{
	return a->known & SIO_CACHED_ONLY;
}

/* Told once by the kernel, so that it has to be told on. */
static int failed(struct sio_act *a, int64_t answer, int side, int call)
{
	if (!sio_is_disconnect((int)-answer))
		return a->moved || a->held ? SIO_BUDGET : SIO_UNTRIED;
	a->error = (struct sio_error){ (int)-answer, side, call, 1 };
	return SIO_BUDGET;
}

/* From memory if all is there; from a disk it may take long, and then dst has to
 * be what it was. */
static int64_t read_file(struct sio_act *a, int fd, int dst, int64_t *offset,
			 int64_t len)
{
	struct stat st;
	int64_t n;

	at(a, SIO_PHASE_FILL);
	n = sio_read_cached(a->faults, fd, offset, a->buf, len);
	if (n >= 0 || (is_cached_only(a) && !(n == -EOPNOTSUPP && sio_is_in_memory(fd))))
		return n;
	if (!a->dst.ino && !sio_look(dst, &a->dst, &st))
		return -ESTALE;
	n = sio_read(a->faults, fd, offset, a->buf, len);
	if (n > 0 && (fstat(dst, &st) || !sio_is_same(&a->dst, &st))) {
		if (!offset)
			(void)lseek(fd, -n, SEEK_CUR);
		return -ESTALE;
	}
	return n;
}

static int64_t give(struct sio_act *a, int dst, const struct stat *to,
		    int64_t len)
{
	at(a, SIO_PHASE_DRAIN);
	return S_ISSOCK(to->st_mode) ?
		       sio_send(a->faults, dst, a->buf, len, 0) :
		       sio_write(a->faults, dst,
				 a->off_dst < 0 ? NULL : &a->off_dst, a->buf, len);
}

/* One read, one send.  What is not sent goes back into the file. */
static int file_to_socket(struct sio_act *a, int src, int dst, int64_t offset,
			  int64_t want, int64_t has, const struct stat *to)
{
	int64_t len = want >= 0 && want <= has ? want : has + 1, n, sent;

	n = read_file(a, src, dst, offset < 0 ? NULL : &offset, len);
	if (n <= 0)
		return SIO_UNTRIED;
	sent = give(a, dst, to, n);
	if (sent < n && offset < 0)
		(void)lseek(src, (sent > 0 ? sent : 0) - n, SEEK_CUR);
	if (sent > 0)
		a->moved = sent;
	if (sent < 0)
		return failed(a, sent, SIO_SIDE_DST, SIO_CALL_WRITE);
	if (sent == 0)
		return SIO_UNTRIED;
	return sent == n && (n == want || n == has) ? SIO_DONE : SIO_BUDGET;
}

/* One splice, which neither waits for a pipe nor for a file's position. */
static int by_splice(struct sio_act *a, int src, int dst, int64_t offset,
		     int64_t want)
{
	int64_t n;

	at(a, SIO_PHASE_DIRECT);
	n = sio_splice(a->faults, src, offset < 0 ? NULL : &offset, dst, NULL,
		       want, SPLICE_F_NONBLOCK);
	if (n <= 0)
		return SIO_UNTRIED;
	a->method = SIO_SPLICE;
	a->moved = n;
	return n == want ? SIO_DONE : SIO_BUDGET;
}

static int first_method(const struct sio_act *a, const struct stat *from,
			const struct stat *to, int64_t left)
{
	struct sio_pair pair = {
		.src_kind = sio_plain_kind(from->st_mode),
		.dst_kind = sio_plain_kind(to->st_mode),
		.cached_only = is_cached_only(a) != 0,
		.left = left,
	};
	int32_t order[6];

	(void)sio_plan(&pair, order);
	return order[0];
}

/* Only what the socket has room for as a whole: the rest would have to wait. */
static int by_sendfile(struct sio_act *a, int src, int dst, int64_t offset,
		       int64_t want, const void *header, int64_t header_len)
{
	int64_t room, n;

	if (is_cached_only(a))
		return SIO_UNTRIED;
	room = sio_sockbuf_free(dst, sio_is_tcp(dst));
	if (!room || sio_sockbuf_fits(room, 0) < want + header_len)
		return SIO_UNTRIED;
	if (header_len) {
		at(a, SIO_PHASE_MEMORY);
		n = sio_send(a->faults, dst, header, header_len, 1);
		if (n <= 0)
			return n ? failed(a, n, SIO_SIDE_DST, SIO_CALL_WRITE) :
				   SIO_UNTRIED;
		a->moved = a->from_memory = n;
		if (n < header_len)
			return SIO_BUDGET;
	}
	at(a, SIO_PHASE_DIRECT);
	n = sio_sendfile(a->faults, dst, src, offset < 0 ? NULL : &offset,
			 want);
	if (n <= 0 && header_len) /* it has left with MSG_MORE */
		sio_tls_end_record(dst);
	if (n < 0)
		return failed(a, n, SIO_SIDE_DST, SIO_CALL_SENDFILE);
	if (!n)
		return a->moved ? SIO_BUDGET : SIO_UNTRIED;
	a->method = SIO_SENDFILE;
	a->moved += n;
	return n == want ? SIO_DONE : SIO_BUDGET;
}

static int from_socket(struct sio_act *a, int src, int dst, int64_t want,
		       const struct stat *to)
{
	int64_t n, sent;

	at(a, SIO_PHASE_FILL);
	n = sio_recv(a->faults, src, a->buf, want);
	if (n < 0)
		return failed(a, n, SIO_SIDE_SRC, SIO_CALL_READ);
	if (!n)
		return SIO_UNTRIED; /* which asks again, and is told again */
	a->held = n;
	a->held_at = 0;
	sent = give(a, dst, to, n);
	if (sent < 0)
		return failed(a, sent, SIO_SIDE_DST, SIO_CALL_WRITE);
	a->moved = a->held_at = sent;
	a->held = n - sent;
	return sent == want ? SIO_DONE : SIO_BUDGET;
}

static int from_file(struct sio_act *a, int src, int dst, int64_t count,
		     int64_t off_src, const struct stat *from,
		     const struct stat *to)
{
	int64_t has = sio_file_rest(src, from, off_src);
	int64_t left = count < 0 || count > has ? has : count;

	if (!has)
		return SIO_UNTRIED;
	switch (first_method(a, from, to, left)) {
	case SIO_READ_WRITE:
		return file_to_socket(a, src, dst, off_src, count, has, to);
	case SIO_SENDFILE:
		return S_ISSOCK(to->st_mode) ?
			       by_sendfile(a, src, dst, off_src, left, NULL, 0) :
			       SIO_UNTRIED;
	case SIO_SPLICE:
		/* It may have to wait for the disk. */
		return is_cached_only(a) ? SIO_UNTRIED :
					by_splice(a, src, dst, off_src, left);
	default:
		return SIO_UNTRIED;
	}
}

/* A file that cannot be written is found out before anything is taken for it; and
 * one that appends writes at no offset. */
static int takes_bytes(const struct sio_act *a, int fd, const struct stat *st)
{
	int is_file = S_ISREG(st->st_mode), flags = is_file ? fcntl(fd, F_GETFL) : O_RDWR;

	return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && !(flags & O_DIRECT) &&
	       (a->off_dst < 0 || (is_file && !(flags & O_APPEND)));
}

static int copy(struct sio_act *a, int src, int dst, int64_t count,
		int64_t off_src)
{
	struct stat from, to;

	if (!count || !look(a, src, dst, &from, &to))
		return SIO_UNTRIED;
	if (a->off_dst >= 0 && !S_ISREG(to.st_mode))
		return SIO_UNTRIED;
	if (S_ISREG(from.st_mode))
		return from_file(a, src, dst, count, off_src, &from, &to);
	if (off_src >= 0 || count < 0)
		return SIO_UNTRIED;
	switch (first_method(a, &from, &to, count)) {
	case SIO_SPLICE:
		return S_ISFIFO(from.st_mode) && S_ISFIFO(to.st_mode) ?
			       by_splice(a, src, dst, -1, count) :
			       SIO_UNTRIED;
	case SIO_READ_WRITE:
		return takes_bytes(a, dst, &to) ?
			       from_socket(a, src, dst, count, &to) :
			       SIO_UNTRIED;
	default:
		return SIO_UNTRIED;
	}
}

int64_t sio_act_told(const struct sio_act *a, int state)
{
	return state == SIO_DONE ? a->moved << SIO_ACT_SHIFT | a->method : -state;
}

int64_t sio_act_copy(struct sio_act *a, int known, int src, int dst,
		     int64_t count, int64_t off_src, int64_t off_dst)
{
	a->known = known;
	a->off_dst = off_dst;
	return sio_act_told(a, copy(a, src, dst, count, off_src));
}

static int send_parts(struct sio_act *a, int sock, int file, int64_t offset,
		      int64_t count, const void *header, int64_t header_len,
		      const void *trailer, int64_t trailer_len)
{
	struct stat from, to;
	struct iovec parts[3];
	int64_t has, n, whole;

	if (!look(a, file, sock, &from, &to) || !S_ISREG(from.st_mode) ||
	    !S_ISSOCK(to.st_mode))
		return SIO_UNTRIED;
	has = sio_file_rest(file, &from, offset);
	if (count < 0)
		count = has;
	if (!count || count > has || header_len > SIO_ACT_SMALL ||
	    trailer_len > SIO_ACT_SMALL)
		return SIO_UNTRIED;
	if (first_method(a, &from, &to, count) != SIO_READ_WRITE) {
		if (trailer_len)
			return SIO_UNTRIED;
		n = by_sendfile(a, file, sock, offset, count, header, header_len);
		if (n == SIO_DONE)
			sio_push_now(sock);
		return (int)n;
	}
	n = read_file(a, file, sock, &offset, count);
	if (n != count)
		return SIO_UNTRIED;
	parts[0] = (struct iovec){ (void *)(uintptr_t)header, (size_t)header_len };
	parts[1] = (struct iovec){ a->buf, (size_t)count };
	parts[2] = (struct iovec){ (void *)(uintptr_t)trailer, (size_t)trailer_len };
	whole = header_len + count + trailer_len;
	at(a, SIO_PHASE_DRAIN);
	n = sio_send_parts(a->faults, sock, parts, 3, whole);
	if (n == whole)
		sio_push_now(sock);
	if (n <= 0)
		return n ? failed(a, n, SIO_SIDE_DST, SIO_CALL_WRITE) :
			   SIO_UNTRIED;
	a->moved = n;
	a->from_memory = n < header_len ? n : header_len;
	if (n > header_len + count)
		a->from_memory += n - header_len - count;
	return n == whole ? SIO_DONE : SIO_BUDGET;
}

int64_t sio_act_send(struct sio_act *a, int known, int sock, int file,
		     int64_t offset, int64_t count, const void *header,
		     int64_t header_len, const void *trailer, int64_t trailer_len)
{
	a->known = known;
	return sio_act_told(a, send_parts(a, sock, file, offset, count, header,
				  header_len, trailer, trailer_len));
}
