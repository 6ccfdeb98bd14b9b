"""Document root: open the file that a request names beneath one directory, and no other.

Rule 1: the kernel resolves the name, with every symlink in it, and stays beneath the root while it
does (RESOLVE_BENEATH of openat2(2)). Where it cannot, or where a link leads out (and perhaps back
in, as an absolute one does), it is asked where the name ended: what was opened is what is judged,
so a link that is swapped in between gains nothing.
Rule 2: until it is judged, a file is held by O_PATH, which reads nothing, waits for no FIFO and
wakes no device.
Rule 3: a name outside, and one that is neither file nor directory, looks like one that is missing.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from .._cffi import lib
from .._kernel import owned

if TYPE_CHECKING:
    from .._cffi import struct_sio_owned_ptr

__all__ = ["BadTarget", "Docroot", "Opened", "Target", "target"]

_HOLD = os.O_PATH | os.O_CLOEXEC
_BENEATH = lib.SIO_RESOLVE_BENEATH | lib.SIO_RESOLVE_NO_MAGICLINKS
_NO_OPENAT2 = (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG)
_TRIES = 8
"""Somebody may rename directories all the time, while a name is resolved."""


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

    Raises BadTarget for one that is no path, climbs up by "..", or hides a slash or a NUL behind
    percent signs.
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
        if name == b".." or b"/" in name or b"\0" in name:
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

    With `pin` it stays the directory that it was when this was made; without, its name is looked
    up again for each file: a link that is swapped, a directory that is removed and made anew.

    Raises OSError if the root is missing or is no directory, or if there is no /proc to ask.
    """

    def __init__(
        self, root: str | bytes | os.PathLike[str] | os.PathLike[bytes], *, pin: bool = True
    ) -> None:
        self._name = None if pin else os.fsencode(os.path.abspath(root))
        self._root = _Root(root if self._name is None else self._name)

    def close(self) -> None:
        """Close the root; safe to repeat."""
        self._root.close()

    def path_of(self, names: tuple[bytes, ...]) -> tuple[bytes, int | None]:
        """Return a path that os.stat takes, and the directory that it counts from, if any."""
        path = b"/".join(names) or b"."
        if self._name is None:
            return path, self._root.fd
        return b"%s/%s" % (self._name, path), None

    def open(
        self, names: tuple[bytes, ...], *, slash: bool = False, cached: bool = False
    ) -> Opened:
        """Open a file or a directory for reading, by decoded names from the root on.

        A directory that may be entered and not listed is open with O_PATH alone. With `cached` no
        disk is waited for: BlockingIOError says that one is needed, or may be.

        Raises OSError with ENOENT for what is outside or of another kind, ENOTDIR for a file whose
        name ended in a slash, and what the kernel says of anything else.
        """
        root = self._now()
        held = root.hold(names, cached)
        try:
            status = os.fstat(held.fd)
            directory = stat.S_ISDIR(status.st_mode)
            if not (directory or stat.S_ISREG(status.st_mode)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if slash and not directory:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            try:
                fd = os.open(f"/proc/self/fd/{held.fd}", os.O_RDONLY | os.O_CLOEXEC)
            except PermissionError:
                if not directory:
                    raise
                fd = os.dup(held.fd)
            return Opened(fd, status)
        finally:
            owned.close(held)

    def _now(self) -> _Root:
        """Return the root as it is now. One that another thread uses is closed after that."""
        root = self._root
        if self._name is None:
            return root
        status = os.stat(self._name)
        if (status.st_dev, status.st_ino) != root.identity:
            root = self._root = _Root(self._name)
        return root


class _Root:
    """An open root."""

    def __init__(self, root: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        self._owner = owned.owner()
        owned.open_at(self._owner, root, _HOLD | os.O_DIRECTORY)
        status = os.fstat(self.fd)
        self.identity = status.st_dev, status.st_ino
        _where(self.fd)  # what cannot be asked now, cannot be later

    @property
    def fd(self) -> int:
        return int(self._owner.fd)

    def close(self) -> None:
        owned.close(self._owner)

    def hold(self, names: tuple[bytes, ...], cached: bool) -> struct_sio_owned_ptr:
        """Open a name by O_PATH; raises FileNotFoundError for what is outside."""
        held = owned.owner()
        try:
            self._open(held, b"/".join(names) or b".", cached)
        except BaseException:
            owned.close(held)
            raise
        return held

    def _open(self, held: struct_sio_owned_ptr, path: bytes, cached: bool) -> None:
        resolve = _BENEATH | (lib.SIO_RESOLVE_CACHED if cached else 0)
        for tried in range(_TRIES):
            try:
                owned.open_within(held, path, _HOLD, resolve, self.fd)
                return
            except BlockingIOError:
                if cached or tried == _TRIES - 1:
                    raise
            except OSError as error:
                if error.errno != errno.EXDEV and error.errno not in _NO_OPENAT2:
                    raise
                break
        if cached:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        owned.open_at(held, path, _HOLD, folder=self.fd)
        if not self._holds(held.fd):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _holds(self, fd: int) -> bool:
        root, place = _where(self.fd), _where(fd)  # asked now: it may have been moved
        return place == root or place.startswith(root if root == b"/" else root + b"/")


def _where(fd: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % fd)
