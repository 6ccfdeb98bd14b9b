"""Document root: open the file that a request names beneath one directory, and no other.

Rule 1: the kernel resolves the name, with every symlink in it, and only then is asked where it
ended: what was opened is what is judged, so a link that is swapped in between gains nothing.
Rule 2: until it is judged, a file is held by O_PATH, which reads nothing, waits for no FIFO and
wakes no device.
Rule 3: a name outside, and one that is neither file nor directory, looks like one that is missing.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

__all__ = ["BadTarget", "Docroot", "Opened", "Target", "target"]

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_HOLD = os.O_PATH | os.O_CLOEXEC


class BadTarget(ValueError):
    """A request target that can be no file; the text says why."""


class Target(NamedTuple):
    """A parsed request target: the decoded names of its path."""

    names: tuple[bytes, ...]
    slash: bool
    """Whether it ended in a slash, as a directory's does."""
    query: str

    @property
    def path(self) -> str:
        """The path, encoded anew: one slash at its begin, printable ASCII throughout."""
        path = "/" + "/".join(map(quote_from_bytes, self.names))
        return path + "/" if self.slash and self.names else path


def target(text: str) -> Target:
    """Parse the target of a request line, as http.server has it: a latin-1 str.

    Raises BadTarget for one that is no path, climbs up by "..", or hides a slash, a NUL or another
    control character behind percent signs.
    """
    path, _, query = text.partition("?")
    path = path.partition("#")[0]
    if path[:8].lower().startswith(("http://", "https://")):  # absolute form, as sent to proxies
        path = "/" + path.partition("://")[2].partition("/")[2]
    if not path.startswith("/"):
        raise BadTarget("the target is no absolute path")
    names = []
    raw = path.split("/")
    for part in raw:
        name = part.encode("latin-1")
        if b"%" in name:
            name = unquote_to_bytes(name)
        if name == b".." or b"/" in name or _CONTROL.search(name):
            raise BadTarget("the path holds a name that no file beneath the root can have")
        if name not in (b"", b"."):
            names.append(name)
    return Target(tuple(names), raw[-1] in ("", "."), query)


class Opened(NamedTuple):
    """An open descriptor, which the caller closes, and its status."""

    fd: int
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory, and not a regular file."""
        return stat.S_ISDIR(self.status.st_mode)


class Docroot:
    """A directory, and the files that are really beneath it. Thread-safe.

    Raises OSError if the root is missing or is no directory, or if there is no /proc to ask.
    """

    def __init__(self, root: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        self._root = os.open(root, _HOLD | os.O_DIRECTORY)
        try:
            self._place = self._where(self._root)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the root; safe to repeat."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def open(self, names: tuple[bytes, ...], *, slash: bool = False) -> Opened:
        """Open a file or a directory for reading, by decoded names from the root on.

        Raises OSError with ENOENT for what is outside or of another kind, ENOTDIR for a file whose
        name ended in a slash, and what the kernel says of anything else.
        """
        held = os.open(b"/".join(names) or b".", _HOLD, dir_fd=self._root)
        try:
            status = os.fstat(held)
            directory = stat.S_ISDIR(status.st_mode)
            if not (directory or stat.S_ISREG(status.st_mode)) or not self._holds(held):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if slash and not directory:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            return Opened(os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_CLOEXEC), status)
        finally:
            os.close(held)

    def _holds(self, fd: int) -> bool:
        place = self._where(fd)
        if self._beneath(place):
            return True
        self._place = self._where(self._root)  # the root itself may have been moved
        return self._beneath(place)

    def _beneath(self, place: bytes) -> bool:
        root = self._place
        return place == root or place.startswith(root if root == b"/" else root + b"/")

    @staticmethod
    def _where(fd: int) -> bytes:
        return os.readlink(b"/proc/self/fd/%d" % fd)
