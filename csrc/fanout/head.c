/*
 * head.c: what the source has given and not every sink has got.
 *
 * Rule 1: a source that is a pipe is its own head: its bytes stay there until
 *         all sinks have them.  Any other is spliced into a private pipe.
 * Rule 2: where tee() is refused, or no pipe can be had, the head is memory.
 *         What a pipe still held goes through it in order.
 * Rule 3: the head's first byte is number `base` of the source, its last but
 *         one before `end`; nothing else is known of who has got what.
 */
#define _GNU_SOURCE
#include "fanout/head.h"
#include "base/syscalls.h"
#include "transfer/state.h"
#include "transfer/step.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD_MEMORY (256 << 10)
#define TURN_NS 5000000
#define NONBLOCK 2 /* SPLICE_F_NONBLOCK */

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int sio_head_in_memory(const struct sio_fanout *f)
{
	return f->mem_len > f->mem_pos;
}

int sio_head_fd(const struct sio_fanout *f)
{
	return f->direct ? f->in->src.fd : f->head.reader;
}

static int nonblocking(int fd)
{
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* The private head, if one is needed and can be had. */
static void open_head(struct sio_fanout *f)
{
	int err = -sio_spare_take(f->spares, f->faults, SIO_PIPE_SIZE, &f->head);

	if (err) {
		sio_head_copy(f, err, SIO_CALL_PIPE);
		return;
	}
	f->in->dst.fd = f->head.writer;
	f->head.writer = -1;
	(void)nonblocking(f->head.reader);
	(void)nonblocking(f->in->dst.fd);
	f->in->dst.kind = SIO_KIND_PIPE;
	f->in->dst.slots = f->head.size / SIO_PIPE_SLOT;
}

struct sio_fanout *sio_fanout_new(const struct sio_fanout_config *config)
{
	size_t count = (size_t)config->sink_count;
	struct sio_fanout *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->in = config->in;
	f->faults = f->in->faults;
	f->sink_count = f->attached = config->sink_count;
	f->copying = config->copying;
	f->stall_ns = config->stall_ns;
	f->spares = f->in->spares;
	f->head.reader = f->head.writer = f->null_fd = f->wake_fd = -1;
	f->full_at = -1;
	f->direct = f->in->src.kind == SIO_KIND_PIPE;
	f->fds = calloc(count + 2, sizeof(*f->fds));
	f->sinks = calloc(count, sizeof(*f->sinks));
	if (!f->fds || (count && !f->sinks)) {
		sio_fanout_free(f);
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		f->sinks[i].out = config->out[i];
		f->sinks[i].pipe.reader = f->sinks[i].pipe.writer = -1;
		f->sinks[i].beyond = -1;
	}
	if (!f->copying)
		f->null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (!f->direct && !f->copying)
		open_head(f);
	return f;
}

/* Without the writer of its head, which is the caller's to close. */
static void drop(struct sio_fanout *f)
{
	sio_spare_give(f->spares, &f->head, f->failed || f->head.writer < 0);
	for (int32_t i = 0; f->sinks && i < f->sink_count; i++)
		sio_spare_give(f->spares, &f->sinks[i].pipe,
			       f->sinks[i].fate == SIO_FATE_FAILED);
	if (f->null_fd >= 0)
		close(f->null_fd);
	f->null_fd = -1;
	free(f->sinks);
	free(f->mem);
	free(f->fds);
	f->sinks = NULL;
	f->mem = NULL;
	f->fds = NULL;
	f->sink_count = 0;
	f->mem_pos = f->mem_len = f->head_held = 0;
}

void sio_fanout_free(struct sio_fanout *f)
{
	if (f)
		drop(f);
	free(f);
}

void sio_fanout_close(struct sio_fanout *f)
{
	if (f->head.reader >= 0) {
		f->head.writer = f->in->dst.fd;
		f->head.held = f->head_held;
		f->in->dst.fd = -1;
	}
	drop(f);
}

void sio_head_copy(struct sio_fanout *f, int err, int call)
{
	f->progress += !f->copying; /* what to do next is another thing now */
	f->copying = 1;
	f->refused = err;
	f->refused_call = call;
}

/* ---- more of the source ------------------------------------------------------------ */

static int note_failure(struct sio_fanout *f)
{
	f->failed = f->eof = 1;
	return 0;
}

/* Into memory: what a private pipe still holds, then what `in` holds or reads. */
static int64_t read_more(struct sio_fanout *f)
{
	int64_t n;

	if (f->head_held && !f->direct) {
		sio_at(f->in, SIO_PHASE_FILL);
		n = sio_read(f->faults, f->head.reader, NULL, f->mem,
			     least(f->mem_size, f->head_held));
		if (n > 0)
			f->head_held -= n;
		return n ? n : -EIO;
	}
	n = sio_transfer_pull(f->in, f->mem, f->mem_size);
	/* A FIFO that nobody has opened for writing yet reads as ended, but
	 * does not hang up. */
	if (n == 0 && f->direct && f->in->left &&
	    !sio_ready(f->faults, f->in->src.fd, POLLIN)) {
		f->in->src.eof = 0;
		return -EAGAIN;
	}
	if (n == 0)
		f->eof = 1;
	return n;
}

static int refill(struct sio_fanout *f)
{
	int64_t n;

	if (f->eof && !f->head_held)
		return 0;
	if (!f->mem) {
		f->mem = malloc(HEAD_MEMORY);
		f->mem_size = HEAD_MEMORY;
	}
	if (!f->mem) {
		(void)sio_fail(f->in, ENOMEM, SIO_SIDE_NONE, SIO_CALL_READ);
		return note_failure(f);
	}
	n = read_more(f);
	if (n == -EAGAIN)
		f->want_src = 1;
	else if (n == -EINTR)
		return SIO_INTERRUPTED;
	else if (n < 0)
		return note_failure(f);
	f->mem_pos = 0;
	f->mem_len = n > 0 ? n : 0;
	f->progress += f->mem_len;
	return 0;
}

/* The source is a pipe, whose bytes are counted where they are. */
static void count_source(struct sio_fanout *f)
{
	int64_t unread = sio_unread(f->faults, f->in->src.fd);

	if (f->in->left >= 0 && unread > f->in->left)
		unread = f->in->left;
	f->head_held = unread > 0 ? unread : 0;
	if (!f->in->left)
		f->eof = 1;
	else if (!f->head_held && !f->eof)
		f->want_src = 1;
}

static int fill(struct sio_fanout *f)
{
	struct sio_transfer *in = f->in;
	int64_t before = in->moved, taken = in->taken;
	int r;

	if (f->full_at == f->base)
		return 0;
	r = sio_transfer_step(in, SIO_PIPE_SIZE, TURN_NS);
	f->full_at = r == SIO_WANT_DST ? f->base : -1;
	f->head_held += in->moved - before;
	f->progress += in->moved - before + in->taken - taken;
	if (r == SIO_DONE)
		f->eof = 1;
	else if (r == SIO_ERROR)
		return note_failure(f);
	else if (r == SIO_WANT_SRC)
		f->want_src = 1;
	else if (r == SIO_BUDGET)
		f->retry = 1; /* its time was over, perhaps before it began */
	return r == SIO_INTERRUPTED ? r : 0;
}

int sio_head_look(struct sio_fanout *f)
{
	int r = 0;

	f->want_src = 0;
	if (!sio_head_in_memory(f)) {
		/* What was read ahead of a pipe comes first, and is in memory. */
		if (f->copying || (f->direct && sio_transfer_held(f->in)))
			r = refill(f);
		else if (f->direct)
			count_source(f);
		else if (!f->eof)
			r = fill(f);
	}
	f->end = f->base + (sio_head_in_memory(f) ? f->mem_len - f->mem_pos :
			    f->copying ? 0 : f->head_held);
	return r;
}

/* ---- less of it ---------------------------------------------------------------------- */

/* By a call that does not wait, whatever another reader may have taken. */
static int64_t drop_some(struct sio_fanout *f, int fd, int64_t n)
{
	char waste[PIPE_BUF];
	int64_t k = -EINVAL;

	if (f->null_fd >= 0)
		k = sio_splice(f->faults, fd, NULL, f->null_fd, NULL, n, NONBLOCK);
	if (k > 0 || k == -EINTR)
		return k;
	if (!sio_ready(f->faults, fd, POLLIN))
		return -EAGAIN;
	return sio_read(f->faults, fd, NULL, waste, least(n, sizeof(waste)));
}

int64_t sio_pipe_drop(struct sio_fanout *f, int fd, int64_t n)
{
	int64_t done = 0, k = 0;

	sio_at(f->in, SIO_PHASE_DROP);
	while (done < n && (k >= 0 || k == -EINTR)) {
		k = drop_some(f, fd, n - done);
		if (k == 0)
			break;
		done += k > 0 ? k : 0;
	}
	return done;
}

void sio_head_left(struct sio_fanout *f, int64_t n)
{
	f->base += n;
	if (sio_head_in_memory(f)) {
		f->mem_pos += n;
		return;
	}
	f->head_held -= n;
	if (!f->direct)
		return;
	f->in->taken += n;
	if (f->in->left >= 0)
		f->in->left -= n;
}

void sio_head_let_go(struct sio_fanout *f)
{
	int64_t least_got = f->end, n;

	if (!f->attached)
		return;
	for (int32_t i = 0; i < f->sink_count; i++)
		if (f->sinks[i].fate == SIO_FATE_OPEN)
			least_got = least(least_got, f->sinks[i].got);
	n = least_got - f->base;
	if (n > 0 && !sio_head_in_memory(f)) {
		int64_t dropped = sio_pipe_drop(f, sio_head_fd(f), n);

		f->retry |= dropped < n;
		n = dropped;
	}
	if (n > 0) {
		sio_head_left(f, n);
		f->progress++;
	}
}

/* ---- what is left at the end ----------------------------------------------------------- */

/* A source that is a pipe keeps what no sink has got. */
int64_t sio_fanout_rest(const struct sio_fanout *f)
{
	int64_t most = f->base;

	if (sio_head_in_memory(f))
		return f->mem_len - f->mem_pos + sio_transfer_held(f->in) +
		       (f->direct ? 0 : f->head_held);
	if (!f->direct)
		return f->head_held + sio_transfer_held(f->in);
	for (int32_t i = 0; i < f->sink_count; i++)
		if (f->sinks[i].got > most)
			most = f->sinks[i].got;
	return most - f->base + sio_transfer_held(f->in);
}

int64_t sio_fanout_take_rest(struct sio_fanout *f, void *buf, int64_t len)
{
	int64_t n = least(f->mem_len - f->mem_pos, len);

	if (n > 0) {
		memcpy(buf, f->mem + f->mem_pos, (size_t)n);
		sio_head_left(f, n);
		return n;
	}
	if (!f->head_held && sio_transfer_held(f->in))
		return sio_transfer_take_held(f->in, buf, len);
	len = least(len, sio_fanout_rest(f));
	if (len <= 0 || !sio_ready(NULL, sio_head_fd(f), POLLIN))
		return 0;
	n = sio_read(NULL, sio_head_fd(f), NULL, buf, len);
	if (n > 0)
		sio_head_left(f, n);
	return n;
}
