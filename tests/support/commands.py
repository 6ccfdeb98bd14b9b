"""The command line as a process of its own: run it, start it, read what it says."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys

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


def run(*args, input: bytes | None = b"", **options) -> subprocess.CompletedProcess:
    """Run a command to its end."""
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
    """Wait until a command says where it listens; return the address."""
    line = process.stderr.readline().decode()
    match = re.fullmatch(r"listening on (.+)\n", line)
    assert match, line + process.stderr.read().decode()
    return match[1]


def said(done: subprocess.CompletedProcess) -> str:
    """Return the one line on standard error, without its newline."""
    text = done.stderr.decode()
    assert text.count("\n") == 1, text
    assert text.endswith("\n")
    return text[:-1]


def unused_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]
