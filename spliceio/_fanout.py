"""One to many: `fanout`, by tee(2) in csrc/fanout.c.

Sinks with a descriptor are served by the C, without the GIL. All others (hashes, file-like objects
of Python) together are one more sink of the C's, whose bytes are taken out here, once, and given to
each of them in turn.

Rule 1: everything is checked before a byte moves.
Rule 2: a sink that fails ends for itself; its duplicate is closed at once.
Rule 3: at the end every byte taken from the source is accounted for, by sink.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable
from typing import Literal

from . import _errors, _fds
from ._arguments import FileDescriptorLike
from ._cffi import ffi, lib
from ._ends import begin, checked_count, least, refuse_circle, within
from ._flow import CALLS, INT64_MAX, SLICE_NS, Fallback, Flow, idle_ns, refuse_child
from ._sinks import (
    DescriptorSink,
    FanoutResult,
    ObjectSink,
    SinkResult,
    as_object,
    listed,
    pipe_between,
)

__all__ = ["Fanout", "fanout"]

_BY_TEE = [lib.SIO_SPLICE, lib.SIO_READ_WRITE]
_BY_COPY = [lib.SIO_READ_WRITE]
_TAKE = 1 << 20


class Fanout:
    """One fan-out under way; `fanout` and `aio.fanout` drive it."""

    def __init__(
        self,
        src: FileDescriptorLike,
        sinks: Iterable[object],
        count: int | None = None,
        *,
        on_slow: str = "wait",
        stall_timeout: float = 5.0,
        method: str = "auto",
        timeout: float | None = None,
        ahead: bytes = b"",
    ) -> None:
        if on_slow not in ("wait", "drop"):
            raise ValueError(f"fanout: on_slow must be 'wait' or 'drop', not {on_slow!r}")
        if method not in ("auto", "read_write"):
            raise ValueError(f"fanout: method must be 'auto' or 'read_write', not {method!r}")
        if stall_timeout is None:
            raise ValueError("fanout: stall_timeout must be a number of seconds, not None")
        self._stall, stall_ns = stall_timeout, idle_ns(stall_timeout, "stall_timeout")
        self._count = checked_count(count)
        self._begun = time.monotonic()
        self._memory = bytearray(_TAKE)
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            stack.callback(os.close, null)
            self._open_ends(src, listed(sinks), timeout, ahead, stack)
            self._open_c(null, method == "read_write", stall_ns if on_slow == "drop" else -1)
            stack.callback(ffi.release, self.c)
            self._closing = stack.pop_all()

    def _open_ends(
        self,
        src: FileDescriptorLike,
        sinks: list[object],
        timeout: float | None,
        ahead: bytes,
        stack: contextlib.ExitStack,
    ) -> None:
        if not sinks:
            raise ValueError("fanout: there are no sinks; discard() reads and forgets")
        from_ = _fds.source(src, "fanout")
        stack.callback(from_.close)
        length = INT64_MAX if self._count is None else self._count
        between = pipe_between()
        self.sinks: list[DescriptorSink | ObjectSink] = []
        for number, given in enumerate(sinks):
            name = f"sinks[{number}]"
            one = as_object(given, name) or DescriptorSink(given, name, between, stack)
            self.sinks.append(one)
            if isinstance(one, DescriptorSink):
                refuse_circle("fanout", from_, one.stream, length)
        timeouts = [from_.timeout, *(sink.timeout for sink in self.sinks)]
        self._limit = idle_ns(timeout if timeout is not None else least(*timeouts))
        direct = from_.about.is_pipe
        ahead, left = within(ahead, self._count)
        count = begin("fanout", from_, None, left)
        self._in = Flow(
            from_, None, _BY_COPY if direct else _BY_TEE, call="fanout", count=count, prefix=ahead
        )
        stack.callback(self._close_source)

    def _open_c(self, null: int, copying: bool, stall_ns: int) -> None:
        descriptors = [sink for sink in self.sinks if isinstance(sink, DescriptorSink)]
        self._objects = [sink for sink in self.sinks if isinstance(sink, ObjectSink)]
        pipes = [one for one in descriptors if one.flow.c.dst_kind == lib.SIO_KIND_PIPE]
        others = [one for one in descriptors if one.flow.c.dst_kind != lib.SIO_KIND_PIPE]
        self._order: list[DescriptorSink | None] = [*pipes, *[None][: len(self._objects)], *others]
        self._place = len(pipes)
        c = ffi.new("struct sio_fanout *")
        c.seam, c.null_fd, c.copying, c.stall_ns = self._in.c.seam, null, copying, stall_ns
        setattr(c, "in", self._in.c)
        c.sink_count = len(self._order)
        self.c = ffi.gc(c, lib.sio_fanout_close)
        if lib.sio_fanout_open(c):
            raise MemoryError("fanout: no memory for its sinks")
        for i, one in enumerate(self._order):
            if one is not None:
                c.sinks[i].out = one.flow.c
                one.c = c.sinks[i]

    # -- driving it ----------------------------------------------------------------------------

    @property
    def moved(self) -> int:
        """Bytes taken from the source so far."""
        return int(self._in.c.taken)

    def run(self, progress: Callable[[int], object] | None = None) -> FanoutResult:
        """Run to the end and close; an exception takes along what each sink got."""
        with contextlib.closing(self):
            try:
                return self.drive(progress)
            except BaseException as error:
                self.salvage(error)
                raise

    def drive(
        self,
        progress: Callable[[int], object] | None = None,
        detached: Callable[[SinkResult], object] | None = None,
    ) -> FanoutResult:
        """Run to the end. `detached` is called for each sink that fails or is dropped."""
        told = time.monotonic()
        while not self._slice(detached):
            if progress is not None and time.monotonic() - told >= SLICE_NS / 1e9:
                progress(self.moved)
                told = time.monotonic()
        if progress is not None:
            progress(self.moved)
        return self._result(self._reason(), "done")

    def salvage(self, error: BaseException) -> None:
        """Give an exception what each sink got, and what had been taken for it."""
        error.result = self._result("stopped", "stopped")  # type: ignore[attr-defined]

    def _slice(self, detached: Callable[[SinkResult], object] | None) -> bool:
        """Go on for about 80 ms; whether it is done."""
        state = lib.sio_fanout_run(self.c, SLICE_NS, self._limit)
        refuse_child(state)
        gone = [sink for sink in self.sinks if sink.has_gone(self._stall)]
        for sink in gone:
            if detached is not None:
                detached(sink.result(""))
        if state == lib.SIO_ERROR:
            raise self._in.error()
        if state == lib.SIO_TIMEOUT:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"fanout: nothing moved for {self._limit / 1e9:g} s; `result` says who got what",
            )
        if state == lib.SIO_EVENT and self._objects:
            self._give()
        return bool(state == lib.SIO_DONE)

    def _give(self) -> None:
        """Hand what there is to the Python objects."""
        while self._take(self._place):
            self._note_handed()
            for sink in self._objects:
                sink.give()
            if all(sink.error for sink in self._objects):
                lib.sio_fanout_detach(self.c, self._place)
                return

    def _note_handed(self) -> None:
        """Make what was taken for the objects due; it may be interrupted, and made again."""
        if n := int(self.c.handed):
            data = self._taken(n)
            for sink in self._objects:
                sink.due = data if sink.error is None else b""
            self.c.handed = 0

    def _take(self, place: int) -> int:
        """Take what waits for a sink in its own pipe, or for the objects in memory."""
        n = -errno.EINTR
        while n == -errno.EINTR:
            n = lib.sio_fanout_take(self.c, place, ffi.from_buffer(self._memory), _TAKE)
        if n < 0:
            raise _errors.failure("read", -n)
        return int(n)

    def _taken(self, n: int) -> bytes:
        return bytes(memoryview(self._memory)[:n])

    # -- what it did ---------------------------------------------------------------------------

    def _reason(self) -> str:
        if not self.c.attached:
            return "no sinks"
        return "count" if self._in.c.left == 0 else "eof"

    def _result(self, reason: str, fate: str) -> FanoutResult:
        unread = b""
        if self._in.is_ours and reason in ("stopped", "no sinks"):
            unread = self._hold()
        return FanoutResult(
            self.moved,
            time.monotonic() - self._begun,
            reason,
            tuple(sink.result(fate) for sink in self.sinks),
            self._fallbacks(),
            unread if reason == "no sinks" else b"",
        )

    def _fallbacks(self) -> tuple[Fallback, ...]:
        err = int(self.c.refused)
        if not err:
            return self._in.fallbacks
        why = _errors.why(CALLS[self.c.refused_call], err)
        return (*self._in.fallbacks, Fallback("tee", err, why))

    def _rest(self) -> bytes:
        """Take out of the head what not every sink has got."""
        parts = []
        while (left := lib.sio_fanout_rest(self.c)) > 0:
            memory = bytearray(left)
            n = lib.sio_fanout_take_rest(self.c, ffi.from_buffer(memory), left)
            if n <= 0:
                break
            parts.append(bytes(memoryview(memory)[:n]))
        return b"".join(parts)

    def _hold(self) -> bytes:
        """Give each sink that was stopped what had been taken for it; return what nobody got."""
        self._note_handed()
        for one in self.sinks:
            one.has_gone(self._stall)
        base, rest, unread = int(self.c.base), self._rest(), b""
        for place, sink in enumerate(self._order):
            c = self.c.sinks[place]
            if c.fate != lib.SIO_FATE_OPEN and (self.c.attached or place != self.c.last):
                continue
            held = b"" if sink is None or sink.fate else sink.flow.take_held()
            while n := self._take(place):
                held += self._taken(n)
                self.c.handed = 0
            held += rest[int(c.got) - base :]
            for one in [sink] if sink is not None else self._objects:
                one.due += held
                if len(one.due) + one.moved == self.moved:
                    most = max(other.moved for other in self.sinks)
                    unread = one.due[most - one.moved :]
        return unread

    # -- ending it -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close everything that is its own."""
        for sink in self.sinks:
            if isinstance(sink, DescriptorSink) and not sink.fate:
                sink.close()
        self._closing.close()

    def _close_source(self) -> None:
        if self._in.is_ours:
            self._in.src.moved(self.moved)
        self._in.close()


def fanout(
    src: FileDescriptorLike,
    sinks: Iterable[object],
    count: int | None = None,
    *,
    on_slow: Literal["wait", "drop"] = "wait",
    stall_timeout: float = 5.0,
    method: str = "auto",
    timeout: float | None = None,
    progress: Callable[[int], object] | None = None,
) -> FanoutResult:
    """Give every one of `sinks` the same `count` bytes of `src`, or all to its end.

    `src` is whatever `copy` takes. A sink is a descriptor or an object with `fileno()`, of any kind
    that `copy` takes as a destination, or an object with `update(data)`, such as a hash, or
    `write(data)`, such as a BytesIO or a gzip file; those are called in this thread, with bytes.

    Between pipes the bytes are shared by tee(2), from where splice(2) takes them on to sockets and
    files; a source that is no pipe is spliced into one. Where the kernel or a sandbox refuses tee,
    or there is no descriptor left for a pipe, they are copied, and `fallbacks` of the result says
    so; `method="read_write"` asks for that.

    A sink that fails (its reader has gone, its disk is full, its method raises an Exception) is
    detached, with its error in the result, and the rest go on. Sinks may be fast and slow: the
    slowest sets the pace, and lags behind the source by 2 MiB or less (more behind a larger pipe).
    With `on_slow="drop"` one that could be given bytes and takes none for `stall_timeout` seconds
    is detached too.

    `timeout` is the longest time in seconds without any byte moving anywhere; None takes the
    shortest `settimeout()` of the sockets among the ends, or waits for ever. `progress` is called
    about every 80 ms with the number of bytes taken from `src`.

    Returns a FanoutResult: bytes, method and fate of each sink. When all sinks are gone it returns
    too, with "no sinks" as the reason. Raises, before a byte moves, ValueError for no sinks and
    what `copy` raises for ends it refuses; TimeoutError; and OSError when the source fails, once
    all that came before has arrived. An exception carries `result`: what each sink got, and what
    had been taken for it. Linux 2.6.17; tee(2), splice(2).

    Not promised: that the bytes are a snapshot. All pipes refer to the same pages, and a file that
    is edited meanwhile shows that to some sinks and not to others; `method="read_write"` gives all
    the same. A FIFO that was opened without waiting for a writer is waited for here. Another reader
    of the same source, or a writer of the same sink, gets its bytes in between.
    """
    return Fanout(
        src,
        sinks,
        count,
        on_slow=on_slow,
        stall_timeout=stall_timeout,
        method=method,
        timeout=timeout,
    ).run(progress)
