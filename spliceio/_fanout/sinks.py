"""What a fan-out gives bytes to, and what became of it.

A sink with a descriptor is a flow that csrc/fanout/fanout.c drives. An object of Python is one that
has `update`, as hashes do, or `write`, as files do: it is called with `bytes`, which it may keep.
What it raises ends that sink and no other; KeyboardInterrupt and its like, and whatever a signal
handler raises meanwhile, end everything.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

from .._cffi import lib
from .._kernel import endpoint, errors, objects
from .._kernel.handlers import came_from_handler
from .._kernel.pipe import Pipe
from .._public import public
from .._transfer.flow import CALLS, Fallback, Flow

if TYPE_CHECKING:
    from .._cffi import struct_sio_sink

__all__ = [
    "DescriptorSink",
    "FanoutResult",
    "ObjectSink",
    "SinkResult",
    "as_object",
    "listed",
    "pipe_between",
]


_METHODS = [lib.SIO_SPLICE, lib.SIO_READ_WRITE]


@public
@dataclass(frozen=True)
class SinkResult:
    """What became of one sink.

    `moved` is how many bytes it got, always the first so many of the source. `method` is what
    moved most of them: "tee" (straight into a pipe), "splice" (by way of a pipe), "read_write", or
    of a Python object "update" or "write", and "none" when it got nothing; `by_method` says how
    many each. `fate` is "done", "failed" (`error` says why), "dropped" (it took nothing for too
    long; `error` is a TimeoutError) or, in the result that an exception carries, "stopped".
    `fallbacks` are the methods that this sink refused. `held` are bytes that were taken from the
    source for a sink that was stopped and had not reached it: moved and held together are all that
    was taken.
    """

    sink: object
    moved: int
    method: str
    fate: str
    error: BaseException | None
    by_method: dict[str, int]
    fallbacks: tuple[Fallback, ...] = ()
    held: bytes = b""


@public
@dataclass(frozen=True)
class FanoutResult:
    """What a fan-out did.

    `moved` is how many bytes were taken from the source, `seconds` the time it took. `reason` says
    why it ended: "eof", "count", "no sinks" (the last one was detached), or "stopped" in the result
    that an exception carries. `sinks` has a SinkResult for each, in the order of the call.
    `fallbacks` says why the bytes were copied instead of shared by tee. `unread` are bytes that
    were taken from the source and nobody was left to get.
    """

    moved: int
    seconds: float
    reason: str
    sinks: tuple[SinkResult, ...]
    fallbacks: tuple[Fallback, ...]
    unread: bytes = b""

    @property
    def failed(self) -> tuple[SinkResult, ...]:
        """The sinks that did not get everything."""
        return tuple(sink for sink in self.sinks if sink.fate != "done")


class DescriptorSink:
    """A sink with a descriptor: the flow into it, from whichever pipe the C says."""

    def __init__(self, given: object, name: str, between: endpoint.Stream) -> None:
        """Take a descriptor; raises what `copy` does for a `dst`."""
        self.given, self.name = given, name
        self.stream = endpoint.destination(given, "fanout", name)  # type: ignore[arg-type]
        self.text, self.timeout = self.stream.text, self.stream.timeout
        try:
            self.flow = Flow(between, self.stream, _METHODS, call="fanout")
        finally:
            self.stream.close()
        self._fanout: Any = None
        self._number = 0
        self.error: BaseException | None = None
        self.fate = ""
        self.due = b""
        self._teed = 0

    def join(self, fanout: Any, number: int) -> None:
        """Be a sink of the C's fan-out, by this number."""
        self._fanout, self._number = fanout, number

    @property
    def moved(self) -> int:
        return self.flow.moved + self.teed

    @property
    def teed(self) -> int:
        if self._fanout is not None:
            self._teed = int(lib.sio_fanout_teed(self._fanout, self._number))
        return self._teed

    def has_gone(self, stall: float) -> bool:
        """Whether it has been detached since the last time; then it says why, and is closed."""
        if self.fate:
            return False
        gone = lib.sio_fanout_fate(self._fanout, self._number)
        if gone == lib.SIO_FATE_OPEN:
            return False
        failure, fate = self.flow.failure, "failed"
        if gone == lib.SIO_FATE_STALLED:
            fate = "dropped"
            self.error = TimeoutError(
                errno.ETIMEDOUT, f"fanout: {self.name} ({self.text}) took nothing for {stall:g} s"
            )
        else:
            self.error = errors.failure(
                CALLS[failure.call],
                failure.err,
                dst=self.flow.fd(lib.SIO_SIDE_DST),
                names=("src", self.name),
                more=f" [{self.moved} bytes moved]",
                advice=False,
            )
        self.due += self.flow.take_held()
        self.fate = fate
        self.let_go()
        self.synchronise()
        return True

    def let_go(self) -> None:
        """Close what the kernel has for it."""
        _, self._fanout = self.teed, None
        self.flow.close()

    def synchronise(self) -> None:
        """Put the position of a buffered object where the bytes are."""
        if self.flow.is_ours and self.flow.dst is not None:
            self.flow.dst.moved(self.moved)

    def result(self, fate: str) -> SinkResult:
        by_method = self.flow.by_method
        if self.teed:
            by_method["tee"] = self.teed
        method = max(by_method, key=lambda name: by_method[name]) if by_method else "none"
        return SinkResult(
            self.given,
            self.moved,
            method,
            self.fate or fate,
            self.error,
            by_method,
            self.flow.fallbacks,
            self.due if self.error is None else b"",
        )


class ObjectSink:
    """One object, and how it takes bytes.

    A call of its method is counted in one step, from what it has returned; the answer is put down
    within the C that makes the call, so that a signal handler comes before both or after both.
    """

    def __init__(self, given: object, method: str, name: str) -> None:
        self.given = given
        self.method = method
        self.name = name
        self.timeout: float | None = None
        self.error: BaseException | None = None
        self._told = False
        # How many bytes it got, what is due to it, what the call under way has answered, and what
        # the object said of itself before that call.
        self._state: tuple[int, bytes, list[Any], object] = (0, b"", [], None)
        self._ask = _question(given, method)

    @property
    def moved(self) -> int:
        return self._state[0]

    @property
    def due(self) -> bytes:
        """What has been taken from the source for it and not yet given."""
        return self._state[1]

    @due.setter
    def due(self, data: bytes) -> None:
        self._state = (self.moved, data, [], None)

    def has_gone(self, stall: float) -> bool:
        """Whether it has failed since the last time."""
        told, self._told = self._told, self.error is not None
        return self._told and not told

    def give(self, handlers: list[Any]) -> None:
        """Give what is due; what goes wrong is kept in `error`, but for what a handler raised."""
        if self.error is not None:
            return
        try:
            while self.due:
                before = self._said()
                self._state = (self.moved, self.due, [], before)
                self._state[2].extend(map(getattr(self.given, self.method), (self.due,)))
                self._count(self._taken(self._state[2][0]))
        except Exception as error:
            if came_from_handler(error, handlers):
                raise
            self.error = error

    def settle(self) -> None:
        """After an interruption, count the call that was under way, if it was made."""
        _, due, answer, before = self._state
        if self.error is not None:
            return
        if answer:
            self._count(self._taken(answer[0]))
        elif before is not None:
            now = self._said()
            if isinstance(now, int) and isinstance(before, int):
                self._count(min(max(0, now - before), len(due)))
            elif now is not None and now != before:
                self._count(len(due))

    def result(self, fate: str) -> SinkResult:
        by_method = {self.method: self.moved} if self.moved else {}
        method, held = self.method if self.moved else "none", self.due
        if self.error is not None:
            fate, held = "failed", b""
        return SinkResult(self.given, self.moved, method, fate, self.error, by_method, (), held)

    def _said(self) -> object:
        if self._ask is None:
            return None
        try:
            return self._ask()
        except Exception:
            self._ask = None
            return None

    def _taken(self, answer: Any) -> int:
        """How much of what was due a call has taken: a raw file may take less, and says so."""
        most = len(self.due)
        if self.method == "update":
            return most
        if answer is None and isinstance(self.given, io.RawIOBase):
            raise BlockingIOError(
                errno.EAGAIN, f"fanout: {self.name}.write would block; pass one that waits", 0
            )
        # Many a writer returns nothing, and has taken everything.
        taken = most if answer is None else int(answer)
        if not 0 < taken <= most:
            raise OSError(errno.EIO, f"fanout: {self.name}.write returned {taken} for {most} bytes")
        return taken

    def _count(self, taken: int) -> None:
        self._state = (self.moved + taken, self.due[taken:], [], None)


def _question(given: Any, method: str) -> Callable[[], object] | None:
    """How to ask an object what it has got, when a call of its method has been interrupted.

    One whose method is C is not: it returns before a handler runs. Of a hash in Python, as hmac's,
    the digest tells, of a file its position; of others nothing does.
    """
    if isinstance(given, io.BytesIO):
        return None
    if isinstance(given, io.IOBase):
        return given.tell
    if not isinstance(getattr(given, method), MethodType) or method != "update":
        return None
    if callable(getattr(given, "copy", None)) and callable(getattr(given, "digest", None)):
        return lambda: given.copy().digest()
    return None


def pipe_between() -> endpoint.Stream:
    """Stand for the pipe that a sink is fed from: the C says at each step which it is."""
    stream = endpoint.Stream(None, -1, "src")
    stream.about = stream.about._replace(
        err=0, kind=lib.SIO_KIND_PIPE, mode=stat.S_IFIFO, flags=os.O_RDONLY
    )
    return stream


def listed(sinks: object) -> list[object]:
    """Take the sinks of a call; a single one is a slip that is told."""
    single = any(hasattr(sinks, name) for name in ("fileno", "write", "update"))
    if single or not isinstance(sinks, Iterable) or isinstance(sinks, str | bytes):
        raise TypeError(
            f"fanout: sinks must be a list of sinks, not {type(sinks).__name__}; write [sink]"
        )
    return list(sinks)


def as_object(sink: object, name: str) -> ObjectSink | None:
    """Take a sink that is served by calling it; None for one that has a descriptor.

    One whose descriptor may hold other bytes than are written to it (gzip, a buffer in memory, a
    class that is not known) is one to be called. Raises TypeError for what is neither.
    """
    if isinstance(sink, int | Pipe):
        return None
    is_file, is_real = isinstance(sink, io.IOBase), True
    try:
        objects.judged(sink, True)
    except objects.UnrealText:
        return None  # which refuses it
    except objects.UnrealTls:
        if not is_file:
            return None
        is_real = False
    except objects.Unreal:
        is_real = False
    if is_file and is_real:
        return None
    if getattr(sink, "closed", False) is True:
        raise ValueError(f"fanout: {name} is closed")
    updates = callable(getattr(sink, "update", None)) and not isinstance(sink, Mapping | Set)
    if updates and not is_file:
        return ObjectSink(sink, "update", name)
    if is_real:
        return None
    if callable(getattr(sink, "write", None)):
        return ObjectSink(sink, "write", name)
    if objects.has_fileno(sink):
        return None  # which says why not
    raise TypeError(
        f"fanout: {name} must be an int, or have fileno(), update() or write(), "
        f"not {type(sink).__name__}"
    )
