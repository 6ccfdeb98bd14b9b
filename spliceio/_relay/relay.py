"""`relay`: a two-way copy between two sides, two flows under one poll(2) in csrc/relay/relay.c.

A side is a socket, or a (reader, writer) pair. Sockets are half-closed by the C. In a pair the
writer itself is closed, here, once end of file has been delivered into it: a pipe has no other
half-close.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from operator import index
from typing import TYPE_CHECKING, Any

from .._cffi import ffi, lib
from .._kernel import endpoint, objects
from .._kernel.arguments import FileDescriptorLike, Window, contiguous
from .._kernel.closing import Closing
from .._kernel.fdinfo import FdInfo, fd_info
from .._public import public
from .._transfer import plan
from .._transfer.flow import INT64_MAX, SLICE_NS, Flow, check_forked, idle_ns, next_slice
from . import act
from .result import REASONS, RelayResult

if TYPE_CHECKING:
    from .._cffi import struct_sio_relay_ptr

__all__ = ["Pair", "Side", "relay"]

Side = FileDescriptorLike | Iterable[FileDescriptorLike]
_STANDARD = 2


class _Side:
    """One side as the caller gave it: where to read, where to write, what to close."""

    def __init__(self, side: Side, name: str) -> None:
        self.reader: Any
        self.writer: Any
        if isinstance(side, int) or objects.has_fileno(side):
            self.reader = self.writer = side
        else:
            try:
                self.reader, self.writer = side  # type: ignore[misc]
            except (TypeError, ValueError):
                raise TypeError(
                    f"relay: {name} must be a socket or a (reader, writer) pair, "
                    f"not {type(side).__name__}"
                ) from None
        if isinstance(self.reader, Window):
            raise TypeError(
                f"relay ({name}): a {type(self.reader).__name__} is no side of a conversation; "
                "send it with copy() before or after"
            )
        self.side = side
        self.source = endpoint.source(self.reader, f"relay ({name})")
        try:
            if self.reader is self.writer and self.source.info.is_socket:
                self.destination = endpoint.other_way(self.source)
            else:
                self.destination = endpoint.destination(self.writer, f"relay ({name})")
        except BaseException:
            self.source.close()
            raise
        self.identity = self.destination.info

    def close(self) -> None:
        self.source.close()
        self.destination.close()

    def close_writer(self) -> None:
        """Close the writer, so that the other end of this side's pipe reads the end of file."""
        for owner, close in ((self.side, "close_writer"), (self.writer, "close")):
            if not isinstance(owner, int) and callable(getattr(owner, close, None)):
                getattr(owner, close)()
                return
        if isinstance(self.writer, int) and self.identity.is_pipe:
            _release_pipe(self.writer, self.identity)


def _release_pipe(fd: int, identity: FdInfo) -> None:
    """Release a pipe behind a bare number, and leave the number to its owner.

    The number is pointed at the write end of a pipe without a reader. Its owner's close() stays
    right, a late write gets BrokenPipeError, and the number cannot be reused meanwhile. Standard
    output and error stay as they are: the process has other use for them.
    """
    if fd <= _STANDARD or not fd_info(fd).same_file(identity):
        return
    reader, writer = os.pipe()
    os.close(reader)
    try:
        os.dup2(writer, fd, inheritable=os.get_inheritable(fd))
    finally:
        os.close(writer)


@public
def relay(
    a: Side,
    b: Side,
    *,
    idle_timeout: float | None = None,
    to_a: bytes = b"",
    to_b: bytes = b"",
    byte_limit: int | None = None,
) -> RelayResult:
    """Copy bytes both ways between two sides until both have reached end of file.

    A side is a stream socket, or a pair of a reader and a writer: `(0, 1)`, a `Duplex`, a child
    process's `(stdout, stdin)`. `to_a` and `to_b` go out first, such as bytes read before the relay
    began. `idle_timeout` ends it when nothing has moved either way for so many seconds,
    `byte_limit` after so many bytes, both ways together; what a buffered reader had read ahead
    beyond that stays in it.

    End of file on one side is passed on once everything before it has arrived: with
    shutdown(SHUT_WR) to a socket, by closing the writer of a pair (objects by their `close`; a bare
    number of a pipe is pointed at a dead pipe, so that closing it stays yours; 0, 1 and 2 stay
    open). The other direction goes on. Sockets are never closed. The sides may be blocking or not.

    Resets and closed peers are no exceptions; `reason` in the result tells. Raises what `copy`
    raises for objects it refuses, and OSError for failures of another kind (a full disk), with
    `result` as an attribute.

    Not promised: a TCP urgent byte is passed over (everything around it arrives), and ancillary
    data on unix sockets is lost. Bytes that a peer had not sent when the relay ended stay unread.
    """
    tried = act.tried(a, b, idle_timeout, to_a, to_b, byte_limit)
    if tried is None:
        return run_relay(
            a, b, idle_timeout=idle_timeout, to_a=to_a, to_b=to_b, byte_limit=byte_limit
        )
    if isinstance(tried, RelayResult):
        return tried
    try:
        held_b, held_a = tried.held
        return run_relay(a, b, idle_timeout=idle_timeout, to_a=held_a, to_b=held_b, tried=tried)
    except BaseException as error:
        if not hasattr(error, "result"):
            tried.salvage(error)
        raise


def run_relay(
    a: Side,
    b: Side,
    *,
    idle_timeout: float | None = None,
    to_a: bytes = b"",
    to_b: bytes = b"",
    byte_limit: int | None = None,
    method: str = "auto",
    stop_when_gone: int = 0,
    stop_at_eof: int = 0,
    tried: act.Tried | None = None,
) -> RelayResult:
    """Do what `relay` does, with what only the command line needs.

    `tried` is what was done before: it is gone on with.

    `stop_when_gone` ends everything as soon as b (bit 0) or a (bit 1) takes no more bytes,
    `stop_at_eof` as soon as a (bit 0) or b (bit 1) has said end of file and it was passed on.
    """
    limit = idle_ns(idle_timeout, "idle_timeout")
    with Pair(a, b, to_a, to_b, byte_limit, method) as pair:
        pair.config.stop_when_gone = stop_when_gone
        pair.config.stop_at_eof = stop_at_eof
        if tried is not None:
            pair.go_on_from(tried)
        # In one call, so that no signal handler can raise before the collector is in place.
        c = next(map(ffi.gc, map(lib.sio_relay_new, [pair.config]), [lib.sio_relay_free]))
        if c == ffi.NULL:
            raise MemoryError("relay: no memory")
        begun = time.monotonic() if tried is None else tried.begun

        def result() -> RelayResult:
            return pair.result(time.monotonic() - begun, lib.sio_relay_reason(c))

        try:
            _run(c, pair, limit)
        except BaseException as error:
            error.result = result()  # type: ignore[attr-defined]
            raise
        return result()


def _run(c: struct_sio_relay_ptr, pair: Pair, limit: int) -> None:
    slice_ns = SLICE_NS
    try:
        while True:
            before = [flow.progress for flow in pair.flows]
            state = lib.sio_relay_run(c, slice_ns, limit)
            check_forked(state)
            has_moved = [flow.progress for flow in pair.flows] != before
            slice_ns = next_slice(slice_ns, has_moved=has_moved)
            pair.close_writers(lib.sio_relay_finished(c))
            if state == lib.SIO_DONE:
                return
            if state == lib.SIO_ERROR:
                flow = pair.flows[lib.sio_relay_failed(c)]
                # What OpenSSL gives would go past a limit, which the C counts by itself.
                if pair.config.limit >= 0 or flow.past_record(state) == state:
                    raise flow.error()
    finally:
        pair.synchronise()


class Pair(Closing):
    """Two sides and the two flows between them, to be run by `relay` or an engine.

    `config` is what the C makes a relay of.
    """

    def __init__(
        self,
        a: Side,
        b: Side,
        to_a: bytes = b"",
        to_b: bytes = b"",
        byte_limit: int | None = None,
        method: str = "auto",
    ) -> None:
        to_a, to_b = contiguous(to_a, "relay: to_a"), contiguous(to_b, "relay: to_b")
        ahead = len(to_a) + len(to_b)
        byte_limit = None if byte_limit is None else index(byte_limit)
        if byte_limit is not None and byte_limit < ahead:
            raise ValueError(f"byte_limit ({byte_limit}) is less than to_a and to_b hold ({ahead})")
        self.sides: list[_Side] = []
        self.flows: list[Flow] = []
        try:
            self.sides = [_Side(a, "a")]
            self.sides.append(_Side(b, "b"))
            self.flows = [self._flow(0, 1, method)]
            self.flows.append(self._flow(1, 0, method))
            left = None if byte_limit is None else byte_limit - ahead
            for flow, first in zip(self.flows, (to_b, to_a), strict=True):
                taken = flow.taken
                flow.take_ahead("relay", first, left)
                if left is not None:
                    left -= flow.taken - taken - len(first)
        except BaseException:
            self.close()
            raise
        self.config = ffi.new("struct sio_relay_config *")
        self.config.ab, self.config.ba = self.flows[0].c, self.flows[1].c
        self.config.limit = -1 if left is None else min(left, INT64_MAX)

    def go_on_from(self, tried: act.Tried) -> None:
        """Count what was done before the pair was made; its held bytes are `to_a` and `to_b`."""
        tried.go_on([side.source for side in self.sides], self.flows)

    def _flow(self, src: int, dst: int, method: str) -> Flow:
        a, b = self.sides[src].source, self.sides[dst].destination
        return Flow(
            a,
            b,
            plan.methods_for(method, a.info, b.info),
            call="relay",
            ahead_later=True,
            adaptive=method == "auto" and a.info.kind != lib.SIO_KIND_FILE,
            interactive=True,
            shares=self.flows[0] if self.flows and self.shares_descriptors else None,
        )

    @property
    def shares_descriptors(self) -> bool:
        """Whether each side is one socket, which both flows can use."""
        return all(side.reader is side.writer and side.identity.is_socket for side in self.sides)

    def close_writers(self, finished: int) -> None:
        """Pass on an end of file: bit 0, close the writer of b; bit 1, that of a."""
        if finished & 1:
            self.sides[1].close_writer()
        if finished & 2:
            self.sides[0].close_writer()

    def synchronise(self) -> None:
        """Put the positions of buffered Python objects where the bytes are."""
        for flow in self.flows:
            flow.synchronise()

    def result(self, seconds: float, reason: int) -> RelayResult:
        """Return what was relayed so far; takes the held bytes out."""
        ab, ba = self.flows
        methods = ab.by_method
        for name, moved in ba.by_method.items():
            methods[name] = methods.get(name, 0) + moved
        return RelayResult(
            ab.moved,
            ba.moved,
            seconds,
            REASONS[reason],
            methods,
            ab.take_held(),
            ba.take_held(),
        )

    def close(self) -> None:
        """Close the duplicates and the pipes; safe to repeat."""
        for flow in self.flows:
            flow.close()
        for side in self.sides:
            side.close()
