/*
 * act.c: the first try of a fan-out, on the caller's own descriptors.
 *
 * Little that is there already needs no duplicate, no private pipe and no wait:
 * tee() into the sinks that are pipes, one read, one write to each of the others.
 * Whoever is told SIO_BUDGET goes on with a fan-out of its own descriptors.
 *
 * Rule 1: all ends are looked at before a byte moves; what is unusual is not
 *         touched: SIO_UNTRIED, and the long way finds the words.
 * Rule 2: no call can block on a socket or a pipe.  A file may have to wait for
 *         its disk: files come last, and each is looked at again before.
 * Rule 3: what a sink has got was taken from the source: into buf, whose bytes are
 *         there for those that have not.  Where that was refused, `taken` is less
 *         than what a sink has got, and the source still has it.
 */
#define _GNU_SOURCE
#include "base/errno_class.h"
#include "base/faults.h"
#include "base/syscalls.h"
#include "fanout/types.h"
#include "transfer/look.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define NONBLOCK 2 /* SPLICE_F_NONBLOCK */
#define HEAD_MEMORY (256 << 10)

static void at(struct sio_fan_act *a, int phase)
{
	if (a->faults)
		a->faults->phase = phase;
}

static int is_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && flags & O_NONBLOCK;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* ---- what is there ------------------------------------------------------------- */

static int look_at_src(struct sio_fan_act *a, int src, struct stat *st)
{
	a->taken = a->held = a->error.err = 0;
	return sio_look(src, &a->src, st); /* to read from it tells the rest */
}

/* Without `asks` the call that is next tells whether it can be written to. */
static int look_at_sink(struct sio_fan_act *a, int i, int is_known, int asks)
{
	struct sio_fan_sink *s = &a->each[i];
	struct stat st;

	s->moved = s->err = 0;
	a->how[i] = SIO_READ_WRITE;
	if (is_known) {
		s->is.ino = 0;
		s->mode = S_IFSOCK;
		return !sio_option(s->fd, SO_ACCEPTCONN);
	}
	if (!sio_look(s->fd, &s->is, &st) || sio_is_same(&a->src, &st))
		return 0;
	s->mode = st.st_mode & S_IFMT;
	if (S_ISSOCK(s->mode))
		return !sio_option(s->fd, SO_ACCEPTCONN);
	s->flags = -1;
	if (S_ISFIFO(s->mode) && !asks)
		return 1;
	s->flags = fcntl(s->fd, F_GETFL);
	return s->flags >= 0 && !(s->flags & O_PATH) &&
	       (s->flags & O_ACCMODE) != O_RDONLY;
}

static int look(struct sio_fan_act *a, int src, const int32_t *sinks,
		int32_t count, struct stat *st)
{
	int32_t pipes = 0;

	a->sink_count = 0;
	if (count > SIO_FAN_MOST || !look_at_src(a, src, st))
		return 0;
	for (int32_t i = 0; i < count; i++) {
		/* A socket that is the source too would be looked for. */
		int is_known = sinks[i] & SIO_FAN_KNOWN && !S_ISSOCK(st->st_mode);

		a->each[i].fd = sinks[i] & ~SIO_FAN_KNOWN;
		if (!look_at_sink(a, i, is_known, pipes || !S_ISFIFO(st->st_mode)))
			return 0;
		pipes += S_ISFIFO(a->each[i].mode);
	}
	a->sink_count = count;
	return 1;
}

/* ---- out of the source ----------------------------------------------------------- */

static int64_t read_pipe(struct sio_fan_act *a, int src, int64_t len)
{
	int64_t n = sio_read_cached(a->faults, src, NULL, a->buf, len);

	/* Before Linux 6.4, and of a FIFO or a pipe that was spliced into, no
	 * read is asked not to wait. */
	if (n != -EOPNOTSUPP && n != -ENOSYS)
		return n;
	if (!is_nonblocking(src) && !sio_ready(a->faults, src, POLLIN))
		return -EAGAIN;
	return sio_read(a->faults, src, NULL, a->buf, len);
}

/* From memory or not at all: a disk may take long. */
static int64_t read_file(struct sio_fan_act *a, int src, int64_t len)
{
	int64_t n = sio_read_cached(a->faults, src, NULL, a->buf, len);

	if (n == -EOPNOTSUPP && sio_is_in_memory(src))
		n = sio_read(a->faults, src, NULL, a->buf, len);
	return n;
}

/* Into buf; how much it was, or -errno. */
static int64_t take(struct sio_fan_act *a, int src, const struct stat *from,
		    int64_t len)
{
	int64_t n;

	at(a, SIO_PHASE_FILL);
	n = S_ISFIFO(from->st_mode) ? read_pipe(a, src, len) :
	    S_ISREG(from->st_mode) ? read_file(a, src, len) :
				     sio_recv(a->faults, src, a->buf, len);
	if (n > 0) {
		a->held = n;
		a->taken += n;
	}
	/* Told once by the kernel, so that it has to be told on. */
	if (n < 0 && S_ISSOCK(from->st_mode) && sio_is_disconnect((int)-n))
		a->error = (struct sio_error){ (int)-n, SIO_SIDE_SRC,
					       SIO_CALL_READ, 1 };
	return n;
}

/* ---- into the sinks ---------------------------------------------------------------- */

static int32_t pipes_among(const struct sio_fan_act *a)
{
	int32_t pipes = 0;

	for (int32_t i = 0; i < a->sink_count; i++)
		pipes += S_ISFIFO(a->each[i].mode);
	return pipes;
}

/* From pipe to pipes, until one takes less than the first; how much that was, 0
 * when it was nothing.  When all others are pipes that have it, the last takes it
 * away. */
static int64_t share(struct sio_fan_act *a, int src, int64_t len)
{
	int32_t pipes = pipes_among(a), seen = 0;
	int64_t first = 0, n;

	at(a, SIO_PHASE_DIRECT);
	for (int32_t i = 0; i < a->sink_count; i++) {
		struct sio_fan_sink *s = &a->each[i];
		int takes;

		if (!S_ISFIFO(s->mode))
			continue;
		takes = ++seen == pipes && pipes == a->sink_count;
		n = takes ? sio_splice(a->faults, src, NULL, s->fd, NULL, len,
				       NONBLOCK) :
			    sio_tee(a->faults, src, s->fd, len, NONBLOCK);
		if (n <= 0)
			return first;
		s->moved = n;
		a->how[i] = takes ? SIO_SPLICE : SIO_ACT_TEE;
		a->taken += takes ? n : 0;
		if (!first)
			first = len = n;
		if (n < len)
			return first;
	}
	return first;
}

/* A pipe that has room has room for a page, and nothing says for how many. */
static int64_t write_pipe(struct sio_fan_act *a, const struct sio_fan_sink *s)
{
	int64_t done = 0, n = 0;

	if (s->flags >= 0 ? s->flags & O_NONBLOCK : is_nonblocking(s->fd))
		return sio_write(a->faults, s->fd, NULL, a->buf, a->held);
	while (done < a->held) {
		if (!sio_ready(a->faults, s->fd, POLLOUT))
			n = -EAGAIN;
		else
			n = sio_write(a->faults, s->fd, NULL, a->buf + done,
				      least(a->held - done, PIPE_BUF));
		if (n <= 0)
			break;
		done += n;
	}
	return done ? done : n;
}

static int64_t write_file(struct sio_fan_act *a, const struct sio_fan_sink *s)
{
	struct stat st;

	/* A file before this one may have taken long. */
	if (fstat(s->fd, &st) || !sio_is_same(&s->is, &st))
		return -ESTALE;
	return sio_write(a->faults, s->fd, NULL, a->buf, a->held);
}

static void give(struct sio_fan_act *a, struct sio_fan_sink *s)
{
	int64_t n;

	at(a, SIO_PHASE_DRAIN);
	n = S_ISSOCK(s->mode) ? sio_send(a->faults, s->fd, a->buf, a->held, 0) :
	    S_ISFIFO(s->mode) ? write_pipe(a, s) :
				write_file(a, s);
	if (n > 0)
		s->moved = n;
	else if (n < 0 && S_ISSOCK(s->mode) && sio_is_disconnect((int)-n))
		s->err = (int32_t)-n;
}

static void give_all(struct sio_fan_act *a)
{
	for (int files = 0; files < 2; files++)
		for (int32_t i = 0; i < a->sink_count; i++) {
			struct sio_fan_sink *s = &a->each[i];

			if (!s->moved && S_ISREG(s->mode) == files)
				give(a, s);
		}
}

static int have_all(const struct sio_fan_act *a, int64_t n)
{
	for (int32_t i = 0; i < a->sink_count; i++)
		if (a->each[i].moved != n)
			return 0;
	return 1;
}

/* ---- the try --------------------------------------------------------------------------- */

static int fan_out(struct sio_fan_act *a, int src, int64_t count,
		   const int32_t *sinks, int32_t sink_count)
{
	int64_t want = count, shared = 0, n;
	struct stat from;

	if (!look(a, src, sinks, sink_count, &from))
		return SIO_UNTRIED;
	if (S_ISREG(from.st_mode)) {
		int64_t has = sio_file_rest(src, &from, SIO_NO_OFFSET);

		/* One byte more shows whether it has grown meanwhile. */
		want = count < 0 || count > has ? has + 1 : count;
		if (!has || want > SIO_ACT_BUF)
			return SIO_UNTRIED;
	} else if (count < 0 || count > SIO_ACT_BUF) {
		return SIO_UNTRIED;
	}
	if (S_ISFIFO(from.st_mode) && pipes_among(a)) {
		shared = share(a, src, want);
		if (!shared) /* empty, full or refused: which, tells the long way */
			return SIO_UNTRIED;
		if (a->taken == shared)
			return shared == want ? SIO_DONE : SIO_BUDGET;
	}
	n = take(a, src, &from, shared ? shared - a->taken : want);
	if (n <= 0)
		return shared || a->error.err ? SIO_BUDGET : SIO_UNTRIED;
	give_all(a);
	if (S_ISREG(from.st_mode) && want != count)
		want--;
	return n == want && have_all(a, want) ? SIO_DONE : SIO_BUDGET;
}

int64_t sio_act_fanout(struct sio_fan_act *a, int src, int64_t count,
		       const int32_t *sinks, int32_t sink_count)
{
	int state = fan_out(a, src, count, sinks, sink_count);

	if (state == SIO_UNTRIED)
		a->sink_count = 0;
	return state == SIO_DONE ? a->taken : -state;
}

int64_t sio_act_fanout_settle(struct sio_fan_act *a, int src)
{
	int64_t most = 0;
	struct stat st;

	for (int32_t i = 0; i < a->sink_count; i++)
		if (a->each[i].moved > most)
			most = a->each[i].moved;
	if (!a->held && most > a->taken && !fstat(src, &st) && sio_is_same(&a->src, &st))
		(void)take(a, src, &st, most - a->taken);
	return a->taken;
}

int sio_fanout_resume(struct sio_fanout *f, const struct sio_fan_act *a,
		      const int32_t *places)
{
	if (a->held) {
		f->mem = malloc(HEAD_MEMORY);
		if (!f->mem)
			return -ENOMEM;
		f->mem_size = HEAD_MEMORY;
		memcpy(f->mem, a->buf, (size_t)a->held);
		f->mem_len = a->held;
	}
	f->base = a->taken - a->held;
	f->progress++;
	f->in->taken += a->taken;
	if (f->in->left >= 0)
		f->in->left -= a->taken;
	if (a->error.err)
		f->in->error = a->error;
	for (int32_t i = 0; i < a->sink_count; i++) {
		const struct sio_fan_sink *from = &a->each[i];
		struct sio_sink *s = &f->sinks[places[i]];

		s->got = from->moved;
		if (a->how[i] == SIO_ACT_TEE) {
			s->teed = from->moved;
			continue;
		}
		s->out->taken += from->moved;
		s->out->moved += from->moved;
		s->out->methods.moved[a->how[i]] += from->moved;
		if (from->err)
			s->out->error = (struct sio_error){
				from->err, SIO_SIDE_DST, SIO_CALL_WRITE, 1
			};
	}
	return 0;
}
