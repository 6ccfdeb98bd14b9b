/*
 * act.c: the first try of a relay, on the caller's own sockets.
 *
 * Where both sides have said all that they will ever say, what is left is little
 * and waits for nobody: it is passed on, and both ends of file.  No duplicate, no
 * change of a mode, no engine.
 *
 * Rule 1: poll() tells first that both sides have ended; if not, or if there is
 *         an error or an urgent byte, nothing is touched: SIO_UNTRIED.
 * Rule 2: no call can block.  What does not fit is in buf, and goes first when
 *         the relay goes on.
 * Rule 3: what the kernel tells once is told on.
 */
#define _GNU_SOURCE
#include "base/errno_class.h"
#include "base/faults.h"
#include "base/syscalls.h"
#include "loop/loop.h"
#include "transfer/look.h"
#include "transfer/transfer.h"

#include <poll.h>
#include <string.h>
#include <sys/stat.h>

/* Of one way, each of SIO_ACT_BUF at the most: what is more is not little. */
#define TURNS 4

enum { AB, BA };

static void at(struct sio_relay_act *r, int phase)
{
	if (r->faults)
		r->faults->phase = phase;
}

static int looked(int fd, struct sio_identity *id)
{
	struct stat st;

	return sio_look(fd, id, &st) && S_ISSOCK(st.st_mode);
}

static int have_ended(struct sio_relay_act *r, int a, int b)
{
	struct pollfd fds[2] = {
		{ .fd = a, .events = POLLRDHUP | POLLPRI, .revents = 0 },
		{ .fd = b, .events = POLLRDHUP | POLLPRI, .revents = 0 },
	};

	if (sio_poll(r->faults, fds, 2, 0) < 2)
		return 0;
	for (int i = 0; i < 2; i++)
		if (!(fds[i].revents & POLLRDHUP) ||
		    fds[i].revents & (POLLERR | POLLPRI | POLLNVAL))
			return 0;
	return 1;
}

static int failed(struct sio_relay_act *r, int d, int64_t answer, int side,
		  int call)
{
	if (sio_is_disconnect((int)-answer))
		r->error[d] = (struct sio_error){ (int)-answer, side, call, 1 };
	return SIO_BUDGET;
}

static int pass_on(struct sio_relay_act *r, int d, int src, int dst)
{
	unsigned char *buf = r->buf + d * SIO_ACT_BUF;

	for (int turn = 0; turn < TURNS; turn++) {
		int64_t n, sent;

		at(r, SIO_PHASE_FILL);
		n = sio_recv(r->faults, src, buf, SIO_ACT_BUF);
		if (n < 0)
			return failed(r, d, n, SIO_SIDE_SRC, SIO_CALL_READ);
		if (!n) {
			/* ENOTCONN: it has gone already. */
			(void)sio_shutdown_write(r->faults, dst);
			return SIO_DONE;
		}
		at(r, SIO_PHASE_DRAIN);
		sent = sio_send(r->faults, dst, buf, n, 0);
		r->held_at[d] = sent > 0 ? sent : 0;
		r->held[d] = n - r->held_at[d];
		r->moved[d] += r->held_at[d];
		if (sent < 0)
			return failed(r, d, sent, SIO_SIDE_DST, SIO_CALL_WRITE);
		if (r->held[d])
			return SIO_BUDGET;
	}
	return SIO_BUDGET;
}

int sio_act_relay(struct sio_relay_act *r, int a, int b,
		  struct sio_engine *engine)
{
	int state;

	memset(r->moved, 0, sizeof(r->moved));
	memset(r->held, 0, sizeof(r->held));
	memset(r->error, 0, sizeof(r->error));
	if (!looked(a, &r->a) || !looked(b, &r->b) || !have_ended(r, a, b))
		return SIO_UNTRIED;
	state = pass_on(r, AB, a, b);
	if (state == SIO_DONE)
		state = pass_on(r, BA, b, a);
	/* What goes on is one of the engine's own by itself. */
	if (engine)
		sio_engine_count(engine, state == SIO_DONE, r->moved[AB],
				 r->moved[BA]);
	return state;
}

static void resume(struct sio_transfer *t, int64_t moved,
		   const struct sio_error *error)
{
	t->moved += moved;
	t->taken += moved;
	t->methods.moved[SIO_READ_WRITE] += moved;
	if (error->err)
		t->error = *error;
}

void sio_act_relay_resume(const struct sio_relay_act *r, struct sio_transfer *ab,
			  struct sio_transfer *ba)
{
	resume(ab, r->moved[AB], &r->error[AB]);
	resume(ba, r->moved[BA], &r->error[BA]);
}
