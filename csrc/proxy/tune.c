/*
 * tune.c: what is set on a TCP socket before bytes are relayed: segments leave
 * at once, and a peer that has vanished is noticed.
 *
 * Rule 1: the options of a listener are inherited by what it accepts, so that
 *         nothing is set on each connection but on those of the backlog that
 *         were there before.
 * Rule 2: what its owner has set stays: who has switched keepalive on, of a
 *         listener that was given, has timings of their own.
 * On sockets that are none of TCP all of it fails, and nothing is changed.
 */
#define _GNU_SOURCE
#include "proxy/tune.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* After `keepalive` silent seconds this many probes, spread over as many
 * seconds again, remain unanswered before the connection is given up. */
#define PROBES 5

static int set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value));
}

void sio_tune_new(int fd, int32_t keepalive)
{
	if (set(fd, IPPROTO_TCP, TCP_NODELAY, 1) < 0 || keepalive <= 0)
		return;
	/* On last: the timer of a connection is then set once. */
	if (!set(fd, IPPROTO_TCP, TCP_KEEPIDLE, keepalive) &&
	    !set(fd, IPPROTO_TCP, TCP_KEEPINTVL,
		 (keepalive + PROBES - 1) / PROBES) &&
	    !set(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES))
		(void)set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

void sio_tune(int fd, int32_t keepalive)
{
	int on = 0;
	socklen_t size = sizeof(on);

	if (keepalive > 0 &&
	    !getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size) && on)
		keepalive = 0;
	sio_tune_new(fd, keepalive);
}
