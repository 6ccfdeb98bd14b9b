/*
 * pipe_pool.c: pipes and memory, lent to flows while bytes are in them.
 *
 * Rule 1: a flow without bytes in flight owns neither, so ten thousand idle
 *         relays cost no pipe and no buffer.
 * Rule 2: only an empty pipe comes back; one that may hold a byte is closed.
 * Rule 3: the number of pipes is bounded, and pipes that the user's quota makes
 *         tiny do not count as pipes.  Who gets none copies for this once.
 * Rule 4: there is one buffer, for a flow at a time.  What is still in it when
 *         the flow's turn is over moves to memory of its own.
 * A flow without a lender has its own pipe and buffer, made here too.
 */
#define _GNU_SOURCE
#include "loop/pipe_pool.h"
#include "base/syscalls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BULK_BUF (128 << 10)
#define BUF_ALIGN 4096
#define PIPE_SIZE (1 << 20)
/* With less than this a pipe costs more calls than copying. */
#define SMALLEST_PIPE (64 << 10)
/* Empty pipes that are kept for the next flow. */
#define SPARE 16
/* After a refusal no pipe is made for this long. */
#define REFUSED_NS 100000000

int sio_lender_open(struct sio_lender *l, int32_t most)
{
	memset(l, 0, sizeof(*l));
	l->most = most;
	l->spare = calloc(SPARE, sizeof(*l->spare));
	return l->spare ? 0 : -ENOMEM;
}

void sio_lender_trim(struct sio_lender *l)
{
	while (l->spare_count) {
		struct sio_spare *s = &l->spare[--l->spare_count];

		sio_pipe_close(&s->reader, &s->writer);
		sio_count(&l->open, -1);
	}
}

void sio_lender_close(struct sio_lender *l)
{
	if (l->spare)
		sio_lender_trim(l);
	free(l->spare);
	free(l->buf);
	memset(l, 0, sizeof(*l));
}

/* Give up the pipe of a flow, with what is in it. */
static void lose_pipe(struct sio_transfer *t)
{
	sio_pipe_close(&t->pipe_r, &t->pipe_w);
	sio_count(&t->lender->open, -1);
}

static int64_t make_pipe(struct sio_transfer *t)
{
	struct sio_lender *l = t->lender;
	int64_t size;

	if (l->open >= l->most || sio_now() < l->refused_until)
		return -EMFILE;
	size = sio_pipe(t->seam, &t->pipe_r, &t->pipe_w, PIPE_SIZE);
	if (size >= 0)
		sio_count(&l->open, 1);
	if (size >= SMALLEST_PIPE)
		return size;
	if (size >= 0)
		lose_pipe(t);
	l->refused_until = sio_now() + REFUSED_NS;
	return size < 0 ? size : -EPERM;
}

/* For what is known to be little, the kernel's default. */
static int64_t own_size(const struct sio_transfer *t)
{
	int64_t most = t->known > t->taken ? t->known - t->taken : t->left;

	if (most < 0 || (t->left >= 0 && t->left < most))
		most = t->left;
	if (most < 0 || most >= t->pipe_size)
		return t->pipe_size;
	return most <= SMALLEST_PIPE ? 0 : most;
}

int64_t sio_need_pipe(struct sio_transfer *t)
{
	struct sio_lender *l = t->lender;
	int64_t size;

	if (!l)
		return sio_pipe(t->seam, &t->pipe_r, &t->pipe_w, own_size(t));
	if (l->spare_count) {
		struct sio_spare *s = &l->spare[--l->spare_count];

		t->pipe_r = s->reader;
		t->pipe_w = s->writer;
		size = s->size;
	} else {
		size = make_pipe(t);
	}
	if (size >= 0)
		sio_count(&l->held, 1);
	return size;
}

static void take_pipe_back(struct sio_transfer *t)
{
	struct sio_lender *l = t->lender;
	struct sio_spare *s;

	sio_count(&l->held, -1);
	if (t->err || l->spare_count == SPARE) {
		lose_pipe(t);
		return;
	}
	s = &l->spare[l->spare_count];
	s->reader = t->pipe_r;
	s->writer = t->pipe_w;
	s->size = t->slots * SIO_SLOT;
	/* A child that is forked now must not find numbers of before in it. */
	__atomic_store_n(&l->spare_count, l->spare_count + 1, __ATOMIC_RELEASE);
	t->pipe_r = t->pipe_w = -1;
}

static int new_buffer(unsigned char **buf, int64_t size)
{
	void *made = NULL;

	/* Aligned, so that a source opened O_DIRECT can be read into it. */
	if (posix_memalign(&made, BUF_ALIGN, (size_t)size))
		return -ENOMEM;
	*buf = made;
	return 0;
}

int sio_need_buf(struct sio_transfer *t, int bulk)
{
	int64_t size = bulk || t->lender ? BULK_BUF : SIO_SMALL_BUF;
	unsigned char *made = NULL;

	if (t->buf && (t->buf_size >= size || t->buf_len > t->buf_pos))
		return 0;
	if (t->lender && !t->lender->buf &&
	    new_buffer(&t->lender->buf, size))
		return -ENOMEM;
	if (!t->lender && new_buffer(&made, size))
		return -ENOMEM;
	free(t->buf);
	t->buf = t->lender ? t->lender->buf : made;
	t->buf_lent = t->lender != NULL;
	t->buf_size = size;
	t->buf_pos = t->buf_len = 0;
	return 0;
}

/* What is left in the common buffer gets memory of its own size. */
static void keep_rest(struct sio_transfer *t, int64_t left)
{
	unsigned char *own = malloc((size_t)left);

	if (!own) {
		/* No memory: the buffer itself changes hands. */
		t->lender->buf = NULL;
		t->buf_lent = 0;
		return;
	}
	memcpy(own, t->buf + t->buf_pos, (size_t)left);
	t->buf = own;
	t->buf_lent = 0;
	t->buf_size = t->buf_len = left;
	t->buf_pos = 0;
}

void sio_give_back(struct sio_transfer *t)
{
	int64_t left = t->buf_len - t->buf_pos;

	if (!t->lender)
		return;
	if (t->pipe_r >= 0 && !t->pipe_held)
		take_pipe_back(t);
	if (t->buf && left && t->buf_lent)
		keep_rest(t, left);
	if (t->buf && !left) {
		if (!t->buf_lent)
			free(t->buf);
		t->buf = NULL;
		t->buf_lent = 0;
		t->buf_size = t->buf_pos = t->buf_len = 0;
	}
}

void sio_stop_lending(struct sio_transfer *t)
{
	sio_give_back(t);
	if (!t->lender)
		return;
	if (t->pipe_r >= 0) {
		sio_count(&t->lender->held, -1);
		sio_count(&t->lender->open, -1);
	}
	t->lender = NULL;
}
