"""Event loops: the three that `spliceio.aio` works alike under, and how things are waited for.

Rule 1: waiting in a loop is asking for a condition, between turns of the loop; how long that
        takes decides nothing.
Rule 2: after each test no link is left in the engines that all loops share, and they are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import importlib.util
import re
import resource
import socket
import struct
import sys
import termios
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from spliceio import aio
from spliceio.aio import _driver as _await
from tests.support import states
from tests.support.cases import cases

BACKENDS = ("asyncio", "uvloop", "trio")
ASYNCIO = ("asyncio", "uvloop")
WAYS = {
    "scope": BACKENDS,
    "deadline": BACKENDS,
    "group": BACKENDS,
    "task.cancel": ASYNCIO,
    "wait_for": ASYNCIO,
    "nursery": ("trio",),
}
"""How a task is cancelled, and under which loops it can be."""


def backends(*names: str):
    """Parameters for `pytest.mark.parametrize`; a loop that is not installed is skipped by name."""
    return [pytest.param(name, marks=_marks(name), id=name) for name in names or BACKENDS]


def ways(*names: str):
    """Parameters (backend, way): each way of cancelling under each loop that has it."""
    return [
        pytest.param(backend, way, marks=_marks(backend), id=f"{backend}-{way}")
        for way in names or WAYS
        for backend in WAYS[way]
    ]


def each_way(*, without: tuple[str, ...] = (), **axes: Iterable[object]) -> pytest.MarkDecorator:
    """Parametrize over backend, way and these axes, as `cases` does; see `ways`."""
    return _marked(
        cases(
            backend=BACKENDS,
            way=[way for way in WAYS if way not in without],
            **axes,
            keep=lambda backend, way, *_: backend in WAYS[way],
        )
    )


def each_backend(
    *, keep: Callable[..., bool] = lambda *_: True, **axes: Iterable[object]
) -> pytest.MarkDecorator:
    """Parametrize over backend and these axes, as `cases` does; `keep` is asked of the axes."""
    return _marked(cases(backend=BACKENDS, **axes, keep=lambda _, *values: keep(*values)))


def _marked(made: pytest.MarkDecorator) -> pytest.MarkDecorator:
    rows = [
        pytest.param(*row, marks=_marks(row[0]), id=name)
        for row, name in zip(made.args[1], made.kwargs["ids"], strict=True)
    ]
    return pytest.mark.parametrize(made.args[0], rows)


def _marks(backend: str):
    if importlib.util.find_spec(backend) is None:
        return [pytest.mark.skip(reason=f"{backend} is not installed")]
    return []


def run(backend: str, function: Callable[..., Awaitable[Any]], *args: object) -> Any:
    """Run an async function in a new loop of this kind."""
    if backend == "trio":
        return anyio.run(function, *args, backend="trio")
    return anyio.run(function, *args, backend_options={"use_uvloop": backend == "uvloop"})


if importlib.util.find_spec("uvloop") is not None:
    # The first of its loops opens a pipe for signals that all others share: no leak of a test.
    run("uvloop", anyio.sleep, 0)


@pytest.fixture(params=backends())
def backend(request):
    """Each event loop in turn."""
    return request.param


if importlib.util.find_spec("trio") is not None:
    # Its worker threads end when they have nothing to do, not ten seconds later.
    importlib.import_module("trio._core._thread_cache").IDLE_TIMEOUT = 0  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def ending(leak_guard):
    """Close the engines that loops share, which must be idle, before the leak guard looks.

    And let the threads of a test have the interpreter soon, though a loop asks for conditions all
    the time.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    yield
    sys.setswitchinterval(interval)
    left = counts()
    for engines in _await._shared:
        engines.close()
    _await._shared.clear()
    assert (left["active"], left["pipes_held"]) == (0, 0), f"left in the engines: {left}"


def counts() -> dict[str, int]:
    """Say what the engines under all loops count; zeros before there are any."""
    total = {"active": 0, "total": 0, "a_to_b": 0, "b_to_a": 0, "pipes_held": 0}
    for engines in _await._shared:
        for name, count in engines.counts().items():
            total[name] = total.get(name, 0) + count
    return total


def carried() -> int:
    """How many bytes the engines have delivered so far, of transfers that still run too."""
    now = counts()
    return now["a_to_b"] + now["b_to_a"]


async def until(condition: Callable[[], object]) -> None:
    """Let the other tasks run until the condition holds.

    After some turns others of the machine too: a loop that only goes round takes a processor.
    """
    for _ in range(300):
        if condition():
            return
        await anyio.sleep(0)
    while not condition():
        await anyio.sleep(0.0005)


async def turns(number: int = 10) -> None:
    """Let the loop go round so many times."""
    for _ in range(number):
        await anyio.sleep(0)


def in_thread(function: Callable[..., Any], *args: object) -> Awaitable[Any]:
    """Call what would hold up the loop in a thread of its own."""
    return anyio.to_thread.run_sync(function, *args)


def queued(end: Any) -> int:
    """How many bytes can be read from a socket or pipe now."""
    fd = end if isinstance(end, int) else end.fileno()
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]


def available(sock: socket.socket) -> bytes:
    """Read what is in a socket now."""
    parts = []
    with contextlib.suppress(BlockingIOError):
        while part := sock.recv(1 << 20, socket.MSG_DONTWAIT):
            parts.append(part)
    return b"".join(parts)


@pytest.fixture
def many_descriptors():
    """Allow as many as the system lets us have, or skip."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 9000:
        pytest.skip(f"a process may have only {hard} descriptors here, and this takes 9000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- both forms of a call ------------------------------------------------------------------------


def facts(outcome: Any) -> Any:
    """Everything that a call came to, apart from the time it took and the numbers it was given."""
    if dataclasses.is_dataclass(outcome):
        return dataclasses.replace(outcome, seconds=0)
    if isinstance(outcome, Exception):
        carries = [facts(getattr(outcome, name, None)) for name in ("result", "held", "unread")]
        text = re.sub(r"descriptor \d+", "descriptor N", str(outcome))
        return type(outcome), text, getattr(outcome, "errno", None), carries
    return outcome


def came_of(call: Callable[[], Any]) -> Any:
    """Return what a call returns or raises."""
    try:
        return call()
    except Exception as error:
        return error


def waited(backend: str, name: str, *args: Any, **options: Any) -> Any:
    """Call one of the awaitable functions in a loop of its own."""
    return run(backend, functools.partial(getattr(aio, name), *args, **options))


# -- cancelling ------------------------------------------------------------------------------------


async def cut(
    way: str,
    call: Callable[[], Awaitable[Any]],
    ready: Callable[[], object],
    again: Callable[[Callable[[], None]], Awaitable[None]] | None = None,
) -> Any:
    """Run a call, cancel it in this way once `ready()` holds, and return what came out of it.

    That is its result, or the exception that passed through it, whichever it was. `again` is told
    how to cancel once more, and called after the first time.
    """
    outcome: list[Any] = []

    async def noted() -> None:
        try:
            outcome.append(await call())
        except BaseException as error:
            outcome.append(error)
            raise

    if way == "wait_for":
        await _expire(noted, ready, outcome)
    elif way == "task.cancel":
        task = asyncio.ensure_future(noted())
        await until(lambda: ready() or outcome)
        task.cancel()
        if again is not None:
            await again(task.cancel)
        await asyncio.wait([task])
        _ = task.cancelled() or task.exception()  # it is in outcome
    elif way == "nursery":
        await _cut_nursery(noted, ready, outcome, again)
    else:
        await _cut_scope(way, noted, ready, outcome, again)
    return outcome[0]


async def _cut_scope(way, noted, ready, outcome, again) -> None:
    scope = anyio.CancelScope()

    async def inside() -> None:
        with scope:
            await noted()

    async with anyio.create_task_group() as group:
        group.start_soon(inside)
        await until(lambda: ready() or outcome)
        if way == "scope":
            scope.cancel()
        elif way == "deadline":
            scope.deadline = anyio.current_time()
            await until(lambda: scope.cancel_called or outcome)
        else:
            group.cancel_scope.cancel()
        if again is not None:
            with anyio.CancelScope(shield=True):
                await again(group.cancel_scope.cancel)


async def _cut_nursery(noted, ready, outcome, again) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        nursery.start_soon(noted)
        await until(lambda: ready() or outcome)
        nursery.cancel_scope.cancel()
        if again is not None:
            with trio.CancelScope(shield=True):
                await again(nursery.cancel_scope.cancel)


async def _expire(noted, ready, outcome) -> None:
    """Let wait_for's time run out while the loop is held up, and only once it is ready."""
    loop, begun = asyncio.get_running_loop(), []

    async def began() -> None:
        begun.append(True)
        await noted()

    def hold() -> None:
        if len(begun) > 10:
            states.until(lambda: ready() or outcome)
            return
        if begun:
            begun.append(True)
        loop.call_soon(hold)

    loop.call_soon(hold)
    try:
        # Long enough for the turns above, and it is waited for in full each time.
        await asyncio.wait_for(began(), 0.1)
    except (asyncio.TimeoutError, TimeoutError):
        return
