"""Commands of the command line: pipe, cp, send, recv, connect, explain and features.

A command takes the parsed arguments and raises what went wrong; the message and the exit status
are `main`'s.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
from collections.abc import Callable, Iterator

from .._files import place
from .._kernel import owned as _owned
from .._kernel.ready import ready
from .._proxy import address as _address
from .._proxy.keepalive import tune
from .._proxy.listeners import Listeners
from . import progress as _progress
from . import signals, standard
from .standard import STDIN, STDOUT

__all__ = [
    "announce",
    "connect",
    "cp",
    "explain",
    "features",
    "open_deferred",
    "opened",
    "pipe",
    "recv",
    "regular_size",
    "send",
]


@contextlib.contextmanager
def opened(path: str, flags: int, mode: int = 0o666) -> Iterator[int]:
    """Open a file; "-" is standard input or output."""
    if path == "-":
        yield STDIN if flags & os.O_ACCMODE == os.O_RDONLY else STDOUT
        return
    owned = _owned.owner()
    try:
        yield place.open_in_place(owned, path, flags, mode)
    finally:
        _owned.close(owned)


@contextlib.contextmanager
def open_deferred(path: str) -> Iterator[Callable[[], int]]:
    """Open a file that is emptied only when its data comes; "-" is standard output.

    It stays as it is until the function that this gives is called, which empties it and returns its
    descriptor; without that call, a file that was made is removed. A FIFO is only looked at before:
    to open it is to wait for its reader.
    """
    with contextlib.ExitStack() as stack:
        if path == "-" or _is_fifo(path):
            if path != "-" and not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            yield lambda: stack.enter_context(opened(path, os.O_WRONLY))
            return
        made = _made(path)
        if made is None:
            fd = stack.enter_context(opened(path, os.O_WRONLY | os.O_CREAT))
        else:
            fd = made
            stack.callback(os.close, fd)
        begun = False

        def begin() -> int:
            nonlocal begun
            begun = True
            if stat.S_ISREG(os.fstat(fd).st_mode) and not _appends(fd):
                os.ftruncate(fd, 0)
            return fd

        try:
            yield begin
        finally:
            if made is not None and not begun:
                _remove(path, fd)


def _is_fifo(path: str) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISFIFO(os.stat(path).st_mode)
    return False


def _made(path: str) -> int | None:
    """Create a file and open it; None if it exists, or if open() will say what is wrong."""
    if os.path.exists(path) or path.endswith("/"):
        return None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        return os.open(os.path.realpath(path), flags, 0o666)
    return None


def _remove(path: str, fd: int) -> None:
    """Remove a created file, if it is still at its path and empty."""
    mine = os.fstat(fd)
    with contextlib.suppress(OSError):
        if not mine.st_size and os.path.samestat(os.stat(path), mine):
            os.unlink(os.path.realpath(path))


def _appends(fd: int) -> bool:
    """Return whether it is open for appending."""
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)


def regular_size(fd: int) -> int | None:
    """Return how many bytes follow the position of a regular file; None if that is unknown."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    return max(0, status.st_size - os.lseek(fd, 0, os.SEEK_CUR))


def pipe(args: argparse.Namespace) -> None:
    """Copy standard input to standard output."""
    from .._transfer.copy import copy

    total = args.size if args.size is not None else regular_size(STDIN)
    with _progress.bar(args.progress, "pipe", total) as progress:
        copy(STDIN, STDOUT, args.size, progress=progress)


def cp(args: argparse.Namespace) -> None:
    """Copy one file to another."""
    from .._files.copy_file import copy_file
    from .._files.metadata import parse_preserve

    if args.reflink == "always" and args.sparse != "auto":
        args.usage_error("--reflink always goes with --sparse auto only")
    try:
        parse_preserve(args.preserve)
    except ValueError as error:
        args.usage_error(f"argument --preserve: {str(error).removeprefix('copy_file: preserve ')}")
    target = args.dst
    if os.path.isdir(target):
        target = os.path.join(target, os.path.basename(args.src))
    if args.src == "-" or _is_stream(args.src):
        _cp_stream(args, target)
        return
    name = os.path.basename(args.src)
    with _progress.bar(args.progress, name, os.stat(args.src).st_size) as progress:
        result = copy_file(
            args.src,
            STDOUT if target == "-" else target,
            reflink=args.reflink,
            sparse=args.sparse,
            preserve=args.preserve,
            overwrite=target == "-" or not args.no_clobber,
            progress=progress,
        )
    if result.not_preserved:
        _progress.say(f"spliceio: cp: {target}: not preserved: {'; '.join(result.not_preserved)}")


def _is_stream(path: str) -> bool:
    """Return whether it is a FIFO, a terminal or the like, which can only be read to its end."""
    mode = os.stat(path).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _cp_stream(args: argparse.Namespace, target: str) -> None:
    """Copy a stream to a file in place."""
    from .._transfer.copy import copy

    if args.preserve or args.reflink == "always" or args.sparse == "always":
        args.usage_error(f"{args.src} is no file: it has no attributes, blocks or holes to copy")
    flags = os.O_WRONLY | os.O_CREAT | (os.O_EXCL if args.no_clobber else os.O_TRUNC)
    with (
        opened(args.src, os.O_RDONLY) as src,
        opened(target, flags) as dst,
        _progress.bar(args.progress, os.path.basename(args.src), regular_size(src)) as progress,
    ):
        copy(src, dst, progress=progress)


def send(args: argparse.Namespace) -> None:
    """Send a file over a connection."""
    from .._transfer.copy import copy, discard

    with opened(args.file, os.O_RDONLY) as src:
        if stat.S_ISDIR(os.fstat(src).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), args.file)
        with _address.connect(args.to) as sock:
            with _progress.bar(args.progress, args.file, regular_size(src)) as progress:
                copy(src, sock, progress=progress)
            sock.shutdown(socket.SHUT_WR)
            # The peer closes when it has read everything: only then is it known to have arrived.
            discard(sock)


def recv(args: argparse.Namespace) -> None:
    """Accept one connection, and write what it sends to a file."""
    from .._transfer.copy import copy

    there = _address.places(args.port)
    with open_deferred(args.file) as begin:
        with signals.raise_on_signals(), Listeners() as listeners:
            listeners.add(there)
            announce(listeners)
            sock = listeners.accept()
        tune(sock)
        with sock, _progress.bar(args.progress, args.file, None) as progress:
            copy(sock, begin(), progress=progress)


def connect(args: argparse.Namespace) -> None:
    """Relay standard input and output to a connection."""
    from .._relay.relay import run_relay

    with _address.connect(args.to) as sock:
        # A person at a terminal is done when the other side is.
        result = run_relay(
            (STDIN, STDOUT),
            sock,
            idle_timeout=args.idle_timeout,
            stop_when_gone=2,
            stop_at_eof=2 if os.isatty(STDIN) else 0,
        )
    if result.reason == "reset by b":
        raise ConnectionResetError(errno.ECONNRESET, f"{args.to}: the peer reset the connection")
    if result.reason == "idle":
        raise TimeoutError(errno.ETIMEDOUT, f"{args.to}: nothing came for {args.idle_timeout:g} s")
    if _has_no_reader(STDOUT):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _has_no_reader(fd: int) -> bool:
    return bool(ready(fd, 0) & select.POLLERR)


def explain(args: argparse.Namespace) -> None:
    """Print by which methods `copy` would move bytes, and why."""
    from .._transfer.plan import explain as explained

    with contextlib.ExitStack() as stack:
        src = stack.enter_context(_open_example(args.src, os.O_RDONLY))
        dst = stack.enter_context(_open_example(args.dst, os.O_WRONLY))
        standard.show(f"{explained(src, dst)}\n")


@contextlib.contextmanager
def _open_example(name: str, flags: int) -> Iterator[int]:
    """Open what `explain` is asked about; a file that does not exist yet is made with O_TMPFILE."""
    if name in ("tcp", "unix", "pipe"):
        with _example(name, flags) as fd:
            yield fd
        return
    if flags & os.O_ACCMODE != os.O_RDONLY and not os.path.exists(name) and name != "-":
        name, flags = os.path.dirname(name) or ".", flags | os.O_TMPFILE
    with opened(name, flags | os.O_NONBLOCK * (name != "-")) as fd:
        yield fd


@contextlib.contextmanager
def _example(kind: str, flags: int) -> Iterator[int]:
    """Give a connected descriptor of a kind, as an example."""
    if kind == "pipe":
        reader, writer = os.pipe()
        try:
            yield reader if flags & os.O_ACCMODE == os.O_RDONLY else writer
        finally:
            os.close(reader)
            os.close(writer)
    elif kind == "unix":
        one, two = socket.socketpair()
        with one, two:
            yield one.fileno()
    else:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as sock,
        ):
            yield sock.fileno()


def features(args: argparse.Namespace) -> None:
    """Print what this kernel and sandbox do."""
    from .._kernel.features import features as probed

    standard.show(f"{probed()}\n")


def announce(listeners: Listeners) -> None:
    """Print the addresses that are listened on."""
    for address in listeners.addresses:
        _progress.say(f"listening on {_address.escaped(address)}")
