"""Sealed memfd: memory that is filled, sealed and never changes again, for Blobs and their slices.

Rule 1: it is sealed before it is returned; if that fails its descriptor is closed.
Rule 2: it is closed once, by the first close() or with its last user; what has been mapped
stays mapped as long as a view of it is in use.
Rule 3: huge pages are an advice; what the kernel does not allow costs nothing and says nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._cffi import lib
from . import errors
from . import owned as _owned

if TYPE_CHECKING:
    from .._cffi import struct_sio_owned_ptr

__all__ = ["SealedMemory", "new_sealed"]

_MFD_NOEXEC_SEAL = 8  # Linux 6.3; with vm.memfd_noexec=2 nothing else is allowed
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_MADV_HUGEPAGE, _MADV_POPULATE_WRITE = mmap.MADV_HUGEPAGE, 23
_HUGE = 2 << 20


class SealedMemory:
    """A memfd: filled, sealed, mapped on demand, closed with its last user."""

    __slots__ = ("_map", "_owned", "size")

    def __init__(self) -> None:
        # Without a lock, which a signal handler or the collector could find taken by its own
        # thread.
        self._owned = _owned.owner()
        self._map: mmap.mmap | None = None
        self.size = 0
        _make(self._owned)

    def fileno(self) -> int:
        fd = int(self._owned.fd)
        if fd < 0:
            raise ValueError("the blob is closed")
        return fd

    @property
    def closed(self) -> bool:
        return bool(self._owned.fd < 0)

    def close(self) -> None:
        # The mapping is only released: views hold it, and unmapping it would pull it from under
        # them.
        self._map = None
        _owned.close(self._owned)

    # -- filling ---------------------------------------------------------------------------------

    def write(self, data: memoryview) -> None:
        """Append bytes, piece by piece, so that a signal is answered in between."""
        fd, huge = self.fileno(), _HugePages(self.fileno(), self.size, self.size + len(data))
        while data:
            huge.populate(self.size)
            try:
                # At an offset: the position of the memfd stays 0, for those who use it.
                n = os.pwrite(fd, data[: _HUGE - self.size % _HUGE], self.size)
            except OSError as error:
                raise _failure("write", error) from None
            data, self.size = data[n:], self.size + n

    def preallocate(self, size: int) -> None:
        """Allocate the pages for so many bytes, which a transfer is about to write."""
        huge = _HugePages(self.fileno(), 0, size)
        for at in range(0, size, _HUGE):
            huge.populate(at)

    def seal(self) -> None:
        """Seal it: its content and size are final."""
        fd = self.fileno()
        try:
            if os.fstat(fd).st_size != self.size:
                os.ftruncate(fd, self.size)  # less came than was expected
            os.lseek(fd, 0, os.SEEK_SET)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as error:
            raise _failure("seal", error) from None

    # -- looking ---------------------------------------------------------------------------------

    def view(self) -> memoryview:
        fd = self.fileno()
        if not self.size:
            return memoryview(b"")  # nothing cannot be mapped
        mapped = self._map
        if mapped is None:
            private, readable = mmap.MAP_PRIVATE, mmap.PROT_READ
            try:
                if sys.version_info >= (3, 13):
                    mapped = mmap.mmap(fd, self.size, private, readable, trackfd=False)
                else:
                    mapped = mmap.mmap(fd, self.size, private, readable)
            except OSError as error:
                raise _failure("mmap", error) from None
            self._map = mapped
        return memoryview(mapped)


@contextlib.contextmanager
def new_sealed() -> Iterator[SealedMemory]:
    """Make a memfd to be filled in the block; it is sealed after it, or closed on an exception."""
    memory = SealedMemory()
    try:
        yield memory
        memory.seal()
    except BaseException:
        memory.close()
        raise


def _make(owned: struct_sio_owned_ptr) -> None:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    err = _create(owned, b"spliceio.Blob", flags | _MFD_NOEXEC_SEAL)
    if err == -errno.EINVAL:
        err = _create(owned, b"spliceio.Blob", flags)
    if err:
        raise _failure("memfd_create", OSError(-err, os.strerror(-err)))


_create = lib.sio_owned_memfd


_REASONS = {
    errno.ENOSPC: "there is no memory left for it, or none that this user may have (overcommit)",
    errno.ENOMEM: "there is no memory left for it",
    errno.EBUSY: "another process has mapped its memory to write to it",
}


def _failure(call: str, error: OSError) -> OSError:
    err = error.errno or errno.EIO
    if err in _REASONS:
        return OSError(err, f"Blob: {call}: {_REASONS[err]}")
    return errors.failure(f"Blob: {call}", err, names=("data", "the blob"))


class _HugePages:
    """Huge pages for a range of a memfd that is about to be written, where they are allowed.

    To fill one, of 2 MiB, takes a quarter of the time of 512 small ones, to send it by TCP less by
    a third and to a unix socket half (measured on 6.18). A write() takes small ones; a mapping that
    asks for huge ones gets them if /sys/kernel/mm/transparent_hugepage/shmem_enabled is "advise",
    and what is there is written into. MADV_COLLAPSE and MFD_HUGETLB are no way around "never": the
    first is refused, and pages of the second cannot be spliced.

    Only an advice: what fails is left out, and the write says what is wrong.
    """

    def __init__(self, fd: int, begin: int, end: int) -> None:
        self._begin, self._end = -(-begin // _HUGE) * _HUGE, end // _HUGE * _HUGE
        self._map: mmap.mmap | None = None
        if self._begin >= self._end:
            return
        with contextlib.suppress(OSError, ValueError):
            os.ftruncate(fd, end)
            self._map = mmap.mmap(fd, self._end - self._begin, offset=self._begin)
            self._map.madvise(_MADV_HUGEPAGE)

    def populate(self, at: int) -> None:
        """Allocate the page at `at`, if all of it is in the range.

        By madvise, Linux 5.14: to touch memory that cannot be had would kill the process.
        """
        if self._map is None or not self._begin <= at < self._end:
            return
        try:
            start = (at - self._begin) // _HUGE * _HUGE
            self._map.madvise(_MADV_POPULATE_WRITE, start, mmap.PAGESIZE)
        except OSError:
            self._map = None
