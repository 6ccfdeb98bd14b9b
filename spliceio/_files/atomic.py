"""Atomic replacement: a temporary file in the same directory, renamed when it is complete.

Rule 1: until `publish`, the final name is untouched; leaving the block without it removes the
        temporary file.
Rule 2: its name is random and made with O_EXCL: no other file is opened or removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets

from .._kernel import owned
from .._kernel.closing import Closing
from .place import Place

__all__ = ["AtomicFile"]

# NAME_MAX is 255 bytes nearly everywhere; what is added takes 15 of them.
_MOST = 200
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class AtomicFile(Closing):
    """A context manager around `.NAME.XXXXXXXX.part`, open for reading and writing as `fd`.

    `make` makes it, within the block, so that no signal leaves it behind. It lies in the directory
    of `place`. Exceptions name the path that led there.
    """

    def __init__(self, place: Place, mode: int):
        self._place, self._mode = place, mode
        self._owned = owned.owner()
        self._name = b""

    @property
    def fd(self) -> int:
        return int(self._owned.fd)

    def make(self) -> None:
        """Create the temporary file."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        here, final = self._place.folder, self._place.name[:_MOST]
        try:
            while self.fd < 0:
                file = b".%b.%b.part" % (final, secrets.token_hex(4).encode())
                self._name = file
                try:
                    owned.open_at(self._owned, file, flags, self._mode, here)
                except FileExistsError:
                    self._name = b""
        except OSError as error:
            self._name = b""
            raise OSError(error.errno, error.strerror, self._place.path) from None

    def publish(self, overwrite: bool) -> None:
        """Rename the temporary file to its final name.

        Raises FileExistsError if the name is taken and `overwrite` is False.
        """
        try:
            if overwrite:
                self._replace()
            else:
                self._take_free_name()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._place.path) from None
        self._name = b""

    def _replace(self) -> None:
        here = self._place.folder
        os.rename(self._name, self._place.name, src_dir_fd=here, dst_dir_fd=here)

    def _take_free_name(self) -> None:
        here = self._place.folder
        try:
            os.link(self._name, self._place.name, src_dir_fd=here, dst_dir_fd=here)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A filesystem without hard links: reserve the name, then take it.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            owned.open_at(owned.owner(), self._place.name, flags, 0o777, here)
            self._replace()
        else:
            os.unlink(self._name, dir_fd=here)

    def close(self) -> None:
        """Remove the temporary file unless it was renamed, and close it; safe to repeat."""
        if self._name:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._place.folder)
        owned.close(self._owned)
