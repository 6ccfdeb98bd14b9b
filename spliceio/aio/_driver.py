"""Await a transfer, fan-out or relay that runs in an engine or a thread.

A transfer or relay is handed over to an engine, whose completions wake the event loop by an
eventfd: one wake-up for each, however many bytes. Under asyncio, uvloop and trio alike, by anyio.

Rule 1: bytes do not wait for the event loop, but for those of the first milliseconds (`_turns`).
        What waits for no peer, file to file, and a fan-out run in a thread; everything else in an
        engine.
Rule 2: a cancelled task makes the engine release the job, and waits until it has; then nothing is
        in flight, and the exception has `result`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from .._cffi import ffi, lib
from .._fanout.fanout import Fanout
from .._fanout.sinks import FanoutResult
from .._kernel import errors
from .._relay.engine import Engines
from .._relay.job import Job
from .._relay.relay import Pair
from .._relay.result import RelayResult
from .._transfer.act import note_nothing
from .._transfer.result import TransferResult
from .._transfer.transfer import (
    Transfer,
    apply_state,
    checked_result,
    flow_of,
)
from ._turns import readable, run_in_turns
from ._worker import Pace, run_in_thread

if TYPE_CHECKING:
    from .._cffi import struct_sio_engine_ptr

__all__ = ["run_and_close", "run_fanout", "run_relay"]

THREADS = 2
PIPES = 64

Sent = Callable[[], Awaitable[dict[str, OSError]]]
"""Waits until the streams have sent their buffers; returns the errors of those that are broken."""
_RESET = {"a": lib.SIO_REASON_RESET_A, "b": lib.SIO_REASON_RESET_B}

_lock = threading.Lock()
_shared: list[Engines] = []
_turns = itertools.count()
# Jobs that the engines have. An exception, Ctrl-C above all, may end a coroutine at any point; but
# the memory and the descriptors of a job are an engine's until it has posted SIO_EVENT_OVER.
_running: dict[int, tuple[Job, _Completions, weakref.ref[_Waiter]]] = {}


class _Waiter:
    """An object that lives as long as a task awaits a job: its weak reference says so."""


def _engine() -> struct_sio_engine_ptr:
    """Return one of the engines that all event loops of the process share."""
    with _lock:
        if not _shared or _shared[0].pid != os.getpid() or not _shared[0].each:
            made = Engines(THREADS, PIPES, lambda job, events: None, name="spliceio-aio")
            try:
                made.start()
            except BaseException:
                made.close()
                raise
            _shared[:] = [made]  # only with all its threads: a job would wait for ever
        return _shared[0].each[next(_turns) % THREADS]


def _reset_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _running.clear()


os.register_at_fork(after_in_child=_reset_after_fork)


class _Completions:
    """The completions of one job: a list of events, and an eventfd that says when there are any."""

    def __init__(self) -> None:
        self._told = ffi.new("int32_t *")
        # One call, so that no signal handler can raise before the collector is in place.
        made = map(
            ffi.gc, itertools.starmap(lib.sio_completions_new, [()]), [lib.sio_completions_free]
        )
        self.c = next(made)
        if self.c == ffi.NULL:
            raise errors.failure("eventfd", ffi.errno)
        self.has_engine = False

    @property
    def is_over(self) -> bool:
        """Whether SIO_EVENT_OVER, the last event, was taken."""
        return bool(self._told[0] & lib.SIO_EVENT_OVER)

    def take(self) -> int:
        """Return the events since the last call; 0 without any."""
        if lib.sio_completions_take(self.c, self._told) == ffi.NULL:
            return 0
        return int(self._told[0])

    def wait_over(self) -> None:
        """Wait for the last event without an event loop."""
        while not self.is_over:
            if not self.take():
                lib.sio_completions_wait(self.c, -1)

    def close(self) -> None:
        """Free it, unless an engine may still post to it; then the collector will."""
        if self.is_over or not self.has_engine:
            ffi.release(self.c)

    async def next(self, pace: Pace | None = None) -> int:
        """Wait for the next events; call `progress` at this pace meanwhile."""
        wait = readable if _is_asyncio() else _readable
        while not (events := self.take()):
            seconds = math.inf if pace is None else pace.seconds
            if not await wait(lib.sio_completions_fd(self.c), seconds) and pace is not None:
                pace.report()
        return events


async def _readable(fd: int, seconds: float) -> bool:
    """Wait until a descriptor is readable; return whether it is, before so much time is over."""
    with anyio.move_on_after(seconds):
        await anyio.wait_readable(fd)
        return True
    return False


async def _until_over(job: Job, completions: _Completions, pace: Pace | None) -> None:
    while not completions.is_over:
        job.close_writers(await completions.next(pace))


async def _wait_released(completions: _Completions) -> None:
    """Wait until the engine has released the job, which it does at its next round."""
    while not completions.is_over:
        try:
            with anyio.CancelScope(shield=True):
                await completions.next()
        except anyio.get_cancelled_exc_class():
            # A task of asyncio can be cancelled again, shield or not. It is being cancelled.
            continue
        except BaseException:
            completions.wait_over()  # there is no loop to wait in any more
            raise


async def _run_in_engine(job: Job, completions: _Completions, pace: Pace | None = None) -> None:
    # Small transfers are over before there is anything to wait for.
    await (asyncio.sleep(0) if _is_asyncio() else anyio.lowlevel.checkpoint())
    _reap()
    engine, waiter = _engine(), _Waiter()
    try:
        _running[job.key] = job, completions, weakref.ref(waiter)
        job.hand_over()
        completions.has_engine = True
        err = lib.sio_engine_submit(engine, job.c)
        if err:
            completions.has_engine = False  # which has not taken it
            raise errors.failure("submit", -err)
        await _until_over(job, completions, pace)
    except BaseException as error:
        # Ctrl-C may come as soon as the engine has it, and before it is waited for.
        if job.is_taken and not completions.is_over:
            job.cancel()
            if isinstance(error, GeneratorExit):
                completions.wait_over()  # a coroutine that is closed waits for nothing
            else:
                await _wait_released(completions)
        raise
    finally:
        try:
            _take_back(job, completions)
        except BaseException:
            _take_back(job, completions)  # a signal handler has raised
            raise
        del waiter
    if err := job.report.err:
        raise errors.failure("epoll_ctl", err)


def _take_back(job: Job, completions: _Completions) -> bool:
    """Take a job back if no engine has it, or has released it; return whether it is ours."""
    if job.is_taken and not completions.is_over:
        return False
    job.take_back()
    _running.pop(job.key, None)
    return True


def _reap() -> None:
    """Take back jobs that no task awaits any more, once the engine has released them."""
    for job, completions, waiter in list(_running.values()):
        if waiter() is not None:
            continue
        if job.is_taken and not completions.is_over:
            job.cancel()
            completions.take()
        if _take_back(job, completions):
            for flow in job.flows:
                flow.close()


# -- one way -----------------------------------------------------------------------------------


async def at_once(
    trying: Callable[..., TransferResult | Transfer | None],
) -> TransferResult | Transfer | None:
    """Try, without a wait, and from memory only; a task that is cancelled tries nothing.

    Under asyncio what goes at once does not give way to other tasks, as in its own `sock_sendall`;
    under trio every call does.
    """
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException as error:
        note_nothing(error)
        raise
    tried = trying(cached_only=True)
    if tried is not None and _is_trio():
        await anyio.lowlevel.cancel_shielded_checkpoint()
    return tried


def _is_asyncio() -> bool:
    """Whether this task is one of an event loop of asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return not _is_trio()


def _is_trio() -> bool:
    """Whether this task is one of trio, which is not imported for that."""
    if (trio := sys.modules.get("trio")) is None:
        return False
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def nothing_unsent() -> dict[str, OSError]:
    """Stand for the streams of a call whose ends are none."""
    return {}


async def run_and_close(
    transfer: Transfer, progress: Callable[[int], object] | None, sent: Sent
) -> TransferResult:
    """Run a transfer to its end and close it; an exception gets `result` and `held`."""
    try:
        for broken in (await sent()).values():
            raise broken
        if not flow_of(transfer)[0].waits:
            await run_in_thread(
                lambda report, _: transfer.run(report), progress, lambda: transfer.moved
            )
        elif not (_is_asyncio() and await run_in_turns(transfer)):
            while await _by_engine(transfer, progress):
                pass
        elif progress is not None:
            progress(transfer.moved)
        result = checked_result(transfer)
        transfer.close()
        return result
    except BaseException as error:
        with transfer:
            transfer.salvage(error)
        raise


async def _by_engine(transfer: Transfer, progress: Callable[[int], object] | None) -> bool:
    """Run a transfer until an engine ends it; return whether it has to go on.

    That is so at a TLS record that only OpenSSL reads, as is done then.
    """
    completions, begun = _Completions(), time.monotonic()
    flow, limit = flow_of(transfer)
    job = Job(completions.c, limit)
    job.take_flow(flow)
    pace = Pace(progress, lambda: transfer.moved)
    try:
        await _run_in_engine(job, completions, pace)
        pace.report()
    finally:
        state = _state_of(job) if completions.is_over else lib.SIO_BUDGET
        completions.close()
        after = flow.past_record(state)
        apply_state(transfer, after, time.monotonic() - begun)
    return bool(state != after)


def _state_of(job: Job) -> int:
    """Return how the transfer has ended, as a state of the C state machine."""
    report = job.report
    if report.failed:
        return int(lib.SIO_ERROR)
    if report.reason == lib.SIO_REASON_IDLE:
        return int(lib.SIO_TIMEOUT)
    if report.reason == lib.SIO_REASON_CANCELLED or report.err:
        return int(lib.SIO_BUDGET)
    return int(lib.SIO_DONE)


# -- one to many -------------------------------------------------------------------------------


async def run_fanout(
    fan: Fanout, progress: Callable[[int], object] | None, sent: Sent
) -> FanoutResult:
    """Run a fan-out to its end in a thread, and close it."""
    done: list[FanoutResult] = []
    try:
        await sent()  # a broken sink fails when it is given bytes, and the rest go on
        await run_in_thread(
            lambda report, wake: done.append(fan.drive(report, wake=wake)),
            progress,
            lambda: fan.moved,
        )
        fan.close()
        return done[0]
    except BaseException as error:
        with contextlib.closing(fan):
            fan.salvage(error)
        raise


# -- two ways ----------------------------------------------------------------------------------


async def run_relay(make: Callable[[], Pair], idle: int, sent: Sent) -> RelayResult:
    """Run the pair that `make` makes to its end, and close it."""
    completions = _Completions()
    job = Job(completions.c, idle)
    pair, reason = make(), None
    try:
        job.take_pair(pair)
        broken = await sent()
        if not broken:
            await _run_in_engine(job, completions)
        for side in broken:
            reason = _RESET[side]
        error = job.error
        if error is not None:
            raise error
        pair.synchronise()
        result = job.result(reason)
        pair.close()
        completions.close()
        return result
    except BaseException as error:
        with pair:
            pair.synchronise()
            error.result = job.result(reason)  # type: ignore[attr-defined]
        completions.close()
        raise
