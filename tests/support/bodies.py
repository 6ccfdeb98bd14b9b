"""Bodies that come over a connection, the readers of them, and files that take no more."""

from __future__ import annotations

import contextlib
import os
import resource

from tests.support.wires import SOCKETS, payload

DATA = payload(5 << 20)

NEXT = b"the next request"

BODY, LIMIT = DATA[:300_000], 70_000


def source_of(wires, kind, data, mode="blocking"):
    """Make a source in a mode."""
    source = wires.source(kind, data, nonblocking=mode == "nonblocking")
    if kind in SOCKETS:
        source.end.settimeout({"blocking": None, "nonblocking": 0, "timeout": 30}[mode])
    return source


def content(fd):
    return os.pread(fd, os.fstat(fd).st_size, 0)


@contextlib.contextmanager
def file_limit(limit):
    """Let no file of this process grow beyond so many bytes: EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def reader_of(wires, kind, data):
    source = source_of(wires, kind, data)
    if kind == "pipe":
        return source, wires.ends._stack.enter_context(open(source.fd, "rb", closefd=False))
    return source, wires.ends._stack.enter_context(source.end.makefile("rb"))
