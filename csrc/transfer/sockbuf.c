/*
 * sockbuf.c: how much may be asked of a descriptor without blocking.
 *
 * A nonblocking descriptor answers for itself.  A blocking one is left as it
 * is, because its mode belongs to everybody who shares it; so it is asked only
 * after poll() or the kernel's own counts said yes, and for no more than that.
 */
#define _GNU_SOURCE
#include "transfer/sockbuf.h"
#include "base/syscalls.h"

#include <limits.h>
#include <poll.h>

/* POLLOUT on a blocking tty promises a byte, in practice a line's worth. */
#define TTY_WRITE 256
/* With less room than this a blocking socket is asked anew. */
#define ENOUGH_ROOM (256 << 10)

int sio_is_socket(int kind)
{
	return kind == SIO_KIND_TCP || kind == SIO_KIND_SOCKET;
}

int sio_src_ready(struct sio_transfer *t)
{
	int ready = t->src.ready || t->src.nonblock ||
		    t->src.kind == SIO_KIND_FILE;

	t->src.ready = 0;
	if (!ready && t->eagain.level_poll)
		return 0; /* the driver's poll() asks for both flows in one call */
	return ready || sio_ready(t->faults, t->src.fd, POLLIN);
}

int64_t sio_src_has(struct sio_transfer *t, int64_t len)
{
	int64_t unread = 0;

	if (t->src.kind == SIO_KIND_PIPE)
		return len; /* splice's own NONBLOCK flag covers a pipe */
	if (t->src.kind == SIO_KIND_TCP && !t->src.nonblock)
		unread = sio_unread(t->faults, t->src.fd);
	/* Asked for more than is there, a blocking TCP socket goes on looking
	 * for it and works off the packets that arrive meanwhile, which costs
	 * processor time for the same bytes. */
	if (unread <= 0)
		return sio_src_ready(t) ? len : 0;
	t->src.ready = 0;
	return unread < len ? unread : len;
}

/* To ask a socket for its room costs more than a small splice: what it said
 * last time holds, less what was sent since, until that gets small. */
static int64_t socket_room(struct sio_transfer *t, int64_t len)
{
	int64_t enough = len < ENOUGH_ROOM ? len : ENOUGH_ROOM;

	if (t->dst.free && sio_sockbuf_fits(t->dst.free, t->dst.slots) >= enough)
		return sio_sockbuf_fits(t->dst.free, t->dst.slots);
	t->dst.free = sio_sockbuf_free(t->dst.fd, t->dst.kind == SIO_KIND_TCP);
	return t->dst.free ? sio_sockbuf_fits(t->dst.free, t->dst.slots) : 0;
}

int64_t sio_sockbuf_room(struct sio_transfer *t, int64_t len, int by_write)
{
	int64_t room = len;

	if (t->dst.nonblock || t->dst.kind == SIO_KIND_FILE)
		return len;
	if (sio_is_socket(t->dst.kind))
		/* send() has MSG_DONTWAIT, splice has no such flag. */
		room = by_write ? len : socket_room(t, len);
	else if (t->dst.kind == SIO_KIND_PIPE)
		room = !by_write ? len :
		       sio_ready(t->faults, t->dst.fd, POLLOUT) ? PIPE_BUF : 0;
	else if (!sio_ready(t->faults, t->dst.fd, POLLOUT))
		room = 0;
	else if (t->dst.kind == SIO_KIND_TTY)
		room = TTY_WRITE;
	return room < len ? room : len;
}
