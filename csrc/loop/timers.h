/*
 * timers.h: what is due next, among many: a binary heap of deadlines.
 */
#ifndef SIO_LOOP_TIMERS_H
#define SIO_LOOP_TIMERS_H

#include "api.h"

/* Zeroed, it is not set. */
struct sio_timer {
	int64_t due;
	int32_t place;          /* in the heap; 0: not set */
	void (*fire)(struct sio_engine *e, struct sio_timer *timer);
};

struct sio_timers {
	struct sio_timer **heap;
	int32_t count;
	int32_t size;
};

/* Room for so many; 0 or -ENOMEM. */
int sio_timers_reserve(struct sio_timers *h, int32_t count);

/* There has to be room. */
void sio_timer_set(struct sio_timers *h, struct sio_timer *timer, int64_t due);
void sio_timer_clear(struct sio_timers *h, struct sio_timer *timer);
struct sio_timer *sio_timer_first(const struct sio_timers *h);
void sio_timers_free(struct sio_timers *h);

#endif
