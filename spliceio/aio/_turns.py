"""The first milliseconds of a transfer, on the event loop's own thread.

To hand over to an engine takes longer than a fast peer needs for a few hundred KiB, and what
another thread sends costs more: the peer has fallen asleep by then. So a file that is not large is
sent in turns, as long as that goes fast; who takes longer is an engine's.

Rule 1: a turn is one bounded step, which waits neither for a peer nor for a disk.
Rule 2: bytes wait for the event loop for a few milliseconds in all. Then, and for more bytes than a
few turns have, for a source that is no file and one that is on its disk, there is the engine.
Rule 3: what is waited for is the transfer's own duplicate: no reader or writer that somebody has
registered for the socket is touched, and no transport minds.
"""

from __future__ import annotations

import asyncio
import math
import os
import time

from .._cffi import lib
from .._transfer.transfer import Transfer, apply_state, flow_of

__all__ = ["readable", "run_in_turns"]

_MOST = 1 << 20
"""Bytes; of more, the hand-over is a small part of the whole."""
_TURN = 256 << 10
"""Bytes in one turn: some 80 us."""
_SECONDS = 0.01


async def run_in_turns(transfer: Transfer) -> bool:
    """Run a transfer in turns of the running asyncio loop; return whether it is done.

    Not so, it can be handed over. Raises the error of a side that fails.
    """
    flow, limit = flow_of(transfer)
    if not 0 <= flow.whole - flow.moved <= _MOST or 0 <= limit <= _SECONDS * 1e9:
        return False
    loop, begun = asyncio.get_running_loop(), time.monotonic()
    room = _Room(loop, flow.fd(lib.SIO_SIDE_DST), begun + _SECONDS)
    state = lib.SIO_BUDGET
    try:
        while True:
            state = flow.turn(_TURN)
            if state == lib.SIO_WANT_DST:
                if not await room.comes():
                    break
            elif state != lib.SIO_BUDGET or time.monotonic() - begun > _SECONDS:
                break
            else:
                await asyncio.sleep(0)
    finally:
        room.close()
        is_over = state not in (lib.SIO_WANT_SRC, lib.SIO_WANT_DST, lib.SIO_WANT_DISK)
        apply_state(transfer, state if is_over else lib.SIO_BUDGET, time.monotonic() - begun)
    return bool(state == lib.SIO_DONE)


async def readable(fd: int, seconds: float) -> bool:
    """Wait until a descriptor is readable; return whether it is, before so much time is over.

    Of a descriptor that nobody else waits for. As `anyio.wait_readable`, for a third of its price.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[bool] = loop.create_future()

    def tell(is_ready: bool) -> None:
        if not waiter.done():
            waiter.set_result(is_ready)

    loop.add_reader(fd, tell, True)
    timer = None if math.isinf(seconds) else loop.call_later(seconds, tell, False)
    try:
        return await waiter
    finally:
        if not loop.is_closed():  # as it may be when a coroutine that was left is closed
            loop.remove_reader(fd)
        if timer is not None:
            timer.cancel()


class _Room:
    """Room in a destination, as the event loop tells of it, until a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, until: float) -> None:
        self._loop, self._fd, self._until = loop, fd, until
        self._waiter: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def comes(self) -> bool:
        """Wait for room; return whether there is some, before the time is over."""
        self._waiter = self._loop.create_future()
        if self._timer is None:
            try:
                if os.get_blocking(self._fd):
                    return False  # uvloop would change that, and for its owner too
                self._loop.add_writer(self._fd, self._tell, True)
            except (OSError, NotImplementedError):
                return False
            seconds = self._until - time.monotonic()
            self._timer = self._loop.call_later(max(0, seconds), self._tell, False)
        return await self._waiter

    def _tell(self, there_is: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(there_is)

    def close(self) -> None:
        """Take back what was registered."""
        if self._timer is not None:
            if not self._loop.is_closed():
                self._loop.remove_writer(self._fd)
            self._timer.cancel()
