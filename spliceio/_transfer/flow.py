"""Flow: one C transfer between two endpoints, with its counts, refusals, error and held bytes.

A Flow owns the C struct and through it duplicates of both descriptors and the private pipe. It
makes, reads and closes one, and does not wait: `Transfer` and `relay` drive it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._cffi import ffi, lib
from .._kernel import endpoint, errors, tls
from . import plan
from .result import Fallback, TransferResult

if TYPE_CHECKING:
    from .._cffi import (
        Array,
        Pointer,
        c_unsigned_char,
        struct_sio_act_ptr,
        struct_sio_error_ptr,
        struct_sio_refusal_ptr,
        struct_sio_segment,
        struct_sio_transfer_report_ptr,
    )

__all__ = [
    "CALLS",
    "IDLE_NS",
    "INT64_MAX",
    "SLICE_NS",
    "Flow",
    "Segment",
    "check_forked",
    "idle_ns",
    "limit_ns",
    "next_slice",
    "spares",
]

SLICE_NS = 80_000_000
"""How long the C runs before it comes back for signals, progress and other threads.

Short of the 0.1 s in which Ctrl-C is answered; each return may wait 5 ms for the GIL.
"""
IDLE_NS = 1_000_000_000
"""The longest slice, of one in which nothing moves.

What is waited for wakes the C, and so does a signal; but one that comes just before poll() begins
is answered when the slice is over.
"""
INT64_MAX = 2**63 - 1
_NO_LIMIT_NS = 2**61
_MOST_SECONDS = INT64_MAX // 2 // 10**9
PRIVATE_PIPE = 1 << 20
CALLS = {
    lib.SIO_CALL_SPLICE: "splice",
    lib.SIO_CALL_TEE: "tee",
    lib.SIO_CALL_SENDFILE: "sendfile",
    lib.SIO_CALL_COPY_FILE_RANGE: "copy_file_range",
    lib.SIO_CALL_READ: "read",
    lib.SIO_CALL_WRITE: "write",
    lib.SIO_CALL_POLL: "poll",
    lib.SIO_CALL_PIPE: "pipe",
    lib.SIO_CALL_CLONE: "reflink",
    lib.SIO_CALL_FALLOCATE: "fallocate",
    lib.SIO_CALL_SEEK: "lseek",
    lib.SIO_CALL_TRUNCATE: "ftruncate",
    lib.SIO_CALL_ACCEPT: "accept4",
    lib.SIO_CALL_EPOLL_CTL: "epoll_ctl",
    lib.SIO_CALL_EPOLL_WAIT: "epoll_wait",
}

spares = lib.sio_spare_pipes_new()
if spares == ffi.NULL:
    raise MemoryError("no memory for the spare pipes")
os.register_at_fork(after_in_child=lambda: lib.sio_spare_pipes_reset(spares))


def idle_ns(timeout: float | None, name: str = "timeout") -> int:
    """Return a timeout in seconds as the C takes it: nanoseconds, or -1 for no limit."""
    if timeout is None:
        return -1
    if not timeout >= 0:
        raise ValueError(f"{name} must be None or a number of seconds >= 0, not {timeout!r}")
    return INT64_MAX // 2 if timeout > _MOST_SECONDS else int(timeout * 1e9)


def limit_ns(seconds: float | None, name: str) -> int:
    """Return seconds as nanoseconds; None is a time that never comes."""
    return _NO_LIMIT_NS if seconds is None else min(idle_ns(seconds, name), _NO_LIMIT_NS)


def next_slice(slice_ns: int, *, has_moved: bool) -> int:
    """Return how long the next slice is: twice as long while nothing moves, up to a second."""
    return SLICE_NS if has_moved else min(2 * slice_ns, IDLE_NS)


def check_forked(state: int) -> None:
    """Raise RuntimeError if the C has refused to run in a forked child."""
    if state == lib.SIO_FORKED:
        raise RuntimeError(
            "the transfer was made in another process: both would take bytes from the same "
            "source. Make a new one after fork()"
        )


_METHOD_NAMES = tuple(plan.NAMES[number] for number in range(lib.SIO_METHODS))


def _by_method(report: struct_sio_transfer_report_ptr) -> dict[str, int]:
    moved: dict[str, int] = {}
    for name, count in zip(_METHOD_NAMES, report.moved_by, strict=True):
        if count:
            moved[name] = moved.get(name, 0) + count
    if report.from_memory:
        moved["send"] = report.from_memory
    return moved


def _most(by_method: dict[str, int], report: struct_sio_transfer_report_ptr) -> str:
    # A header or trailer is in user memory anyway.
    moved = {name: count for name, count in by_method.items() if name != "send"}
    if not moved:
        return _METHOD_NAMES[report.method]
    return max(moved, key=lambda name: moved[name])


Segment = tuple[bytes | None, int, int]
"""(memory, 0, its length) or (None, offset, length); a length of -1 is to the end of the source."""


def _segments_for_c(
    segments: Sequence[Segment],
) -> tuple[Pointer[struct_sio_segment], list[Array[c_unsigned_char]]]:
    """Return the segments as C structs, and a list that keeps their memory in place.

    Only of bytes: a memoryview that is pinned here and cleared by the collector, with the exception
    that holds both, crashes the interpreter.
    """
    if not segments:
        return ffi.NULL, []
    laid = ffi.new("struct sio_segment[]", len(segments))
    memories: list[Array[c_unsigned_char]] = []
    for slot, (memory, offset, length) in zip(laid, segments, strict=True):
        if memory is not None:
            memories.append(ffi.from_buffer("unsigned char[]", memory))
            slot.memory = memories[-1]
        slot.offset, slot.len = offset, min(length, INT64_MAX)
    return laid, memories


class Flow:
    """A transfer from one endpoint to another, or into memory when `dst` is None.

    `waits` says whether one of the two is not a file, which is always ready; `whole` is what there
    is to move in all, from a file, or -1 where that is not known.
    """

    __slots__ = (
        "_memory",
        "_shared",
        "_state",
        "c",
        "dst",
        "is_in_engine",
        "known",
        "src",
        "waits",
        "whole",
    )

    def __init__(
        self,
        src: endpoint.Endpoint,
        dst: endpoint.Endpoint | None,
        methods: list[int],
        *,
        call: str = "copy",
        count: int | None = None,
        offset_dst: int | None = None,
        prefix: bytes = b"",
        segments: Sequence[Segment] = (),
        adaptive: bool = False,
        interactive: bool = False,
        shares: Flow | None = None,
        ahead_later: bool = False,
        holes: int = lib.SIO_HOLES_FILL,
        reserve: int = 0,
        extent: int = 0,
    ) -> None:
        """Duplicate both descriptors, or use those of `shares`, the flow the other way.

        `prefix` goes before what `src` itself has read ahead.

        `segments`, of a source that is a file, are sent after `count`, which is then 0.

        `adaptive` lets small reads go by recv and send; `interactive` begins that way, for a driver
        whose poll is level-triggered. `ahead_later` leaves what was read ahead to `take_ahead`.

        Between files: what becomes of `holes`, blocks to `reserve`, and how much is known to be
        data, the `extent`.
        """
        self.src, self.dst = src, dst
        self.is_in_engine, self.known, self.whole = False, 0, -1
        self._state: int | None = None
        kinds = {src.info.kind, None if dst is None else dst.info.kind}
        self.waits = kinds != {lib.SIO_KIND_FILE}
        config = ffi.new("struct sio_transfer_config *")
        config.src, config.dst = src.fd, -1 if dst is None else dst.fd
        config.src_kind = src.info.kind
        config.dst_kind = lib.SIO_KIND_OTHER if dst is None else dst.info.kind
        config.src_tls = src.tls is not None
        config.src_is = src.info.dev, src.info.ino
        if dst is not None:
            config.dst_is = dst.info.dev, dst.info.ino
        config.methods[0 : len(methods)] = methods
        config.method_count = len(methods)
        config.left = -1 if count is None else min(count, INT64_MAX)
        config.src_offset = lib.SIO_NO_OFFSET if src.offset is None else src.offset
        config.dst_offset = lib.SIO_NO_OFFSET if offset_dst is None else offset_dst
        config.pipe_size, config.spares = PRIVATE_PIPE, spares
        config.adaptive = adaptive
        config.small = config.level_poll = interactive
        laid, memories = _segments_for_c(segments)
        self._memory: object = laid, memories
        config.segments, config.segment_count = laid, len(segments)
        config.holes, config.reserve, config.extent = holes, reserve, extent
        # In one call, so that no signal handler can raise before the collector is in place.
        self.c = next(map(ffi.gc, map(lib.sio_transfer_new, [config]), [lib.sio_transfer_free]))
        if self.c == ffi.NULL:
            raise MemoryError(f"{call}: no memory for a transfer")
        self._shared = shares
        err = 0
        if shares is not None:
            lib.sio_transfer_share(self.c, shares.c)
        else:
            err = lib.sio_transfer_open(self.c, config)
        if err == -errno.ESTALE:
            side = src if dst is None or self.failure.side == lib.SIO_SIDE_SRC else dst
            raise errors.closed_meanwhile(call, side.name)
        if err:
            raise errors.failure(call, -err, src.fd, None if dst is None else dst.fd)
        for end in (src, dst):
            if end is not None:
                end.check_not_closed(call)
        if not ahead_later:
            self.take_ahead(call, prefix, count)

    @classmethod
    def of_rest(
        cls,
        act: struct_sio_act_ptr,
        src: endpoint.Endpoint,
        dst: endpoint.Endpoint,
        memory: object,
    ) -> Flow:
        """Make the flow of what a first try has left, which has run for its first slice.

        `act` is to be of no other use; the bytes in `memory` are sent.
        """
        flow = cls.__new__(cls)
        flow.c, flow._memory = act.rest, (act, memory)
        flow._state, flow._shared = int(act.state), None
        flow.src, flow.dst, flow.known, flow.whole = src, dst, 0, int(act.whole)
        flow.is_in_engine, flow.waits = False, True
        return flow

    def take_ahead(self, call: str, prefix: bytes = b"", count: int | None = None) -> None:
        """Take `prefix`, and what the source's object has read ahead, to be sent first.

        Of the latter no more than `count` bytes: the rest stays in the object. Once it is taken it
        is nowhere else: when all that can fail has been done.
        """
        ahead = self.src.take_ahead(count)
        whole = prefix + ahead
        if whole and lib.sio_transfer_prefix(self.c, whole, len(whole), len(ahead)):
            raise MemoryError(f"{call}: no memory for {len(whole)} bytes read ahead")

    def expect(self, known: int) -> None:
        """Say how many bytes the source has at least."""
        self.known = known
        lib.sio_transfer_expect(self.c, known)

    def restart(self) -> None:
        """Let the time in which nothing moves begin now, but for one that is under way."""
        if not self.is_under_way:
            lib.sio_transfer_restart(self.c)

    @property
    def is_under_way(self) -> bool:
        """Whether it has run for a slice already, of which `run` will tell."""
        return self._state is not None

    def run(self, slice_ns: int, limit: int) -> int:
        """Run for one slice, waiting with poll(2); return the state."""
        if (state := self._state) is not None:
            self._state = None
            return state
        # Whoever closes it would have to wait for a long slice that nothing can end.
        if slice_ns > SLICE_NS and lib.sio_transfer_wakeable(self.c):
            slice_ns = SLICE_NS
        return self.past_record(int(lib.sio_transfer_run(self.c, slice_ns, limit)))

    def turn(self, most: int) -> int:
        """Move about so many bytes without waiting for peer or disk; return the state."""
        return self.past_record(int(lib.sio_transfer_turn(self.c, most)))

    def step(self) -> int:
        """Run without waiting for one slice; return the state."""
        return self.past_record(int(lib.sio_transfer_try(self.c, SLICE_NS)))

    def past_record(self, state: int) -> int:
        """Let OpenSSL read what is no data, of a source that the kernel decrypts.

        Session tickets and key updates are its own; the kernel gives them to nobody else. Returns
        the state to go on with. Raises SSLError, and SSLEOFError for an end without close_notify if
        that is not suppressed.
        """
        sock = self.src.tls
        if sock is None:
            return state
        if state == lib.SIO_DONE and self.left:
            tls.check_end(sock)
        if state != lib.SIO_ERROR or not self._is_at_record:
            return state
        data = tls.read_past(sock, INT64_MAX if self.left < 0 else self.left)
        if data == b"":
            lib.sio_transfer_end(self.c)
        elif data and lib.sio_transfer_prefix(self.c, data, len(data), len(data)):
            raise MemoryError(f"no memory for {len(data)} bytes")
        return int(lib.SIO_BUDGET)

    @property
    def _is_at_record(self) -> bool:
        failure = self.failure
        return bool(failure.err == errno.EIO and failure.side == lib.SIO_SIDE_SRC) and not self.held

    def wake(self) -> None:
        """End the slice that another thread runs, if it is a long one."""
        if self.is_accessible:
            lib.sio_transfer_wake(self.c)

    @property
    def moved(self) -> int:
        return int(lib.sio_transfer_moved(self.c))

    @property
    def taken(self) -> int:
        return int(lib.sio_transfer_taken(self.c))

    @property
    def left(self) -> int:
        """Bytes of the count that have not been taken from `src`; -1 without a count."""
        return int(lib.sio_transfer_left(self.c))

    @property
    def skipped(self) -> int:
        """Bytes of holes, which are neither taken nor moved."""
        return int(lib.sio_transfer_skipped(self.c))

    @property
    def progress(self) -> int:
        """A number that changes whenever a byte moves."""
        return self.taken + self.moved

    @property
    def held(self) -> int:
        return int(lib.sio_transfer_held(self.c))

    @property
    def by_method(self) -> dict[str, int]:
        return _by_method(self._report())

    @property
    def method(self) -> str:
        """The method that has moved most bytes; before the first, the one that is tried next."""
        report = self._report()
        return _most(_by_method(report), report)

    def result(self, seconds: float) -> TransferResult:
        """Return what has been done so far, in so many seconds."""
        report = self._report()
        moved = _by_method(report)
        refused = self.fallbacks if report.refusal_count else ()
        return TransferResult(report.moved, _most(moved, report), seconds, refused, moved)

    def _report(self) -> struct_sio_transfer_report_ptr:
        report = ffi.new("struct sio_transfer_report *")
        lib.sio_transfer_report(self.c, report)
        return report

    @property
    def from_memory(self) -> int:
        """Bytes of headers and trailers among those moved."""
        return int(self._report().from_memory)

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        found: list[Fallback] = []
        while (refusal := lib.sio_transfer_refusal(self.c, len(found))) != ffi.NULL:
            found.append(self._fallback(refusal))
        return tuple(found)

    def _fallback(self, refusal: struct_sio_refusal_ptr) -> Fallback:
        name, err = plan.NAMES[refusal.method], int(refusal.err)
        if err == 0:
            return Fallback(name, 0, "it reported the end of a file that has data")
        src = self.src.info if refusal.phase != lib.SIO_PHASE_DRAIN else None
        dst = self.dst.info if self.dst and refusal.phase != lib.SIO_PHASE_FILL else None
        names = (self.src.name, self.dst.name if self.dst else "dst")
        # Its way out is copy(), which this is.
        why = errors.reason_for(CALLS[refusal.call], err, src, dst, names=names).partition("; ")[0]
        return Fallback(name, err, why)

    @property
    def failure(self) -> struct_sio_error_ptr:
        """The error of the last step."""
        return lib.sio_transfer_error(self.c)

    def fd(self, side: int) -> int:
        """Return its own descriptor of a side; -1 if there is none."""
        return int(lib.sio_transfer_fd(self.c, side))

    def error(self) -> OSError:
        """Make the exception for the error the C has just returned."""
        failure = self.failure
        # A connection that is both: whichever met it, the other has it too.
        is_both = self.dst is not None and self.src.info.same_socket(self.dst.info)
        src, dst = self.fd(lib.SIO_SIDE_SRC), self.fd(lib.SIO_SIDE_DST)
        is_src = failure.side != lib.SIO_SIDE_DST or is_both
        is_dst = (failure.side != lib.SIO_SIDE_SRC or is_both) and self.dst is not None
        more = f" [{self.moved} bytes moved, {self.held} held]"
        names = (self.src.name, self.dst.name if self.dst else "dst")
        return errors.failure(
            CALLS[failure.call],
            failure.err,
            src if is_src else None,
            dst if is_dst else None,
            more=more,
            names=names,
        )

    def synchronise(self) -> None:
        """Put the positions of buffered Python objects where the bytes are."""
        moved = self.moved
        self.src.moved(moved)
        if self.dst is not None:
            self.dst.moved(moved)

    def put_back(self) -> None:
        """Return held bytes to a source that is a file; from any other they stay held."""
        if not (self.is_accessible and self.held and self.src.info.kind == lib.SIO_KIND_FILE):
            return
        if err := lib.sio_transfer_put_back(self.c, len(self.take_held())):
            raise errors.failure("lseek", -err)

    def take_held(self) -> bytes:
        """Take the held bytes out, in order; none in a child, whose parent needs them."""
        pieces: list[bytes] = []
        while self.is_accessible and (held := self.held):
            memory = bytearray(held)
            n = lib.sio_transfer_take_held(self.c, ffi.from_buffer(memory), held)
            if n <= 0:
                raise errors.failure("read", -n or errno.EIO)
            pieces.append(bytes(memory[:n]))
        return b"".join(pieces)

    @property
    def is_accessible(self) -> bool:
        """Whether this process may use it: neither an engine nor the parent process has it."""
        return not self.is_in_engine and bool(lib.sio_transfer_is_ours(self.c))

    def close(self) -> None:
        """Close the duplicates and the private pipe; safe to repeat. Not while an engine has it."""
        if not self.is_in_engine:
            lib.sio_transfer_close(self.c)
