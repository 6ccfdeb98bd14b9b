"""RelayFuture: the result of a relay, as a `concurrent.futures.Future` without its lock.

The Condition of a Future is not safe against a signal handler that raises: the main thread would
keep it, and the thread that hears the news of all relays would wait for it for ever. So the methods
are those of a Future, and what is below them is not.

Rule 1: the engine decides whether a relay was cancelled, or had ended by itself; `cancel()` says
        what it decided.
Rule 2: the fields are set by one thread, that of the news, and `_is_over` last. `_is_cancelled` is
        set by whoever is first to know.
Rule 3: a callback, and a waiter of `concurrent.futures.wait`, is taken out of its container by
        whoever calls it: it is called once.
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
from .relay import RelayResult

if TYPE_CHECKING:
    from .job import Link

__all__ = ["FORKED", "RelayFuture"]

log = logging.getLogger("concurrent.futures")

FORKED = (
    "the relay belongs to another process, which goes on with it; threads do not survive a fork. "
    "Make a RelayPool of your own in the child"
)
_PENDING, _FINISHED = "PENDING", "FINISHED"
_CANCELLED, _TOLD = "CANCELLED", "CANCELLED_AND_NOTIFIED"


@public
class RelayFuture(futures.Future[RelayResult]):
    """The result of a relay, when it has ended: a `concurrent.futures.Future`.

    `cancel()` ends a relay that runs, and returns whether it did; the future is then cancelled at
    once, and `outcome()` still tells what was relayed.
    """

    def __init__(self, owner: object, link: Link) -> None:
        # Not super().__init__(): it would make the Condition.
        self._owner = owner  # a pool does not end before its futures
        self._link: Link | None = link
        self._pid = os.getpid()
        self._is_cancelled = self._is_over = False
        self._result: RelayResult | None = None
        self._exception: BaseException | None = None
        self._relayed: RelayResult | None = None
        self._error: BaseException | None = None
        self._asleep = Waiters()
        self._done_callbacks: Any = deque()
        # Of concurrent.futures.wait(): who waits, and which state each thread looks at.
        self._untold: dict[Any, None] = {}
        self._seen: dict[int, str] = {}

    # -- the public face -------------------------------------------------------------------------

    def cancel(self) -> bool:
        """End the relay. False when it has ended by itself; bytes are not lost, see `outcome`.

        True means that it was ended by this: the `reason` of its outcome is "cancelled". A relay
        that `RelayPool.shutdown` has cut has ended, for this.
        """
        link = self._link
        if link is not None and self._pid == os.getpid() and link.cancel():
            self._is_cancelled = True
            self._asleep.notify_all()
            self._call_back(Exception)
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
        if not self._asleep.wait_for(self.done, timeout):
            raise futures.TimeoutError
        if self._is_cancelled:
            raise futures.CancelledError
        return self._exception

    def outcome(self, timeout: float | None = None) -> RelayResult:
        """What was relayed, also of a relay that was cancelled (its `reason` is "cancelled").

        Waits until the engine has let go of both sides, for at most `timeout` seconds. Raises
        TimeoutError after that, and the relay's own error if it failed.
        """
        if self._pid != os.getpid():
            raise RuntimeError(f"outcome: {FORKED}")
        if not self._asleep.wait_for(lambda: self._is_over, timeout):
            raise TimeoutError("outcome: the relay is still open")
        if self._error is not None:
            raise self._error
        assert self._relayed is not None
        return self._relayed

    def add_done_callback(self, fn: Callable[[futures.Future[RelayResult]], object]) -> None:
        """Call it with the future when that is done, at once if it is."""
        self._done_callbacks.append(fn)
        if self.done():
            self._call_back(Exception)

    # -- the end ---------------------------------------------------------------------------------

    def _end(
        self, error: BaseException | None, result: RelayResult | None, is_cancelled: bool
    ) -> None:
        """Take what came of the relay, in the thread of the news, and tell everybody."""
        self._error, self._relayed = error, result
        if is_cancelled:
            self._is_cancelled = True
        else:
            self._exception, self._result = error, result
        self._is_over = True
        self._link = None
        self._asleep.notify_all()
        self._tell_waiters()
        self._call_back(BaseException)  # SystemExit of one is not the next one's business

    def _disown(self) -> None:
        """In a child: nothing will be told here, and nobody waits."""
        self._done_callbacks.clear()
        self._untold.clear()
        self._asleep = Waiters()
        if not self.done():
            self._end(RuntimeError(FORKED), None, False)

    def _call_back(self, passed_over: type[BaseException]) -> None:
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
        """Raise InvalidStateError: what becomes of it is the pool's to say."""
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
    # that moment, and tells its own waiter what it has missed when it "releases" it.

    @property
    def _state(self) -> str:  # type: ignore[override]
        return self._seen.get(threading.get_ident()) or self._state_now()

    def _state_now(self) -> str:
        if self._is_over:
            return _TOLD if self._is_cancelled else _FINISHED
        return _CANCELLED if self._is_cancelled else _PENDING

    @property
    def _condition(self) -> Any:  # type: ignore[override]
        return _Look(self)

    @property
    def _waiters(self) -> Any:  # type: ignore[override]
        return _Told(self)

    def _tell_waiters(self) -> None:
        for waiter in list(self._untold):
            if self._untold.pop(waiter, self) is not None:
                continue  # somebody else has told it
            if self._is_cancelled:
                waiter.add_cancelled(self)
            elif self._exception is not None:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)


class _Look:
    """What stands for the Condition of a future: one look of one thread at it."""

    def __init__(self, future: RelayFuture) -> None:
        self._future = future

    def acquire(self) -> bool:
        # What an interrupted look has left is replaced.
        self._future._seen[threading.get_ident()] = self._future._state_now()
        return True

    def release(self) -> None:
        self._future._seen.pop(threading.get_ident(), None)
        if self._future._is_over:
            self._future._tell_waiters()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_exception: object) -> None:
        self.release()


class _Told:
    """What stands for the list of waiters of a future."""

    def __init__(self, future: RelayFuture) -> None:
        self._future = future

    def append(self, waiter: Any) -> None:
        if self._future._state in (_TOLD, _FINISHED):
            return  # who waits knows it
        if not isinstance(waiter.event, Event):  # nothing can have set it yet
            waiter.event = Event()
        self._future._untold[waiter] = None

    def remove(self, waiter: Any) -> None:
        with contextlib.suppress(KeyError):
            del self._future._untold[waiter]
