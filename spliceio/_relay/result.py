"""RelayResult: what a relay has done, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass

from .._cffi import lib
from .._public import public

__all__ = ["REASONS", "RelayResult"]

REASONS = {
    lib.SIO_REASON_EOF: "eof",
    lib.SIO_REASON_IDLE: "idle",
    lib.SIO_REASON_LIMIT: "limit",
    lib.SIO_REASON_RESET_A: "reset by a",
    lib.SIO_REASON_RESET_B: "reset by b",
    lib.SIO_REASON_CANCELLED: "cancelled",
    lib.SIO_REASON_NONE: "stopped",
}


@public
@dataclass(frozen=True)
class RelayResult:
    """The result of a relay.

    `a_to_b` and `b_to_a` count the bytes that arrived, `to_b` and `to_a` of the call included.
    `seconds` is the time from start to end. `reason` says why it ended: "eof" (both sides said so),
    "idle", "limit", "reset by a" or "reset by b" (that side's connection broke, or it refused bytes
    that were on their way), or, of a `RelayPool`'s, "cancelled"; "stopped" stands in the result
    that an exception carries. `methods` says how many bytes each method moved, both ways together.
    `held_a_to_b` and `held_b_to_a` are bytes that one side had sent and the other never took.
    """

    a_to_b: int
    b_to_a: int
    seconds: float
    reason: str
    methods: dict[str, int]
    held_a_to_b: bytes = b""
    held_b_to_a: bytes = b""
