/*
 * disk.h: threads that read files from their disks into memory, so that the
 * engine's thread never waits for one.
 */
#ifndef SIO_LOOP_DISK_H
#define SIO_LOOP_DISK_H

#include "api.h"

#include <pthread.h>

#define SIO_DISK_THREADS 4

struct sio_conn;
struct sio_disk_read;

/* Owns the threads, and a duplicate of the descriptor of each read. */
struct sio_disk {
	void (*tell)(struct sio_conn *c);
	pthread_mutex_t lock;
	pthread_cond_t asked;
	/* Guarded by it. */
	struct sio_disk_read *first;    /* those being read come first */
	struct sio_disk_read *last;
	int32_t waiting;        /* reads that no thread has begun */
	int32_t idle;
	int32_t thread_count;
	int32_t stopping;
	pthread_t threads[SIO_DISK_THREADS];
};

/* `tell` is called by one of the threads when what a connection has asked for is
 * in memory, under the lock. */
void sio_disk_init(struct sio_disk *disk, void (*tell)(struct sio_conn *c));

/* When the engine's thread has ended: the read under way is waited for. */
void sio_disk_stop(struct sio_disk *disk);
void sio_disk_free(struct sio_disk *disk);

/* In a forked child: close what was copied. */
void sio_disk_abandon(struct sio_disk *disk);

/* Have so many bytes read, and the `ahead` behind them begun; NULL: there is no
 * thread, no descriptor or no memory for it. */
struct sio_disk_read *sio_disk_ask(struct sio_disk *disk, struct sio_conn *c,
				   int fd, int64_t offset, int64_t len,
				   int64_t ahead);

/* By the engine's thread: it has been told, or is no more interested. */
void sio_disk_release(struct sio_disk *disk, struct sio_disk_read *read);

#endif
