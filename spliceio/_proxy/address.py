"""Network addresses as text: host:port, [v6]:port, :port, port, unix:/path, unix:@name.

Turns text into names that the kernel takes, into connections, and socket names into text. Decides
nothing about what the sockets carry; listening is in `listeners`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from typing import Any, NamedTuple

from .keepalive import tune

__all__ = [
    "Address",
    "AddressLike",
    "Places",
    "bound_to",
    "connect",
    "escaped",
    "naming",
    "of",
    "parse",
    "places",
    "target",
]


_LAST_PORT = 65535
_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}
_LONGEST_PATH = 107  # of sun_path beside its NUL, which an abstract name has in front, unix(7)
_ESCAPES = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0))}


def escaped(text: str) -> str:
    """Return a text for a line of a log: control characters are escaped."""
    return text.translate(_ESCAPES)


class Address(NamedTuple):
    """A TCP address (host and port), the path of a unix socket, or @ and its abstract name.

    As a `str` it is fit for a log; `text` can be read again, whatever is in it.
    """

    host: str
    port: int
    path: str = ""

    @property
    def text(self) -> str:
        """The address in the form that `parse` reads."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def sun_path(self) -> bytes:
        """The sun_path of a unix socket: a path, or NUL and an abstract name."""
        name = os.fsencode(self.path)
        return b"\0" + name[1:] if self.is_abstract else name

    @property
    def is_abstract(self) -> bool:
        """Whether it is an abstract name."""
        return self.path.startswith("@")

    def __str__(self) -> str:
        return escaped(self.text)


def parse(text: str, *, host: str = "") -> Address:
    """Parse an address; `host` is used where the text has none.

    Raises ValueError that shows the forms.
    """
    if text.startswith("unix:"):
        path = text[len("unix:") :]
        if path in ("", "@"):
            raise ValueError("unix: needs a path, as in unix:/run/app.sock, or a name: unix:@app")
        return _checked(Address("", 0, path))
    if "://" in text:
        raise ValueError(f"{text!r} is a URL, and no address; write {_of_url(text)}")
    name, _, port = text.rpartition(":")
    bracketed = len(name) > 2 and name[0] == "[" and name[-1] == "]"
    if bracketed:
        name = name[1:-1]
    elif ":" in name:
        raise ValueError(f"{text!r}: put an IPv6 address in brackets, as in [::1]:8080")
    number = port.isascii() and re.fullmatch("-?[0-9]+", port)
    if "[" in name or "]" in name or not number:
        raise ValueError(f"{text!r} is no address; write host:port, [v6]:port, :port or unix:/path")
    return _checked(Address(name or host, _port(text, port)))


def _port(given: object, number: str | int) -> int:
    """Return a port as a number; raises ValueError if it is out of range."""
    digits = str(number).lstrip("0") or "0"
    if not digits.isdigit() or len(digits) > len(str(_LAST_PORT)) or int(digits) > _LAST_PORT:
        raise ValueError(
            f"{given!r}: port {number} is out of range; a port is a number from 0 to {_LAST_PORT}"
        )
    return int(digits)


def _of_url(text: str) -> str:
    """Return what to write instead of a URL."""
    scheme, _, rest = text.partition("://")
    place = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    port = _PORTS.get(scheme.lower(), "port")
    if re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[^][:]+", place):
        return f"{place}:{port}"
    return place if re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^][:]+):[0-9]+", place) else "host:port"


def target(text: str) -> Address:
    """Parse an address to connect to; raises ValueError as `parse` does."""
    found = parse(text)
    if not found.path and not found.port:
        raise ValueError(f"{text!r}: nobody listens on port 0; write a port from 1 to {_LAST_PORT}")
    return found


def _checked(address: Address) -> Address:
    """Return an address; raises ValueError for one that no resolver or kernel takes."""
    if "\0" in address.path and not address.is_abstract:
        raise ValueError(f"{address}: a path has no NUL; an abstract name is written unix:@name")
    if len(os.fsencode(address.path)) > _LONGEST_PATH + address.is_abstract:
        what = "abstract name" if address.is_abstract else "path"
        raise ValueError(f"{address}: a unix socket's {what} has at most {_LONGEST_PATH} bytes")
    try:
        address.host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{address}: {address.host!r} is no name that a host can have") from None
    return address


AddressLike = str | tuple[str, int] | Address


def of(given: AddressLike) -> Address:
    """Return an Address, from text or a (host, port) pair.

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
    _port(given, port)
    return _checked(pair)


def connect(address: Address, timeout: float | None = None) -> socket.socket:
    """Connect to an address, trying each that its name resolves to.

    The socket comes back blocking, on TCP with TCP_NODELAY and keepalive set. The OSError of a
    failure names the address as its `filename`.
    """
    try:
        return _connect(address, timeout)
    except OSError as error:
        raise naming(error, address) from None


def naming(error: OSError, address: Address) -> OSError:
    """Return the exception with the address as its `filename`."""
    if error.errno is None:
        return OSError(errno.EINVAL, str(error), str(address))
    return type(error)(error.errno, error.strerror, str(address))


def _connect(address: Address, timeout: float | None) -> socket.socket:
    if not address.path:
        sock = socket.create_connection((address.host or "localhost", address.port), timeout)
        sock.settimeout(None)
        tune(sock)
        return sock
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(address.sun_path)
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


class Places(NamedTuple):
    """An address to listen on, resolved: (family, name) pairs for bind()."""

    address: Address
    names: list[tuple[int, Any]]


def places(given: AddressLike | Places) -> Places:
    """Resolve an address to listen on; without a host it is all of them, IPv6 and IPv4 alike.

    Raises OSError that names the address, and what `of` raises.
    """
    if isinstance(given, Places):
        return given
    address = of(given)
    if address.path:
        return Places(address, [(socket.AF_UNIX, address.sun_path)])
    if not address.host:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        return Places(address, [(family, ("", address.port))])
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, address.host)
            return Places(address, [(family, address[:2])])
    try:
        found = socket.getaddrinfo(*address[:2], type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise naming(error, address) from None
    wanted = (socket.AF_INET, socket.AF_INET6)
    names = [(int(family), name) for family, _, _, _, name in found if family in wanted]
    return Places(address, list(dict.fromkeys(names)))


def bound_to(sock: socket.socket) -> Address:
    """Return the address of a listening socket."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Address(str(name[0]), int(name[1]))
    raw = os.fsencode(name)
    if raw[:1] == b"\0":
        return Address("", 0, f"@{os.fsdecode(raw[1:])}")
    return Address("", 0, os.fsdecode(b"./" * raw.startswith(b"@") + raw))
