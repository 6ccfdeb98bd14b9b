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
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel

from . import _errors
from ._cffi import ffi, lib
from ._engine import Engines
from ._fanout import Fanout
from ._link import Link
from ._relay import RelayResult
from ._sinks import FanoutResult
from ._thread import PROGRESS, in_thread
from ._transfer import (
    Transfer,
    TransferResult,
    conclude,
    flow_of,
    waits_for_nobody,
    whole_result,
)

__all__ = ["fanned_out", "finished", "relayed"]

THREADS = 2
PIPES = 64

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
            _shared[:] = [Engines(THREADS, PIPES, lambda link, told: None, name="spliceio-aio")]
            _shared[0].start()
        return _shared[0].each[next(_turns) % THREADS]


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _under_way.clear()


os.register_at_fork(after_in_child=_forget)


class _News:
    """An eventfd and a list of its own for one link."""

    def __init__(self) -> None:
        made = lib.sio_news_new()
        if made == ffi.NULL:
            raise _errors.failure("eventfd", ffi.errno)
        self.c = ffi.gc(made, lib.sio_news_free)
        self._told = ffi.new("int32_t *")
        self.is_over = False

    def take(self) -> int:
        """Return what has been told since; 0 when nothing was."""
        if lib.sio_news_take(self.c, self._told) == ffi.NULL:
            return 0
        told = int(self._told[0])
        self.is_over = self.is_over or bool(told & lib.SIO_TOLD_OVER)
        return told

    def close(self) -> None:
        """Free it, if no engine can tell anything any more; else the collector will."""
        if self.is_over:
            ffi.release(self.c)

    async def next(self, pause: Callable[[], object] | None = None) -> int:
        """Wait for what is told next; call `pause` now and then meanwhile."""
        while not (told := self.take()):
            if pause is None:
                await anyio.wait_readable(lib.sio_news_fd(self.c))
                continue
            with anyio.move_on_after(PROGRESS):
                await anyio.wait_readable(lib.sio_news_fd(self.c))
            pause()
        return told


async def _until_over(link: Link, news: _News, pause: Callable[[], object] | None) -> None:
    while not news.is_over:
        link.close_writers(await news.next(pause))


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
            while not news.take() & lib.SIO_TOLD_OVER:
                lib.sio_news_wait(news.c, -1)
            raise


async def _lent(link: Link, news: _News, pause: Callable[[], object] | None = None) -> None:
    # Small transfers are over before there is anything to wait for.
    await anyio.lowlevel.checkpoint()
    _reap()
    engine, waiter = _engine(), _Waiter()
    _under_way[link.key] = link, news, weakref.ref(waiter)
    link.lend()
    try:
        err = lib.sio_engine_submit(engine, link.c)
        if err:
            link.c.engine = ffi.NULL  # which has not taken it
            _returned(link)
            raise _errors.failure("submit", -err)
        await _until_over(link, news, pause)
    except BaseException:
        # Ctrl-C may come as soon as the engine has it, and before it is waited for.
        if link.c.engine != ffi.NULL and not news.is_over:
            link.cancel()
            await _let_go(news)
        raise
    finally:
        if news.is_over:
            _returned(link)
        del waiter
    if link.c.err:
        raise _errors.failure("epoll_ctl", link.c.err)


def _returned(link: Link) -> None:
    """The engine has let go."""
    link.returned()
    _under_way.pop(link.key, None)


def _reap() -> None:
    """Take back what nobody waits for any more, once it has been let go of."""
    for link, news, waiter in list(_under_way.values()):
        if waiter() is not None:
            continue
        if link.c.engine != ffi.NULL and not news.is_over:
            link.cancel()
            news.take()
        if link.c.engine == ffi.NULL or news.is_over:
            _returned(link)
            for flow in link.flows:
                flow.close()


# -- one way -----------------------------------------------------------------------------------


async def finished(
    transfer: Transfer, progress: Callable[[int], object] | None = None
) -> TransferResult:
    """Run a transfer to its end and close it; an exception takes the counts and the bytes along."""
    with transfer:
        try:
            if waits_for_nobody(transfer):
                await in_thread(
                    lambda told, _: transfer.run(told), progress, lambda: transfer.moved
                )
            else:
                await _by_engine(transfer, progress)
            return whole_result(transfer)
        except BaseException as error:
            transfer.salvage(error)
            raise


async def _by_engine(transfer: Transfer, progress: Callable[[int], object] | None) -> None:
    news, begun = _News(), time.monotonic()
    flow, limit = flow_of(transfer)
    link = Link(news.c, limit)
    link.take_flow(flow)
    pause = None if progress is None else lambda: progress(transfer.moved)
    try:
        await _lent(link, news, pause)
        if pause is not None:
            pause()
    finally:
        state = _state_of(link) if news.is_over else lib.SIO_BUDGET
        news.close()
        conclude(transfer, state, time.monotonic() - begun)


def _state_of(link: Link) -> int:
    """Say how the transfer has ended, in the words of the state machine."""
    if link.c.failed:
        return int(lib.SIO_ERROR)
    if link.c.relay.reason == lib.SIO_REASON_IDLE:
        return int(lib.SIO_TIMEOUT)
    if link.c.relay.reason == lib.SIO_REASON_CANCELLED or link.c.err:
        return int(lib.SIO_BUDGET)
    return int(lib.SIO_DONE)


# -- one to many -------------------------------------------------------------------------------


async def fanned_out(made: Fanout, progress: Callable[[int], object] | None = None) -> FanoutResult:
    """Run a fan-out to its end in a thread, and close it."""
    done: list[FanoutResult] = []
    with contextlib.closing(made):
        try:
            await in_thread(
                lambda told, wake: done.append(made.drive(told, wake=wake)),
                progress,
                lambda: made.moved,
            )
        except BaseException as error:
            made.salvage(error)
            raise
    return done[0]


# -- two ways ----------------------------------------------------------------------------------


async def relayed(make: Callable[[Any], Any], idle: int) -> RelayResult:
    """Run the pair that `make` makes of a struct sio_relay to its end, and close it."""
    news = _News()
    link = Link(news.c, idle)
    with make(link.c.relay) as pair:
        link.take_pair(pair)
        try:
            await _lent(link, news)
            error = link.error
            if error is not None:
                raise error
        except BaseException as error:
            error.result = link.result()  # type: ignore[attr-defined]
            raise
        finally:
            news.close()
            pair.synchronise()
        return link.result()
