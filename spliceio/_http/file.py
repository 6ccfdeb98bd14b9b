"""The file of a response: opened, checked, and its validators as header fields.

Rule 1: only a regular file is served; without O_NONBLOCK a FIFO in its place would hang the thread.
Rule 2: nothing that a file or a caller names can end a line of the head.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Any

from .._kernel import endpoint, objects
from .._kernel.arguments import FileDescriptorLike, Window
from .conditional import Validators, http_date

__all__ = [
    "Path",
    "open_regular",
    "refuse_line_breaks",
    "status_of",
    "status_of_open",
    "validator_fields",
]

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_BUSY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def status_of(error: OSError | ValueError) -> int:
    """Return the status for a file that could not be opened."""
    if isinstance(error, PermissionError):
        return 403
    if isinstance(error, OSError) and error.errno in _BUSY:
        return 503
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE, errno.ENODEV):
        return 500
    return 404


def open_regular(path: Path) -> tuple[int, os.stat_result]:
    """Open a regular file; return its descriptor and status."""
    fd = os.open(path, _OPEN)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def status_of_open(file: FileDescriptorLike) -> tuple[Any, os.stat_result]:
    """Return the object with the bytes of an open regular file, flushed, and its status."""
    if isinstance(file, Window):
        raise TypeError(
            f"serve_file: a {type(file).__name__} has no date to make validators of; send a head "
            "of your own with it: send_file(connection, blob, header=head)"
        )
    real = objects.real(file, "serve_file", "src", sends=False)
    info = endpoint.info_of(real, "serve_file", "src")
    if not stat.S_ISREG(info.mode):
        raise ValueError(f"serve_file: only a regular file can be served, not {info.text}")
    flush = getattr(real, "flush", None)
    if flush is not None:
        flush()
    return real, os.fstat(info.fd)


def refuse_line_breaks(kind: str, fields: list[tuple[str, str]]) -> None:
    """Raise ValueError for a field that would begin another line."""
    for text in (kind, *(text for pair in fields for text in pair)):
        if "\r" in text or "\n" in text:
            raise ValueError(f"serve_file: a line break in a header: {text!r}")


def validator_fields(
    now: Validators, date: Callable[[int], str] | None = None
) -> list[tuple[str, str]]:
    """Return the header fields of a version of a file; `date` formats Unix seconds."""
    # A change in the future must not be claimed (RFC 9110, 8.8.2.1).
    second = min(now.modified, int(time.time()))
    modified = http_date(second)
    fields = [("ETag", now.etag), ("Accept-Ranges", "bytes")]
    if modified is not None and date is not None:
        modified = date(second)
    return fields if modified is None else [("Last-Modified", modified), *fields]
