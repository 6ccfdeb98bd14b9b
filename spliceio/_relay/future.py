"""RelayFuture: the result of a relay, as a `concurrent.futures.Future` without its lock.

The Condition of a Future is not safe against a signal handler that raises: the main thread would
keep it, and the completion thread of all relays would wait for it for ever. So the methods are
those of a Future, and what is below them is not.

Rule 1: the engine decides whether a relay was cancelled, or had ended by itself; `cancel()` returns
        what it decided.
Rule 2: the fields are set by the completion thread alone, and `_is_over` last. `_is_cancelled` is
        set by the first thread that gets it.
Rule 3: a callback, and a waiter of `concurrent.futures.wait`, is taken out of its container by
        the thread that calls it: it is called once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any, NoReturn

from .._public import public
from .notify import Event, Waiters
from .result import RelayResult

if TYPE_CHECKING:
    from .job import Job

__all__ = ["FORKED", "RelayFuture"]

log = logging.getLogger("concurrent.futures")

FORKED = (
    "the relay belongs to another process, which goes on with it; threads do not survive a fork. "
    "Make a RelayPool of your own in the child"
)
_PENDING, _FINISHED = "PENDING", "FINISHED"
_CANCELLED, _CANCELLED_NOTIFIED = "CANCELLED", "CANCELLED_AND_NOTIFIED"


@public
class RelayFuture(futures.Future[RelayResult]):
    """The result of a relay, when it has ended: a `concurrent.futures.Future`.

    `cancel()` ends a relay that runs, and returns whether it did; the future is then cancelled at
    once, and `outcome()` still returns what was relayed.
    """

    def __init__(self, owner: object, job: Job | None) -> None:
        # Not super().__init__(): it would make the Condition.
        self._owner = owner  # a pool does not end before its futures
        self._job = job
        self._pid = os.getpid()
        self._is_cancelled = self._is_over = False
        self._result: RelayResult | None = None
        self._exception: BaseException | None = None
        self._relayed: RelayResult | None = None
        self._error: BaseException | None = None
        self._sleepers = Waiters()
        self._done_callbacks: Any = deque()
        # Of concurrent.futures.wait(): the waiters, and which state each thread has seen.
        self._unnotified: dict[Any, None] = {}
        self._snapshots: dict[int, str] = {}

    @classmethod
    def over(cls, owner: object, result: RelayResult) -> RelayFuture:
        """Return the future of a relay that is over."""
        future = cls(owner, None)
        future._relayed = future._result = result
        future._is_over = True
        return future

    # -- the public face -------------------------------------------------------------------------

    def cancel(self) -> bool:
        """End the relay. False when it has ended by itself; bytes are not lost, see `outcome`.

        True means that it was ended by this: the `reason` of its outcome is "cancelled". A relay
        that `RelayPool.shutdown` has cut has ended, for this.
        """
        job = self._job
        if job is not None and self._pid == os.getpid() and job.cancel():
            self._is_cancelled = True
            self._sleepers.notify_all()
            self._run_callbacks(Exception)
        return self._is_cancelled

    def cancelled(self) -> bool:
        """Return whether `cancel()` has ended it."""
        return self._is_cancelled

    def done(self) -> bool:
        """Return whether it has ended or was cancelled."""
        return self._is_over or self._is_cancelled

    def running(self) -> bool:
        """Return whether the relay is open."""
        return not self.done()

    def result(self, timeout: float | None = None) -> RelayResult:
        """Wait for the result; raise the relay's error, CancelledError or TimeoutError."""
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                del self, error  # no cycle with the traceback
        assert self._result is not None
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the error, None if there was none; raise CancelledError or TimeoutError."""
        if not self._sleepers.wait_for(self.done, timeout):
            raise futures.TimeoutError
        if self._is_cancelled:
            raise futures.CancelledError
        return self._exception

    def outcome(self, timeout: float | None = None) -> RelayResult:
        """Return what was relayed, also if it was cancelled (then `reason` is "cancelled").

        Waits until the engine has released both sides, for at most `timeout` seconds. Raises
        TimeoutError after that, and the relay's own error if it failed.
        """
        if self._pid != os.getpid():
            raise RuntimeError(f"outcome: {FORKED}")
        if not self._sleepers.wait_for(lambda: self._is_over, timeout):
            raise TimeoutError("outcome: the relay is still open")
        if self._error is not None:
            raise self._error
        assert self._relayed is not None
        return self._relayed

    def add_done_callback(self, fn: Callable[[futures.Future[RelayResult]], object]) -> None:
        """Call it with the future when that is done, at once if it is."""
        self._done_callbacks.append(fn)
        if self.done():
            self._run_callbacks(Exception)

    # -- the end ---------------------------------------------------------------------------------

    def _set_outcome(
        self, error: BaseException | None, result: RelayResult | None, is_cancelled: bool
    ) -> None:
        """Set the outcome of the relay, in the completion thread, and notify all waiters."""
        self._error, self._relayed = error, result
        if is_cancelled:
            self._is_cancelled = True
        else:
            self._exception, self._result = error, result
        self._is_over = True
        self._job = None
        self._sleepers.notify_all()
        self._notify_waiters()
        self._run_callbacks(BaseException)  # SystemExit of one does not stop the next

    def _fail_in_child(self) -> None:
        """In a forked child: end with an error, as no completion will come here."""
        self._done_callbacks.clear()
        self._unnotified.clear()
        self._sleepers = Waiters()
        if not self.done():
            self._set_outcome(RuntimeError(FORKED), None, False)

    def _run_callbacks(self, passed_over: type[BaseException]) -> None:
        while True:
            try:
                function = self._done_callbacks.popleft()
            except IndexError:
                return
            try:
                function(self)
            except passed_over:
                log.exception("exception calling callback for %r", self)

    def set_running_or_notify_cancel(self) -> NoReturn:
        """Raise InvalidStateError: the RelayPool alone sets the outcome."""
        raise futures.InvalidStateError("the future of a relay is set by its RelayPool alone")

    def set_result(self, result: RelayResult) -> NoReturn:
        """Raise InvalidStateError, as above."""
        self.set_running_or_notify_cancel()

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Raise InvalidStateError, as above."""
        self.set_running_or_notify_cancel()

    # -- what concurrent.futures.wait and as_completed take hold of ------------------------------
    #
    # They look at the states and leave a waiter under `_condition`, and no future may end between
    # the two. Here it may: a thread that has "acquired" the condition goes on seeing the state of
    # that moment, and notifies its own waiter of what it has missed when it "releases" it.

    @property
    def _state(self) -> str:  # type: ignore[override]
        return self._snapshots.get(threading.get_ident()) or self._state_now()

    def _state_now(self) -> str:
        if self._is_over:
            return _CANCELLED_NOTIFIED if self._is_cancelled else _FINISHED
        return _CANCELLED if self._is_cancelled else _PENDING

    @property
    def _condition(self) -> Any:  # type: ignore[override]
        return _StateSnapshot(self)

    @property
    def _waiters(self) -> Any:  # type: ignore[override]
        return _WaiterList(self)

    def _notify_waiters(self) -> None:
        for waiter in list(self._unnotified):
            if self._unnotified.pop(waiter, self) is not None:
                continue  # another thread has notified it
            if self._is_cancelled:
                waiter.add_cancelled(self)
            elif self._exception is not None:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)


class _StateSnapshot:
    """Stands for the Condition of a future: the state as one thread saw it."""

    def __init__(self, future: RelayFuture) -> None:
        self._future = future

    def acquire(self) -> bool:
        # What an interrupted look has left is replaced.
        self._future._snapshots[threading.get_ident()] = self._future._state_now()
        return True

    def release(self) -> None:
        self._future._snapshots.pop(threading.get_ident(), None)
        if self._future._is_over:
            self._future._notify_waiters()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_exception: object) -> None:
        self.release()


class _WaiterList:
    """Stands for the list of waiters of a future."""

    def __init__(self, future: RelayFuture) -> None:
        self._future = future

    def append(self, waiter: Any) -> None:
        if self._future._state in (_CANCELLED_NOTIFIED, _FINISHED):
            return  # its thread has seen that state
        if not isinstance(waiter.event, Event):  # nothing can have set it yet
            waiter.event = Event()
        self._future._unnotified[waiter] = None

    def remove(self, waiter: Any) -> None:
        with contextlib.suppress(KeyError):
            del self._future._unnotified[waiter]
