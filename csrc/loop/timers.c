/*
 * timers.c: what is due next, among many: a binary heap of deadlines.
 *
 * Owns the heap, and none of the timers, which live in what they wake.  A timer
 * knows its place, so it can be moved or taken out without a search.  Room is
 * made beforehand, so that to set one cannot fail.
 */
#define _GNU_SOURCE
#include "loop/timers.h"

#include <errno.h>
#include <stdlib.h>

/* heap[1] is due first; heap[i] never after heap[2i] and heap[2i + 1]. */

static void put(struct sio_timers *h, int32_t place, struct sio_timer *timer)
{
	h->heap[place] = timer;
	timer->place = place;
}

static void sift(struct sio_timers *h, int32_t at, struct sio_timer *timer)
{
	while (at > 1 && h->heap[at / 2]->due > timer->due) {
		put(h, at, h->heap[at / 2]);
		at /= 2;
	}
	for (int32_t child; (child = 2 * at) <= h->count; at = child) {
		if (child < h->count &&
		    h->heap[child + 1]->due < h->heap[child]->due)
			child++;
		if (h->heap[child]->due >= timer->due)
			break;
		put(h, at, h->heap[child]);
	}
	put(h, at, timer);
}

int sio_timers_reserve(struct sio_timers *h, int32_t count)
{
	struct sio_timer **heap;
	int32_t size = h->size ? h->size : 64;

	while (size < count + 1)
		size *= 2;
	if (size == h->size)
		return 0;
	heap = realloc(h->heap, (size_t)size * sizeof(struct sio_timer *));
	if (!heap)
		return -ENOMEM;
	h->heap = heap;
	h->size = size;
	return 0;
}

void sio_timer_set(struct sio_timers *h, struct sio_timer *timer, int64_t due)
{
	timer->due = due;
	if (!timer->place)
		timer->place = ++h->count;
	sift(h, timer->place, timer);
}

void sio_timer_clear(struct sio_timers *h, struct sio_timer *timer)
{
	int32_t place = timer->place;
	struct sio_timer *last;

	if (!place)
		return;
	timer->place = 0;
	last = h->heap[h->count--];
	if (last != timer)
		sift(h, place, last);
}

struct sio_timer *sio_timer_first(const struct sio_timers *h)
{
	return h->count ? h->heap[1] : NULL;
}

void sio_timers_free(struct sio_timers *h)
{
	free(h->heap);
	h->heap = NULL;
	h->count = h->size = 0;
}
