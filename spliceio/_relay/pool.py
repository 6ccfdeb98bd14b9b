"""`RelayPool`: thousands of relays on a few threads that never take the GIL.

Python makes the two flows of a relay and hands them to an engine of csrc/loop/loop.c; the result
comes back through a future. Between the two, Python is not needed.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from .._cffi import ffi, lib
from .._public import public
from .._transfer.flow import idle_ns
from . import act
from .engine import Engines, checked_threads
from .future import RelayFuture
from .job import Job
from .notify import Waiters
from .relay import Pair, Side
from .result import RelayResult

if TYPE_CHECKING:
    from .._cffi import struct_sio_conn_ptr

__all__ = ["PoolStats", "RelayFuture", "RelayPool"]


@public
@dataclass(frozen=True)
class PoolStats:
    """The counts of a RelayPool.

    `active` relays are open, of `total` that were submitted. `a_to_b` and `b_to_a` are bytes
    that arrived, those of open relays included. `pipes_open` pipes exist, `pipes_held` of them have
    bytes in them or are in use at this moment.
    """

    active: int
    total: int
    a_to_b: int
    b_to_a: int
    pipes_open: int
    pipes_held: int


class _Submission:
    """One relay that an engine has, or is about to get."""

    def __init__(self, pool: RelayPool, job: Job) -> None:
        self.job, self.future = job, RelayFuture(pool, job)
        self.error: BaseException | None = None
        self.load: set[int] = set()

    def close_writers(self, events: int) -> None:
        try:
            self.job.close_writers(events)
        except Exception as error:
            self.error = error
            self.job.abort()

    def finish(self) -> None:
        """Read the result out of the C, close its descriptors, and set the future."""
        job = self.job
        pair, result = job.pair, None
        assert pair is not None
        error = self.error or job.error
        try:
            job.take_back()
            pair.synchronise()
            result = job.result()
        except Exception as failed:
            error = error or failed
        finally:
            pair.close()
        if error is not None:
            error.result = result  # type: ignore[attr-defined]
        self.future._set_outcome(error, result, job.is_cancelled)


@public
class RelayPool:
    """Relays in any number, on `threads` threads of C that never take the GIL.

    A computing Python thread delays only the result of a relay that has ended, never its bytes. A
    relay takes no thread, and while it is idle no pipe and no buffer. At most `max_pipes` pipes are
    in use at once, of 1 MiB each; a relay that finds none free copies instead.

    It is a context manager: at the end of the block it waits until all relays have ended. At the
    end of the interpreter, relays that are still open are cut. After a fork, the child's copy
    raises RuntimeError; the relays go on in the parent.
    """

    def __init__(self, threads: int = 1, *, max_pipes: int = 64) -> None:
        # Tables that several threads change by atomic operations; see `notify`.
        self._submissions: dict[int, _Submission] = {}
        self._load: list[set[int]] = [set() for _ in range(checked_threads(threads))]
        self._changed = Waiters()
        self._shut = False
        # The engines must not keep the pool alive, which ends with its last reference.
        submissions = self._submissions

        def on_event(conn: struct_sio_conn_ptr, events: int) -> None:
            _on_event(submissions, conn, events)

        self._engines = Engines(
            threads,
            max_pipes,
            on_event,
            on_batch=self._changed.notify_all,
            on_fork=lambda: _fail_in_child(submissions),
            name="spliceio-relays",
        )
        try:
            self._engines.start()
            self._finalizer = weakref.finalize(self, self._engines.close)
            self._finalizer.atexit = False
        except BaseException:
            self._engines.close()
            raise

    def submit(
        self,
        a: Side,
        b: Side,
        *,
        idle_timeout: float | None = None,
        to_a: bytes = b"",
        to_b: bytes = b"",
        byte_limit: int | None = None,
    ) -> RelayFuture:
        """Start a relay between two sides; return a future for its RelayResult.

        The parameters, the sides and the result are those of `relay`. The relay has duplicates of
        the descriptors: closing yours does not end it, `shutdown()` does, and `cancel()` of the
        future. Sockets are nonblocking while it runs and get their mode back; leave the mode, and
        the bytes, alone until then.

        Raises what `relay` raises for what it refuses, and RuntimeError when the pool is shut down
        or was made in another process. The future's exception is an OSError with `result` for
        failures other than a broken connection.
        """
        self._engines.check("RelayPool.submit")
        if self._shut:
            raise RuntimeError("RelayPool.submit: it is shut down")
        completions = self._engines.completions_for("RelayPool.submit")
        engine = next(iter(self._engines.each), None)
        tried = act.tried(a, b, idle_timeout, to_a, to_b, byte_limit, engine)
        if isinstance(tried, RelayResult):
            return RelayFuture.over(self, tried)
        job = Job(completions, idle_ns(idle_timeout, "idle_timeout"))
        if tried is None:
            return self._submit(job, Pair(a, b, to_a, to_b, byte_limit))
        try:
            pair = Pair(a, b, tried.held[1], tried.held[0])
            return self._submit(job, pair, tried)
        except BaseException as error:
            tried.salvage(error)
            raise

    def _submit(self, job: Job, pair: Pair, tried: act.Tried | None = None) -> RelayFuture:
        try:
            if tried is not None:
                pair.go_on_from(tried)
            job.take_pair(pair)
            submission = _Submission(self, job)
            self._start(submission)
            return submission.future
        except BaseException:
            self._undo_submit(job, pair)
            raise

    def _start(self, submission: _Submission) -> None:
        job, engines = submission.job, list(self._engines.each)
        if engines:
            number = min(range(len(engines)), key=lambda n: len(self._load[n]))
            job.hand_over()
            submission.load = self._load[number]
            # Before it is submitted: its end may be posted before that has returned.
            submission.load.add(job.key)
            self._submissions[job.key] = submission
        if not engines or job.submit(engines[number]):
            self._engines.check("RelayPool.submit")  # the engine may have ended by an error
            raise RuntimeError("RelayPool.submit: it is shut down")

    def _undo_submit(self, job: Job, pair: Pair) -> None:
        """Undo a submit that has failed, at whatever point."""
        if job.is_taken:  # the completion of its end closes everything
            job.abort()
            return
        submission = self._submissions.pop(job.key, None)
        if submission is not None:
            submission.load.discard(job.key)
        job.take_back()
        pair.close()

    def _is_quiet(self) -> bool:
        """Return whether no relay is open; one that is being submitted will find it shut down."""
        return not any(submission.job.is_taken for submission in list(self._submissions.values()))

    def stats(self) -> PoolStats:
        """Count what is open now, and what was done since the pool was made."""
        self._engines.check_process("RelayPool.stats")
        counts = self._engines.counts()
        return PoolStats(**{name: counts[name] for name in PoolStats.__dataclass_fields__})

    def shutdown(self, wait: bool = True, *, drain: float | None = None) -> None:
        """Take no more relays; wait for those that are open, or cut them.

        With `wait` it returns when all have ended by themselves, or, with `drain`, when so many
        seconds are over; what is open then is cut: its result has the reason "cancelled". Without
        `wait` what is open is cut at once. Safe to repeat and to call from another thread.

        Raises RuntimeError in a callback of a future, which would wait for its own thread.
        """
        if self._engines.pid != os.getpid():
            return
        self._shut = True
        if wait and drain != 0 and self._engines.is_completion_thread:
            raise RuntimeError(
                "RelayPool.shutdown: this is a callback, in the thread that completes relays, "
                "and would wait for itself; use wait=False, or another thread"
            )
        if wait:
            self._changed.wait_for(self._is_quiet, drain)
        self._engines.close()

    def __enter__(self) -> RelayPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown(wait=kind is None)


def _on_event(submissions: dict[int, _Submission], conn: struct_sio_conn_ptr, events: int) -> None:
    key = int(ffi.cast("intptr_t", conn))
    submission = submissions[key]
    if events & (lib.SIO_EVENT_WRITER_A | lib.SIO_EVENT_WRITER_B):
        submission.close_writers(events)
    if events & lib.SIO_EVENT_OVER:
        del submissions[key]
        submission.load.discard(key)
        try:
            submission.finish()
        finally:
            submission.job.release_engine()


def _fail_in_child(submissions: dict[int, _Submission]) -> None:
    """In a forked child: close the copies, and end the futures with an error."""
    for submission in list(submissions.values()):
        for flow in submission.job.flows:
            flow.is_in_engine = False
            flow.close()
        submission.future._fail_in_child()
    submissions.clear()
