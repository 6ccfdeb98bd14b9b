"""`Transfer`: a one-way transfer that can be stopped and resumed.

A Transfer drives the state machine of csrc/transfer/step.c. The C owns duplicates of both
descriptors, so closing yours elsewhere can never send bytes into another file; it runs without
the GIL for at most one slice, and comes back for signals, progress and timeouts.

Rule 1: a lock is held for one slice at a time, so that close() from another thread waits for no
more than that; one in which nothing moves is longer, and close() ends it.
Rule 2: whatever is raised, by the kernel, a signal handler or the progress callback, the counts
stay true and the transfer can be run again.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from functools import partial

from .._cffi import lib
from .._kernel.arguments import FileDescriptorLike
from .._kernel.closing import Closing
from .._kernel.errors import UnexpectedEOF
from .._kernel.lock import ForkLock
from .._public import public
from .build import make_transfer
from .flow import SLICE_NS, Flow, check_forked, next_slice
from .result import Fallback, TransferResult

__all__ = [
    "Transfer",
    "apply_state",
    "checked_result",
    "flow_of",
    "from_flow",
    "run_and_close",
]


@public
class Transfer(Closing):
    """A one-way transfer from `src` to `dst`, in steps: it can be stopped and resumed.

    `src` and `dst` are ints or objects with `fileno()`. `count` is in bytes; None means to the end
    of `src`. With `offset_src` or `offset_dst`, bytes from the beginning of a file, the position of
    that file stays where it is; without, it is used and moved. A Blob is read from its own
    beginning, from which `offset_src` is counted, and has no position. `method` is "auto", or one
    of "copy_file_range", "sendfile", "splice" and "read_write": a named one never falls back.
    `timeout` is the longest time in seconds that `run` waits without any byte moving; None takes
    the socket's own `settimeout()`, or waits for ever. `ahead` are bytes of `src` that have been
    read from it already; they go first and count, and what `count` has no room for is not sent.

    The descriptors are duplicated: closing yours while the transfer runs is safe, and does not
    stop it (shutting a socket down does). Use it as a context manager, or call `close`.

    Raises TypeError for objects whose bytes are not their descriptor's (text files, gzip, TLS
    without kernel TLS), ValueError for datagram sockets, negative numbers, a file copied onto
    itself and a range that a Blob does not have, and OSError for closed descriptors, directories,
    wrong pipe ends and a Blob as `dst` (PermissionError).
    """

    def __init__(
        self,
        src: FileDescriptorLike,
        dst: FileDescriptorLike,
        count: int | None = None,
        *,
        offset_src: int | None = None,
        offset_dst: int | None = None,
        method: str = "auto",
        timeout: float | None = None,
        ahead: bytes = b"",
    ) -> None:
        flow, limit = make_transfer(
            src,
            dst,
            count,
            offset_src=offset_src,
            offset_dst=offset_dst,
            method=method,
            timeout=timeout,
            ahead=ahead,
        )
        self._init(flow, limit, "copy")

    def _init(self, flow: Flow, limit: int, call: str, expected: int | None = None) -> None:
        self._flow, self._idle_ns, self._call, self._expected = flow, limit, call, expected
        self._lock = ForkLock()
        self._closing = self._closed = False
        self._seconds = 0.0
        self._state: int = lib.SIO_BUDGET

    # -- what it did ---------------------------------------------------------------------------

    @property
    def moved(self) -> int:
        """Bytes that have arrived in `dst`."""
        return self._flow.moved

    @property
    def held(self) -> int:
        """Bytes taken from `src` that have not arrived in `dst`: in the private pipe or buffer."""
        return self._flow.held

    @property
    def by_method(self) -> dict[str, int]:
        """How many bytes each method has moved."""
        return self._flow.by_method

    @property
    def method(self) -> str:
        """The method that has moved most bytes; before the first, the one that is tried next."""
        return self._flow.method

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """The methods refused so far, each with errno and reason."""
        return self._flow.fallbacks

    @property
    def done(self) -> bool:
        """Whether everything asked for, or everything there was, has arrived in `dst`."""
        return bool(self._state == lib.SIO_DONE)

    @property
    def waiting_for(self) -> str | None:
        """The side that the last step had to wait for: "src", "dst" or None."""
        return {lib.SIO_WANT_SRC: "src", lib.SIO_WANT_DST: "dst"}.get(self._state)

    @property
    def closed(self) -> bool:
        """Whether the transfer has been closed."""
        return self._closed

    def result(self) -> TransferResult:
        """Return what has been done so far."""
        return self._flow.result(self._seconds)

    # -- driving it ----------------------------------------------------------------------------

    def step(self) -> int:
        """Move what can be moved without waiting, for about 80 ms; return how many bytes arrived.

        Afterwards `done` or `waiting_for` say why it stopped. Raises OSError when a side fails; the
        counts stay readable, and it can be tried again.
        """
        before = self.moved
        self._slice(self._flow.step)
        return self.moved - before

    def run(self, progress: Callable[[int], object] | None = None) -> TransferResult:
        """Move everything, waiting with poll(2) where needed; return what was done.

        `progress` is called with the total in bytes about every 80 ms, and about once a second
        while nothing moves. Raises
        TimeoutError when nothing moved for `timeout` seconds, and OSError when a side fails; run it
        again to go on from there.
        """
        self._drive(progress)
        return self.result()

    def _drive(self, progress: Callable[[int], object] | None) -> None:
        for _ in self._slices():
            if progress is not None:
                progress(self.moved)

    def __iter__(self) -> Iterator[int]:
        """Run in slices of about 80 ms; yield how many bytes arrived in each.

        While nothing moves, slices are up to a second long, and 0 is what arrived.
        """
        before = self.moved
        for _ in self._slices():
            now = self.moved
            yield now - before
            before = now

    def _slices(self) -> Iterator[None]:
        begun, spent, slice_ns = time.monotonic(), self._seconds, SLICE_NS
        self._flow.restart()
        try:
            while True:
                before = None if self._flow.is_under_way else self._flow.progress
                self._slice(partial(self._flow.run, slice_ns, self._idle_ns))
                self._seconds = spent + time.monotonic() - begun
                yield
                if self._state == lib.SIO_DONE:
                    return
                slice_ns = next_slice(slice_ns, has_moved=self._flow.progress != before)
        finally:
            self._seconds = spent + time.monotonic() - begun

    def _slice(self, advance: Callable[[], int]) -> None:
        with self._lock.current():
            if self._closing:
                raise ValueError("the transfer is closed")
            self._state = advance()
            check_forked(self._state)
            if self._state == lib.SIO_INTERRUPTED:
                lib.sio_transfer_clear_wake(self._flow.c)
            if self._state != lib.SIO_BUDGET:
                self._flow.synchronise()
            if self._state == lib.SIO_ERROR:
                raise self._flow.error()
        if self._state == lib.SIO_TIMEOUT:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"{self._call}: nothing moved for {self._idle_ns / 1e9:g} s "
                f"({self.moved} bytes moved, {self.held} held; {self._endpoints_text})",
            )

    # -- ending it -----------------------------------------------------------------------------

    def take_held(self) -> bytes:
        """Take the held bytes out, in order: they were read from `src` and never reached `dst`."""
        with self._lock.current():
            return self._flow.take_held()

    def close(self) -> None:
        """Close the duplicates and the private pipe. Safe to call twice and from another thread.

        A file whose bytes are still held gets its position put back; from any other source they
        are lost unless `take_held` fetched them.
        """
        self._closing = True
        self._flow.wake()
        with self._lock.current():
            if not self._closed and self._flow.is_accessible:
                self._flow.put_back()
                self._flow.synchronise()
            self._closed = True
            self._flow.close()

    @property
    def left(self) -> int:
        """Bytes of `count` that have not been taken from `src`; -1 without a count."""
        return self._flow.left

    @property
    def failed_at(self) -> str | None:
        """The side whose error ended the last step: "src", "dst" or None."""
        if self._state != lib.SIO_ERROR:
            return None
        return {lib.SIO_SIDE_SRC: "src", lib.SIO_SIDE_DST: "dst"}.get(self._flow.failure.side)

    def _check_complete(self) -> None:
        """Raise UnexpectedEOF if the source has ended before the bytes that were expected."""
        if self._expected is None or not self.done:
            return
        came = self.moved - self._flow.from_memory
        if came >= self._expected:
            return
        src, whole = self._flow.src, self._flow.whole
        # C has made the flow only of what was there.
        had_them = src.info.size_is_known and (whole >= 0 or src.info.size >= self._expected)
        raise UnexpectedEOF(
            errno.ENODATA,
            f"{self._call}: {src.name} ended after {came} of the {self._expected} bytes asked for"
            + (", it was truncated meanwhile" if had_them else f" ({src.text})"),
        )

    def salvage(self, error: BaseException) -> None:
        """Set `result` and `held` of an exception: counts, and bytes that would be lost."""
        with self._lock.current():
            error.result = self.result()  # type: ignore[attr-defined]
            self._flow.put_back()
            error.held = self._flow.take_held()  # type: ignore[attr-defined]

    @property
    def _endpoints_text(self) -> str:
        dst = self._flow.dst
        src = self._flow.src
        to = f"{dst.name} is {dst.text}" if dst else "dst is memory"
        return f"{src.name} is {src.text}, {to}"

    def __repr__(self) -> str:
        state = "closed" if self._closed else "done" if self.done else "open"
        return f"<Transfer {state}, {self.moved} bytes moved; {self._endpoints_text}>"


def from_flow(
    flow: Flow, limit: int, call: str, expected: int | None = None, seconds: float = 0.0
) -> Transfer:
    """Make a Transfer of a flow that another call has made.

    `call` is what its errors are named after; `expected`, how many bytes have to come from the
    source; `seconds`, for how long it has run.
    """
    transfer = Transfer.__new__(Transfer)
    transfer._init(flow, limit, call, expected)
    transfer._seconds = seconds
    return transfer


def run_and_close(
    transfer: Transfer, progress: Callable[[int], object] | None = None
) -> TransferResult:
    """Run a transfer to its end and close it; an exception gets `result` and `held`."""
    with transfer:
        try:
            transfer._drive(progress)
            return checked_result(transfer)
        except BaseException as error:
            transfer.salvage(error)
            raise


# -- for a driver that waits by other means --------------------------------------------------------


def flow_of(transfer: Transfer) -> tuple[Flow, int]:
    """Return the flow, and its idle limit in nanoseconds (-1: none)."""
    return transfer._flow, transfer._idle_ns


def apply_state(transfer: Transfer, state: int, seconds: float) -> None:
    """Set the final state from another driver: raises for an error or a timeout, as `run` does."""
    transfer._seconds += seconds
    transfer._slice(lambda: state)


def checked_result(transfer: Transfer) -> TransferResult:
    """Return the result; raises UnexpectedEOF if less came than was expected."""
    transfer._check_complete()
    return transfer.result()
