"""Route TLS connections by the server name that they ask for, without ending TLS.

    python sni_proxy.py 127.0.0.1:8443 a.example=127.0.0.1:9001 b.example=127.0.0.1:9002
    curl --connect-to a.example:443:127.0.0.1:8443 https://a.example/

The name is in the first message of a client, the ClientHello, which is not encrypted. It is looked
at and not taken: the server gets every byte, and has the only key. A name that is not in the list,
or none, is refused: the connection is closed.
"""

from __future__ import annotations

import argparse

from spliceio import Proxy

UPSTREAMS: dict[str, str] = {}
HANDSHAKE, CLIENT_HELLO, SERVER_NAME, HOST_NAME = 22, 1, 0, 0  # RFC 8446, RFC 6066


def route(client, first: bytes):
    """Say where a connection goes, from the first bytes that its client has sent."""
    try:
        name = server_name(first)
    except EOFError:
        return Proxy.MORE  # the message is not all there
    except ValueError:
        return None  # it is no ClientHello
    return UPSTREAMS.get(name)


class Bytes:
    """Reads numbers and stretches from bytes; EOFError where there are not enough."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """Take so many bytes."""
        self.at += count
        if self.at > len(self.data):
            raise EOFError
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        """Take a number of so many bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> Bytes:
        """Take what has its length in front of it, in so many bytes."""
        return Bytes(self.take(self.number(size)))

    def __bool__(self) -> bool:
        return self.at < len(self.data)


def server_name(first: bytes) -> str:
    """Find the name in a ClientHello; "" when it names none.

    Raises EOFError when more bytes have to come, ValueError when it is no ClientHello.
    """
    message = client_hello(Bytes(first))
    try:
        message.take(2 + 32)  # version and random
        for size in (1, 2, 1):  # session, cipher suites, compression methods
            message.vector(size)
        extensions = message.vector(2) if message else message
        while extensions:
            kind, content = extensions.number(2), extensions.vector(2)
            if kind == SERVER_NAME:
                return name_in(content.vector(2))
    except EOFError:
        raise ValueError("the lengths in it do not fit") from None
    return ""


def client_hello(records: Bytes) -> Bytes:
    """Take the message out of the records over which it may be spread."""
    message = b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if records.number(1) != HANDSHAKE or records.number(1) != 3:
            raise ValueError("it is no TLS handshake")
        records.take(1)  # the minor version says nothing
        message += (fragment := records.vector(2).data)
        if not fragment or message[0] != CLIENT_HELLO:
            raise ValueError("it is no ClientHello")
    return Bytes(message[4 : 4 + int.from_bytes(message[1:4], "big")])


def name_in(names: Bytes) -> str:
    while names:
        kind, name = names.number(1), names.vector(2).data
        if kind == HOST_NAME:
            return name.decode("ascii").lower()
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Route TLS connections by server name.")
    parser.add_argument("listen", metavar="LISTEN", help="host:port, [v6]:port or unix:/path")
    parser.add_argument("upstreams", metavar="NAME=UPSTREAM", nargs="+")
    args = parser.parse_args()
    for one in args.upstreams:
        name, equals, upstream = one.partition("=")
        if not (name and equals and upstream):
            parser.error(f"{one}: write NAME=UPSTREAM")
        UPSTREAMS[name.lower()] = upstream
    with Proxy(args.listen, route=route) as proxy:
        print(f"listening on {proxy.address}", flush=True)
        proxy.serve_forever()


if __name__ == "__main__":
    main()
