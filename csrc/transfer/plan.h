/*
 * plan.h: which methods suit a pair of descriptors, best first.
 */
#ifndef SIO_TRANSFER_PLAN_H
#define SIO_TRANSFER_PLAN_H

#include "api.h"

/* The kind of an open descriptor that is a file, a pipe or a stream socket, by its
 * st_mode: as near as the order of methods needs it; else -1. */
int sio_plain_kind(uint32_t mode);

/* A filesystem whose files are here, and as long as st_size says. */
int sio_is_local(int64_t filesystem);

#endif
