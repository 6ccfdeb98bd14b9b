"""`fanout`: one source to many sinks, by tee(2) in csrc/fanout/fanout.c.

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
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal

from .._cffi import ffi, lib
from .._kernel import endpoint, errors
from .._kernel.arguments import FileDescriptorLike
from .._kernel.handlers import installed_handlers
from .._public import public
from .._transfer.build import apply_window, checked_count, min_timeout, refuse_overlap, split_count
from .._transfer.flow import IDLE_NS, INT64_MAX, SLICE_NS, Flow, check_forked, idle_ns
from . import act
from .ending import CloseWithResult
from .remains import refusals, take_rest, too_many
from .sinks import (
    DescriptorSink,
    FanoutResult,
    ObjectSink,
    SinkResult,
    as_list,
    as_object,
    placeholder_pipe,
)

if TYPE_CHECKING:
    from .._cffi import struct_sio_fanout_ptr, struct_sio_fanout_report_ptr

__all__ = ["Fanout", "fanout"]

_BY_TEE = [lib.SIO_SPLICE, lib.SIO_READ_WRITE]
_BY_COPY = [lib.SIO_READ_WRITE]
_TAKE = 1 << 20


class Fanout:
    """A fan-out in progress, run by `fanout`, `aio.fanout` and `spliceio tee`."""

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
        self._slice_ns = SLICE_NS
        self._memory = bytearray()
        self.sinks: list[DescriptorSink | ObjectSink] = []
        self._source: Flow | None = None
        self._is_closed = False
        self._made: struct_sio_fanout_ptr | None = None  # the same as `c`, or not yet
        self._report = ffi.new("struct sio_fanout_report *")
        self._wake = -1
        try:
            self._open_ends(src, as_list(sinks), timeout, ahead)
            self._open_c(method == "read_write", stall_ns if on_slow == "drop" else -1)
        except BaseException:
            self.close()
            raise

    def _open_ends(
        self, src: FileDescriptorLike, sinks: list[object], timeout: float | None, ahead: bytes
    ) -> None:
        if not sinks:
            raise ValueError("fanout: there are no sinks; discard() reads and forgets")
        from_ = endpoint.source(src, "fanout")
        try:
            self._open_between(from_, sinks, timeout, ahead)
        finally:
            from_.close()

    def _open_between(
        self, from_: endpoint.Endpoint, sinks: list[object], timeout: float | None, ahead: bytes
    ) -> None:
        length = INT64_MAX if self._count is None else self._count
        placeholder = placeholder_pipe()
        for number, given in enumerate(sinks):
            name = f"sinks[{number}]"
            one = as_object(given, name) or DescriptorSink(given, name, placeholder)
            self.sinks.append(one)
            if isinstance(one, DescriptorSink):
                refuse_overlap("fanout", from_, one.endpoint, length)
        timeouts = [from_.timeout, *(sink.timeout for sink in self.sinks)]
        self._limit = idle_ns(timeout if timeout is not None else min_timeout(*timeouts))
        direct = from_.info.is_pipe
        ahead, left = split_count(ahead, self._count)
        count = apply_window("fanout", from_, None, left)
        self._in = self._source = Flow(
            from_, None, _BY_COPY if direct else _BY_TEE, call="fanout", count=count, prefix=ahead
        )

    def _open_c(self, copying: bool, stall_ns: int) -> None:
        descriptors = [sink for sink in self.sinks if isinstance(sink, DescriptorSink)]
        self._objects = [sink for sink in self.sinks if isinstance(sink, ObjectSink)]
        pipes = [one for one in descriptors if one.endpoint.info.is_pipe]
        others = [one for one in descriptors if not one.endpoint.info.is_pipe]
        self._order: list[DescriptorSink | None] = [*pipes, *[None][: len(self._objects)], *others]
        self._place = len(pipes)
        config = ffi.new("struct sio_fanout_config *")
        setattr(config, "in", self._in.c)
        flows = [ffi.NULL if one is None else one.flow.c for one in self._order]
        config.out = out = ffi.new("struct sio_transfer *[]", flows)
        config.sink_count, config.copying, config.stall_ns = len(out), copying, stall_ns
        # In one call, so that no signal handler can raise before the collector is in place.
        made = next(map(ffi.gc, map(lib.sio_fanout_new, [config]), [lib.sio_fanout_free]))
        if made == ffi.NULL:
            raise MemoryError("fanout: no memory for its sinks")
        self.c = self._made = made
        for number, one in enumerate(self._order):
            if one is not None:
                one.join(made, number)

    def go_on_from(self, tried: act.Tried) -> None:
        """Begin where a first try has ended."""
        places = [sink.place for sink in self.sinks if isinstance(sink, DescriptorSink)]
        tried.go_on(self.c, self._in.src, self.sinks, places)
        self._begun = tried.begun

    @property
    def report(self) -> struct_sio_fanout_report_ptr:
        """What the C has to say of it now."""
        lib.sio_fanout_report(self.c, self._report)
        return self._report

    # -- driving it ----------------------------------------------------------------------------

    @property
    def moved(self) -> int:
        """Bytes taken from the source so far."""
        return self._in.taken

    def run(self, progress: Callable[[int], object] | None = None) -> FanoutResult:
        """Run to the end and close; an exception gets `result`, with what each sink got."""
        try:
            with CloseWithResult(self):
                return self.drive(progress)
        finally:
            # Once more, if a handler raised there: a sink's traceback may have us in a cycle.
            self.close()

    def drive(
        self,
        progress: Callable[[int], object] | None = None,
        detached: Callable[[SinkResult], object] | None = None,
        wake: int = -1,
    ) -> FanoutResult:
        """Run to the end. `detached` is called for each sink that fails or is dropped.

        While the descriptor `wake` can be read there is no waiting, and `progress` is called.
        """
        self._wake = wake
        reported = time.monotonic()
        while not self._slice(detached):
            is_due = self._report.woken or time.monotonic() - reported >= SLICE_NS / 1e9
            if progress is not None and is_due:
                progress(self.moved)
                reported = time.monotonic()
        if progress is not None:
            progress(self.moved)
        return self._result(self._reason(), "done")

    def salvage(self, error: BaseException) -> None:
        """Set `result` of an exception: what each sink got, and what had been taken for it."""
        error.result = self._result("stopped", "stopped")  # type: ignore[attr-defined]

    def _slice(self, detached: Callable[[SinkResult], object] | None) -> bool:
        """Run for about 80 ms, or up to a second while nothing moves; return whether it is done."""
        before = int(self._report.progress)  # as it was after the last slice
        state = lib.sio_fanout_run(self.c, self._slice_ns, self._limit, self._wake)
        report = self.report
        is_idle = report.waiting and report.progress == before
        self._slice_ns = min(2 * self._slice_ns, IDLE_NS) if is_idle else SLICE_NS
        check_forked(state)
        detached_now = [sink for sink in self.sinks if sink.check_detached(self._stall)]
        for sink in detached_now:
            if detached is not None:
                detached(sink.result(""))
        if state == lib.SIO_ERROR:
            raise too_many(self._in.failure, len(self._order)) or self._in.error()
        if state == lib.SIO_TIMEOUT:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"fanout: nothing moved for {self._limit / 1e9:g} s; `result` says who got what",
            )
        if state == lib.SIO_EVENT and self._objects:
            self._serve_objects()
        return bool(state == lib.SIO_DONE)

    def _serve_objects(self) -> None:
        """Write the bytes that are there to the Python objects."""
        handlers = installed_handlers()
        while self._take(self._place):
            self._collect_handed()
            for sink in self._objects:
                sink.write_due(handlers)
            if all(sink.error for sink in self._objects):
                lib.sio_fanout_detach(self.c, self._place)
                return

    def _collect_handed(self) -> None:
        """Make bytes taken for the objects due; may be interrupted, and called again."""
        if n := int(lib.sio_fanout_handed(self.c)):
            data = self._taken(n)
            for sink in self._objects:
                sink.due = data if sink.error is None else b""
            lib.sio_fanout_accept(self.c)

    def _take(self, place: int) -> int:
        """Take the bytes in a sink's own pipe, or those for the objects, into memory."""
        n = -errno.EINTR
        if not self._memory:
            self._memory = bytearray(_TAKE)
        while n == -errno.EINTR:
            n = lib.sio_fanout_take(self.c, place, ffi.from_buffer(self._memory), _TAKE)
        if n < 0:
            raise errors.failure("read", -n)
        return int(n)

    def _taken(self, n: int) -> bytes:
        return bytes(memoryview(self._memory)[:n])

    # -- what it did ---------------------------------------------------------------------------

    def _reason(self) -> str:
        if not self.report.attached:
            return "no sinks"
        return "count" if self._in.left == 0 else "eof"

    def _result(self, reason: str, fate: str) -> FanoutResult:
        unread = b""
        if self._in.is_accessible and reason in ("stopped", "no sinks"):
            unread = self._collect_held()
        return FanoutResult(
            self.moved,
            time.monotonic() - self._begun,
            reason,
            tuple(sink.result(fate) for sink in self.sinks),
            (*self._in.fallbacks, *refusals(self.report)),
            unread if reason == "no sinks" else b"",
        )

    def _collect_held(self) -> bytes:
        """Add to each stopped sink the bytes taken for it; return those that no sink got."""
        for served in self._objects:
            served.settle_interrupted()
        self._collect_handed()
        for one in self.sinks:
            one.check_detached(self._stall)
        report = self.report
        base, left, unread = int(report.base), take_rest(self.c), b""
        most = max(one.moved for one in self.sinks)
        for place, sink in enumerate(self._order):
            is_open = lib.sio_fanout_fate(self.c, place) == lib.SIO_FATE_OPEN
            if not is_open and (report.attached or place != report.last):
                continue
            held = b"" if sink is None or sink.fate else sink.flow.take_held()
            while n := self._take(place):
                held += self._taken(n)
                lib.sio_fanout_accept(self.c)
            held += left[lib.sio_fanout_got(self.c, place) - base :]
            for one in [sink] if sink is not None else self._objects:
                one.due += held
                if len(one.due) + one.moved == self.moved:
                    unread = one.due[most - one.moved :]
        return unread

    # -- ending it -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close all descriptors that are its own; safe to repeat."""
        if self._is_closed:
            return
        mine = [sink for sink in self.sinks if isinstance(sink, DescriptorSink) and not sink.fate]
        source = self._source
        for sink in mine:
            sink.release()
        if self._made is not None:
            lib.sio_fanout_close(self._made)
        if source is not None:
            source.close()
        # Objects of the caller, which may raise: each is updated all the same.
        with contextlib.ExitStack() as stack:
            if source is not None and source.is_accessible:
                stack.callback(source.src.moved, self.moved)
            for sink in mine:
                stack.callback(sink.synchronise)
            self._is_closed = True


@public
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
    """Copy `count` bytes of `src`, or all to its end, to every one of `sinks`.

    `src` is whatever `copy` takes. A sink is a descriptor or an object with `fileno()`, of any kind
    that `copy` takes as a destination, or an object with `update(data)`, such as a hash, or with a
    `write(data)` of its own, such as a BytesIO, a gzip file or a file over TLS, whatever its
    descriptor is; those are called in this thread, with bytes.

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
    with the number of bytes taken from `src`, about every 80 ms, and about once a second while
    nothing moves.

    Returns a FanoutResult: bytes, method and fate of each sink. When all sinks are gone it returns
    too, with "no sinks" as the reason. Raises, before a byte moves, ValueError for no sinks and
    what `copy` raises for ends it refuses; TimeoutError; and OSError when the source fails, once
    all that came before has arrived. What a signal handler raises ends it too, wherever it comes,
    in a sink's own method included. An exception carries `result`: what each sink got, and what had
    been taken for it. A `write` or `update` that was interrupted counts when it has returned; one
    written in Python that was cut short counts as far as the position of a file, or the digest of
    a hash, says, and else as not made. Linux 2.6.17; tee(2), splice(2).

    Not promised: that the bytes are a snapshot. All pipes refer to the same pages, and a file that
    is edited meanwhile shows that to some sinks and not to others; `method="read_write"` gives all
    the same. A FIFO that was opened without waiting for a writer is waited for here. Another reader
    of the same source, or a writer of the same sink, gets its bytes in between.
    """
    can_try = method == "auto" and on_slow in ("wait", "drop")
    tried = act.tried(src, sinks, count, stall_timeout, timeout, progress) if can_try else None
    if isinstance(tried, FanoutResult):
        return tried
    make = partial(
        Fanout,
        src,
        sinks,
        count,
        on_slow=on_slow,
        stall_timeout=stall_timeout,
        method=method,
        timeout=timeout,
    )
    return make().run(progress) if tried is None else _go_on(tried, make, progress)


def _go_on(
    tried: act.Tried, make: Callable[[], Fanout], progress: Callable[[int], object] | None
) -> FanoutResult:
    """Run what a first try has begun; an exception gets the counts of both."""
    fan = None
    try:
        fan = make()
        fan.go_on_from(tried)
        result = fan.run(progress)
    except BaseException as error:
        try:
            if fan is not None:
                fan.close()
        finally:
            if not hasattr(error, "result"):
                tried.salvage(error)
        raise
    tried.release()
    return result
