"""A file that is written beside the one it will replace, and takes its name when it is whole.

Rule 1: until `publish`, the final name is untouched; leaving the block without it removes the part.
Rule 2: the part's name is random and made with O_EXCL: no stranger's file is opened or removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from types import TracebackType
from typing import Any

from . import _owned

__all__ = ["Part"]

# NAME_MAX is 255 bytes nearly everywhere; what is added takes 15 of them.
_MOST = 200
_MOST_LINKS = 40
_HOLD = os.O_PATH | os.O_DIRECTORY
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Part:
    """A context manager around `.NAME.XXXXXXXX.part`, open for reading and writing as `fd`.

    It lies in the directory where `path` leads, through symlinks. Exceptions name `path`.
    """

    def __init__(self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes], mode: int):
        self._given = path
        self._mode = mode
        self._in, self._file = _owned.owner(), _owned.owner()
        self._final = self._name = b""

    @property
    def fd(self) -> int:
        return int(self._file.fd)

    @property
    def _folder(self) -> int:
        return int(self._in.fd)

    def __enter__(self) -> Part:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            self._final = _place(self._in, os.fsencode(self._given))
            while self.fd < 0:
                part = b".%b.%b.part" % (self._final[:_MOST], secrets.token_hex(4).encode())
                self._name = part
                try:
                    _owned.open_at(self._file, part, flags, self._mode, self._folder)
                except FileExistsError:
                    self._name = b""
            return self
        except OSError as error:
            self._name = b""
            self._leave()
            raise self._named(error) from None
        except BaseException:
            self._leave()
            raise

    def _named(self, error: OSError) -> OSError:
        text = error.strerror
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            text = (
                f"{text}: a new file is written beside it, and the directory takes none; pass an "
                "open file as dst to write in place"
            )
        return OSError(error.errno, text, self._given)

    def publish(self, overwrite: bool) -> bool:
        """Give the part its name; False if that is a mount point, whose name cannot be given away.

        Raises FileExistsError if the name is taken and `overwrite` is False.
        """
        try:
            if overwrite:
                self._replace()
            else:
                self._take_free_name()
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise OSError(error.errno, error.strerror, self._given) from None
        self._name = b""
        return True

    def _replace(self) -> None:
        os.rename(self._name, self._final, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _take_free_name(self) -> None:
        here = self._folder
        try:
            os.link(self._name, self._final, src_dir_fd=here, dst_dir_fd=here)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A filesystem without hard links: reserve the name, then take it.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            _owned.open_at(_owned.owner(), self._final, flags, 0o777, here)
            self._replace()
        else:
            os.unlink(self._name, dir_fd=here)

    def _leave(self) -> None:
        """Remove the part if it has not become the file, and close everything."""
        if self._name:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)
        for owned in (self._file, self._in):
            _owned.close(owned)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()


def _place(owned: Any, path: bytes) -> bytes:
    """Hold the directory open, and return the name in it, that a path leads to through symlinks.

    Held open, so that a directory above it needs no more rights than open() does.
    """
    folder, name = os.path.split(path)
    here = _owned.open_at(owned, folder or b".", _HOLD)
    for _ in range(_MOST_LINKS):
        try:
            link = os.readlink(name, dir_fd=here)
        except OSError:
            if not name:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
            return name
        folder, name = os.path.split(link)
        here = _owned.open_at(owned, folder or b".", _HOLD, 0, here)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
