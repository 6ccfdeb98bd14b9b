"""The first bytes of TLS clients: real ones, and ones made piece by piece."""

from __future__ import annotations

import contextlib
import ssl


def hello_of(name: str | None) -> bytes:
    """Return the ClientHello of Python's own TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def records(message: bytes, size: int) -> bytes:
    """Spread a handshake message over records of at most so many bytes."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


def vector(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


def made_hello(extensions: bytes | None, session: bytes = b"") -> bytes:
    """Return a ClientHello with just these extensions, in one record."""
    body = b"\3\3" + bytes(32) + vector(session, 1) + vector(b"\x13\1", 2) + vector(b"\0", 1)
    if extensions is not None:
        body += vector(extensions, 2)
    return records(b"\1" + vector(body, 3), 16384)


def name_extension(*names: tuple[int, bytes]) -> bytes:
    return b"\0\0" + vector(vector(b"".join(bytes([k]) + vector(n, 2) for k, n in names), 2), 2)
