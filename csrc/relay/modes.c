/*
 * modes.c: the blocking mode of sockets that are lent to engines.
 *
 * Rule 1: a lent socket is nonblocking; once nobody has it any more it gets the
 *         mode back that it had.  Several jobs may have one socket, by
 *         descriptors of their own: it is known by device and inode.
 * Rule 2: one call lends all of a job, one gives all back, under the table's
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
	struct sio_loan *buckets[BUCKETS];
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

static struct sio_loan **bucket(struct sio_modes *modes, const struct sio_loan *loan)
{
	return &modes->buckets[loan->inode % BUCKETS];
}

static int identify(int fd, struct sio_loan *loan)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
		return 0;
	loan->fd = fd;
	loan->device = st.st_dev;
	loan->inode = st.st_ino;
	return 1;
}

static int is_same(const struct sio_loan *a, const struct sio_loan *b)
{
	return a->inode == b->inode && a->device == b->device;
}

/* The next loan of the same socket, from one in its chain on. */
static struct sio_loan *other(struct sio_loan *from, const struct sio_loan *loan)
{
	while (from && !is_same(from, loan))
		from = from->next;
	return from;
}

void sio_loans_take(struct sio_loans *loans, struct sio_modes *modes,
		    const int32_t *fds)
{
	pthread_mutex_lock(&modes->lock);
	for (int slot = loans->modes ? 4 : 0; slot < 4; slot++) {
		struct sio_loan *loan = &loans->each[slot], **first;
		int flags;

		loan->fd = -1;
		if (!identify(fds[slot], loan))
			continue;
		flags = fcntl(loan->fd, F_GETFL);
		loan->was_blocking = !(flags & O_NONBLOCK);
		if (loan->was_blocking)
			(void)fcntl(loan->fd, F_SETFL, flags | O_NONBLOCK);
		first = bucket(modes, loan);
		loan->next = *first;
		*first = loan;
	}
	loans->modes = modes;
	pthread_mutex_unlock(&modes->lock);
}

static void give_back(struct sio_modes *modes, struct sio_loan *loan)
{
	struct sio_loan **at = bucket(modes, loan), *left, now;
	int flags;

	while (*at && *at != loan)
		at = &(*at)->next;
	if (!*at) /* lent before a fork */
		return;
	*at = loan->next;
	left = other(*bucket(modes, loan), loan);
	if (left)
		left->was_blocking |= loan->was_blocking;
	else if (loan->was_blocking && identify(loan->fd, &now) &&
		 is_same(&now, loan) && (flags = fcntl(loan->fd, F_GETFL)) >= 0)
		(void)fcntl(loan->fd, F_SETFL, flags & ~O_NONBLOCK);
}

void sio_loans_end(struct sio_loans *loans)
{
	struct sio_modes *modes = loans->modes;

	if (!modes)
		return;
	pthread_mutex_lock(&modes->lock);
	for (int slot = loans->modes ? 0 : 4; slot < 4; slot++)
		if (loans->each[slot].fd >= 0)
			give_back(modes, &loans->each[slot]);
	loans->modes = NULL;
	pthread_mutex_unlock(&modes->lock);
}
