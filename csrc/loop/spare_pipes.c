/*
 * spare_pipes.c: empty pipes that are kept for the next user.
 *
 * Rule 1: only an empty pipe comes back; one that may hold a byte is closed.
 *
 * An engine has a stack of them for its thread.  The blocking calls of a process
 * share another one, whatever thread they are on:
 *
 * Rule 2: its mutex is held for a few instructions, never for a system call.
 * Rule 3: how many there are is bounded, those in use counted too.  Who gets none
 *         makes a pipe that is closed after it.
 * Rule 4: the program may have closed the numbers, and opened something else that
 *         got them.  A spare is used only if both are still that pipe; what is
 *         not is not closed either.
 * Rule 5: a forked child closes its copies, and uses none of them: the parent does.
 */
#define _GNU_SOURCE
#include "loop/spare_pipes.h"
#include "base/syscalls.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a stack ------------------------------------------------------------------- */

int sio_spares_push(struct sio_spares *spares, struct sio_pipe *pipe, int suspect)
{
	if (pipe->held || suspect || spares->count == spares->most)
		return 0;
	spares->each[spares->count] = *pipe;
	/* A child that is forked now must not find numbers of before in it. */
	__atomic_store_n(&spares->count, spares->count + 1, __ATOMIC_RELEASE);
	pipe->reader = pipe->writer = -1;
	return 1;
}

int sio_spares_pop(struct sio_spares *spares, struct sio_pipe *pipe)
{
	if (!spares->count)
		return 0;
	*pipe = spares->each[--spares->count];
	return 1;
}

/* ---- those of a process ---------------------------------------------------------- */

struct sio_spare_pipes *sio_spare_pipes_new(void)
{
	struct sio_spare_pipes *shared = calloc(1, sizeof(*shared));

	if (!shared)
		return NULL;
	pthread_mutex_init(&shared->lock, NULL);
	shared->pid = getpid();
	shared->spares.each = shared->each;
	shared->spares.most = SIO_SPARES;
	return shared;
}

static int is_still(int fd, const struct sio_identity *is)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISFIFO(st.st_mode) && st.st_dev == is->dev &&
	       st.st_ino == is->ino;
}

static int is_whole(const struct sio_pipe *pipe)
{
	return is_still(pipe->reader, &pipe->is) &&
	       is_still(pipe->writer, &pipe->is);
}

static void close_what_is_left(struct sio_pipe *pipe)
{
	if (!is_still(pipe->reader, &pipe->is))
		pipe->reader = -1;
	if (!is_still(pipe->writer, &pipe->is))
		pipe->writer = -1;
	sio_pipe_close(&pipe->reader, &pipe->writer);
}

static int pop(struct sio_spare_pipes *shared, struct sio_pipe *pipe)
{
	int found;

	pthread_mutex_lock(&shared->lock);
	found = sio_spares_pop(&shared->spares, pipe);
	pthread_mutex_unlock(&shared->lock);
	return found;
}

/* One more, which is going to be made; 0: there are enough. */
static int count_in(struct sio_spare_pipes *shared)
{
	int room;

	pthread_mutex_lock(&shared->lock);
	room = shared->open < SIO_SPARES;
	shared->open += room;
	pthread_mutex_unlock(&shared->lock);
	return room;
}

/* One less. */
static void count_out(struct sio_spare_pipes *shared)
{
	pthread_mutex_lock(&shared->lock);
	shared->open--;
	pthread_mutex_unlock(&shared->lock);
}

/* One that a quota makes small serves once, as any: 0. */
static int remember(const struct sio_spare_pipes *shared, struct sio_pipe *pipe)
{
	struct stat st;

	if (pipe->size < SIO_PIPE_SIZE || fstat(pipe->reader, &st))
		return 0;
	pipe->pid = shared->pid;
	pipe->is = (struct sio_identity){ st.st_dev, st.st_ino };
	return 1;
}

static int pop_whole(struct sio_spare_pipes *shared, struct sio_pipe *pipe)
{
	struct sio_pipe found;

	while (pop(shared, &found)) {
		if (is_whole(&found)) {
			*pipe = found;
			return 1;
		}
		close_what_is_left(&found);
		count_out(shared);
	}
	return 0;
}

int sio_spare_take(struct sio_spare_pipes *shared, struct sio_faults *faults,
		   int64_t size, struct sio_pipe *pipe)
{
	int is_new = 0;

	/* The child of a fork that Python was not told of is known by its pid. */
	if (shared && !faults && shared->pid == getpid()) {
		if (pop_whole(shared, pipe))
			return 0;
		is_new = count_in(shared);
	}
	pipe->pid = 0;
	pipe->size = sio_pipe(faults, &pipe->reader, &pipe->writer,
			      is_new ? SIO_PIPE_SIZE : size);
	if (is_new && !remember(shared, pipe))
		count_out(shared);
	return pipe->size < 0 ? (int)pipe->size : 0;
}

void sio_spare_give(struct sio_spare_pipes *shared, struct sio_pipe *pipe,
		    int suspect)
{
	int is_shared = shared && pipe->reader >= 0 && pipe->pid &&
			pipe->pid == getpid();

	if (is_shared) {
		/* The count is exact; that the kernel says so too costs little. */
		suspect |= sio_unread(NULL, pipe->reader);
		pthread_mutex_lock(&shared->lock);
		if (!sio_spares_push(&shared->spares, pipe, suspect))
			shared->open--;
		pthread_mutex_unlock(&shared->lock);
	}
	pipe->pid = 0;
	sio_pipe_close(&pipe->reader, &pipe->writer);
}

void sio_spare_trim(struct sio_spare_pipes *shared)
{
	struct sio_pipe pipe;

	while (pop(shared, &pipe)) {
		close_what_is_left(&pipe);
		count_out(shared);
	}
}

void sio_spare_pipes_reset(struct sio_spare_pipes *shared)
{
	struct sio_pipe pipe;

	pthread_mutex_init(&shared->lock, NULL);
	while (sio_spares_pop(&shared->spares, &pipe))
		close_what_is_left(&pipe);
	shared->open = 0;
	shared->pid = getpid();
}
