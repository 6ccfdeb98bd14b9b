/*
 * completions.c: what has happened, waiting for Python: a list of connections and
 * an eventfd.
 *
 * Engines add to it and never wait for it, so a busy interpreter delays what it
 * is told and not the bytes.  A connection is in the list once at the most; the
 * events that are posted meanwhile add up in its bits.  Whoever takes from it is
 * woken once, when it has found nothing: what comes while it is at work it finds.
 */
#define _GNU_SOURCE
#include "loop/completions.h"
#include "loop/loop.h"
#include "base/syscalls.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct sio_completions {
	pthread_mutex_t lock;
	int fd;
	struct sio_conn *first;
	struct sio_conn *last;
	int32_t count;
	int32_t waiting;        /* the last take found nothing: the next waits */
	int32_t woken;          /* the eventfd can be read */
};

struct sio_completions *sio_completions_new(void)
{
	struct sio_completions *completions = calloc(1, sizeof(*completions));

	if (!completions)
		return NULL;
	completions->waiting = 1;
	completions->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (completions->fd < 0 || pthread_mutex_init(&completions->lock, NULL)) {
		if (completions->fd >= 0)
			close(completions->fd);
		free(completions);
		return NULL;
	}
	return completions;
}

void sio_completions_free(struct sio_completions *completions)
{
	if (!completions)
		return;
	close(completions->fd);
	pthread_mutex_destroy(&completions->lock);
	free(completions);
}

int sio_completions_fd(const struct sio_completions *completions)
{
	return completions->fd;
}

int sio_completions_wait(struct sio_completions *completions, int ms)
{
	struct pollfd p = { .fd = completions->fd, .events = POLLIN, .revents = 0 };

	return sio_poll(NULL, &p, 1, ms);
}

/* Under the lock. */
static void wake(struct sio_completions *completions)
{
	if (completions->woken)
		return;
	completions->woken = 1;
	(void)!write(completions->fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

void sio_completions_wake(struct sio_completions *completions)
{
	pthread_mutex_lock(&completions->lock);
	wake(completions);
	pthread_mutex_unlock(&completions->lock);
}

int sio_completions_post(struct sio_completions *completions,
			 struct sio_conn *conn, int32_t what)
{
	int is_new;

	pthread_mutex_lock(&completions->lock);
	conn->events |= what;
	is_new = !conn->is_posted;
	if (is_new) {
		conn->is_posted = 1;
		conn->next_posted = NULL;
		if (completions->first)
			completions->last->next_posted = conn;
		else
			completions->first = conn;
		completions->last = conn;
		completions->count++;
	}
	/* Under the lock: who takes the last connection may free this after. */
	if (is_new && completions->waiting) {
		completions->waiting = 0;
		wake(completions);
	}
	pthread_mutex_unlock(&completions->lock);
	return is_new;
}

int32_t sio_completions_count(struct sio_completions *completions)
{
	int32_t count;

	pthread_mutex_lock(&completions->lock);
	count = completions->count;
	pthread_mutex_unlock(&completions->lock);
	return count;
}

struct sio_conn *sio_completions_take(struct sio_completions *completions, int32_t *events)
{
	struct sio_conn *conn;
	uint64_t wakes;

	pthread_mutex_lock(&completions->lock);
	conn = completions->first;
	if (conn) {
		completions->first = conn->next_posted;
		completions->count--;
		*events = conn->events;
		conn->events = conn->is_posted = 0;
	} else {
		/* Only an empty list is worth waiting for. */
		if (completions->woken)
			(void)!read(completions->fd, &wakes, sizeof(wakes));
		completions->woken = 0;
		completions->waiting = 1;
	}
	pthread_mutex_unlock(&completions->lock);
	return conn;
}
