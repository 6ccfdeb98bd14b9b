"""Upstreams of a proxy: resolved to socket addresses, and packed for the C.

Resolves and packs; connects to nothing. The C gets, for each upstream, the addresses of one name
in the order in which they are to be tried.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from .._cffi import ffi, lib
from . import address as _address

if TYPE_CHECKING:
    from .._cffi import Array, struct_sio_network, struct_sio_upstreams_ptr

__all__ = ["Numbered", "is_name", "networks", "packed", "resolve", "upstreams"]


def _pack(family: int, name: Any) -> bytes:
    """Return a struct sockaddr."""
    host, port, *rest = name
    raw = socket.inet_pton(family, host.partition("%")[0])
    head = struct.pack("=H", family) + struct.pack("!H", port)
    if family == socket.AF_INET:
        return head + raw + bytes(8)
    flow, scope = [*rest, 0, 0][:2]
    return head + struct.pack("!I", flow) + raw + struct.pack("=I", scope)


def _pack_path(address: _address.Address) -> bytes:
    # The NUL after a path is none of the path's; one after an abstract name would be.
    end = b"" if address.is_abstract else b"\0"
    return struct.pack("=H", socket.AF_UNIX) + address.sun_path + end


def resolve(address: _address.Address) -> list[bytes]:
    """Resolve an address; the order is that of RFC 8305: the families take turns.

    Raises OSError that names the address when it cannot be resolved.
    """
    if address.path:
        return [_pack_path(address)]
    try:
        found = socket.getaddrinfo(
            address.host or "localhost", address.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(address)) from None
    by_family: dict[int, list[bytes]] = {}
    for family, _, _, _, name in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            by_family.setdefault(family, []).append(_pack(family, name))
    turns = zip_longest(*by_family.values())
    return list(dict.fromkeys(one for turn in turns for one in turn if one is not None))


def is_name(address: _address.Address) -> bool:
    """Return whether it has to be resolved, so that the answer may change."""
    if address.path:
        return False
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(address.host)
        return False
    return True


class Numbered:
    """A list of upstreams, and the numbers by which the engines call them."""

    def __init__(self, upstreams: Sequence[_address.Address], first: int) -> None:
        self.upstreams = upstreams
        self.numbers = range(first, first + len(upstreams))
        users = lib.sio_users_new()
        if users == ffi.NULL:
            raise MemoryError("no memory for the upstreams")
        self.users = ffi.gc(users, lib.sio_users_drop)

    @property
    def is_used(self) -> bool:
        """Whether an engine, or a connection whose end is not yet processed, has numbers."""
        return bool(lib.sio_users_count(self.users) > 1)


def packed(
    each: Sequence[list[bytes]], numbered: Numbered | None = None
) -> struct_sio_upstreams_ptr:
    """Return the upstreams for the C: the addresses of each; without numbers from 0 on."""
    if numbered is None:
        made = lib.sio_upstreams_new(len(each), 0, ffi.NULL)
    else:
        made = lib.sio_upstreams_new(len(each), numbered.numbers.start, numbered.users)
    if made == ffi.NULL:
        raise MemoryError("no memory for the upstreams")
    for number, addresses in enumerate(each):
        for one in addresses:
            if lib.sio_upstreams_add(made, number, one, len(one)):
                lib.sio_upstreams_free(made)
                raise MemoryError("no memory for the upstreams")
    return made


def upstreams(given: Any) -> list[_address.Address]:
    """Return a list of addresses, from one or from a list."""
    if isinstance(given, list):
        return [_address.of(one) for one in given]
    return [_address.of(given)]


def networks(given: Iterable[str]) -> tuple[Array[struct_sio_network], int]:
    """Return networks ("10.0.0.0/8", "::1", "unix") for the C, and how many.

    IPv4 is mapped to IPv6.

    Raises ValueError for what is none.
    """
    if isinstance(given, str):
        raise ValueError(f"trust_proxy_protocol is a list of networks, such as [{given!r}]")
    texts = list(given)
    made = ffi.new("struct sio_network[]", max(1, len(texts)))
    for slot, text in zip(made, texts, strict=False):
        if text == "unix":
            slot.bits = -1
            continue
        network = ipaddress.ip_network(text, strict=False)
        raw = network.network_address.packed
        mapped = bytes(10) + b"\xff\xff" + raw if network.version == 4 else raw
        slot.ip = list(mapped)
        slot.bits = network.prefixlen + (96 if network.version == 4 else 0)
    return made, len(texts)
