"""Unix socket path: bound and removed without disturbing another process that listens there.

Rule 1: no connection is made to a listening socket. A datagram socket that connects there gets
        EPROTOTYPE when a stream socket is bound there and ECONNREFUSED when none is any more: at
        once, whatever the backlog, from every network namespace, and unnoticed.
Rule 2: what is removed is a socket that no process has open, or the one bound here, by device and
        inode; a socket that is dead stays so. What is no socket is left alone.
Rule 3: who removes one holds the lock of its directory, so that of several who start at once one
        gets the path. Of those who know no such lock: the path is moved aside before it is removed,
        and moved back if it was another's by then. For that moment it is not there.
Rule 4: interrupted anywhere, it can be removed: getsockname() says whether it has been bound.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator

from .._kernel import owned as _owned

__all__ = ["BoundPath"]

_TRIES = 16
_LOCK_SECONDS = 1.0
_LOCK_AGAIN = 0.01
_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}
_Inode = tuple[int, int]


class BoundPath:
    """A socket and the path that it is bound to, or will be; collected, it removes the path."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        self._sock, self._path = sock, path
        self._full = path
        with contextlib.suppress(OSError):  # a directory that was removed has no name
            self._full = os.path.abspath(path)
        self._inode: _Inode | None = None
        self._pid = os.getpid()

    def bind(self) -> None:
        """Bind it; a dead socket at the path is replaced.

        Raises OSError EADDRINUSE, with what is there if it is no socket.
        """
        for left in reversed(range(_TRIES)):
            try:
                self._sock.bind(self._path)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not left:
                    raise
            _remove_dead(self._path)
        self._note()

    def _note(self) -> None:
        self._inode = _inode_of(self._full)
        if self._inode is None:  # what is above the working directory may be closed to us
            self._full = self._path
            self._inode = _inode_of(self._full)

    def remove(self) -> None:
        """Remove the path if it is still this socket's, which has to be open; safe to repeat."""
        if self._pid != os.getpid() or self._sock.fileno() < 0 or not self._sock.getsockname():
            return
        if self._inode is None:  # interrupted
            self._note()
        if self._inode is not None:
            _remove(self._full, self._inode)

    def close(self) -> None:
        """Remove the path, and close the socket; safe to repeat."""
        self.remove()
        self._sock.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.remove()


def _inode_of(path: str) -> _Inode | None:
    """Return device and inode of the file at a path, None if there is none."""
    if os.path.lexists(path):
        with contextlib.suppress(FileNotFoundError):  # gone just now
            found = os.lstat(path)
            return found.st_dev, found.st_ino
    return None


def _remove_dead(path: str) -> None:
    """Remove a dead socket from a path. Raises OSError EADDRINUSE for anything else."""
    pinned = _owned.owner()  # as long as it is open, no other file gets this inode
    try:
        _owned.open_at(pinned, path, os.O_PATH | os.O_NOFOLLOW)
        found = os.fstat(pinned.fd)
        if not stat.S_ISSOCK(found.st_mode):
            raise _in_use(_KINDS.get(stat.S_IFMT(found.st_mode), "no socket") + " is there")
        if not _is_dead(path):
            raise _in_use()
        try:
            _remove(path, (found.st_dev, found.st_ino))
        except FileNotFoundError:
            return  # another process has removed it just now
        except OSError as error:
            raise _in_use(f"the dead socket there cannot be removed: {error.strerror}") from None
    except FileNotFoundError:
        return
    finally:
        _owned.close(pinned)


def _in_use(why: str = "") -> OSError:
    text = os.strerror(errno.EADDRINUSE)
    return OSError(errno.EADDRINUSE, f"{text}: {why}" if why else text)


def _is_dead(path: str) -> bool:
    """Return whether no process listens on the socket at a path; False if it may not be asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False


def _remove(path: str, inode: _Inode) -> None:
    """Remove the file at a path if it has this inode; one that was put there meanwhile stays."""
    folder = os.path.dirname(path)
    aside = os.path.join(folder, f".{inode[0]:x}-{inode[1]:x}")
    with _locked(folder or "."):
        try:
            try:
                if _inode_of(path) == inode:
                    os.rename(path, aside)
            finally:
                _settle(path, aside, inode)
        finally:  # the one before may have been interrupted
            _settle(path, aside, inode)


def _settle(path: str, aside: str, inode: _Inode) -> None:
    """Remove the file that was moved aside if it is the right one, or move it back."""
    found = _inode_of(aside)
    if found is None:
        return
    if found != inode:
        try:
            os.link(aside, path)
        except FileExistsError:  # a third one has bound there: the latest has it, as ever
            pass
        except OSError:  # another user's (fs.protected_hardlinks), or no links here
            os.rename(aside, path)
            return
    os.unlink(aside)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Lock a directory against others that do the same, if that is possible within a second.

    Whoever may read a directory can lock it for ever: that is no reason not to start.
    """
    owned = _owned.owner()
    until = time.monotonic() + _LOCK_SECONDS
    try:
        with contextlib.suppress(OSError):
            _owned.open_at(owned, folder, os.O_RDONLY | os.O_DIRECTORY)
        while owned.fd >= 0 and time.monotonic() < until:
            try:
                fcntl.flock(owned.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_LOCK_AGAIN)
            except OSError:
                break
        yield
    finally:
        if owned.fd >= 0:
            # A child that was forked just now has this descriptor, too.
            with contextlib.suppress(OSError):
                fcntl.flock(owned.fd, fcntl.LOCK_UN)
            _owned.close(owned)
