/*
 * modes.c: the blocking mode of sockets that engines have.
 *
 * Rule 1: a socket is nonblocking in an engine; once none has it any more it gets the
 *         mode back that it had.  Several jobs may have one socket, by
 *         descriptors of their own: it is known by device and inode.
 * Rule 2: one call sets all of a job, one restores all, under the table's
 *         mutex: no signal handler of Python can leave half of it.
 * Rule 3: a number that is no longer that socket is left alone.
 */
#define _GNU_SOURCE
#include "relay/modes.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BUCKETS 4096

/* The chains run through the jobs, which are their owners' memory. */
struct sio_modes {
	pthread_mutex_t lock;
	struct sio_saved_mode *buckets[BUCKETS];
};

struct sio_modes *sio_modes_new(void)
{
	struct sio_modes *modes = calloc(1, sizeof(*modes));

	if (modes)
		pthread_mutex_init(&modes->lock, NULL);
	return modes;
}

void sio_modes_reset(struct sio_modes *modes)
{
	memset(modes, 0, sizeof(*modes));
	pthread_mutex_init(&modes->lock, NULL);
}

static struct sio_saved_mode **bucket(struct sio_modes *modes,
				      const struct sio_saved_mode *saved)
{
	return &modes->buckets[saved->inode % BUCKETS];
}

static int identify(int fd, struct sio_saved_mode *saved)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
		return 0;
	saved->fd = fd;
	saved->device = st.st_dev;
	saved->inode = st.st_ino;
	return 1;
}

static int is_same(const struct sio_saved_mode *a, const struct sio_saved_mode *b)
{
	return a->inode == b->inode && a->device == b->device;
}

/* The next one of the same socket, from one in its chain on. */
static struct sio_saved_mode *other(struct sio_saved_mode *from,
				    const struct sio_saved_mode *saved)
{
	while (from && !is_same(from, saved))
		from = from->next;
	return from;
}

void sio_modes_set(struct sio_saved_modes *saved_modes, struct sio_modes *modes,
		    const int32_t *fds)
{
	pthread_mutex_lock(&modes->lock);
	for (int slot = saved_modes->modes ? 4 : 0; slot < 4; slot++) {
		struct sio_saved_mode *saved = &saved_modes->each[slot], **first;
		int flags;

		saved->fd = -1;
		if (!identify(fds[slot], saved))
			continue;
		flags = fcntl(saved->fd, F_GETFL);
		saved->was_blocking = !(flags & O_NONBLOCK);
		if (saved->was_blocking)
			(void)fcntl(saved->fd, F_SETFL, flags | O_NONBLOCK);
		first = bucket(modes, saved);
		saved->next = *first;
		*first = saved;
	}
	saved_modes->modes = modes;
	pthread_mutex_unlock(&modes->lock);
}

static void restore(struct sio_modes *modes, struct sio_saved_mode *saved)
{
	struct sio_saved_mode **at = bucket(modes, saved), *left, now;
	int flags;

	while (*at && *at != saved)
		at = &(*at)->next;
	if (!*at) /* set before a fork */
		return;
	*at = saved->next;
	left = other(*bucket(modes, saved), saved);
	if (left)
		left->was_blocking |= saved->was_blocking;
	else if (saved->was_blocking && identify(saved->fd, &now) &&
		 is_same(&now, saved) && (flags = fcntl(saved->fd, F_GETFL)) >= 0)
		(void)fcntl(saved->fd, F_SETFL, flags & ~O_NONBLOCK);
}

void sio_modes_restore(struct sio_saved_modes *saved_modes)
{
	struct sio_modes *modes = saved_modes->modes;

	if (!modes)
		return;
	pthread_mutex_lock(&modes->lock);
	for (int slot = saved_modes->modes ? 0 : 4; slot < 4; slot++)
		if (saved_modes->each[slot].fd >= 0)
			restore(modes, &saved_modes->each[slot]);
	saved_modes->modes = NULL;
	pthread_mutex_unlock(&modes->lock);
}
