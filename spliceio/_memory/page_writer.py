"""`PageWriter`: write memory into a pipe with vmsplice(2), by pages of its own.

Rule 1: the caller's memory is copied before `write` returns, and pinned no longer than that. No
        page of it goes into the pipe, so nothing that happens to it later can reach the reader.
Rule 2: what is counted is in the pipe, what is not is not: nothing lost, nothing repeated.
Rule 3: the descriptor is a duplicate. One call at a time uses it, and it is closed when none does.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import warnings
from typing import TYPE_CHECKING, cast

from .._cffi import ffi, lib
from .._kernel import endpoint, errors
from .._kernel import owned as _owned
from .._kernel.lock import ForkLock
from .._kernel.pipe import Pipe
from .._kernel.syscalls import SPLICE_F_NONBLOCK
from .._public import public
from .._transfer.flow import SLICE_NS
from .._transfer.result import Fallback

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .._cffi import (
        Array,
        Pointer,
        c_unsigned_char,
        struct_sio_faults,
        struct_sio_owned_ptr,
        struct_sio_page_gift_ptr,
    )
    from .._kernel.arguments import FileDescriptorLike

__all__ = ["PageWriter"]

_METHODS = ("auto", "vmsplice", "write")
_GIFT_FROM = 128 << 10
"""Bytes from which gifting costs the writer no more than write(2); measured, see the reference."""
_REGION: int = lib.SIO_PAGE_GIFT_REGION
_SMALL: int = lib.SIO_PAGE_GIFT_SMALL
_REFUSALS = (errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL)
_NO_HUGE = (
    "the kernel had no huge page to give (see /sys/kernel/mm/transparent_hugepage/enabled), and "
    "gifting small ones costs several times what write() does"
)
_COPIES = "this kernel copies in vmsplice, so that a copy before it would be one too many"


@public
class PageWriter(io.RawIOBase):
    """Write Python data into a pipe by giving pages away: the safe form of `vmsplice`.

    `write` copies the data once, into fresh pages of its own, and lets the pipe have those. They
    are never written again, so no later change, resize, deletion or fork of your data can reach
    the reader, however late it reads.

    `pipe` is the write end of a pipe: a descriptor, an object with `fileno()`, or a `Pipe`. It is
    duplicated: close yours when you like. Closing the PageWriter closes the duplicate alone, and
    the reader gets the end of file once every write end is closed, yours too.

    `method` is "auto", "vmsplice" or "write". "auto" gifts writes of at least 128 KiB as long as
    that is the cheaper way: where vmsplice maps, which is tried once in a pipe of its own, and
    where the kernel has huge pages. Everything else goes by write(2), and `fallbacks` says why.
    Unlike in a transfer, a refusal counts at any time: nothing that was refused is in the pipe.
    "vmsplice" gifts whatever comes, by small pages if need be, and raises where it is refused.

    It is a raw file: `io.BufferedWriter(PageWriter(pipe), 1 << 20)` collects small writes. From
    the first large write on it owns 2 MiB of memory. Pages in a pipe are parts of such a block,
    which stays until the last of them has been read.

    Raises ValueError for an unknown method or for what is no pipe, TypeError for what has no
    descriptor, and OSError (EBADF) for a read end. Linux 4.14.

    Not promised: that nothing is copied; one copy is made, as write(2) makes one. For data that is
    sent more than once and not changed in between a `Blob` needs none.
    """

    # No annotation: `public` evaluates those of a class, and this name is for type checkers alone.
    _owned = cast("struct_sio_owned_ptr | None", None)
    _closing = False

    def __init__(self, pipe: FileDescriptorLike | Pipe, *, method: str = "auto") -> None:
        if method not in _METHODS:
            raise ValueError(f"PageWriter: method must be one of {_METHODS}, not {method!r}")
        self._wanted = method
        self._gifts = method != "write"
        self._gift: struct_sio_page_gift_ptr | None = None
        self._apart = 0
        # Counted in C: a signal handler may raise between a call and the line after it.
        self._counts = ffi.new("int64_t[]", 2)
        self._called = "write"
        self._fallbacks: list[Fallback] = []
        self._seam: Pointer[struct_sio_faults] = ffi.NULL
        self._lock = ForkLock()
        self._writing = False
        self._owned = _owned.owner()
        _duplicate(self._owned, pipe)

    # -- what it is ----------------------------------------------------------------------------

    @property
    def _fd(self) -> int:
        return -1 if self._owned is None else int(self._owned.fd)

    def writable(self) -> bool:
        """Return True; raises ValueError if it is closed."""
        self._check_open()
        return True

    def fileno(self) -> int:
        """Return the number of the duplicate."""
        self._check_open()
        return self._fd

    @property
    def moved(self) -> int:
        """How many bytes are in the pipe or were, in all."""
        return sum(self._counts)

    @property
    def by_method(self) -> dict[str, int]:
        """How many bytes each method has moved: {"vmsplice": n, "write": n}."""
        return {"vmsplice": self._counts[0], "write": self._counts[1]}

    @property
    def method(self) -> str:
        """The method that has moved most bytes; before the first, the one for a large write."""
        if self.moved:
            return "vmsplice" if self._counts[0] > self._counts[1] else "write"
        return "vmsplice" if self._gifts else "write"

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """Why write(2) took the place of vmsplice: one entry a reason, with method and errno."""
        return tuple(self._fallbacks)

    # -- writing -------------------------------------------------------------------------------

    def write(self, data: Buffer, /) -> int | None:
        """Write bytes-like `data`; return how many bytes are in the pipe.

        A blocking pipe takes everything. A nonblocking one takes what fits now: fewer than asked
        for, or None when nothing fits, as of any raw file. The data may be changed as soon as this
        returns; while it runs, another thread that changes it decides what is written.

        Threads may write at the same time: one waits for the other, and what one call writes stays
        together, unless another descriptor writes to the same pipe.

        Signal handlers run while it waits, and at least every 80 ms. When one raises, or when the
        pipe fails, the exception has `characters_written`: how much of `data` is in the pipe.
        `io.BufferedWriter` does not look at it and would write those bytes again; compare `moved`.

        Raises BrokenPipeError when nobody reads, TypeError for str, ValueError when it is closed,
        and RuntimeError when a signal handler calls it within a call of the same thread.
        """
        if isinstance(data, str):
            raise TypeError("PageWriter.write: a str has no bytes yet; encode() it first")
        with memoryview(data) as view:
            flat: Buffer = data if view.c_contiguous else view.tobytes()
        self._check_open()
        try:
            with self._lock.current(self._forget_writer):
                return self._write(flat)
        finally:
            self._close_if_unused()

    def _write(self, data: Buffer) -> int | None:
        if self._writing:
            raise RuntimeError("PageWriter.write: called within itself, by a signal handler")
        self._writing = True
        moved_before, pinned = self.moved, None
        try:
            # The number is looked at only now: a handler may have closed it a moment ago.
            self._check_open()
            pinned = ffi.from_buffer("unsigned char[]", data)
            return self._write_all(pinned, len(pinned))
        except BaseException as error:
            with contextlib.suppress(AttributeError, TypeError):
                error.characters_written = self.moved - moved_before  # type: ignore[attr-defined]
            raise
        finally:
            # Left pinned, a memoryview that the collector clears crashes the interpreter.
            if pinned is not None:
                ffi.release(pinned)
            self._writing = False

    def _write_all(self, data: Array[c_unsigned_char], count: int) -> int | None:
        flags = 0 if os.get_blocking(self._fd) else SPLICE_F_NONBLOCK.value
        gifted = count > 0 and (self._wanted == "vmsplice" or count >= _GIFT_FROM)
        moved = 0
        while moved < count:
            n = self._step(data + moved, count - moved, flags, gifted)
            if n > 0:
                moved += n
            elif n == -errno.EAGAIN:
                return moved or None
            elif n != -errno.EINTR:
                raise self._failure(-n or errno.EIO)
        return moved

    def _step(self, at: Pointer[c_unsigned_char], left: int, flags: int, gifted: bool) -> int:
        """Move some of what is left, without the GIL; return how much, or -errno."""
        if gifted and self._gifts and not self._apart:
            n = self._give(at, left, flags)
            if n != _SMALL:
                return n
        self._called = "write"
        # A small write stays whole: up to PIPE_BUF it is atomic.
        put = min(left, self._apart or left) if gifted else left
        n = int(lib.sio_page_gift_put(self._seam, self._fd, at, put, SLICE_NS, self._counts + 1))
        if n > 0:
            self._apart = max(0, self._apart - n)
        return n

    def _give(self, at: Pointer[c_unsigned_char], left: int, flags: int) -> int:
        """Gift some of what is left with vmsplice; _SMALL when write() is to do it."""
        if self._gift is None and not self._begin():
            return _SMALL
        assert self._gift is not None
        small = self._wanted == "vmsplice"
        self._called = "vmsplice"
        n = int(
            lib.sio_page_gift_write(
                self._seam, self._gift, self._fd, at, left, flags, small, SLICE_NS, self._counts
            )
        )
        if n in (_SMALL, -errno.ENOMEM) and not small:
            # There may be one later: ask again when as much has gone as it would have held.
            self._apart = _REGION
            self._note(errno.ENOMEM, _NO_HUGE)
            return _SMALL
        if -n in _REFUSALS and not small:
            self._refused(-n)
            return _SMALL
        return n

    def _begin(self) -> bool:
        """Probe, before the first gift, whether vmsplice maps pages here."""
        if self._wanted == "auto":
            maps = int(lib.sio_page_gift_maps(self._seam))
            if maps <= 0 and -maps not in (0, *_REFUSALS):
                # No descriptor or memory for the trial: nothing was learned, ask another time.
                self._apart = _REGION
                self._note(-maps, f"vmsplice could not be tried: {os.strerror(-maps)}")
                return False
            if maps <= 0:
                self._refused(-maps)
                return False
        made = lib.sio_page_gift_new()
        if not made:
            raise MemoryError
        self._gift = ffi.gc(made, lib.sio_page_gift_free)
        return True

    def _refused(self, err: int) -> None:
        self._gifts = False
        self._note(err, errors.reason_for("vmsplice", err) if err else _COPIES)

    def _note(self, err: int, why: str) -> None:
        fallback = Fallback("vmsplice", err, why)
        if fallback not in self._fallbacks:
            self._fallbacks.append(fallback)

    def _failure(self, err: int) -> OSError:
        return errors.failure(self._called, err, dst=self._fd, names=("data", "pipe"))

    # -- ending it -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close the duplicate; the pipe keeps what was written. Safe to call twice.

        From another thread it takes effect at once for new calls, and for a write under way when
        that returns; close the read end to wake one that waits.
        """
        self._closing = True
        super().close()
        if self._fd < 0:
            return
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        # A thread that does not get the lock leaves it to its holder, which checks here afterwards.
        lock = self._lock.current(self._forget_writer)
        if not self._closing or not lock.acquire(blocking=False):
            return
        try:
            if self._owned is not None and self._fd >= 0 and not self._writing:
                self._gift = None
                _owned.close(self._owned)
        finally:
            lock.release()

    def _forget_writer(self) -> None:
        """In a forked child: the thread that wrote may not be there."""
        self._writing = False

    def _check_open(self) -> None:
        if self._closing or self._fd < 0:
            raise ValueError("PageWriter: I/O operation on a closed writer")

    def __del__(self) -> None:
        if self._fd >= 0 and not self._closing:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self.close()

    def __repr__(self) -> str:
        if self._fd < 0:
            return "<PageWriter closed>"
        return f"<PageWriter fd={self._fd} moved={self.moved}>"


def _duplicate(owned: struct_sio_owned_ptr, pipe: FileDescriptorLike | Pipe) -> None:
    """Duplicate the write end of a pipe; raises for anything else."""
    if isinstance(pipe, Pipe):
        with pipe._writer.use() as fd:
            _owned.duplicate(owned, fd)
        return
    stream = endpoint.destination(pipe, "PageWriter", "pipe")
    try:
        if stream.info.kind != lib.SIO_KIND_PIPE:
            raise ValueError(
                f"PageWriter: pipe is {stream.text}, and only a pipe takes pages; use its own "
                "write, or copy() from a pipe"
            )
        stream.duplicate(owned, "PageWriter")
    finally:
        stream.close()
