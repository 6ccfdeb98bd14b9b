"""Engines: threads of C that move bytes, and a Python thread that handles their completions.

An engine never takes the GIL. It posts completions to a queue, and the thread here takes them out
and calls the owner's callbacks. So a busy interpreter delays a callback, never the bytes.

Rule 1: the memory of a job belongs to its owner again only once SIO_EVENT_OVER was taken.
Rule 2: after a fork the child has no threads: its copies of the descriptors are closed, and every
        use is refused with an error.
Rule 3: what a caller could leave undone, when a signal handler raises, is done by the completion
        thread.
Rule 4: at the end of the interpreter everything still open is aborted, before Python ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .._cffi import ffi, lib
from .._kernel import errors
from .._kernel.arguments import MOST_THREADS, at_most
from .._transfer.flow import CALLS
from .notify import Thread

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    from .._cffi import (
        Address,
        struct_sio_completions_ptr,
        struct_sio_conn_ptr,
        struct_sio_engine_ptr,
    )

    _Args = TypeVarTuple("_Args")

__all__ = ["Engines", "checked_threads"]

_INT_MAX = 2**31 - 1
_Made = TypeVar("_Made", bound="Address")
log = logging.getLogger("spliceio")

_all: weakref.WeakSet[Engines] = weakref.WeakSet()


def checked_threads(threads: int) -> int:
    """Return a number of threads; raises ValueError if it is out of range."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return at_most(threads, MOST_THREADS, "threads")


class Engines:
    """Some engine threads, and a completion thread that calls `on_event(conn, events)`.

    `on_event` may be called until `close` has returned, `on_batch` after each batch of completions
    and when `wake` was called. `on_fork` is called in a child, and has to drop what is the
    parent's.
    """

    def __init__(
        self,
        threads: int,
        pipes: int,
        on_event: Callable[[struct_sio_conn_ptr, int], None],
        *,
        on_batch: Callable[[], None] = lambda: None,
        on_fork: Callable[[], None] = lambda: None,
        name: str = "spliceio-completions",
    ) -> None:
        if pipes < 0:
            raise ValueError(f"max_pipes cannot be negative (got {pipes})")
        threads, pipes = checked_threads(threads), at_most(pipes, _INT_MAX, "max_pipes")
        self.pid = os.getpid()
        self.on_event, self.on_batch, self.on_fork = on_event, on_batch, on_fork
        self.owner: object = None  # what has to live until it is closed
        # Freed with the last reference: a thread that reads counts at this moment has one. No lock,
        # because a signal handler may close what its own thread is counting.
        self.each: list[struct_sio_engine_ptr] = []
        self._last: dict[str, int] | None = None
        self._closing = False
        self._name = name
        self.completions: struct_sio_completions_ptr | None = None
        self._thread: Thread | None = None
        self.completions = _new_owned(lib.sio_completions_free, lib.sio_completions_new)
        if self.completions == ffi.NULL:
            raise errors.failure("eventfd", ffi.errno)
        err, call = ffi.new("int32_t *"), ffi.new("char **")
        for number in range(threads):
            share = pipes // threads + (number < pipes % threads)
            engine = _new_owned(lib.sio_engine_free, lib.sio_engine_new, share, err, call)
            if engine == ffi.NULL:
                self.close()
                raise errors.failure(ffi.string(call[0]).decode(), err[0])
            self.each.append(engine)
        _all.add(self)

    def __del__(self) -> None:
        # With a thread it is never collected before it is closed.
        if getattr(self, "_thread", self) is None:
            self.close()

    def start(self) -> None:
        """Start the completion thread, which ends the others, and then those of C."""
        self._thread = Thread(lambda: _run_completions(self), self._name)
        try:
            self._thread.start()
            for engine in self.each:
                err = lib.sio_engine_start(engine)
                if err:
                    raise errors.failure("pthread_create", -err)
        except BaseException:
            self.close()
            raise

    def check(self, call: str) -> None:
        """Raise RuntimeError in a forked child, or once it is closed."""
        self.check_process(call)
        if self._closing:
            raise RuntimeError(f"{call}: it is shut down")
        failure, stopped, _ = self.trouble()
        if failure is not None and stopped == lib.SIO_STOPPED_ALL:
            raise failure

    def completions_for(self, call: str) -> struct_sio_completions_ptr:
        """Return the queue that a job posts to; raises RuntimeError as `check` does."""
        completions = self.completions
        if completions is None:
            self.check(call)
        assert completions is not None  # without one it is closed, which `check` has raised
        return completions

    def check_process(self, call: str) -> None:
        """Raise RuntimeError in a forked child."""
        if self.pid != os.getpid():
            raise RuntimeError(
                f"{call}: made in another process; threads do not survive a fork. Make a new one "
                "in the child"
            )

    def trouble(self) -> tuple[OSError | None, int, int]:
        """Return the error of an engine, what it has stopped, and how often there was one."""
        worst, stopped, times = None, int(lib.SIO_STOPPED_NOTHING), 0
        trouble = ffi.new("struct sio_trouble *")
        for engine in list(self.each):
            lib.sio_engine_trouble(engine, trouble)
            if trouble.err and (worst is None or trouble.stopped > stopped):
                text = f"{CALLS[trouble.call]}: {os.strerror(trouble.err)}"
                worst = OSError(trouble.err, text)
                stopped = int(trouble.stopped)
            times += int(trouble.times)
        return worst, stopped, times

    @property
    def failure(self) -> OSError | None:
        """The error by which accepting, or everything, has stopped; None while all is well."""
        failure, stopped, _ = self.trouble()
        return failure if stopped else None

    def counts(self) -> dict[str, int]:
        """Return the sums of the engines' counts."""
        total = {name: 0 for name, _ in ffi.typeof("struct sio_counts").fields}
        counted = ffi.new("struct sio_counts *")
        each = list(self.each)
        if self._last is not None:
            return dict(self._last)
        for engine in each:
            lib.sio_engine_counts(engine, counted)
            for name in total:
                total[name] += getattr(counted, name)
        return total

    @property
    def is_completion_thread(self) -> bool:
        """Whether this is the completion thread, which must not wait for completions."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def wake(self) -> None:
        """Let `on_batch` be called soon."""
        completions = self.completions
        if completions is not None:
            lib.sio_completions_wake(completions)

    def close(self) -> None:
        """Abort what is open, handle all completions, end the threads; safe to repeat.

        It is done by the completion thread, in which no signal handler can raise; here it is
        requested and waited for, as often as need be.
        """
        if self.pid != os.getpid():
            return
        self._closing = True
        if self._thread is None or self._thread.cancel_start():
            self._stop_engines()
            self._free()
        elif self.is_completion_thread:
            self._stop_engines()
        else:
            self.wake()
            self._thread.wait_ended()

    def _stop_engines(self) -> None:
        for engine in self.each:
            lib.sio_engine_stop(engine)

    def _free(self) -> None:
        if self._last is None:
            # What is freed is not open, whether its end was handled or not.
            self._last = {**self.counts(), "active": 0, "pipes_open": 0, "pipes_held": 0}
        self.each, self.completions, self.owner = [], None, None

    def _dispatch(self) -> None:
        """Call `on_event` for all completions that there are, then `on_batch`."""
        events = ffi.new("int32_t *")
        assert self.completions is not None  # until this thread frees it
        while (conn := lib.sio_completions_take(self.completions, events)) != ffi.NULL:
            self._call_safely(self.on_event, conn, events[0])
        self._call_safely(self.on_batch)

    def _call_safely(self, function: Callable[..., None], *args: object) -> None:
        """Call it; an exception is logged, and does not affect the next completion."""
        try:
            function(*args)
        except BaseException:  # SystemExit of a user's callback ends nothing here
            log.exception("an error in a callback for a completion of an engine")

    def close_in_child(self) -> None:
        """In a forked child: close the copies."""
        for engine in self.each:
            lib.sio_engine_abandon(engine)
        assert self.completions is not None
        ffi.gc(self.completions, None)
        os.close(lib.sio_completions_fd(self.completions))
        self.on_fork()


def _new_owned(
    free: Callable[[_Made], None],
    make: Callable[[Unpack[_Args]], _Made],
    *args: Unpack[_Args],
) -> _Made:
    """Call make(*args), and let `free` have the result when nothing refers to it any more.

    In one call: between two bytecodes a signal handler could raise, and it would leak.
    """
    made = map(make, *([arg] for arg in args)) if args else iter(make, None)
    return next(map(ffi.gc, made, [free]))


def _run_completions(engines: Engines) -> None:
    # A signal that this thread took would not wake the main thread, where its handler runs.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    # close() sets the flag before it wakes the thread, so that the end is not missed.
    while not engines._closing:
        assert engines.completions is not None
        lib.sio_completions_wait(engines.completions, -1)
        engines._dispatch()
    engines._stop_engines()
    engines._dispatch()
    engines._free()


def _close_all() -> None:
    for engines in list(_all):
        engines.close()


def _close_all_in_child() -> None:
    for engines in list(_all):
        if engines.completions is not None:
            engines.close_in_child()
    _all.clear()  # a child of the child has none of these


atexit.register(_close_all)
os.register_at_fork(after_in_child=_close_all_in_child)
