"""Sinks of a fan-out: descriptors and Python objects, and their results.

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
from functools import cache
from types import MethodType
from typing import TYPE_CHECKING, Any

from .._cffi import lib
from .._kernel import endpoint, errors, objects
from .._kernel.handlers import came_from_handler
from .._kernel.pipe import Pipe
from .._public import public
from .._transfer.flow import CALLS, Flow
from .._transfer.result import Fallback

if TYPE_CHECKING:
    from .._cffi import struct_sio_fanout_ptr

__all__ = [
    "DescriptorSink",
    "FanoutResult",
    "ObjectSink",
    "SinkResult",
    "as_list",
    "as_object",
    "placeholder_pipe",
]


_METHODS = [lib.SIO_SPLICE, lib.SIO_READ_WRITE]


@public
@dataclass(frozen=True)
class SinkResult:
    """The result of one sink.

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
    """The result of a fan-out.

    `moved` is how many bytes were taken from the source, `seconds` the time it took. `reason` says
    why it ended: "eof", "count", "no sinks" (the last one was detached), or "stopped" in the result
    that an exception carries. `sinks` has a SinkResult for each, in the order of the call.
    `fallbacks` says why the bytes were copied instead of shared by tee. `unread` are bytes that
    were taken from the source when no sink was left.
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

    def __getattr__(self, name: str) -> Any:
        """Make `sinks`, of a fan-out that took no time to speak of, when they are asked for."""
        if name != "sinks" or "_make" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        make, *args = self.__dict__["_make"]
        return self.__dict__.setdefault("sinks", make(*args))

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled: the fields."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class DescriptorSink:
    """A sink with a descriptor: the flow into it, from whichever pipe the C says."""

    def __init__(self, given: object, name: str, placeholder: endpoint.Endpoint) -> None:
        """Take a descriptor; raises what `copy` does for a `dst`."""
        self.given, self.name = given, name
        self.endpoint = endpoint.destination(given, "fanout", name)  # type: ignore[arg-type]
        self.text, self.timeout = self.endpoint.text, self.endpoint.timeout
        try:
            self.flow = Flow(placeholder, self.endpoint, _METHODS, call="fanout")
        finally:
            self.endpoint.close()
        self._fanout: struct_sio_fanout_ptr | None = None
        self._number = 0
        self.error: BaseException | None = None
        self.fate = ""
        self.due = b""
        self._teed = 0

    def join(self, fanout: struct_sio_fanout_ptr, number: int) -> None:
        """Be a sink of the C's fan-out, by this number."""
        self._fanout, self._number = fanout, number

    @property
    def place(self) -> int:
        """Which of the C's sinks it is."""
        return self._number

    @property
    def moved(self) -> int:
        return self.flow.moved + self.teed

    @property
    def teed(self) -> int:
        if self._fanout is not None:
            self._teed = int(lib.sio_fanout_teed(self._fanout, self._number))
        return self._teed

    def check_detached(self, stall: float) -> bool:
        """Return whether it was detached since the last call; sets `error`, and closes it."""
        if self.fate:
            return False
        assert self._fanout is not None  # from `join` to `release`
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
        self.release()
        self.synchronise()
        return True

    def release(self) -> None:
        """Close the descriptors of its flow."""
        _, self._fanout = self.teed, None
        self.flow.close()

    def synchronise(self) -> None:
        """Put the position of a buffered object where the bytes are."""
        if self.flow.is_accessible and self.flow.dst is not None:
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
    """A sink that is a Python object with `update` or `write`.

    A call of its method is counted in one step, from what it has returned; the answer is put down
    within the C that makes the call, so that a signal handler comes before both or after both.
    """

    def __init__(self, given: object, method: str, name: str) -> None:
        self.given = given
        self.method = method
        self.name = name
        self.timeout: float | None = None
        self.error: BaseException | None = None
        self._is_reported = False
        # How many bytes it got, what is due to it, what the call under way has answered, and what
        # the object said of itself before that call.
        self._state: tuple[int, bytes, list[Any], object] = (0, b"", [], None)
        self._query = _position_query(given, method)

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

    def check_detached(self, stall: float) -> bool:
        """Return whether it has failed since the last call."""
        was_reported, self._is_reported = self._is_reported, self.error is not None
        return self._is_reported and not was_reported

    def write_due(self, handlers: list[Any]) -> None:
        """Write what is due; an exception is kept in `error`, unless a signal handler raised it."""
        if self.error is not None:
            return
        try:
            while self.due:
                before = self._ask_position()
                self._state = (self.moved, self.due, [], before)
                self._state[2].extend(map(getattr(self.given, self.method), (self.due,)))
                self._count(self._accepted(self._state[2][0]))
        except Exception as error:
            if came_from_handler(error, handlers):
                raise
            self.error = error

    def settle_interrupted(self) -> None:
        """After an interruption, count the call that was running, if it was made."""
        _, due, answer, before = self._state
        if self.error is not None:
            return
        if answer:
            self._count(self._accepted(answer[0]))
        elif before is not None:
            now = self._ask_position()
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

    def _ask_position(self) -> object:
        if self._query is None:
            return None
        try:
            return self._query()
        except Exception:
            self._query = None
            return None

    def _accepted(self, answer: Any) -> int:
        """Return how much of what was due a call has taken; a raw file may take less."""
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


def _position_query(given: Any, method: str) -> Callable[[], object] | None:
    """Return how to ask an object for its position, when a call of its method was interrupted.

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


@cache
def placeholder_pipe() -> endpoint.Endpoint:
    """Return an endpoint for the pipe that feeds a sink: the C says at each step which it is.

    One for all of them: it has no descriptor, no position, and nothing that was read ahead.
    """
    end = endpoint.Endpoint(None, -1, "src")
    end.info = end.info._replace(
        err=0, kind=lib.SIO_KIND_PIPE, mode=stat.S_IFIFO, flags=os.O_RDONLY
    )
    return end


def as_list(sinks: object) -> list[object]:
    """Return the sinks of a call as a list; raises TypeError for a single sink."""
    single = any(hasattr(sinks, name) for name in ("fileno", "write", "update"))
    if single or not isinstance(sinks, Iterable) or isinstance(sinks, str | bytes):
        raise TypeError(
            f"fanout: sinks must be a list of sinks, not {type(sinks).__name__}; write [sink]"
        )
    return list(sinks)


def as_object(sink: object, name: str) -> ObjectSink | None:
    """Return a sink that is written to by calling it; None for one that has a descriptor.

    One whose descriptor may hold other bytes than are written to it (gzip, a buffer in memory, a
    class that is not known) is one to be called. Raises TypeError for what is neither.
    """
    if isinstance(sink, int | Pipe):
        return None
    is_file, is_real = isinstance(sink, io.IOBase), True
    try:
        objects.resolve(sink, True)
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
