/*
 * pipe_pool.h: pipes and memory, lent to flows while bytes are in them.
 */
#ifndef SIO_LOOP_PIPE_POOL_H
#define SIO_LOOP_PIPE_POOL_H

#include "api.h"

/* A read that fills this much is no small one. */
#define SIO_SMALL_BUF (32 << 10)

struct sio_spare {
	int reader;
	int writer;
	int64_t size;
};

struct sio_lender {
	int64_t open;           /* pipes there are, lent ones too */
	int64_t held;           /* lent */
	int32_t most;
	int32_t spare_count;
	struct sio_spare *spare;
	int64_t refused_until;
	unsigned char *buf;
};

int sio_lender_open(struct sio_lender *l, int32_t most);

/* Close the pipes that nobody uses. */
void sio_lender_trim(struct sio_lender *l);
void sio_lender_close(struct sio_lender *l);

/* Give the flow a buffer, if it has none; 0 or -ENOMEM. */
int sio_need_buf(struct sio_transfer *t, int bulk);

/* Give the flow, which has none, a pipe: its size, or -errno. */
int64_t sio_need_pipe(struct sio_transfer *t);

/* After a turn: take back what holds no bytes. */
void sio_give_back(struct sio_transfer *t);

/* At the end: what still holds bytes is the flow's own from now on. */
void sio_stop_lending(struct sio_transfer *t);

#endif
