"""Server name and host of a connection, from its first bytes: HTTP Host and TLS SNI.

Pure functions: bytes in, an answer out, in one pass over them. No bytes make them raise. They are
strict: where two servers may read a message in two ways, a router that guesses sends it to the
wrong one, so such a message has no name here.

Once a beginning has another answer than `MORE`, everything that begins with it has the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Literal

from .._public import public

__all__ = ["MORE", "Asked", "More", "http_host", "tls_server_name"]


class More(Enum):
    """The answer when the first bytes are too few to decide: of a route, and of what reads them.

    `spliceio.MORE` and `Proxy.MORE` are the same.
    """

    MORE = "more"

    def __repr__(self) -> str:
        return "Proxy.MORE"


MORE: Literal[More.MORE] = More.MORE
Asked = str | Literal[More.MORE] | None

# -- HTTP ----------------------------------------------------------------------------------------

_METHOD = re.compile(rb"(?:[A-Z]{1,20}(?: |\Z)|\Z)")
_REQUEST = re.compile(rb"([A-Z]{1,20}) ([!-~\x80-\xff]+) HTTP/1\.([0-9])")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://([^/?#]*)")
_FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\0")
_AUTHORITY = re.compile(
    rb"([!$%&'()*+,;=\-._~0-9A-Za-z]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"  # RFC 3986, 3.2.2
)


@public
def http_host(first: bytes) -> Asked:
    """Return the host that the first request in `first` names, in lower case, without the port.

    `MORE` until the head of the request is whole. `""` for a request that names none: HTTP/1.0
    without a Host header, or one that is empty. `None` for what is no HTTP/1 request, and for one
    that servers do not agree on: no Host header in HTTP/1.1, two of them, one that is no host, a
    target with another host, a header line that is folded or has no name, a line that ends without
    CR LF. So HTTP/2 is `None`.

    Never raises. Takes a time in proportion to the length of `first`, which bounds how much is
    looked at: a head that never ends is `MORE` for ever. A trailing dot and the brackets of an
    IPv6 address stay. Not looked at: everything after the first head.

    Source: RFC 9112, sections 2.2, 3.2 and 5.
    """
    if not _METHOD.match(first):
        return None
    end = first.find(b"\r\n\r\n")
    head = first if end < 0 else first[: end + 4]
    if _BAD_LINE_END.search(head):
        return None
    lines = head.split(b"\r\n")
    del lines[-1 if end < 0 else -2 :]  # the one that is not whole; the empty ones at the end
    if not lines:
        return MORE
    request = _REQUEST.fullmatch(lines[0])
    hosts = _hosts(lines[1:])
    if request is None or hosts is None:
        return None
    return MORE if end < 0 else _agreed(request, hosts)


def _hosts(lines: list[bytes]) -> list[bytes] | None:
    """Return the values of all Host headers; None if a line is no header."""
    hosts = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(name):
            return None
        if name.lower() == b"host":
            hosts.append(value.strip(b" \t"))
    return hosts


def _agreed(request: re.Match[bytes], hosts: list[bytes]) -> str | None:
    method, target, minor = request.groups()
    if len(hosts) > 1 or (not hosts and minor != b"0"):
        return None
    asked = _host_in(hosts[0]) if hosts else ""
    # Servers should prefer the target to the header, and not all do.
    if method == b"CONNECT":
        return asked if asked == _host_in(target) else None
    if target[:1] in (b"/", b"*"):
        return asked
    absolute = _ABSOLUTE.match(target)
    return asked if absolute and asked == _host_in(absolute[1]) else None


def _host_in(authority: bytes) -> str | None:
    match = _AUTHORITY.fullmatch(authority)
    return None if match is None else match[1].decode("ascii").lower()


# -- TLS -----------------------------------------------------------------------------------------

_HANDSHAKE = b"\x16\x03"  # the type of a record, and the major version
_RECORD_MOST = 1 << 14
_CLIENT_HELLO, _HELLO_MOST = 1, 131396  # OpenSSL: CLIENT_HELLO_MAX_LENGTH
_SERVER_NAME, _HOST_NAME = 0, 0
_NAME = re.compile(rb"[!-~]{1,255}")


@public
def tls_server_name(first: bytes) -> Asked:
    """Return the server name (SNI) of the TLS ClientHello in `first`, in lower case.

    `MORE` until the message is whole. `""` for a ClientHello that names none, `None` for what is no
    ClientHello, and for one that servers refuse: lengths that do not fit, two server names, a name
    that is not ASCII. With Encrypted Client Hello it is the public name.

    Never raises. Takes a time in proportion to the length of `first`, and says `None` as soon as a
    message announces more than 128 KiB. Not looked at: whether the rest of the message is in order,
    and everything after it.

    Source: RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3.
    """
    message = _client_hello(first)
    return _name_in(message) if isinstance(message, bytes) else message


def _client_hello(first: bytes) -> bytes | Literal[More.MORE] | None:
    """Return the ClientHello, out of the records over which it may be spread."""
    message, at = bytearray(), 0
    while True:
        header = first[at : at + 5]
        if header[:2] != _HANDSHAKE[: len(header)]:
            return None
        if len(header) < 5:
            return MORE
        size = int.from_bytes(header[3:], "big")
        if not 0 < size <= _RECORD_MOST:
            return None
        at += 5 + size
        message += first[at - size : at]
        if message and message[0] != _CLIENT_HELLO:
            return None
        end = 4 + int.from_bytes(message[1:4], "big")
        if len(message) >= 4:
            if end > _HELLO_MOST:
                return None
            if len(message) >= end:
                return bytes(message[4:end])
        if at > len(first):
            return MORE


class _Misfit(Exception):
    """A length goes beyond the message."""


class _Fields:
    """Parses numbers and byte strings, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        if self.at > len(self.data):
            raise _Misfit
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Take a byte string whose length is in front of it, in so many bytes."""
        return self.take(self.number(size))

    def pairs(self, kind_size: int) -> Iterator[tuple[int, bytes]]:
        """Take the rest as pairs of a kind and a vector."""
        while not self.ended:
            yield self.number(kind_size), self.vector(2)

    @property
    def ended(self) -> bool:
        return self.at == len(self.data)


def _name_in(message: bytes) -> str | None:
    fields = _Fields(message)
    try:
        fields.take(2 + 32)  # version and random
        for size in (1, 2, 1):  # session, cipher suites, compression methods
            fields.vector(size)
        extensions = _Fields(b"" if fields.ended else fields.vector(2))
        lists = [content for kind, content in extensions.pairs(2) if kind == _SERVER_NAME]
        if len(lists) > 1 or not fields.ended:
            return None
        names = [name for content in lists for name in _host_names(content)]
    except _Misfit:
        return None
    if not names:
        return ""
    if len(names) > 1 or not _NAME.fullmatch(names[0]):
        return None
    return names[0].decode("ascii").lower()


def _host_names(content: bytes) -> list[bytes]:
    fields = _Fields(content)
    names = _Fields(fields.vector(2))
    if not fields.ended:
        raise _Misfit
    return [name for kind, name in names.pairs(1) if kind == _HOST_NAME]
