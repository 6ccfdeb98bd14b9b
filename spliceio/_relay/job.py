"""A job of an engine: the C struct of one relay or transfer, and the modes of its descriptors.

An engine makes no call that may block: it would hold up its thread, and everything on it. So
sockets are nonblocking while an engine has them, and get their mode back.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._cffi import ffi, lib
from .._kernel import errors
from .._transfer.flow import Flow
from .relay import Pair
from .result import RelayResult

if TYPE_CHECKING:
    from .._cffi import (
        struct_sio_completions_ptr,
        struct_sio_conn_ptr,
        struct_sio_engine_ptr,
        struct_sio_job_report_ptr,
    )

__all__ = ["Job"]


_modes = lib.sio_modes_new()
if _modes == ffi.NULL:
    raise MemoryError("no memory for the modes of sockets")
os.register_at_fork(after_in_child=lambda: lib.sio_modes_reset(_modes))


class Job:
    """Flows as an engine takes them; they are the engine's from `hand_over` to SIO_EVENT_OVER."""

    def __init__(self, completions: struct_sio_completions_ptr, idle: int) -> None:
        self._config = ffi.new("struct sio_job_config *")
        self._config.completions, self._config.idle_ns = completions, idle
        self._made: struct_sio_conn_ptr | None = None  # the same as `c`, or not yet
        self.flows: list[Flow] = []
        self.pair: Pair | None = None
        # Kept while it may be asked anything; `submit` puts it here, or the caller keeps it.
        self._engine: struct_sio_engine_ptr | tuple[()] | None = ()

    def take_pair(self, pair: Pair) -> None:
        """Set the two flows of a relay."""
        self.pair, self.flows = pair, pair.flows
        a, b = (flow.fd(lib.SIO_SIDE_SRC) for flow in pair.flows)
        to_b, to_a = (flow.fd(lib.SIO_SIDE_DST) for flow in pair.flows)
        own = not pair.shares_descriptors
        self._config.relay = pair.config[0]
        self._config.fds = [a, to_a if own else -1, b, to_b if own else -1]
        self._make()

    def take_flow(self, flow: Flow) -> None:
        """Set the one flow of a transfer, whose ends are not shut down or closed at its end."""
        self.flows = [flow]
        self._config.relay.ab, self._config.relay.limit = flow.c, -1
        self._config.fds = [flow.fd(lib.SIO_SIDE_SRC), -1, -1, flow.fd(lib.SIO_SIDE_DST)]
        self._make()

    def _make(self) -> None:
        # In one call, so that no signal handler can raise before the collector is in place.
        # Dropped by whoever was interrupted, it still puts the modes back.
        made = next(map(ffi.gc, map(lib.sio_job_new, [self._config]), [lib.sio_job_free]))
        if made == ffi.NULL:
            raise MemoryError("no memory for a relay")
        self.c = self._made = made

    def hand_over(self) -> None:
        """Make every socket nonblocking, and mark the flows: only the engine may use or close them.

        Until `take_back`, that is, whatever is raised in between.
        """
        lib.sio_job_acquire(self.c, _modes)
        for flow in self.flows:
            flow.is_in_engine = True
            lib.sio_transfer_refresh(flow.c)

    def take_back(self) -> None:
        """Take the flows back; the sockets get the mode that they had."""
        if self._made is not None:
            lib.sio_job_release(self._made)
        for flow in self.flows:
            flow.is_in_engine = False

    def close_writers(self, events: int) -> None:
        """Close the writers that the events name."""
        if self.pair is not None:
            self.pair.close_writers(events // lib.SIO_EVENT_WRITER_B & 3)

    def submit(self, engine: struct_sio_engine_ptr) -> int:
        """Submit it to an engine; returns 0, or a negative errno if that has not taken it."""
        self._engine = engine
        return int(lib.sio_engine_submit(engine, self.c))

    def cancel(self) -> bool:
        """Request its end; return whether that, now or before, is how it ends."""
        engine = self._engine  # which is kept until it has answered, though the job is over
        return engine is not None and bool(lib.sio_engine_cancel(self.c))

    def release_engine(self) -> None:
        """Drop the reference to the engine, of a job that is over."""
        self._engine = None

    def abort(self) -> None:
        """End it for another reason than a cancellation."""
        lib.sio_engine_abort(self.c)

    @property
    def is_taken(self) -> bool:
        """Whether an engine has it, or has had it."""
        return self._made is not None and bool(lib.sio_job_is_taken(self._made))

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` has ended it, once it is over."""
        return bool(self.report.is_cancelled)

    @property
    def key(self) -> int:
        """The number by which completions refer to it."""
        return 0 if self._made is None else int(ffi.cast("intptr_t", self._made))

    @property
    def report(self) -> struct_sio_job_report_ptr:
        """How it has ended, once it is over."""
        report = ffi.new("struct sio_job_report *")
        if self._made is not None:
            lib.sio_job_report(self._made, report)
        return report

    @property
    def error(self) -> OSError | None:
        """The error, once it is over."""
        report = self.report
        if report.err:
            return errors.failure("epoll_ctl", report.err)
        return self.flows[report.failed - 1].error() if report.failed else None

    def result(self, reason: int | None = None) -> RelayResult:
        """Return what two flows have relayed; `reason` overrides the engine's why it ended."""
        assert self.pair is not None
        report = self.report
        return self.pair.result(report.ns / 1e9, report.reason if reason is None else reason)
