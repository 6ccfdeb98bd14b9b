/*
 * rest.c: what a first try has left, in a transfer of its own descriptors.
 *
 * Most of it is done in one slice, and then nobody needs to know that there was a
 * transfer: it is told as the try would have told it.
 *
 * Rule 1: what is duplicated is what the try has looked at, or it is ESTALE.
 * Rule 2: what no transfer takes, or has to be said in words, is SIO_UNTRIED; then
 *         nothing is made, and the try stands as it was.
 * Rule 3: what the try has moved, holds and was told is the transfer's from the
 *         moment it is made.
 */
#define _GNU_SOURCE
#include "transfer/act.h"
#include "transfer/look.h"
#include "transfer/plan.h"
#include "transfer/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* What a transfer asks for of its private pipe. */
#define PRIVATE_PIPE (1 << 20)

/* The kind of an end that can be read from or written to; -1: it needs words. */
static int kind_of(int fd, const struct stat *st, int wrong_access)
{
	int flags = fcntl(fd, F_GETFL), kind = sio_plain_kind(st->st_mode);

	if (flags < 0 || flags & O_PATH || (flags & O_ACCMODE) == wrong_access)
		return -1;
	if (kind != SIO_KIND_SOCKET)
		return kind;
	if (sio_option(fd, SO_ACCEPTCONN))
		return -1;
	return sio_is_tcp(fd) ? SIO_KIND_TCP : kind;
}

/* The kernel makes up what some files hold, whatever it says of their size. */
static int has_size(int fd, const struct stat *st)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && sio_has_size(fs.f_type, st->st_size);
}

/* Another thread may have closed a number, and opened something else. */
static int is_stale(struct sio_act *a, int fd, struct sio_identity *is,
		    struct stat *st, int side)
{
	if (is->ino ? !fstat(fd, st) && sio_is_same(is, st) : sio_look(fd, is, st))
		return 0;
	a->error = (struct sio_error){ ESTALE, side, SIO_CALL_READ, 0 };
	return 1;
}

/* SIO_GO, or what there is to answer. */
static int look(struct sio_act *a, int src, int dst,
		struct sio_transfer_config *config, struct stat *from)
{
	struct sio_pair pair = { .left = -1 };
	struct stat to;

	if (!a->looked)
		return -SIO_UNTRIED;
	if (is_stale(a, src, &a->src, from, SIO_SIDE_SRC) ||
	    is_stale(a, dst, &a->dst, &to, SIO_SIDE_DST))
		return -SIO_ERROR;
	pair.src_kind = kind_of(src, from, O_WRONLY);
	pair.dst_kind = kind_of(dst, &to, O_RDONLY);
	if (pair.src_kind < 0 || pair.dst_kind < 0 ||
	    (pair.src_kind == SIO_KIND_FILE && pair.dst_kind == SIO_KIND_FILE))
		return -SIO_UNTRIED;
	config->faults = a->faults;
	config->spares = a->spares;
	config->src = src;
	config->dst = dst;
	config->src_is = a->src;
	config->dst_is = a->dst;
	config->src_kind = pair.src_kind;
	config->dst_kind = pair.dst_kind;
	config->method_count = sio_plan(&pair, config->methods);
	config->adaptive = pair.src_kind != SIO_KIND_FILE;
	config->src_offset = config->dst_offset = SIO_NO_OFFSET;
	config->pipe_size = PRIVATE_PIPE;
	return SIO_GO;
}

static int fail(struct sio_act *a, struct sio_transfer *t, int err, int call)
{
	a->error = (struct sio_error){ err, t ? t->error.side : SIO_SIDE_NONE,
				       call, 0 };
	sio_transfer_free(t);
	return -SIO_ERROR;
}

/* 0, or -SIO_ERROR. */
static int make(struct sio_act *a, const struct sio_transfer_config *config)
{
	struct sio_transfer *t = sio_transfer_new(config);
	int err;

	if (!t)
		return fail(a, NULL, ENOMEM, SIO_CALL_READ);
	err = sio_transfer_open(t, config);
	if (err)
		return fail(a, t, -err, SIO_CALL_READ);
	if (sio_transfer_prefix(t, a->buf + a->held_at, a->held, a->held))
		return fail(a, t, ENOMEM, SIO_CALL_READ);
	t->moved += a->moved;
	t->taken += a->moved;
	t->segments.moved += a->from_memory;
	t->methods.moved[a->method] += a->moved - a->from_memory;
	if (a->error.err)
		t->error = a->error;
	a->held = 0;
	a->state = SIO_BUDGET;
	a->rest = t;
	return 0;
}

/* By one method, and nothing was refused: what a try can tell. */
static int is_plain(const struct sio_transfer *t)
{
	int used = 0;

	for (int method = 0; method < SIO_METHODS; method++)
		used += t->methods.moved[method] > 0;
	return used == 1 && !t->methods.refusal_count;
}

int64_t sio_act_run(struct sio_act *a, int64_t slice_ns, int64_t idle_ns)
{
	struct sio_transfer *t = a->rest;

	a->state = sio_transfer_run(t, slice_ns, idle_ns);
	if (a->state != SIO_DONE || !is_plain(t) || (a->whole >= 0 && t->moved != a->whole))
		return -SIO_BUDGET;
	a->moved = t->moved;
	a->from_memory = t->segments.moved;
	while (!t->methods.moved[a->method])
		a->method = (a->method + 1) % SIO_METHODS;
	sio_act_close(a);
	return sio_act_told(a, SIO_DONE);
}

void sio_act_close(struct sio_act *a)
{
	struct sio_transfer *t = a->rest;

	a->rest = NULL;
	sio_transfer_free(t);
}

int sio_act_copy_rest(struct sio_act *a, int src, int dst, int64_t count,
		      int64_t off_src, int64_t off_dst)
{
	struct sio_transfer_config config = { 0 };
	struct stat from;
	int64_t has;
	int err = look(a, src, dst, &config, &from);

	if (err != SIO_GO)
		return err;
	if (off_src >= 0) {
		if (config.src_kind != SIO_KIND_FILE)
			return -SIO_UNTRIED;
		off_src += a->moved;
		config.src_offset = off_src;
	}
	if (off_dst >= 0) {
		if (config.dst_kind != SIO_KIND_FILE || fcntl(dst, F_GETFL) & O_APPEND)
			return -SIO_UNTRIED;
		config.dst_offset = off_dst + a->moved;
	}
	config.left = count < 0 ? -1 : count - a->moved;
	a->whole = -1;
	err = make(a, &config);
	if (err || config.src_kind != SIO_KIND_FILE || !has_size(src, &from))
		return err;
	has = a->moved + sio_file_rest(src, &from, off_src);
	sio_transfer_expect(a->rest, has);
	a->whole = count >= 0 && count < has ? count : has;
	return 0;
}

/* What of them has not been sent, when so much has; how many they are. */
static int left_of(struct sio_segment *parts, int count, int64_t sent)
{
	int left = 0;

	for (int part = 0; part < count; part++) {
		struct sio_segment rest = parts[part];
		int64_t gone = rest.len < 0 || sent < rest.len ? sent : rest.len;

		sent -= gone;
		rest.len -= rest.len < 0 ? 0 : gone;
		rest.offset += rest.memory ? 0 : gone;
		rest.memory += rest.memory ? gone : 0;
		if (rest.len)
			parts[left++] = rest;
	}
	return left;
}

int sio_act_send_rest(struct sio_act *a, int sock, int file, int64_t offset,
		      int64_t count, const void *header, int64_t header_len,
		      const void *trailer, int64_t trailer_len)
{
	struct sio_transfer_config config = { 0 };
	struct stat from;
	int64_t has;
	int err = look(a, file, sock, &config, &from);

	if (err != SIO_GO)
		return err;
	if (!S_ISREG(from.st_mode))
		return -SIO_UNTRIED;
	if (has_size(file, &from)) {
		has = sio_file_rest(file, &from, offset);
		if (count > has || offset > from.st_size)
			return -SIO_UNTRIED;
		if (count < 0)
			count = has;
	}
	a->whole = count < 0 ? -1 : header_len + count + trailer_len;
	a->parts[0] = (struct sio_segment){ header, 0, header_len };
	a->parts[1] = (struct sio_segment){ NULL, offset, count };
	a->parts[2] = (struct sio_segment){ trailer, 0, trailer_len };
	config.segments = a->parts;
	config.segment_count = left_of(a->parts, 3, a->moved);
	config.src_offset = 0;
	return make(a, &config);
}
