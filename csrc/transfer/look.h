/*
 * look.h: what a first try asks of a descriptor.
 */
#ifndef SIO_TRANSFER_LOOK_H
#define SIO_TRANSFER_LOOK_H

#include "api.h"

struct stat;

/* A regular file, a pipe or a connection: 1, and which. */
int sio_look(int fd, struct sio_identity *id, struct stat *st);
int sio_is_same(const struct sio_identity *one, const struct stat *st);

/* Of a stream socket: whether it is TCP, Multipath TCP too. */
int sio_is_tcp(int fd);

/* A number that a socket has at SOL_SOCKET; -1: it has none. */
int sio_option(int fd, int name);

/* What a file has from an offset or its position on; 0 where that is unclear,
 * as in a file whose content the kernel makes up. */
int64_t sio_file_rest(int fd, const struct stat *st, int64_t offset);

/* tmpfs, memfds too, does not always know RWF_NOWAIT, and needs no disk. */
int sio_is_in_memory(int fd);

#endif
