"""RelayPool: thousands of relays on a few threads that never take the GIL.

Python makes the two flows of a relay and hands them to an engine of csrc/loop/loop.c; the result
comes back through a future. Between the two, Python is not needed.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .._cffi import ffi, lib
from .._public import public
from .._transfer.flow import idle_ns
from .engine import Engines, checked_threads
from .future import RelayFuture
from .job import Link
from .notify import Waiters
from .relay import Pair, Side

__all__ = ["PoolStats", "RelayFuture", "RelayPool"]


@public
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


class _Job:
    """One relay that an engine has, or is about to get."""

    def __init__(self, pool: RelayPool, link: Link) -> None:
        self.link, self.future = link, RelayFuture(pool, link)
        self.error: BaseException | None = None
        self.load: set[int] = set()

    def close_writers(self, told: int) -> None:
        try:
            self.link.close_writers(told)
        except Exception as error:
            self.error = error
            self.link.cut()

    def finish(self) -> None:
        """Read the result out of the C, close what is ours, and tell the future."""
        link = self.link
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
        self.future._end(error, result, link.is_cancelled)


@public
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
        # Tables that several threads change by atomic operations; see _notify.
        self._jobs: dict[int, _Job] = {}
        self._load: list[set[int]] = [set() for _ in range(checked_threads(threads))]
        self._changed = Waiters()
        self._shut = False
        # The engines must not keep the pool alive, which ends with its last reference.
        jobs = self._jobs

        def hear(link: Any, told: int) -> None:
            _hear(jobs, link, told)

        self._engines = Engines(
            threads,
            max_pipes,
            hear,
            heard=self._changed.notify_all,
            on_fork=lambda: _disown(jobs),
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
        news = self._engines.news_for("RelayPool.submit")
        link = Link(news, idle_ns(idle_timeout, "idle_timeout"))
        pair = Pair(a, b, to_a, to_b, byte_limit)
        try:
            link.take_pair(pair)
            job = _Job(self, link)
            self._begin(job)
            return job.future
        except BaseException:
            self._give_up(link, pair)
            raise

    def _begin(self, job: _Job) -> None:
        link, engines = job.link, list(self._engines.each)
        if engines:
            number = min(range(len(engines)), key=lambda n: len(self._load[n]))
            link.lend()
            job.load = self._load[number]
            # Before it is submitted: its end may be told before that has returned.
            job.load.add(link.key)
            self._jobs[link.key] = job
        if not engines or link.submit(engines[number]):
            self._engines.check("RelayPool.submit")  # the engine may have ended by an error
            raise RuntimeError("RelayPool.submit: it is shut down")

    def _give_up(self, link: Link, pair: Pair) -> None:
        """Undo a submit that has failed, at whatever point."""
        if link.is_taken:  # its end will be told, and closes everything
            link.cut()
            return
        job = self._jobs.pop(link.key, None)
        if job is not None:
            job.load.discard(link.key)
        link.returned()
        pair.close()

    def _is_quiet(self) -> bool:
        """Whether no relay is open; one that is being submitted will find it shut."""
        return not any(job.link.is_taken for job in list(self._jobs.values()))

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


def _hear(jobs: dict[int, _Job], link: Any, told: int) -> None:
    key = int(ffi.cast("intptr_t", link))
    job = jobs[key]
    if told & (lib.SIO_EVENT_WRITER_A | lib.SIO_EVENT_WRITER_B):
        job.close_writers(told)
    if told & lib.SIO_EVENT_OVER:
        del jobs[key]
        job.load.discard(key)
        try:
            job.finish()
        finally:
            job.link.forget_engine()


def _disown(jobs: dict[int, _Job]) -> None:
    """In a child: what the parent's engines do will never be told here."""
    for job in list(jobs.values()):
        for flow in job.link.flows:
            flow.is_lent = False
            flow.close()
        job.future._disown()
    jobs.clear()
