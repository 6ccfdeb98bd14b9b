/*
 * disk.c: threads that read files from their disks into memory, so that the
 * engine's thread never waits for one.
 *
 * What is read is thrown away: it stays in the page cache, and from there the
 * engine sends it.
 *
 * Rule 1: a read has a descriptor of its own: its connection may end meanwhile.
 * Rule 2: a thread is made when a read finds all others at work, up to a limit;
 *         it ends with the engine.
 * Rule 3: an error is nothing to tell here: whoever reads next meets it.
 */
#define _GNU_SOURCE
#include "loop/disk.h"
#include "base/syscalls.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define STACK (128 << 10)
#define PIECE (32 << 10)

/* Until a thread has done it, the list's; then `conn` says whose: the engine's,
 * which has been told, or if NULL nobody's. */
struct sio_disk_read {
	struct sio_disk_read *next;
	struct sio_conn *conn;
	int32_t fd;
	int32_t is_begun;
	int32_t is_done;
	int64_t offset;
	int64_t len;
	int64_t ahead;
};

void sio_disk_init(struct sio_disk *disk, void (*tell)(struct sio_conn *c))
{
	disk->tell = tell;
	pthread_mutex_init(&disk->lock, NULL);
	pthread_cond_init(&disk->asked, NULL);
}

static void read_in(const struct sio_disk_read *read)
{
	unsigned char piece[PIECE];
	int64_t at = read->offset, end = at + read->len, n;

	(void)posix_fadvise(read->fd, at, read->len, POSIX_FADV_WILLNEED);
	do {
		n = sio_read(NULL, read->fd, &at, piece,
			     end - at < PIECE ? end - at : PIECE);
		at += n;
	} while (n > 0 && at < end);
	if (read->ahead)
		(void)posix_fadvise(read->fd, end, read->ahead,
				    POSIX_FADV_WILLNEED);
}

static struct sio_disk_read *begin(struct sio_disk *disk)
{
	struct sio_disk_read *read = disk->first;

	while (read->is_begun)
		read = read->next;
	read->is_begun = 1;
	disk->waiting--;
	return read;
}

static void take_out(struct sio_disk *disk, struct sio_disk_read *read)
{
	struct sio_disk_read *before = NULL, *each;

	for (each = disk->first; each != read; each = each->next)
		before = each;
	if (before)
		before->next = read->next;
	else
		disk->first = read->next;
	if (disk->last == read)
		disk->last = before;
}

static void end(struct sio_disk *disk, struct sio_disk_read *read)
{
	take_out(disk, read);
	close(read->fd);
	read->is_done = 1;
	/* Under the lock, so that it has not been released meanwhile. */
	if (read->conn)
		disk->tell(read->conn);
	else
		free(read);
}

static void *disk_thread(void *argument)
{
	struct sio_disk *disk = argument;

	pthread_mutex_lock(&disk->lock);
	for (;;) {
		struct sio_disk_read *read;
		int is_wanted;

		while (!disk->waiting && !disk->stopping) {
			disk->idle++;
			pthread_cond_wait(&disk->asked, &disk->lock);
			disk->idle--;
		}
		if (!disk->waiting)
			break;
		read = begin(disk);
		is_wanted = read->conn && !disk->stopping;
		pthread_mutex_unlock(&disk->lock);
		if (is_wanted)
			read_in(read);
		pthread_mutex_lock(&disk->lock);
		end(disk, read);
	}
	pthread_mutex_unlock(&disk->lock);
	return NULL;
}

/* Signals are blocked, as in the engine's thread, which makes it. */
static void add_thread(struct sio_disk *disk)
{
	pthread_t *made = &disk->threads[disk->thread_count];
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	err = pthread_create(made, &attr, disk_thread, disk);
	pthread_attr_destroy(&attr);
	if (err)
		return;
	disk->thread_count++;
	(void)pthread_setname_np(*made, "spliceio-disk");
}

static struct sio_disk_read *new_read(struct sio_conn *c, int fd)
{
	struct sio_disk_read *read = calloc(1, sizeof(*read));

	if (!read)
		return NULL;
	read->conn = c;
	read->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (read->fd >= 0)
		return read;
	free(read);
	return NULL;
}

static void append(struct sio_disk *disk, struct sio_disk_read *read)
{
	if (disk->last)
		disk->last->next = read;
	else
		disk->first = read;
	disk->last = read;
	disk->waiting++;
	pthread_cond_signal(&disk->asked);
}

struct sio_disk_read *sio_disk_ask(struct sio_disk *disk, struct sio_conn *c,
				   int fd, int64_t offset, int64_t len,
				   int64_t ahead)
{
	struct sio_disk_read *read = new_read(c, fd);
	int has_threads;

	if (!read)
		return NULL;
	read->offset = offset;
	read->len = len;
	read->ahead = ahead;
	pthread_mutex_lock(&disk->lock);
	if (disk->idle <= disk->waiting && disk->thread_count < SIO_DISK_THREADS)
		add_thread(disk);
	has_threads = disk->thread_count;
	if (has_threads)
		append(disk, read);
	pthread_mutex_unlock(&disk->lock);
	if (has_threads)
		return read;
	close(read->fd);
	free(read);
	return NULL;
}

void sio_disk_release(struct sio_disk *disk, struct sio_disk_read *read)
{
	int is_done;

	pthread_mutex_lock(&disk->lock);
	is_done = read->is_done;
	read->conn = NULL;
	pthread_mutex_unlock(&disk->lock);
	if (is_done)
		free(read);
}

void sio_disk_stop(struct sio_disk *disk)
{
	pthread_mutex_lock(&disk->lock);
	disk->stopping = 1;
	pthread_cond_broadcast(&disk->asked);
	pthread_mutex_unlock(&disk->lock);
	while (disk->thread_count)
		pthread_join(disk->threads[--disk->thread_count], NULL);
}

void sio_disk_free(struct sio_disk *disk)
{
	pthread_cond_destroy(&disk->asked);
	pthread_mutex_destroy(&disk->lock);
}

void sio_disk_abandon(struct sio_disk *disk)
{
	for (struct sio_disk_read *read = disk->first; read; read = read->next)
		close(read->fd);
	disk->first = disk->last = NULL;
}
