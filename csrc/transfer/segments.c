/*
 * segments.c: what is sent need not be one stretch of a file: a header, ranges of
 * the file, a trailer, in that order and in the same segments.
 *
 * Rule 1: the next part is begun only when nothing of the last is held.
 * Rule 2: on TCP memory goes with MSG_MORE when something follows, and the last
 *         of a range that is followed by memory goes under TCP_CORK, because
 *         sendfile has no such flag.  No more than that: under a cork the kernel
 *         takes half as long again for the same bytes.
 * Rule 3: when all is in the socket, or an error ends it, what is there leaves:
 *         the end of a message must not wait for the peer's delayed
 *         acknowledgement of the one before (Nagle, 40 ms).  A cork that the
 *         caller has put on stays, and then nothing is pushed; TCP_NODELAY is
 *         afterwards as it was.  Where the kernel encrypts, a record that was begun
 *         with MSG_MORE and got no more is ended, or it would never leave.
 */
#define _GNU_SOURCE
#include "transfer/segments.h"
#include "base/syscalls.h"
#include "transfer/sockbuf.h"
#include "transfer/state.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { CORK_UNKNOWN, CORK_OURS, CORK_THEIRS };

static int set(int fd, int option, int on)
{
	return setsockopt(fd, IPPROTO_TCP, option, &on, sizeof(on));
}

/* Where it cannot be asked, it is taken for set, and left alone. */
static int is_set(int fd, int option)
{
	int on = 1;
	socklen_t size = sizeof(on);

	(void)getsockopt(fd, IPPROTO_TCP, option, &on, &size);
	return on;
}

static void uncork(struct sio_transfer *t)
{
	if (t->segments.cork == CORK_OURS) {
		(void)set(t->dst.fd, TCP_CORK, 0);
		t->segments.cork = CORK_UNKNOWN;
	}
}

void sio_cork_if_needed(struct sio_transfer *t)
{
	if (!t->segments.count || t->dst.kind != SIO_KIND_TCP)
		return;
	if (t->left > SIO_TAIL)
		uncork(t);
	else if (t->segments.next < t->segments.count && t->segments.cork == CORK_UNKNOWN)
		t->segments.cork = is_set(t->dst.fd, TCP_CORK) || set(t->dst.fd, TCP_CORK, 1) ?
				  CORK_THEIRS :
				  CORK_OURS;
}

void sio_push_now(int fd)
{
	int unsent = 0, nodelay;

	if (ioctl(fd, SIOCOUTQNSD, &unsent) || !unsent || is_set(fd, TCP_CORK))
		return;
	/* To set it, also again, sends what Nagle or MSG_MORE holds back. */
	nodelay = is_set(fd, TCP_NODELAY);
	(void)set(fd, TCP_NODELAY, 1);
	if (!nodelay)
		(void)set(fd, TCP_NODELAY, 0);
}

void sio_push(struct sio_transfer *t)
{
	if (t->segments.more && t->dst.kind == SIO_KIND_TCP)
		sio_tls_end_record(t->dst.fd);
	t->segments.more = 0;
	uncork(t);
	if (t->segments.count && t->dst.kind == SIO_KIND_TCP)
		sio_push_now(t->dst.fd);
}

int sio_more_segments(const struct sio_transfer *t)
{
	return t->segments.next < t->segments.count &&
	       (t->left == 0 || (t->left < 0 && t->src.eof));
}

static int next(struct sio_transfer *t)
{
	t->segments.next++;
	t->segments.pos = 0;
	return SIO_GO;
}

static int send_memory(struct sio_transfer *t, const struct sio_segment *part)
{
	const unsigned char *from = part->memory + t->segments.pos;
	int64_t len = part->len - t->segments.pos, n;

	if (!len)
		return next(t);
	len = sio_sockbuf_room(t, len, 1);
	if (!len)
		return SIO_WANT_DST;
	sio_at(t, SIO_PHASE_MEMORY);
	n = sio_is_socket(t->dst.kind) ?
		    sio_send(t->faults, t->dst.fd, from, len,
			     t->segments.next + 1 < t->segments.count) :
		    sio_write(t->faults, t->dst.fd,
			      t->dst.offset >= 0 ? &t->dst.offset : NULL, from, len);
	if (n == -EAGAIN)
		return SIO_WANT_DST;
	if (n <= 0)
		return sio_fail(t, n ? (int)-n : EIO, SIO_SIDE_DST,
				SIO_CALL_WRITE);
	t->segments.pos += n;
	t->taken += n;
	sio_count(&t->segments.moved, n);
	sio_sent(t, n);
	t->segments.more = t->segments.next + 1 < t->segments.count;
	return t->segments.pos == part->len ? next(t) : SIO_GO;
}

int sio_next_segment(struct sio_transfer *t)
{
	const struct sio_segment *part = &t->segments.each[t->segments.next];

	if (part->memory)
		return send_memory(t, part);
	t->src.offset = part->offset;
	t->left = part->len;
	t->src.eof = 0;
	t->src.cached = 0;
	return next(t);
}
