/*
 * races.c: threads that submit, cancel and use relays of one engine, and threads
 * that share the spare pipes, under ThreadSanitizer (`make races`).
 *
 * Python is not in it: what is looked for is in csrc/ alone, between an engine
 * thread and those that talk to it.  Each relay's bytes are counted at its far
 * end.  Exits with 0 when they are right; what races, the sanitizer reports.
 */
#define _GNU_SOURCE
#include "transfer/transfer.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SUBMITTERS 3
#define RELAYS 200
#define TAKERS 6
#define PIPES 2000
#define BYTES 40000
#define CHUNK 8192
#define MOST (BYTES + CHUNK)

/* It is found again by the connection, whose memory is its own. */
struct job {
	struct sio_conn *conn;
	struct job *next;
	struct sio_transfer ab, ba;
	int near[2], far[2];
	int cut;                /* cancelled: it may end before that is heard */
	int used;               /* its submitter looks at it no more */
};

static struct sio_engine *engines[2];
static struct sio_completions *news;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct job *jobs;

static void set_flow(struct sio_transfer *t, int src, int dst)
{
	sio_transfer_init(t, &(struct sio_transfer_config){
		.src_kind = SIO_KIND_SOCKET,
		.dst_kind = SIO_KIND_SOCKET,
		.nonblock = 1,
		.methods = { SIO_SPLICE_PIPE, SIO_READ_WRITE },
		.method_count = 2,
		.adaptive = 1,
		.small = 1,
		.left = -1,
		.src_offset = SIO_NO_OFFSET,
		.dst_offset = SIO_NO_OFFSET,
	});
	sio_transfer_use(t, src, dst);
}

static struct job *new_job(void)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, j->near) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, j->far))
		abort();
	set_flow(&j->ab, j->near[1], j->far[0]);
	set_flow(&j->ba, j->far[0], j->near[1]);
	j->conn = sio_job_new(&(struct sio_job_config){
		.relay = { .ab = &j->ab, .ba = &j->ba, .limit = -1 },
		.completions = news,
		.idle_ns = 2000000000,
		.fds = { j->near[1], -1, j->far[0], -1 },
	});
	if (!j->conn)
		abort();
	pthread_mutex_lock(&lock);
	j->next = jobs;
	jobs = j;
	pthread_mutex_unlock(&lock);
	return j;
}

static void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events, .revents = 0 };

	(void)poll(&p, 1, -1);
}

/* What is read of a running relay only ever grows. */
static long look(const struct job *j, long before)
{
	long moved = (long)sio_transfer_moved(&j->ab), by;
	struct sio_transfer_report report;

	sio_transfer_report(&j->ab, &report);
	by = (long)(report.moved_by[SIO_SPLICE_PIPE] +
		    report.moved_by[SIO_READ_WRITE]);
	if (moved < before || moved > MOST || by > MOST) {
		fprintf(stderr, "moved %ld after %ld\n", moved, before);
		exit(1);
	}
	return moved;
}

/* Send to one end, read at the other; all has to come. */
static void use(const struct job *j, int near, int far)
{
	static const char zeros[CHUNK];
	char buf[CHUNK];
	long sent = 0, got = 0, moved = 0;

	while (got < BYTES) {
		ssize_t n = 0;

		moved = look(j, moved);
		if (sent < BYTES)
			n = send(near, zeros, sizeof(zeros), MSG_NOSIGNAL);
		if (n > 0)
			sent += n;
		n = recv(far, buf, sizeof(buf), 0);
		if (n > 0)
			got += n;
		else if (sent >= BYTES)
			wait_for(far, POLLIN);
	}
}

static void *submit(void *arg)
{
	unsigned seed = (unsigned)(size_t)arg;

	for (int i = 0; i < RELAYS; i++) {
		struct job *j = new_job();
		int near = j->near[0], far = j->far[1], cut;

		cut = j->cut = rand_r(&seed) % 4 == 0;
		if (sio_engine_submit(engines[i % 2], j->conn))
			abort();
		if (cut) {
			sio_engine_cancel(j->conn);
		} else {
			use(j, near, far);
			__atomic_store_n(&j->used, 1, __ATOMIC_RELEASE);
			shutdown(near, SHUT_WR);
			shutdown(far, SHUT_WR);
		}
		close(near);
		close(far);
	}
	return NULL;
}

static int reason_of(const struct sio_conn *conn)
{
	struct sio_job_report report;

	sio_job_report(conn, &report);
	return report.reason;
}

/* The job of a connection; one that ends leaves the list of all. */
static struct job *job_of(const struct sio_conn *conn, int ends)
{
	struct job **at = &jobs, *j;

	pthread_mutex_lock(&lock);
	while ((*at)->conn != conn)
		at = &(*at)->next;
	j = *at;
	if (ends)
		*at = j->next;
	pthread_mutex_unlock(&lock);
	return j;
}

static int take(void)
{
	int over = 0;
	int32_t told;
	struct sio_conn *conn;

	while ((conn = sio_completions_take(news, &told))) {
		struct job *j = job_of(conn, told & SIO_EVENT_OVER);

		if (!(told & SIO_EVENT_OVER))
			continue;
		/* It ends by what its submitter does after that. */
		if (!j->cut && !__atomic_load_n(&j->used, __ATOMIC_ACQUIRE))
			abort();
		if (j->ab.moved < BYTES && !j->cut) {
			fprintf(stderr, "moved %ld, reason %d\n",
				(long)j->ab.moved, reason_of(conn));
			exit(1);
		}
		sio_transfer_close(&j->ab);
		sio_transfer_close(&j->ba);
		close(j->near[1]);
		close(j->far[0]);
		sio_job_free(conn);
		free(j);
		over++;
	}
	return over;
}

static struct sio_spare_pipes *spares;

/* A pipe that is taken is empty, and its bytes are one thread's. */
static void *take_pipes(void *arg)
{
	unsigned char own = (unsigned char)(size_t)arg, found;

	for (int i = 0; i < PIPES; i++) {
		struct sio_pipe pipe = { .reader = -1, .writer = -1 };
		int unread;

		if (sio_spare_take(spares, NULL, 0, &pipe))
			abort();
		if (ioctl(pipe.reader, FIONREAD, &unread) || unread ||
		    write(pipe.writer, &own, 1) != 1) {
			fprintf(stderr, "a spare pipe is not empty\n");
			exit(1);
		}
		pipe.held = i % 5 == 0;
		if (!pipe.held && (read(pipe.reader, &found, 1) != 1 || found != own)) {
			fprintf(stderr, "a spare pipe has two users\n");
			exit(1);
		}
		sio_spare_give(spares, &pipe, 0);
		if (i % 100 == 0)
			sio_spare_trim(spares);
	}
	return NULL;
}

static void share_pipes(void)
{
	pthread_t threads[TAKERS];

	spares = sio_spare_pipes_new();
	if (!spares)
		abort();
	for (size_t i = 0; i < TAKERS; i++)
		pthread_create(&threads[i], NULL, take_pipes, (void *)(i + 1));
	for (int i = 0; i < TAKERS; i++)
		pthread_join(threads[i], NULL);
	sio_spare_trim(spares);
	printf("%d pipes, each with one user\n", TAKERS * PIPES);
}

int main(void)
{
	pthread_t threads[SUBMITTERS];
	const char *call;
	int32_t err;
	int over = 0;

	news = sio_completions_new();
	for (int i = 0; i < 2; i++) {
		engines[i] = sio_engine_new(2, &err, &call);
		if (!news || !engines[i] || sio_engine_start(engines[i]))
			abort();
	}
	for (size_t i = 0; i < SUBMITTERS; i++)
		pthread_create(&threads[i], NULL, submit, (void *)(i + 1));
	while (over < SUBMITTERS * RELAYS) {
		struct sio_counts counts;

		sio_completions_wait(news, -1);
		over += take();
		sio_engine_counts(engines[0], &counts);
	}
	for (int i = 0; i < SUBMITTERS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 2; i++)
		sio_engine_free(engines[i]);
	sio_completions_free(news);
	share_pipes();
	printf("%d relays, no byte lost\n", over);
	return 0;
}
