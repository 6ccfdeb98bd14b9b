"""The command line: run it here or as a process of its own, start it, read what it says.

Rule 1: `run` calls main() in this process, which costs a hundredth of a process; descriptors 0 to
        2 are real ones, and what main() does to them, to signals and to the directory is undone.
Rule 2: what depends on being a process takes `run_program`: signals, closed streams, the
        environment, how the interpreter starts and ends. Each command has such a test.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.states import Worker
from tests.support.wires import read_all, write_all

HANG = 60

SPLICEIO = [sys.executable, "-m", "spliceio"]

COMMANDS = (
    "pipe",
    "cp",
    "send",
    "recv",
    "connect",
    "proxy",
    "serve",
    "trace",
    "explain",
    "features",
)


def run(
    *args, input: bytes = b"", stdin=None, stdout=None, stderr=None, cwd=None
) -> subprocess.CompletedProcess:
    """Call main() with these words; what is not given of descriptors 0 to 2 is a pipe."""
    from spliceio._cli.main import main

    words = [*map(os.fspath, args)]
    with contextlib.ExitStack() as stack:
        readers = {}
        for fd, given in enumerate((stdin, stdout, stderr)):
            own = given if given is None or isinstance(given, int) else given.fileno()
            if own is None:
                reader, writer = os.pipe()
                ours, own = (writer, reader) if fd == 0 else (reader, writer)
                # Closed by the thread, which ends when nobody has the other end any more.
                readers[fd] = Worker(lambda fd=fd, ours=ours: _other_end(fd, ours, input))
            stack.enter_context(_stands_for(fd, own, given is None))
        stack.enter_context(_undone(cwd))
        for name, fd in (("stdout", 1), ("stderr", 2)):
            errors = "strict" if fd == 1 else "backslashreplace"
            stream = open(fd, "w", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
            stack.callback(setattr, sys, name, getattr(sys, name))
            stack.enter_context(stream)
            setattr(sys, name, stream)
        try:
            status = main(words)
        except SystemExit as end:  # as the interpreter takes it
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    said = {fd: reader.result() for fd, reader in readers.items()}
    return subprocess.CompletedProcess(words, status, said.get(1), said.get(2))


def _other_end(fd: int, ours: int, input: bytes) -> bytes:
    """Be what a pipe at 0, 1 or 2 leads to."""
    try:
        if fd:
            return read_all(ours)
        with contextlib.suppress(BrokenPipeError):
            write_all(ours, input)
        return b""
    finally:
        os.close(ours)


@contextlib.contextmanager
def _stands_for(fd: int, other: int, is_ours: bool):
    """Put another descriptor at 0, 1 or 2 until the block ends; close it there if it is ours."""
    before = os.dup(fd)
    os.dup2(other, fd)
    try:
        if is_ours:
            os.close(other)
        yield
    finally:
        os.dup2(before, fd)
        os.close(before)


@contextlib.contextmanager
def _undone(cwd):
    """Leave the directory, the handlers and the mask of signals as they were."""
    where = os.open(".", os.O_PATH)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        if cwd is not None:
            os.chdir(cwd)
        yield
    finally:
        os.fchdir(where)
        os.close(where)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def run_program(*args, input: bytes | None = b"", **options) -> subprocess.CompletedProcess:
    """Run a command as a process, to its end."""
    if "stdin" in options:
        input = None
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.run([*SPLICEIO, *map(os.fspath, args)], input=input, timeout=HANG, **options)


@contextlib.contextmanager
def started(*args, **options):
    """Start a command; kill it in the end if it is still there."""
    for name in ("stdin", "stdout", "stderr"):
        options.setdefault(name, subprocess.PIPE)
    process = subprocess.Popen([*SPLICEIO, *map(os.fspath, args)], bufsize=0, **options)
    with process:
        try:
            yield process
        finally:
            process.kill()


def listening(process: subprocess.Popen) -> str:
    """Wait until a command says where it listens; return the address.

    `process.said_before` is what it has said of other things by then.
    """
    process.said_before = ""
    while line := process.stderr.readline().decode():
        if match := re.fullmatch(r"listening on (.+)\n", line):
            return match[1]
        process.said_before += line
    raise AssertionError(process.said_before)


def said(done: subprocess.CompletedProcess) -> str:
    """Return the one line on standard error, without its newline."""
    text = done.stderr.decode()
    assert text.count("\n") == 1, text
    assert text.endswith("\n")
    return text[:-1]


def unused_port() -> int:
    """Return a port on which nobody listens, and which the kernel gives to no connection.

    Who connects again and again to one of those that it gives meets itself in the end.
    """
    given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10_000, given), 200):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no unused port")
