/*
 * proxy_header.c: the PROXY protocol's header, version 1 and 2, read and
 * written (haproxy.org, proxy-protocol.txt).
 *
 * Works on memory, knows no sockets.  What is read comes from somebody who was
 * said to be trusted, and is checked all the same: a header that is not exactly
 * one is refused.
 */
#define _GNU_SOURCE
#include "proxy/proxy_header.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define V1_LONGEST 107
#define V2_HEAD 16

static const unsigned char SIGNATURE[12] = {
	'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n',
};
static const unsigned char MAPPED[12] = { [10] = 0xff, [11] = 0xff };

static void set_v4(struct sio_peer *peer, const void *ip, uint16_t port)
{
	memcpy(peer->ip, MAPPED, sizeof(MAPPED));
	memcpy(peer->ip + sizeof(MAPPED), ip, 4);
	peer->port = port;
	peer->family = AF_INET;
}

static void set_v6(struct sio_peer *peer, const void *ip, uint16_t port)
{
	memcpy(peer->ip, ip, 16);
	peer->port = port;
	peer->family = AF_INET6;
}

/* ---- version 1: a line of text ------------------------------------------------- */

static int to_port(const char *text, uint16_t *port)
{
	char *end;
	unsigned long n;

	if (*text < '0' || *text > '9' || (*text == '0' && text[1]))
		return -EPROTO;
	n = strtoul(text, &end, 10);
	if (*end || n > 65535)
		return -EPROTO;
	*port = (uint16_t)n;
	return 0;
}

static int to_peer(int family, const char *ip, const char *port,
		   struct sio_peer *peer)
{
	unsigned char raw[16];
	uint16_t number;

	if (inet_pton(family, ip, raw) != 1 || to_port(port, &number))
		return -EPROTO;
	if (family == AF_INET)
		set_v4(peer, raw, number);
	else
		set_v6(peer, raw, number);
	return 0;
}

static int parse_line(char *line, struct sio_peer *client,
		      struct sio_peer *server)
{
	char *words[6], *rest = line;
	int count = 0, family;
	struct sio_peer a, b;

	while (count < 6 && (words[count] = strsep(&rest, " ")))
		count++;
	if (count >= 2 && !strcmp(words[1], "UNKNOWN"))
		return 0; /* whatever follows it is to be ignored */
	if (count != 6 || rest)
		return -EPROTO;
	family = !strcmp(words[1], "TCP4") ? AF_INET :
		 !strcmp(words[1], "TCP6") ? AF_INET6 : AF_UNSPEC;
	if (family == AF_UNSPEC || to_peer(family, words[2], words[4], &a) ||
	    to_peer(family, words[3], words[5], &b))
		return -EPROTO;
	*client = a;
	*server = b;
	return 0;
}

static int read_v1(const unsigned char *data, int32_t len,
		   struct sio_peer *client, struct sio_peer *server)
{
	char line[V1_LONGEST + 1];
	int32_t most = len < V1_LONGEST ? len : V1_LONGEST;
	const unsigned char *end = memchr(data, '\n', (size_t)most);
	int32_t size;

	if (!end)
		return len >= V1_LONGEST ? -EPROTO : 0;
	size = (int32_t)(end - data) + 1;
	if (size < 8 || end[-1] != '\r' || memchr(data, 0, (size_t)size))
		return -EPROTO;
	memcpy(line, data, (size_t)size - 2);
	line[size - 2] = 0;
	return parse_line(line, client, server) ? -EPROTO : size;
}

/* ---- version 2: binary ----------------------------------------------------------- */

static uint16_t be16(const unsigned char *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static int read_v2(const unsigned char *data, int32_t len,
		   struct sio_peer *client, struct sio_peer *server)
{
	const unsigned char *at = data + V2_HEAD;
	int32_t body, need;
	int local, family, transport;

	if (len < V2_HEAD)
		return 0;
	body = be16(data + 14);
	local = (data[12] & 15) == 0;
	family = data[13] >> 4;
	transport = data[13] & 15;
	if (data[12] >> 4 != 2 || (data[12] & 15) > 1 || family > 3 ||
	    transport > 2)
		return -EPROTO;
	need = local ? 0 : family == 1 ? 12 : family == 2 ? 36 :
	       family == 3 ? 216 : 0;
	if (body < need)
		return -EPROTO;
	if (len < V2_HEAD + body)
		return 0;
	/* Without a transport the addresses are of no connection. */
	if (local || !transport)
		return V2_HEAD + body;
	if (family == 1) {
		set_v4(client, at, be16(at + 8));
		set_v4(server, at + 4, be16(at + 10));
	} else if (family == 2) {
		set_v6(client, at, be16(at + 32));
		set_v6(server, at + 16, be16(at + 34));
	}
	return V2_HEAD + body;
}

int sio_proxy_read(const unsigned char *data, int32_t len,
		   struct sio_peer *client, struct sio_peer *server)
{
	size_t head = len < 12 ? (size_t)len : sizeof(SIGNATURE);

	if (len <= 0)
		return 0;
	if (!memcmp(data, SIGNATURE, head))
		return head < sizeof(SIGNATURE) ? 0 :
		       read_v2(data, len, client, server);
	head = len < 6 ? (size_t)len : 6;
	if (memcmp(data, "PROXY ", head))
		return -EPROTO;
	return head < 6 ? 0 : read_v1(data, len, client, server);
}

/* ---- writing ---------------------------------------------------------------------- */

/* Both of IPv4, both of IPv6 (one of which may stand for IPv4), or neither. */
static int family_of(const struct sio_peer *a, const struct sio_peer *b)
{
	if (a->family == AF_INET && b->family == AF_INET)
		return AF_INET;
	if ((a->family == AF_INET || a->family == AF_INET6) &&
	    (b->family == AF_INET || b->family == AF_INET6))
		return AF_INET6;
	return AF_UNSPEC;
}

static int write_v1(int family, const struct sio_peer *client,
		    const struct sio_peer *server, unsigned char *out)
{
	char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
	int skip = family == AF_INET ? (int)sizeof(MAPPED) : 0;

	if (family == AF_UNSPEC) {
		memcpy(out, "PROXY UNKNOWN\r\n", 15);
		return 15;
	}
	inet_ntop(family, client->ip + skip, from, sizeof(from));
	inet_ntop(family, server->ip + skip, to, sizeof(to));
	return snprintf((char *)out, V1_LONGEST + 1, "PROXY %s %s %s %u %u\r\n",
			family == AF_INET ? "TCP4" : "TCP6", from, to,
			client->port, server->port);
}

static unsigned char *put_port(unsigned char *at, uint16_t port)
{
	*at++ = (unsigned char)(port >> 8);
	*at++ = (unsigned char)port;
	return at;
}

static int write_v2(int family, const struct sio_peer *client,
		    const struct sio_peer *server, unsigned char *out)
{
	size_t skip = family == AF_INET ? sizeof(MAPPED) : 0;
	size_t size = family == AF_UNSPEC ? 0 : 16 - skip;
	unsigned char *at = out + V2_HEAD;

	memcpy(out, SIGNATURE, sizeof(SIGNATURE));
	out[12] = 0x21;
	out[13] = family == AF_INET ? 0x11 : family == AF_INET6 ? 0x21 : 0;
	memcpy(at, client->ip + skip, size);
	memcpy(at + size, server->ip + skip, size);
	at += 2 * size;
	if (size) {
		at = put_port(at, client->port);
		at = put_port(at, server->port);
	}
	out[14] = 0;
	out[15] = (unsigned char)(at - out - V2_HEAD);
	return (int)(at - out);
}

int sio_proxy_write(int version, const struct sio_peer *client,
		    const struct sio_peer *server, unsigned char *out)
{
	int family = family_of(client, server);

	return version == 1 ? write_v1(family, client, server, out) :
			      write_v2(family, client, server, out);
}
