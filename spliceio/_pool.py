"""RelayPool: thousands of relays on a few threads that never take the GIL.

Python makes the two flows of a relay and hands them to an engine of csrc/engine.c; the result comes
back through a future. Between the two, Python is not needed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ._cffi import ffi, lib
from ._engine import Engines
from ._flow import idle_ns
from ._link import Link
from ._relay import Pair, RelayResult, Side

__all__ = ["PoolStats", "RelayFuture", "RelayPool"]

_FORKED = (
    "the relay belongs to another process, which goes on with it; threads do not survive a fork. "
    "Make a RelayPool of your own in the child"
)


@dataclass(frozen=True)
class PoolStats:
    """What a RelayPool does now, and has done.

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


class RelayFuture(Future[RelayResult]):
    """The result of a relay, when it has ended: a `concurrent.futures.Future`.

    `cancel()` ends a relay that runs, and returns whether it did; the future is then cancelled at
    once, and `outcome()` still tells what was relayed.
    """

    def __init__(self, pool: RelayPool) -> None:
        super().__init__()
        self._pool = pool
        self._job: _Job | None = None
        self._is_unwanted = False
        self._relayed: RelayResult | None = None
        self._error: BaseException | None = None

    def cancel(self) -> bool:
        """End the relay. False when it has ended by itself; bytes are not lost, see `outcome`."""
        self._is_unwanted = True
        # First, so that a callback of the future may wait for the outcome.
        self._pool._cancel(self)
        return self._be_cancelled()

    def _be_cancelled(self) -> bool:
        if not super().cancel():
            return False
        with self._condition:
            if self._state == "CANCELLED":  # who waits for several futures is told once
                self.set_running_or_notify_cancel()
        return True

    def running(self) -> bool:
        """Return whether the relay is open."""
        return not self.done()

    def outcome(self, timeout: float | None = None) -> RelayResult:
        """What was relayed, also of a relay that was cancelled (its `reason` is "cancelled").

        Waits until the engine has let go of both sides, for at most `timeout` seconds. Raises
        TimeoutError after that, and the relay's own error if it failed.
        """
        self._pool._await(self, timeout)
        if self._error is not None:
            raise self._error
        assert self._relayed is not None
        return self._relayed

    @property
    def _is_over(self) -> bool:
        return self._relayed is not None or self._error is not None


class _Job:
    """One relay that an engine has."""

    def __init__(self, link: Link, future: RelayFuture, engine: int) -> None:
        self.link, self.future, self.engine = link, future, engine
        self.error: BaseException | None = None

    def close_writers(self, told: int) -> None:
        try:
            self.link.close_writers(told)
        except Exception as error:
            self.error = error
            self.link.cancel()

    def finish(self) -> None:
        """Read the result out of the C, close what is ours, and tell the future."""
        link, future = self.link, self.future
        pair, result = link.pair, None
        assert pair is not None
        error = self.error or link.error
        try:
            link.returned()
            pair.synchronise()
            result = link.result()
        except Exception as failed:
            error = error or failed
        finally:
            pair.close()
        if error is not None:
            error.result = result  # type: ignore[attr-defined]
        future._job = None
        future._error, future._relayed = error, result
        if future._is_unwanted and result is not None and result.reason == "cancelled":
            future._be_cancelled()
            return
        # Cancelled meanwhile, it has been told already; outcome() tells the rest.
        with contextlib.suppress(InvalidStateError):
            if error is not None:
                future.set_exception(error)
            elif result is not None:
                future.set_result(result)


class RelayPool:
    """Relays in any number, on `threads` threads of C that never take the GIL.

    A computing Python thread delays only the news that a relay has ended, never its bytes. A relay
    takes no thread, and while it is idle no pipe and no buffer. At most `max_pipes` pipes are in
    use at once, of 1 MiB each; a relay that finds none free copies instead.

    It is a context manager: at the end of the block it waits until all relays have ended. At the
    end of the interpreter, relays that are still open are cut. After a fork, the child's copy
    raises RuntimeError; the relays go on in the parent.
    """

    def __init__(self, threads: int = 1, *, max_pipes: int = 64) -> None:
        self._jobs: dict[int, _Job] = {}
        self._changed = threading.Condition()
        self._shut = False
        self._load = [0] * max(threads, 1)
        # The engines must not keep the pool alive, which ends with its last reference.
        this = weakref.ref(self)
        jobs, changed, load = self._jobs, self._changed, self._load

        def hear(link: Any, told: int) -> None:
            _hear(jobs, changed, load, link, told)

        def forked() -> None:
            _disown(jobs, this())

        self._engines = Engines(threads, max_pipes, hear, on_fork=forked, name="spliceio-relays")
        self._engines.start()
        self._finalizer = weakref.finalize(self, self._engines.close)
        self._finalizer.atexit = False

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
        """Begin a relay between two sides; the future gives its RelayResult when it has ended.

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
        link = Link(self._engines.news, idle_ns(idle_timeout, "idle_timeout"))
        pair = Pair(a, b, to_a, to_b, byte_limit, c=link.c.relay)
        try:
            link.take_pair(pair)
            return self._begin(link)
        except BaseException:
            pair.close()
            raise

    def _begin(self, link: Link) -> RelayFuture:
        future = RelayFuture(self)
        with self._changed:
            number, engines = self._load.index(min(self._load)), list(self._engines.each)
            job = _Job(link, future, number)
            link.lend()
            # Before it is submitted: an exception in between must not lose it.
            self._jobs[link.key] = future._job = job
            self._load[number] += 1
            if not engines or lib.sio_engine_submit(engines[number], link.c):
                del self._jobs[link.key]
                link.returned()
                raise RuntimeError("RelayPool.submit: it is shut down")
        return future

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

        Raises RuntimeError in a callback of a future that would wait for what only it can hear.
        """
        if self._engines.pid != os.getpid():
            return
        self._shut = True
        if wait and drain != 0 and self._engines.is_heard_here:
            raise RuntimeError(
                "RelayPool.shutdown: this is a callback, in the thread that hears when relays end, "
                "and would wait for itself; use wait=False, or another thread"
            )
        if wait:
            with self._changed:
                self._changed.wait_for(lambda: not self._jobs, drain)
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

    def _cancel(self, future: RelayFuture) -> None:
        if self._engines.pid != os.getpid():
            return
        with self._changed:  # so that the link is not given up meanwhile
            job = future._job
            if job is not None and job.link.key in self._jobs:
                job.link.cancel()

    def _await(self, future: RelayFuture, timeout: float | None) -> None:
        """Wait until the engine has let go of the relay."""
        if self._engines.pid != os.getpid():
            raise RuntimeError(f"outcome: {_FORKED}")
        with self._changed:
            if not self._changed.wait_for(lambda: future._is_over, timeout):
                raise TimeoutError("outcome: the relay is still open")


def _hear(
    jobs: dict[int, _Job], changed: threading.Condition, load: list[int], link: Any, told: int
) -> None:
    key = int(ffi.cast("intptr_t", link))
    with changed:
        job = jobs[key]
    if told & (lib.SIO_TOLD_WRITER_A | lib.SIO_TOLD_WRITER_B):
        job.close_writers(told)
    if not told & lib.SIO_TOLD_OVER:
        return
    with changed:
        del jobs[key]
        load[job.engine] -= 1
    job.finish()
    with changed:
        changed.notify_all()


def _disown(jobs: dict[int, _Job], pool: RelayPool | None) -> None:
    """In a child: what the parent's engines do will never be told here."""
    if pool is not None:
        pool._changed = threading.Condition()
    for job in list(jobs.values()):
        for flow in job.link.flows:
            flow.is_lent = False
            flow.close()
        # Locks that another thread held at the moment of the fork are held for ever.
        job.future._condition = threading.Condition()
        job.future._done_callbacks.clear()  # type: ignore[attr-defined]
        if not job.future.done():
            job.future.set_exception(RuntimeError(_FORKED))
    jobs.clear()
