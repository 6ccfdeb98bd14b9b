"""The first try of a relay: one entry into C, on the caller's own sockets.

Rule 1: only two plain sockets whose peers have both said their end go this way, with nothing to
send first and no limit. All else takes the long way, which has the words.
Rule 2: what was tried and is not done goes on the long way with what was done so far, and only if
both sockets are still what the C has looked at.
Rule 3: whatever is raised, it has the counts and the bytes that were taken and not given.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._cffi import ffi, lib
from .._kernel import errors
from .._transfer.act import plain
from .result import RelayResult

if TYPE_CHECKING:
    from .._cffi import struct_sio_engine_ptr, struct_sio_relay_act_ptr
    from .._kernel.endpoint import Endpoint
    from .._transfer.flow import Flow

__all__ = ["Tried", "tried"]

_act = lib.sio_act_relay
_BUF: int = lib.SIO_ACT_BUF
_spare: list[struct_sio_relay_act_ptr] = []
"""Structs that nobody uses now: a call takes one, and gives it back when it is done."""


class Tried:
    """What has been tried and is not done."""

    __slots__ = ("_c", "begun", "held")

    def __init__(self, c: struct_sio_relay_act_ptr, begun: float) -> None:
        self._c, self.begun = c, begun
        self.held = _held(c)

    def go_on(self, sides: Sequence[Endpoint], flows: Sequence[Flow]) -> None:
        """Go on in two flows; raises for a socket that is another's by now."""
        c = self._c
        for end, was in zip(sides, (c.a, c.b), strict=True):
            if (end.info.dev, end.info.ino) != (was.dev, was.ino):
                raise errors.closed_meanwhile("relay", end.name)
        lib.sio_act_relay_resume(c, flows[0].c, flows[1].c)

    def salvage(self, error: BaseException) -> None:
        """Give an exception the result of a try that could not go on."""
        _salvage(self._c, error, self.begun)


def tried(
    a: Any,
    b: Any,
    idle_timeout: float | None,
    to_a: Any,
    to_b: Any,
    byte_limit: int | None,
    engine: struct_sio_engine_ptr | None = None,
) -> RelayResult | Tried | None:
    """Relay in one go; None where that cannot be tried, and nothing has been.

    What is done counts as the engine's.
    """
    begun = monotonic()
    if byte_limit is not None or type(to_a) is not bytes or type(to_b) is not bytes:
        return None
    if to_a or to_b or not (idle_timeout is None or _is_seconds(idle_timeout)):
        return None
    fd_a, fd_b = plain(a), plain(b)
    if fd_a < 0 or fd_b < 0:
        return None
    try:
        c = _spare.pop()
    except IndexError:
        c = ffi.new("struct sio_relay_act *")
    c.moved, result = (0, 0), None
    try:
        state = _act(c, fd_a, fd_b, ffi.NULL if engine is None else engine)
        if state == lib.SIO_DONE:
            result = _result(c, begun, "eof")
        elif state != lib.SIO_UNTRIED:
            return Tried(c, begun)
    except BaseException as error:
        _salvage(c, error, begun)
        raise
    _spare.append(c)
    return result


def _is_seconds(seconds: object) -> bool:
    return type(seconds) in (int, float) and seconds >= 0  # type: ignore[operator]


def _held(c: struct_sio_relay_act_ptr) -> tuple[bytes, bytes]:
    """Return what was taken for b and for a, and not given."""
    to_b, to_a = (
        bytes(ffi.buffer(c.buf + (way * _BUF + c.held_at[way]), c.held[way]))
        if c.held[way]
        else b""
        for way in (0, 1)
    )
    return to_b, to_a


def _result(c: struct_sio_relay_act_ptr, begun: float, reason: str) -> RelayResult:
    a_to_b, b_to_a = c.moved
    methods = {"read_write": a_to_b + b_to_a} if a_to_b or b_to_a else {}
    return RelayResult(a_to_b, b_to_a, monotonic() - begun, reason, methods)


def _salvage(c: struct_sio_relay_act_ptr, error: BaseException, begun: float) -> None:
    """Give an exception what was done, and the bytes that are nowhere else."""
    made = _result(c, begun, "stopped")
    to_b, to_a = _held(c)
    error.result = RelayResult(  # type: ignore[attr-defined]
        made.a_to_b, made.b_to_a, made.seconds, made.reason, made.methods, to_b, to_a
    )
