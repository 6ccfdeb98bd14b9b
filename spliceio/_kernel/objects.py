"""File objects and sockets: whether an object's bytes are those of its descriptor.

Rule 1: the exact type decides, by a table that is filled as types come by. A method that stands
        before the type's own, in a subclass or in the object itself, is never gone around.
Rule 2: an unknown object that reads (as a source) or writes (as a destination) by itself has bytes
        of its own; one with nothing but fileno() is its descriptor. One that passes on the methods
        of another object is that object.
Rule 3: nothing is read, written, flushed or changed; and with `known` no attribute of an object is
        looked at unless its type is in the table.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from operator import index
from typing import Any

from . import tls
from .arguments import FileDescriptorLike, Window
from .number import in_range, is_a, name_of, number, reraise_from_handler

__all__ = [
    "ASYNCIO_TLS",
    "TLS_SENDS",
    "Unreal",
    "UnrealText",
    "UnrealTls",
    "fileno_of",
    "has_fileno",
    "has_no_own",
    "is_raw",
    "real",
    "resolve",
]

_READS = frozenset(["read", "read1", "readall", "readinto", "readinto1", "seek", "tell"])
_WRITES = frozenset(["write", "seek", "tell"])
_METHODS = _READS | _WRITES | {"fileno", "flush", "peek"}
_TLS_METHODS = ("do_handshake", "getpeercert", "get_peer_certificate")
ASYNCIO_TLS = "asyncio does so in memory, where the kernel has no part in it"
TLS_SENDS = frozenset(["send", "sendall", "sendfile", "write"])
_TLS_READS = frozenset(["recv", "recv_into", "read"])
_PLAINTEXT = (
    "which encrypts in user space{}: moving bytes through its descriptor would put plaintext on "
    "the wire. Use its own {}, or end TLS in a proxy in front"
)
_ITSELF = "pass .fileno() if the descriptor's own bytes are meant"

_Resolver = Callable[[Any, bool, bool], Any]


class Unreal(Exception):
    """The bytes of an object are not its descriptor's; the text is a clause that says why."""


class UnrealText(Unreal):
    """The object reads or writes characters."""


class UnrealTls(Unreal):
    """The object encrypts on the way to the descriptor; `reason` is why the kernel does not."""

    detail: str = ""


def real(given: Any, call: str, name: str, *, sends: bool) -> Any:
    """Return the object whose descriptor has the very bytes of `given`, a destination if `sends`.

    That is `given`, or what it is a mere wrapper of. A SpooledTemporaryFile goes to disk: before,
    it has no descriptor. Raises TypeError.
    """
    resolver = _resolvers.get(type(given))
    if resolver is _itself:
        return given
    try:
        if resolver in (None, _spooled) and is_a(given, "tempfile", "SpooledTemporaryFile"):
            given.rollover()
        return resolve(given, sends)
    except Unreal:
        # Not bound to a name: cut short before that is deleted, it would be a cycle, which keeps
        # whatever the callers have opened.
        raise TypeError(f"{call}: {name} {sys.exc_info()[1]}") from None


def resolve(given: Any, sends: bool, *, known: bool = False) -> Any:
    """Do as `real`, but raise Unreal, and roll nothing over; with `known`, only for known types."""
    cls = type(given)
    resolver = _resolvers.get(cls) or _resolver_named(cls)
    if resolver is not None:
        return resolver(given, sends, known)
    if known:
        raise Unreal(f"is a {name_of(given)}: only its own methods know its bytes")
    return _of_subclass(given, sends)


def fileno_of(fd: FileDescriptorLike, where: str = "fd", *, sends: bool | None = None) -> int:
    """Return the descriptor number for a raw system call; only TLS is refused.

    `sends` says that bytes go to it (or come from it), as far as that is known: where the kernel
    does TLS, it does it one way or both. Raises TypeError for what has none, ValueError for what
    OpenSSL has decrypted and comes first, and what `number` raises.
    """
    if _resolvers.get(type(fd)) is not _itself:
        if not has_fileno(fd):
            return in_range(index(fd))  # type: ignore[arg-type]  # the TypeError, and its words, are the standard library's
        _refuse_tls(fd, where, sends)
    return number(fd, where)


def _refuse_tls(fd: Any, where: str, sends: bool | None) -> None:
    """Raise for an object over TLS, unless the kernel does it in the direction asked for."""
    for direction in (False, True) if sends is None else (sends, not sends):
        try:
            resolve(fd, direction)
            if sends is not None:
                break
        except UnrealTls as why:
            raise TypeError(f"{where} {why}") from None
        except Unreal:
            pass
    sock = None if sends else tls.under(fd)
    if sock is not None and tls.pending(sock):
        raise ValueError(
            f"{where} holds {tls.pending(sock)} bytes that OpenSSL has decrypted, and they come "
            "first; recv() them, or use copy()"
        )


def has_fileno(given: Any) -> bool:
    """Return whether it has that method."""
    return _attribute(given, "fileno") is not None


def has_no_own(file: Any) -> bool:
    """Whether no method of a file object is hidden by an attribute of its own."""
    return _METHODS.isdisjoint(file.__dict__)


def is_raw(file: Any) -> bool:
    """Return whether it is a known raw file, which may take a part of a block, or nothing now."""
    try:
        resolve(file, True, known=True)
    except Unreal:
        return False
    return type(file) is io.FileIO or _is_exactly(file, "socket", "SocketIO")


# ---- known types --------------------------------------------------------------------------------


def _itself(given: Any, sends: bool, known: bool) -> Any:
    return given


def _file(given: Any, sends: bool, known: bool) -> Any:
    _refuse_own(given, sends, known)
    return given


def _buffered(given: Any, sends: bool, known: bool) -> Any:
    _refuse_own(given, sends, known)
    raw = given.raw
    if raw is None and not known:
        return given  # it was detached, and says so when it is asked
    try:
        if known and type(raw) is not io.FileIO and not _is_exactly(raw, "socket", "SocketIO"):
            raise Unreal(f"is a {name_of(raw)}: only its own methods know its bytes")
        resolve(raw, sends, known=known)
    except Unreal as why:
        if known or isinstance(why, UnrealTls):
            raise
        raise Unreal(
            f"is a {name_of(given)} on a {name_of(raw)}, and what that holds cannot be seen; read "
            "what both hold, then pass .fileno(), or use shutil.copyfileobj"
        ) from None
    return given


def _socket_io(given: Any, sends: bool, known: bool) -> Any:
    _refuse_own(given, sends, known)
    sock = given._sock
    if known and (not _is_exactly(sock, "socket", "socket") or given._timeout_occurred):
        # After one timeout it refuses every read: it may have lost bytes.
        raise Unreal(f"is a {name_of(given)}: only its own methods know its bytes")
    if sock is not None:  # it is closed
        try:
            resolve(sock, sends)
        except UnrealTls as why:
            raise _over_tls("a file over TLS", "read and write", why.detail) from None
    return given


def _temporary(given: Any, sends: bool, known: bool) -> Any:
    _refuse_own(given, sends, known, given.file)
    return resolve(given.file, sends, known=known)


def _spooled(given: Any, sends: bool, known: bool) -> Any:
    _refuse_own(given, sends, known)
    return resolve(given._file, sends, known=known)  # a BytesIO, until it is rolled over to disk


def _wfile(given: Any, sends: bool, known: bool) -> Any:
    _refuse_own(given, sends, known)
    if not sends:
        raise Unreal("is what a handler writes to; read from its .rfile")
    try:
        return resolve(given._sock, sends, known=known)
    except UnrealTls as why:
        raise _over_tls("a file over TLS", "write", why.detail) from None


def _tls_socket(given: Any, sends: bool, known: bool) -> Any:
    own = _own_methods(given, TLS_SENDS if sends else _TLS_READS)
    reason = f"its {own} is its own" if own else tls.why_not(given, sends=sends)
    if reason is not None:
        raise _over_tls("an SSLSocket", "send, recv and sendfile", reason)
    return given


def _own_methods(sock: Any, names: frozenset[str]) -> str | None:
    """Return a method that stands before the one of SSLSocket, in a subclass or the object."""
    for cls in type(sock).__mro__:
        if (cls.__module__, cls.__qualname__) == ("ssl", "SSLSocket"):
            break
        if own := names & vars(cls).keys():
            return min(own)
    return min(names & vars(sock).keys(), default=None)


def _connection(given: Any, sends: bool, known: bool) -> Any:
    raise Unreal(
        f"is a {name_of(given)}, whose messages a byte stream would cut or join; use its own send "
        f"and recv, or {_ITSELF}"
    )


def _text(given: Any, sends: bool, known: bool) -> Any:
    raise UnrealText(
        "is a text file, whose descriptor holds encoded bytes; pass its .buffer, or open it in "
        "binary mode"
    )


def _memory(given: Any, sends: bool, known: bool) -> Any:
    raise Unreal(
        "is a BytesIO, memory without a descriptor; pass a real file, or use shutil.copyfileobj"
    )


def _other_file(given: Any, sends: bool, known: bool) -> Any:
    raise Unreal(
        f"is a {name_of(given)}, whose bytes may differ from those of its descriptor (compressed, "
        "decoded, chunked); use shutil.copyfileobj for what it reads or writes, or "
        f"{_ITSELF}"
    )


_NAMED: dict[tuple[str, str], _Resolver] = {
    ("socket", "socket"): _itself,
    ("socket", "SocketIO"): _socket_io,
    ("socketserver", "_SocketWriter"): _wfile,  # the wfile of http.server
    ("ssl", "SSLSocket"): _tls_socket,
    ("tempfile", "_TemporaryFileWrapper"): _temporary,
    ("tempfile", "SpooledTemporaryFile"): _spooled,
    ("multiprocessing.connection", "Connection"): _connection,
}
"""Types of modules that are not imported for this: without them there are none of these."""
_resolvers: dict[type, _Resolver] = {
    int: _itself,
    Window: _itself,
    io.FileIO: _file,
    io.BufferedReader: _buffered,
    io.BufferedWriter: _buffered,
    io.BufferedRandom: _buffered,
    io.BytesIO: _memory,
    io.TextIOWrapper.__mro__[1]: _text,
    io.FileIO.__mro__[-2]: _other_file,  # what all files are
}
_WITH_METHODS = frozenset([_file, _buffered, _socket_io, _temporary, _spooled, _wfile])


def _resolver_named(cls: type) -> _Resolver | None:
    resolver = _NAMED.get((cls.__module__, cls.__qualname__))
    if (
        resolver is None
        or getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is not cls
    ):
        return None
    _resolvers[cls] = resolver
    return resolver


def _is_exactly(given: Any, module: str, name: str) -> bool:
    there = sys.modules.get(module)
    return there is not None and type(given) is getattr(there, name, None)


def _refuse_own(file: Any, sends: bool, known: bool, wrapped: Any = None) -> None:
    """Raise Unreal for methods in an object's __dict__, except those that tempfile caches."""
    own = getattr(file, "__dict__", {})
    names = _METHODS if known else _WRITES if sends else _READS
    if names.isdisjoint(own):
        return
    for name in sorted(names & own.keys()):
        if getattr(type(own[name]), "is_read_ahead_guard", False):
            continue  # of `ahead`, in another thread
        cached = getattr(own[name], "__wrapped__", None)
        if wrapped is None or cached is None or cached != getattr(wrapped, name):
            raise Unreal(f"has a {name} of its own; {_ITSELF}")


def _over_tls(what: str, methods: str, reason: str = "") -> UnrealTls:
    why = f" ({reason})" if reason else ""
    error = UnrealTls(f"is {what}, {_PLAINTEXT.format(why, methods)}")
    error.detail = reason
    return error


# ---- all others ---------------------------------------------------------------------------------


def _of_subclass(given: Any, sends: bool) -> Any:
    """Resolve by the nearest known base class; raises Unreal if the class overrides its methods."""
    own: set[str] = set()
    for base in type(given).__mro__:
        resolver = _resolvers.get(base) or _resolver_named(base)
        if resolver is not None:
            break
        own.update(vars(base))
    else:
        return _unknown(given, sends)
    if not own.isdisjoint(_TLS_METHODS) and resolver is _itself:
        raise _over_tls(f"a {name_of(given)}", "methods")
    overridden = sorted(own & (_WRITES if sends else _READS))
    if resolver in _WITH_METHODS and overridden:
        raise Unreal(f"is a {name_of(given)} with a {overridden[0]} of its own; {_ITSELF}")
    return resolver(given, sends, False)


def _unknown(given: Any, sends: bool) -> Any:
    if any(callable(_attribute(given, name)) for name in _TLS_METHODS):
        raise _over_tls(f"a {name_of(given)}", "methods")
    methods = ("write",) if sends else ("read", "readinto")
    own = {name: method for name in methods if (method := _attribute(given, name)) is not None}
    if is_a(given, "asyncio.sslproto", "_SSLProtocolTransport"):
        raise _over_tls("a TLS transport of asyncio", "write", ASYNCIO_TLS)
    fileno = _attribute(given, "fileno")
    if fileno is None:
        end = "writer" if sends else "reader"
        raise Unreal(
            f"must be an int or have fileno(), not {type(given).__name__}"
            + (f"; pass its .{end}" if _attribute(given, end) is not None else "")
        )
    if not own:
        return given
    # A bound method tells whose it is, and that it is no other one of the same object.
    behind = getattr(fileno, "__self__", given)
    if behind is given or any(
        getattr(method, "__self__", given) is not behind or method != _attribute(behind, name)
        for name, method in {**own, "fileno": fileno}.items()
    ):
        raise Unreal(
            f"is a {name_of(given)}, whose {' or '.join(methods)} may give it other bytes than its "
            f"descriptor has; {_ITSELF}"
        )
    return resolve(behind, sends)


def _attribute(given: Any, name: str) -> Any:
    """Return a method, None without one; the exception where looking for it raises."""
    try:
        return getattr(given, name, None)
    except Exception as error:
        reraise_from_handler(error)
        return error
