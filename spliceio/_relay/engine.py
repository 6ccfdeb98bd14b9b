"""Engines: threads of C that move bytes, and the one thread of Python that hears of them.

An engine never takes the GIL. What has happened waits in its news, and the thread here takes it
out and gives it to whoever made the engines. So a busy interpreter delays the news, never the
bytes.

Rule 1: the memory of a link belongs to its owner again only once SIO_EVENT_OVER was taken.
Rule 2: after a fork the child has no threads: its copies of the descriptors are closed, and every
        use is refused with an error.
Rule 3: what a caller could leave undone, when a signal handler raises, is done by the thread of the
        news.
Rule 4: at the end of the interpreter everything still open is cut, before Python goes away.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any

from .._cffi import ffi, lib
from .._kernel import errors
from .._kernel.arguments import MOST_THREADS, at_most
from .._transfer.flow import CALLS
from .notify import Thread

__all__ = ["Engines", "checked_threads"]

_INT_MAX = 2**31 - 1
log = logging.getLogger("spliceio")

_all: weakref.WeakSet[Engines] = weakref.WeakSet()


def checked_threads(threads: int) -> int:
    """Refuse what is no number of threads."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return at_most(threads, MOST_THREADS, "threads")


class Engines:
    """Some engine threads, and a thread that calls `hear(link, told)` for all that happens.

    `hear` may be called until `close` has returned, `heard` after each batch of news and when
    `wake` was called. `on_fork` is called in a child, which has to forget what it knew.
    """

    def __init__(
        self,
        threads: int,
        pipes: int,
        hear: Callable[[Any, int], None],
        *,
        heard: Callable[[], None] = lambda: None,
        on_fork: Callable[[], None] = lambda: None,
        name: str = "spliceio-news",
    ) -> None:
        if pipes < 0:
            raise ValueError(f"max_pipes cannot be negative (got {pipes})")
        threads, pipes = checked_threads(threads), at_most(pipes, _INT_MAX, "max_pipes")
        self.pid = os.getpid()
        self.hear, self.heard, self.on_fork = hear, heard, on_fork
        self.owner: object = None  # what has to live until it is closed
        # Freed with the last reference: who counts at this moment has one. No lock, because a
        # signal handler may close what its own thread is counting.
        self.each: list[Any] = []
        self._last: dict[str, int] | None = None
        self._closing = False
        self._name = name
        self.news: Any = None
        self._thread: Thread | None = None
        self.news = _owned(lib.sio_completions_free, lib.sio_completions_new)
        if self.news == ffi.NULL:
            raise errors.failure("eventfd", ffi.errno)
        err, call = ffi.new("int32_t *"), ffi.new("char **")
        for number in range(threads):
            share = pipes // threads + (number < pipes % threads)
            engine = _owned(lib.sio_engine_free, lib.sio_engine_new, share, err, call)
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
        """Start the threads, that of Python, which ends the others, and then those of C."""
        self._thread = Thread(lambda: _listen(self), self._name)
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

    def news_for(self, call: str) -> Any:
        """Return where a link is to tell its news; raise RuntimeError as `check` does."""
        news = self.news
        if news is None:
            self.check(call)
        return news

    def check_process(self, call: str) -> None:
        """Raise RuntimeError in a forked child."""
        if self.pid != os.getpid():
            raise RuntimeError(
                f"{call}: made in another process; threads do not survive a fork. Make a new one "
                "in the child"
            )

    def trouble(self) -> tuple[OSError | None, int, int]:
        """Say what an engine cannot do, what has stopped for it, and how often something was."""
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
        """Why nothing is accepted any more, or nothing goes on; None while all is well."""
        failure, stopped, _ = self.trouble()
        return failure if stopped else None

    def counts(self) -> dict[str, int]:
        """Add up what the engines count."""
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
    def is_heard_here(self) -> bool:
        """Whether this is the thread that hears the news, and must not wait for any."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def wake(self) -> None:
        """Let `heard` be called soon."""
        news = self.news
        if news is not None:
            lib.sio_completions_wake(news)

    def close(self) -> None:
        """Cut what is open, let all news be heard, end the threads; safe to repeat.

        It is done by the thread of the news, in which no signal handler can raise; here it is
        asked for and waited for, as often as need be.
        """
        if self.pid != os.getpid():
            return
        self._closing = True
        if self._thread is None or self._thread.never_runs():
            self._cut()
            self._free()
        elif self.is_heard_here:
            self._cut()
        else:
            self.wake()
            self._thread.outlast()

    def _cut(self) -> None:
        for engine in self.each:
            lib.sio_engine_stop(engine)

    def _free(self) -> None:
        if self._last is None:
            # What is no more is open no more, whatever was told of it and not heard.
            self._last = {**self.counts(), "active": 0, "pipes_open": 0, "pipes_held": 0}
        self.each, self.news, self.owner = [], None, None

    def _take(self) -> None:
        told = ffi.new("int32_t *")
        while (link := lib.sio_completions_take(self.news, told)) != ffi.NULL:
            self._try(self.hear, link, told[0])
        self._try(self.heard)

    def _try(self, function: Callable[..., None], *args: object) -> None:
        """Call it; what goes wrong with one piece of news is not the next one's business."""
        try:
            function(*args)
        except BaseException:  # SystemExit of a user's callback ends nothing here
            log.exception("an error while news of the engine were heard")

    def abandon(self) -> None:
        """In a forked child: close the copies."""
        for engine in self.each:
            lib.sio_engine_abandon(engine)
        ffi.gc(self.news, None)
        os.close(lib.sio_completions_fd(self.news))
        self.on_fork()


def _owned(free: Any, make: Any, *args: object) -> Any:
    """Call make(*args), and let `free` have the result when nobody refers to it any more.

    In one call: between two bytecodes a signal handler could raise, and nobody would have it.
    """
    made = map(make, *([arg] for arg in args)) if args else iter(make, None)
    return next(map(ffi.gc, made, [free]))


def _listen(engines: Engines) -> None:
    # A signal that this thread took would not wake the main thread, where its handler runs.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    # close() wakes it after it has said so, so that the word of the end is not lost.
    while not engines._closing:
        lib.sio_completions_wait(engines.news, -1)
        engines._take()
    engines._cut()
    engines._take()
    engines._free()


def _close_all() -> None:
    for engines in list(_all):
        engines.close()


def _abandon_all() -> None:
    for engines in list(_all):
        if engines.news is not None:
            engines.abandon()
    _all.clear()  # a child of the child has none of these


atexit.register(_close_all)
os.register_at_fork(after_in_child=_abandon_all)
