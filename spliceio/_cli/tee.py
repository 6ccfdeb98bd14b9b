"""`spliceio tee`: standard input to standard output and to files, as coreutils tee does it.

The options, the messages and the status are those of tee(1). What is added: digests of what passed,
and a limit for outputs that stall. Each output that fails is reported at once, and the rest go on,
unless the mode says otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import os
import shlex
import signal
import stat
import sys
from collections.abc import Iterator
from typing import Any

from .._cffi import lib
from .._fanout.fanout import Fanout
from .._fanout.sinks import SinkResult
from .._kernel import endpoint
from . import progress as _progress
from . import standard
from .commands import regular_size
from .progress import say
from .standard import BROKEN_PIPE, STDIN, STDOUT

__all__ = ["run"]

_PIPE = 1 << 20
_PIPES_TOGETHER = 16 << 20


class _Outputs:
    """Standard output and the files: opened, reported when they fail, closed."""

    def __init__(self, mode: str | None, stall: float, stack: contextlib.ExitStack) -> None:
        self._mode = mode
        self._stall = stall
        self._stack = stack
        self.names: dict[int, str] = {}
        self._open: set[int] = set()
        self.failed = False

    def open(self, files: list[str], append: bool) -> None:
        """Open what can be opened; nothing is truncated before the bytes can come."""
        with self._reporting("standard output"):
            standard.require([STDOUT])
            self._add(STDOUT, "standard output", append=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else 0)
        for name in files:
            with self._reporting(name):
                fd = os.open(name, flags, 0o666)
                self._open.add(fd)
                self._stack.callback(self._close, fd)
                self._add(fd, name, append)

    def _add(self, fd: int, name: str, append: bool) -> None:
        info = endpoint.info_of(fd, "tee", "dst")
        if stat.S_ISREG(info.mode) and os.path.samestat(os.fstat(fd), os.fstat(STDIN)):
            if append:
                raise ValueError("input file is output file")
            os.ftruncate(fd, 0)  # as tee does: there is nothing to read then
            return
        self.names[fd] = name

    def truncate(self) -> None:
        """Empty the files that are to be overwritten."""
        for fd, name in self.names.items():
            if fd != STDOUT and stat.S_ISREG(os.fstat(fd).st_mode):
                with self._reporting(name):
                    os.ftruncate(fd, 0)

    def drop_one(self, error: OSError) -> bool:
        """Close one file, so that its descriptor is free; return whether there was one."""
        fd, name = next(reversed(self.names.items()), (STDOUT, ""))
        if fd == STDOUT:
            return False
        del self.names[fd]
        self._close(fd)
        self._report(error, name)
        return True

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.remove(fd)
            os.close(fd)

    @contextlib.contextmanager
    def _reporting(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            self._report(error, name)

    def on_detached(self, sink: SinkResult) -> None:
        """Handle an output that has failed, as the mode says."""
        error = sink.error
        assert error is not None
        if not isinstance(sink.sink, int) or not isinstance(error, OSError):
            raise error
        if sink.fate == "dropped":
            error = ValueError(f"dropped: it took nothing for {self._stall:g} s")
        elif error.errno == errno.EPIPE:
            if self._mode is None:
                raise SystemExit(BROKEN_PIPE)  # what SIGPIPE does to tee
            if self._mode.endswith("-nopipe"):
                return
        self._report(error, self.names[sink.sink])

    def _report(self, error: OSError | ValueError, name: str) -> None:
        number = getattr(error, "errno", None)
        text = str(error) if number is None else os.strerror(number)
        if self._mode in ("exit", "exit-nopipe"):
            raise OSError(number, text, shlex.quote(name)) from None
        say(f"spliceio: tee: {shlex.quote(name)}: {text}")
        self.failed = True


def _widen(fds: list[int]) -> None:
    """Enlarge the pipes: a program is woken once for each filling of a pipe.

    Only this program and those before and after it use them. Together they stay far below what a
    user may have before further pipes are made small (pipe-user-pages-soft).
    """
    pipes = [fd for fd in fds if stat.S_ISFIFO(os.fstat(fd).st_mode)]
    for fd in pipes:
        lib.sio_pipe_resize(fd, min(_PIPE, _PIPES_TOGETHER // len(pipes)))


def run(args: argparse.Namespace) -> None:
    """Copy standard input to standard output and to files."""
    if args.ignore_interrupts:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.ExitStack() as stack:
        outputs = _Outputs(args.output_error, args.stall_timeout, stack)
        outputs.open(args.files, args.append)
        hashes = [hashlib.new(name) for name in args.hash]
        if not (outputs.names or hashes):
            sys.exit(1)
        made = stack.enter_context(contextlib.closing(_made(args, outputs, hashes)))
        if not args.append:
            outputs.truncate()
        _widen([STDIN, *outputs.names])
        with _progress.bar(args.progress, "tee", _size()) as progress:
            made.drive(progress, outputs.on_detached)
    for one in hashes:
        say(f"{_shown(one.name)} (-) = {one.hexdigest()}")
    if outputs.failed:
        sys.exit(1)


def _made(args: argparse.Namespace, outputs: _Outputs, hashes: list[Any]) -> Fanout:
    """Make the fan-out to as many of the outputs as there are descriptors for."""
    while True:
        sinks = [*outputs.names, *hashes]
        try:
            return Fanout(STDIN, sinks, on_slow=args.on_slow, stall_timeout=args.stall_timeout)
        except OSError as error:
            if error.errno != errno.EMFILE or not outputs.drop_one(error):
                raise


def _size() -> int | None:
    with contextlib.suppress(OSError):
        return regular_size(STDIN)
    return None


def _shown(name: str) -> str:
    """Return a hash's name as the `--tag` of sha256sum(1) and b2sum(1) prints it."""
    return "BLAKE2b" if name == "blake2b" else name.upper().replace("_", "-")
