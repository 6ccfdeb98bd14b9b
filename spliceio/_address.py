"""Addresses as people write them: host:port, [v6]:port, :port, port, unix:/path.

Turns text into sockets, and socket names into text. Decides nothing about what the sockets carry.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import NamedTuple

__all__ = ["Address", "AddressLike", "connect", "listen", "of", "parse", "shown"]


_LONGEST_PATH = 107  # of sun_path, unix(7)


class Address(NamedTuple):
    """A TCP address (host and port) or the path of a unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse(text: str, *, host: str = "") -> Address:
    """Read an address; `host` stands in where the text names none.

    Raises ValueError that shows the forms.
    """
    if text.startswith("unix:"):
        path = text[len("unix:") :]
        if not path:
            raise ValueError("unix: needs a path, as in unix:/run/app.sock")
        return _checked(Address("", 0, path))
    name, _, port = text.rpartition(":")
    bracketed = len(name) > 2 and name[0] == "[" and name[-1] == "]"
    if bracketed:
        name = name[1:-1]
    elif ":" in name:
        raise ValueError(f"{text!r}: put an IPv6 address in brackets, as in [::1]:8080")
    if "[" in name or "]" in name or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is no address; write host:port, [v6]:port, :port or unix:/path")
    return _checked(Address(name or host, int(port)))


def _checked(address: Address) -> Address:
    """Refuse what no resolver and no kernel takes, before anybody depends on it."""
    if len(os.fsencode(address.path)) > _LONGEST_PATH:
        raise ValueError(f"{address}: a unix socket's path has at most {_LONGEST_PATH} bytes")
    try:
        address.host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{address}: {address.host!r} is no name that a host can have") from None
    return address


AddressLike = str | tuple[str, int] | Address


def of(given: AddressLike) -> Address:
    """Take an address as text, or as a (host, port) pair.

    Raises ValueError that shows the forms, and TypeError for anything else.
    """
    if isinstance(given, Address):
        return given
    if isinstance(given, str):
        return parse(given)
    try:
        host, port = given[:2]
        pair = Address(host + "", port + 0)
    except (TypeError, ValueError):
        raise TypeError(
            "an address is text (host:port, [v6]:port, unix:/path) or a (host, port) pair, not "
            f"{given!r}"
        ) from None
    if not 0 <= port <= 65535:
        raise ValueError(f"{given!r}: a port is a number from 0 to 65535")
    return _checked(pair)


def connect(address: Address, timeout: float | None = None) -> socket.socket:
    """Open a stream to an address, trying each that its name stands for.

    The socket comes back blocking, on TCP with TCP_NODELAY set. The OSError of a failure names the
    address as its `filename`.
    """
    try:
        return _connect(address, timeout)
    except OSError as error:
        raise _naming(error, address) from None


def _naming(error: OSError, address: Address) -> OSError:
    """Make the exception say the address, and no more than the kernel or resolver said."""
    if error.errno is None:
        return OSError(errno.EINVAL, str(error), str(address))
    known = error.errno in errno.errorcode
    text = os.strerror(error.errno) if known else error.strerror
    return type(error)(error.errno, text, str(address))


def _connect(address: Address, timeout: float | None) -> socket.socket:
    if not address.path:
        sock = socket.create_connection((address.host or "localhost", address.port), timeout)
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(address.path)
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(address: Address, *, reuse_port: bool = False) -> socket.socket:
    """Listen on an address; without a host, on all of them, IPv6 and IPv4 alike.

    A dead unix socket in the way is removed; anything else there is left alone. With `reuse_port`
    other processes of the same user may listen there too (SO_REUSEPORT).
    """
    try:
        return _listen(address, reuse_port)
    except OSError as error:
        raise _naming(error, address) from None


def _listen(address: Address, reuse_port: bool) -> socket.socket:
    if address.path:
        _remove_dead_socket(address.path)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(address.path)
            sock.listen(4096)
        except BaseException:
            sock.close()
            raise
        return sock
    if not address.host and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", address.port),
            family=socket.AF_INET6,
            backlog=4096,
            reuse_port=reuse_port,
            dualstack_ipv6=True,
        )
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server(
        (address.host, address.port), family=family, backlog=4096, reuse_port=reuse_port
    )


def _remove_dead_socket(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


def shown(sock: socket.socket) -> str:
    """Say where a listening socket can be reached."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        return str(Address(str(name[0]), int(name[1])))
    return f"unix:{os.fsdecode(name)}"
