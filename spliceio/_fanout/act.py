"""The first try of a fan-out: one entry into C, on the caller's own descriptors.

Rule 1: only what needs no look at its object goes this way: a list of exact ints, sockets and files
without methods of their own, numbers that are numbers. All else takes the long way, which has the
words.
Rule 2: what was tried and is not done goes on the long way with what was done so far, and only
if all descriptors are still what the C has looked at.
Rule 3: whatever is raised, it has the counts, and the bytes that some sinks have not got.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._cffi import ffi, lib
from .._kernel import errors
from .._transfer.act import STREAM, plain, type_of
from .sinks import DescriptorSink, FanoutResult, ObjectSink, SinkResult

if TYPE_CHECKING:
    from .._cffi import struct_sio_fan_act_ptr, struct_sio_fanout_ptr
    from .._kernel.endpoint import Endpoint

__all__ = ["Tried", "tried"]

_NAMES = {
    lib.SIO_READ_WRITE: "read_write",
    lib.SIO_SPLICE: "splice",
    lib.SIO_ACT_TEE: "tee",
}
_MOST: int = lib.SIO_FAN_MOST
_BEYOND = 1 << 62
_KNOWN: int = lib.SIO_FAN_KNOWN
_fanout = lib.sio_act_fanout
_unpack = ffi.unpack
_blank = object.__new__

_spare: list[tuple[struct_sio_fan_act_ptr, Any]] = []
"""Structs that nobody uses now, with their `how`: a call takes one, and gives it back."""


class Tried:
    """What has been tried and is not done."""

    __slots__ = ("_begun", "_c", "_from", "_how", "_sinks")

    def __init__(
        self, c: struct_sio_fan_act_ptr, how: Any, from_: int, sinks: Any, begun: float
    ) -> None:
        self._c, self._how, self._from, self._sinks, self._begun = c, how, from_, sinks, begun

    @property
    def begun(self) -> float:
        """When it began, by the monotonic clock."""
        return self._begun

    def go_on(
        self,
        fan: struct_sio_fanout_ptr,
        source: Endpoint,
        sinks: list[DescriptorSink | ObjectSink],
        places: list[int],
    ) -> None:
        """Go on in a fan-out that has not begun; raises for a descriptor that is another's by now.

        `places` says which of the C's sinks each of `sinks` is.
        """
        c = self._c
        pairs = [(source, c.src)]
        for sink, tried in zip(sinks, c.each, strict=False):
            assert isinstance(sink, DescriptorSink)  # no other is tried
            pairs.append((sink.endpoint, getattr(tried, "is")))
        for end, was in pairs:
            if was.ino and (end.info.dev, end.info.ino) != (was.dev, was.ino):
                raise errors.closed_meanwhile("fanout", end.name)
        if lib.sio_fanout_resume(fan, c, places):
            raise MemoryError("fanout: no memory for what it holds")

    def salvage(self, error: BaseException) -> None:
        """Give an exception the counts of a try that could not go on."""
        _salvage(self._c, self._from, self._sinks, self._begun, error)

    def release(self) -> None:
        """Give the struct back, when all that it has is elsewhere."""
        _spare.append((self._c, self._how))


def tried(
    src: Any,
    sinks: Any,
    count: int | None,
    stall_timeout: float,
    timeout: float | None,
    progress: Callable[[int], object] | None,
) -> FanoutResult | Tried | None:
    """Fan out in one go; None where that cannot be tried, and nothing has been."""
    begun = monotonic()
    if type(sinks) is not list and type(sinks) is not tuple:
        return None
    n = len(sinks)
    if not 0 < n <= _MOST or not _is_seconds(stall_timeout):
        return None
    if timeout is not None and not _is_seconds(timeout):
        return None
    if count is None:
        most = -1
    elif type(count) is int and 0 < count < _BEYOND:
        most = count
    else:
        return None
    from_ = plain(src)
    fds = [_number(sink) for sink in sinks]
    if from_ < 0 or min(fds) < 0:
        return None
    try:
        c, how = _spare.pop()
    except IndexError:
        c, how = _new()
    c.sink_count, result = 0, None
    try:
        done = _fanout(c, from_, most, fds, n)
        if done < 0:
            if done == -lib.SIO_UNTRIED:
                _spare.append((c, how))
                return None
            return Tried(c, how, from_, sinks, begun)
        reason = "count" if done == most else "eof"
        result = _made(done, monotonic() - begun, reason, (_each, done, (*sinks,), _unpack(how, n)))
        if progress is not None:
            progress(done)
    except BaseException as error:
        if result is None:
            _salvage(c, from_, sinks, begun, error)
        else:
            error.result = result  # type: ignore[attr-defined]
        raise
    _spare.append((c, how))
    return result


def _number(sink: Any) -> int:
    """Return the number of a sink, as `plain` does, and that it is a stream where that is known."""
    if type(sink) is not socket:
        return number if (number := plain(sink)) < _KNOWN else -1
    fd: int = sink.fileno()
    return fd | _KNOWN if fd >= 0 and type_of(sink) == STREAM else fd


def _is_seconds(seconds: object) -> bool:
    return type(seconds) in (int, float) and seconds >= 0  # type: ignore[operator]


def _new() -> tuple[struct_sio_fan_act_ptr, Any]:
    c = ffi.new("struct sio_fan_act *")
    return c, c.how


def _made(moved: int, seconds: float, reason: str, make: tuple[Any, ...]) -> FanoutResult:
    """Make a frozen dataclass without its __init__, which takes as long as a system call."""
    result: FanoutResult = _blank(FanoutResult)
    told = result.__dict__
    told["moved"], told["seconds"], told["reason"] = moved, seconds, reason
    told["fallbacks"], told["unread"], told["_make"] = (), b"", make
    return result


def _each(moved: int, sinks: tuple[Any, ...], how: list[int]) -> tuple[SinkResult, ...]:
    """Make the results of sinks that have got everything."""
    return tuple(
        SinkResult(given, moved, _NAMES[number], "done", None, {_NAMES[number]: moved})
        for given, number in zip(sinks, how, strict=True)
    )


def _salvage(
    c: struct_sio_fan_act_ptr, from_: int, sinks: Any, begun: float, error: BaseException
) -> None:
    """Give an exception what each sink got, and what had been taken for it."""
    count = c.sink_count
    taken = lib.sio_act_fanout_settle(c, from_) if count else 0
    base, buf = taken - c.held if count else 0, c.buf
    each = []
    for number, given in enumerate(sinks):
        moved = c.each[number].moved if count else 0
        method = _NAMES[c.how[number]] if moved else "none"
        held = bytes(ffi.buffer(buf + (moved - base), taken - moved)) if moved < taken else b""
        by_method = {method: moved} if moved else {}
        each.append(SinkResult(given, moved, method, "stopped", None, by_method, (), held))
    seconds = monotonic() - begun
    result = FanoutResult(taken, seconds, "stopped", tuple(each), ())
    error.result = result  # type: ignore[attr-defined]
