"""A worker thread that an event loop awaits, with progress and cancellation.

Rule 1: it is a thread of its own: no limit that others share keeps it from beginning.
Rule 2: whatever is raised where it is waited for, that is left only when the thread has ended:
        what it uses is closed next.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel

__all__ = ["Pace", "run_in_thread"]

_PROGRESS, _IDLE = 0.08, 1.0


class Pace:
    """Calls `progress` with the bytes moved, the less often the longer nothing has moved."""

    def __init__(self, progress: Callable[[int], object] | None, moved: Callable[[], int]) -> None:
        self._progress, self._moved, self._before = progress, moved, 0
        self.seconds = math.inf if progress is None else _PROGRESS
        """Until the next call."""

    def report(self) -> None:
        """Call `progress`, if there is one."""
        if self._progress is not None:
            before, self._before = self._before, self._moved()
            self._progress(self._before)
            has_moved = before != self._before
            self.seconds = _PROGRESS if has_moved else min(2 * self.seconds, _IDLE)


class _Stopped(Exception):
    """Raised in the thread to end its work, when no task awaits it any more."""


class _Thread(threading.Thread):
    """A thread that runs `drive`, and writes to an eventfd when that has returned.

    Another one, `wake`, makes `drive` call it now: what waits in the kernel polls that too.
    """

    def __init__(self, drive: Callable[[Callable[[int], object], int], object]) -> None:
        super().__init__(name="spliceio-aio", daemon=True)
        self._drive, self._contextvars = drive, contextvars.copy_context()
        self._stop_asked = False
        # Ctrl-C may come during start(): the first to acquire this decides whether it runs.
        self._begun, self._over = threading.Lock(), threading.Event()
        self.ended = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.error: BaseException | None = None

    def run(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._contextvars.run(self._drive, self._on_progress, self.wake)
        except BaseException as error:
            self.error = error
        finally:
            os.eventfd_write(self.ended, 1)
            self._over.set()

    def _on_progress(self, moved: int) -> None:
        if self._stop_asked:
            raise _Stopped

    def _ask_to_stop(self) -> None:
        self._stop_asked = True
        os.eventfd_write(self.wake, 1)

    def _is_running(self) -> bool:
        if self._begun.acquire(blocking=False):
            self._over.set()  # it has not begun, and will not
        return not self._over.is_set()

    async def stop(self) -> None:
        """Stop it, and wait until it has ended, while the event loop runs."""
        self._ask_to_stop()
        while self._is_running():
            try:
                with anyio.CancelScope(shield=True):
                    await anyio.wait_readable(self.ended)
                self._over.wait()
            except anyio.get_cancelled_exc_class():
                continue  # a task of asyncio can be cancelled again, shield or not
            except BaseException:
                self.wait_ended()

    def wait_ended(self) -> None:
        """Stop it, and wait for its end without an event loop, whatever is raised meanwhile."""
        self._ask_to_stop()
        while self._is_running():
            with contextlib.suppress(BaseException):
                self._over.wait()


async def run_in_thread(
    drive: Callable[[Callable[[int], object], int], object],
    progress: Callable[[int], object] | None,
    moved: Callable[[], int],
) -> None:
    """Run `drive` in a thread; call `progress` with `moved()` in the event loop meanwhile.

    `drive` is given what it calls now and then, and at once when the descriptor that comes with it
    can be read: that raises when it is no longer awaited.
    """
    await anyio.lowlevel.checkpoint()
    thread = _Thread(drive)
    try:
        try:
            thread.start()
            await _until_ended(thread, Pace(progress, moved))
        except BaseException:
            await thread.stop()
            raise
    finally:
        thread.wait_ended()
        os.close(thread.ended)
        os.close(thread.wake)
    if thread.error is not None:
        raise thread.error


async def _until_ended(thread: _Thread, pace: Pace) -> None:
    ended = False
    while not ended:
        with anyio.move_on_after(pace.seconds):
            await anyio.wait_readable(thread.ended)
            ended = True
        pace.report()
