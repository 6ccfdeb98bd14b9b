/*
 * completions.c: what has happened, waiting for Python: a list of connections and an
 * eventfd.
 *
 * Engines add to it and never wait for it, so a busy interpreter delays the
 * news and not the bytes.  A conn is in the list once at the most; what it has
 * to tell meanwhile adds up in its bits.
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

struct sio_news {
	pthread_mutex_t lock;
	int fd;
	struct sio_conn *first;
	struct sio_conn *last;
	int32_t count;
};

struct sio_news *sio_news_new(void)
{
	struct sio_news *news = calloc(1, sizeof(*news));

	if (!news)
		return NULL;
	news->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (news->fd < 0 || pthread_mutex_init(&news->lock, NULL)) {
		if (news->fd >= 0)
			close(news->fd);
		free(news);
		return NULL;
	}
	return news;
}

void sio_news_free(struct sio_news *news)
{
	if (!news)
		return;
	close(news->fd);
	pthread_mutex_destroy(&news->lock);
	free(news);
}

int sio_news_fd(const struct sio_news *news)
{
	return news->fd;
}

int sio_news_wait(struct sio_news *news, int ms)
{
	struct pollfd p = { .fd = news->fd, .events = POLLIN, .revents = 0 };

	return sio_poll(NULL, &p, 1, ms);
}

void sio_news_wake(struct sio_news *news)
{
	/* EAGAIN: it has been woken more often than it can count. */
	(void)!write(news->fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

int sio_news_tell(struct sio_news *news, struct sio_conn *conn, int32_t what)
{
	int is_new, was_empty;

	pthread_mutex_lock(&news->lock);
	conn->told |= what;
	is_new = !conn->is_told;
	was_empty = !news->first;
	if (is_new) {
		conn->is_told = 1;
		conn->next_told = NULL;
		if (was_empty)
			news->first = conn;
		else
			news->last->next_told = conn;
		news->last = conn;
		news->count++;
	}
	/* Under the lock: who takes the last conn may free the news after. */
	if (is_new && was_empty)
		sio_news_wake(news);
	pthread_mutex_unlock(&news->lock);
	return is_new;
}

int32_t sio_news_count(struct sio_news *news)
{
	int32_t count;

	pthread_mutex_lock(&news->lock);
	count = news->count;
	pthread_mutex_unlock(&news->lock);
	return count;
}

struct sio_conn *sio_news_take(struct sio_news *news, int32_t *told)
{
	struct sio_conn *conn;
	uint64_t wakes;

	pthread_mutex_lock(&news->lock);
	conn = news->first;
	if (conn) {
		news->first = conn->next_told;
		news->count--;
		*told = conn->told;
		conn->told = conn->is_told = 0;
	} else {
		/* Only an empty list is worth waiting for. */
		(void)!read(news->fd, &wakes, sizeof(wakes));
	}
	pthread_mutex_unlock(&news->lock);
	return conn;
}
