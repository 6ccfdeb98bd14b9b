"""Awaiting what the engines do: the one driver under `spliceio.aio`.

A transfer or relay is lent to an engine, and its news is an eventfd that the event loop waits for:
one wake-up for each, however many bytes. Under asyncio, uvloop and trio alike, by anyio.

Rule 1: bytes never wait for the event loop. What waits for no peer, file to file, and a fan-out run
        in a thread; everything else in an engine.
Rule 2: a cancelled task gets the engine to let go, and waits until it has; then nothing is in
        flight, and the exception tells what moved.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel

from .._cffi import ffi, lib
from .._fanout.fanout import Fanout
from .._fanout.sinks import FanoutResult
from .._kernel import errors
from .._relay.engine import Engines
from .._relay.job import Link
from .._relay.relay import RelayResult
from .._transfer.transfer import (
    Transfer,
    TransferResult,
    conclude,
    flow_of,
    waits_for_nobody,
    whole_result,
)
from ._worker import Pace, in_thread

__all__ = ["fanned_out", "finished", "relayed"]

THREADS = 2
PIPES = 64

Sent = Callable[[], Awaitable[dict[str, OSError]]]
"""Waits until the ends have sent what they had, and says which of them are broken."""
_RESET = {"a": lib.SIO_REASON_RESET_A, "b": lib.SIO_REASON_RESET_B}

_lock = threading.Lock()
_shared: list[Engines] = []
_turns = itertools.count()
# What the engines have. An exception, Ctrl-C above all, may end a coroutine at any point; but the
# memory and the descriptors of a link are an engine's until it has said that it is over.
_under_way: dict[int, tuple[Link, _News, weakref.ref[_Waiter]]] = {}


class _Waiter:
    """Lives as long as somebody waits for a link."""


def _engine() -> Any:
    """Return one of the engines that all event loops of the process share."""
    with _lock:
        if not _shared or _shared[0].pid != os.getpid() or not _shared[0].each:
            made = Engines(THREADS, PIPES, lambda link, told: None, name="spliceio-aio")
            try:
                made.start()
            except BaseException:
                made.close()
                raise
            _shared[:] = [made]  # only with all its threads: a link would wait for ever
        return _shared[0].each[next(_turns) % THREADS]


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _under_way.clear()


os.register_at_fork(after_in_child=_forget)


class _News:
    """An eventfd and a list of its own for one link."""

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
        """Whether the end has been told, which is the last; it is known as soon as it is taken."""
        return bool(self._told[0] & lib.SIO_EVENT_OVER)

    def take(self) -> int:
        """Return what has been told since; 0 when nothing was."""
        if lib.sio_completions_take(self.c, self._told) == ffi.NULL:
            return 0
        return int(self._told[0])

    def close(self) -> None:
        """Free it, if no engine can tell anything any more; else the collector will."""
        if self.is_over or not self.has_engine:
            ffi.release(self.c)

    async def next(self, pace: Pace | None = None) -> int:
        """Wait for what is told next; tell of progress at this pace meanwhile."""
        while not (told := self.take()):
            with anyio.move_on_after(math.inf if pace is None else pace.seconds):
                await anyio.wait_readable(lib.sio_completions_fd(self.c))
                continue
            if pace is not None:
                pace.tell()
        return told


async def _until_over(link: Link, news: _News, pace: Pace | None) -> None:
    while not news.is_over:
        link.close_writers(await news.next(pace))


async def _let_go(news: _News) -> None:
    """Wait until the engine has let go, which it does at its next round."""
    while not news.is_over:
        try:
            with anyio.CancelScope(shield=True):
                await news.next()
        except anyio.get_cancelled_exc_class():
            # A task of asyncio can be cancelled again, shield or not. It is being cancelled.
            continue
        except BaseException:
            # No loop to wait in any more.
            while not news.is_over:
                if not news.take():
                    lib.sio_completions_wait(news.c, -1)
            raise


async def _lent(link: Link, news: _News, pace: Pace | None = None) -> None:
    # Small transfers are over before there is anything to wait for.
    await anyio.lowlevel.checkpoint()
    _reap()
    engine, waiter = _engine(), _Waiter()
    try:
        _under_way[link.key] = link, news, weakref.ref(waiter)
        link.lend()
        news.has_engine = True
        err = lib.sio_engine_submit(engine, link.c)
        if err:
            news.has_engine = False  # which has not taken it
            raise errors.failure("submit", -err)
        await _until_over(link, news, pace)
    except BaseException:
        # Ctrl-C may come as soon as the engine has it, and before it is waited for.
        if link.is_taken and not news.is_over:
            link.cancel()
            await _let_go(news)
        raise
    finally:
        try:
            _returned(link, news)
        except BaseException:
            _returned(link, news)  # a signal handler has raised
            raise
        del waiter
    if err := link.report.err:
        raise errors.failure("epoll_ctl", err)


def _returned(link: Link, news: _News) -> bool:
    """Take a link back if no engine has it, or it has let go; whether it is ours."""
    if link.is_taken and not news.is_over:
        return False
    link.returned()
    _under_way.pop(link.key, None)
    return True


def _reap() -> None:
    """Take back what nobody waits for any more, once it has been let go of."""
    for link, news, waiter in list(_under_way.values()):
        if waiter() is not None:
            continue
        if link.is_taken and not news.is_over:
            link.cancel()
            news.take()
        if _returned(link, news):
            for flow in link.flows:
                flow.close()


# -- one way -----------------------------------------------------------------------------------


async def finished(
    transfer: Transfer, progress: Callable[[int], object] | None, sent: Sent
) -> TransferResult:
    """Run a transfer to its end and close it; an exception takes the counts and the bytes along."""
    try:
        for broken in (await sent()).values():
            raise broken
        if waits_for_nobody(transfer):
            await in_thread(lambda told, _: transfer.run(told), progress, lambda: transfer.moved)
        else:
            await _by_engine(transfer, progress)
        result = whole_result(transfer)
        transfer.close()
        return result
    except BaseException as error:
        with transfer:
            transfer.salvage(error)
        raise


async def _by_engine(transfer: Transfer, progress: Callable[[int], object] | None) -> None:
    news, begun = _News(), time.monotonic()
    flow, limit = flow_of(transfer)
    link = Link(news.c, limit)
    link.take_flow(flow)
    pace = Pace(progress, lambda: transfer.moved)
    try:
        await _lent(link, news, pace)
        pace.tell()
    finally:
        state = _state_of(link) if news.is_over else lib.SIO_BUDGET
        news.close()
        conclude(transfer, state, time.monotonic() - begun)


def _state_of(link: Link) -> int:
    """Say how the transfer has ended, in the words of the state machine."""
    report = link.report
    if report.failed:
        return int(lib.SIO_ERROR)
    if report.reason == lib.SIO_REASON_IDLE:
        return int(lib.SIO_TIMEOUT)
    if report.reason == lib.SIO_REASON_CANCELLED or report.err:
        return int(lib.SIO_BUDGET)
    return int(lib.SIO_DONE)


# -- one to many -------------------------------------------------------------------------------


async def fanned_out(
    made: Fanout, progress: Callable[[int], object] | None, sent: Sent
) -> FanoutResult:
    """Run a fan-out to its end in a thread, and close it."""
    done: list[FanoutResult] = []
    try:
        await sent()  # a sink that is broken says so when it is given bytes, and the rest go on
        await in_thread(
            lambda told, wake: done.append(made.drive(told, wake=wake)),
            progress,
            lambda: made.moved,
        )
        made.close()
        return done[0]
    except BaseException as error:
        with contextlib.closing(made):
            made.salvage(error)
        raise


# -- two ways ----------------------------------------------------------------------------------


async def relayed(make: Callable[[], Any], idle: int, sent: Sent) -> RelayResult:
    """Run the pair that `make` makes to its end, and close it."""
    news = _News()
    link = Link(news.c, idle)
    pair, reason = make(), None
    try:
        link.take_pair(pair)
        broken = await sent()
        if not broken:
            await _lent(link, news)
        for side in broken:
            reason = _RESET[side]
        error = link.error
        if error is not None:
            raise error
        pair.synchronise()
        result = link.result(reason)
        pair.close()
        news.close()
        return result
    except BaseException as error:
        with pair:
            pair.synchronise()
            error.result = link.result(reason)  # type: ignore[attr-defined]
        news.close()
        raise
