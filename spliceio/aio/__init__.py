"""Async functions: `copy`, `send_file`, `receive_file`, `fanout`, `relay`, `serve_proxy`.

They work alike under asyncio, uvloop and trio, through anyio: `pip install 'spliceio[aio]'`. The
bytes move in threads of C, so a busy event loop delays only the return of the call. What is small,
and under asyncio and uvloop up to a MiB of a file that is in memory, goes from the loop's own
thread, without waiting, as long as the peer takes it within 10 ms: then it is not worth a thread.

Where a function takes a descriptor it also takes an asyncio StreamReader or StreamWriter, and
`relay` the pair of both: what they hold goes first, and they are paused meanwhile. A transport that
a protocol has can be given too: what it has not sent goes first, and where it is read from it has
to be paused, because only the protocol has what it was given before. A trio SocketStream stands for
its socket.

Cancellation stops a transfer at once. What was moved is in the attribute `result` of the exception
that passes through (`anyio.get_cancelled_exc_class()`), what was taken and not delivered in `held`
(of `result`, for a relay), and descriptors and pipes are closed by then. That holds from the first
wait on: while a StreamWriter still sends its own bytes, `held` is what the reader had read ahead.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

try:
    import anyio
    import anyio.abc
    import anyio.from_thread
    import anyio.to_thread
except ImportError as error:
    raise ImportError(
        "spliceio.aio needs anyio: pip install 'spliceio[aio]'", name=error.name
    ) from None

from .._fanout.fanout import Fanout
from .._fanout.sinks import FanoutResult, as_list
from .._kernel.arguments import FileDescriptorLike
from .._proxy import address
from .._proxy.proxy import Listen, Proxy
from .._proxy.router import Chosen, ClientAddress, Route
from .._relay.relay import Pair, Side
from .._relay.result import RelayResult
from .._transfer import act
from .._transfer.flow import idle_ns
from .._transfer.receive import count_drained, make_receive_file, set_unread
from .._transfer.result import TransferResult
from .._transfer.send import make_send_file
from .._transfer.transfer import Transfer
from ._driver import at_once, nothing_unsent, run_and_close, run_fanout, run_relay
from ._streams import Streams

if TYPE_CHECKING:
    from asyncio import ReadTransport, StreamReader, StreamWriter, Transport, WriteTransport

    from typing_extensions import Buffer

__all__ = ["copy", "fanout", "receive_file", "relay", "send_file", "serve_proxy"]

AsyncRoute = Callable[[ClientAddress, bytes], Awaitable[Chosen]]
Progress = Callable[[int], object]


async def copy(
    src: FileDescriptorLike | StreamReader | ReadTransport,
    dst: FileDescriptorLike | StreamWriter | WriteTransport,
    count: int | None = None,
    *,
    offset_src: int | None = None,
    offset_dst: int | None = None,
    method: str = "auto",
    timeout: float | None = None,
    progress: Progress | None = None,
) -> TransferResult:
    """Move `count` bytes, or all to the end, from `src` to `dst` the fastest way there is.

    Everything is as in `spliceio.copy`; between two files it runs in a worker thread. Sockets are
    nonblocking while it runs, and get their mode back. A file that is on its disk is read into
    memory by a thread of C, so that neither the loop nor another transfer waits for it. Not
    promised: that a write to a slow disk holds up no other transfer for the moment it takes.
    """
    if method == "auto":
        given = src, dst, count, offset_src, timeout, progress
        tried = await at_once(partial(act.copied, *given, offset_dst=offset_dst))
        if isinstance(tried, TransferResult):
            return tried
        if tried is not None:
            return await run_and_close(tried, progress, nothing_unsent)
    with Streams() as streams:
        from_, ahead = streams.take(src, "src", count)
        to, _ = streams.take(dst, "dst", reads=False)
        transfer = Transfer(
            from_,
            to,
            count,
            offset_src=offset_src,
            offset_dst=offset_dst,
            method=method,
            timeout=timeout,
            ahead=ahead,
        )
        return await run_and_close(transfer, progress, streams.sent)


async def send_file(
    sock: FileDescriptorLike | StreamWriter | WriteTransport,
    file: FileDescriptorLike,
    offset: int = 0,
    count: int | None = None,
    *,
    header: Buffer = b"",
    trailer: Buffer = b"",
    timeout: float | None = None,
    progress: Progress | None = None,
) -> TransferResult:
    """Send `header`, `count` bytes of `file` from `offset` on, and `trailer`, in that order.

    Everything is as in `spliceio.send_file`. What is small, in memory and has room in the socket is
    sent at once, without a wait; a file that has to be read from its disk never holds up the loop.
    """
    tried = await at_once(
        partial(act.sent, sock, file, offset, count, header, trailer, timeout, progress)
    )
    if isinstance(tried, TransferResult):
        return tried
    if tried is not None:
        return await run_and_close(tried, progress, nothing_unsent)
    with Streams() as streams:
        to, _ = streams.take(sock, "sock", reads=False)
        transfer = make_send_file(to, file, offset, count, header, trailer, timeout)
        return await run_and_close(transfer, progress, streams.sent)


async def receive_file(
    sock: FileDescriptorLike | StreamReader | ReadTransport,
    file: FileDescriptorLike,
    count: int | None = None,
    *,
    offset: int | None = None,
    drain: bool = False,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> TransferResult:
    """Write `count` bytes from `sock`, or all to its end, into `file`, past user memory.

    Everything is as in `spliceio.receive_file`.
    """
    with Streams() as streams:
        from_, ahead = streams.take(sock, "sock", count, keep=drain)
        transfer = make_receive_file(from_, file, count, offset, timeout, ahead=ahead)
        try:
            return await run_and_close(transfer, progress, streams.sent)
        except BaseException as error:
            unread = set_unread(error, transfer, count)
            if drain and transfer.failed_at == "dst":
                with count_drained(error, unread) as done:
                    done(await _discard(from_, unread, timeout))
            raise


async def _discard(src: FileDescriptorLike, count: int | None, timeout: float | None) -> int:
    with open("/dev/null", "wb", buffering=0) as null:
        return (await copy(src, null, count, timeout=timeout)).moved


async def fanout(
    src: FileDescriptorLike | StreamReader | ReadTransport,
    sinks: Iterable[object],
    count: int | None = None,
    *,
    on_slow: Literal["wait", "drop"] = "wait",
    stall_timeout: float = 5.0,
    method: str = "auto",
    timeout: float | None = None,
    progress: Progress | None = None,
) -> FanoutResult:
    """Copy `count` bytes of `src`, or all to its end, to every one of `sinks`.

    Everything is as in `spliceio.fanout`, and a sink may also be an asyncio StreamWriter or
    transport; what that has not sent yet is sent first, and waited for without limit. It runs in a
    thread of its own, where `update` and `write` of Python sinks are called: the event loop does
    not wait for them, and a cancellation takes effect when they have returned.
    """
    with Streams() as streams:
        from_, ahead = streams.take(src, "src", count)
        given = as_list(sinks)
        to = [
            streams.take(sink, f"sinks[{number}]", reads=False)[0]
            for number, sink in enumerate(given)
        ]
        fan = Fanout(
            from_,
            to,
            count,
            on_slow=on_slow,
            stall_timeout=stall_timeout,
            method=method,
            timeout=timeout,
            ahead=ahead,
        )
        for one, sink in zip(fan.sinks, given, strict=True):
            one.given = sink
        return await run_fanout(fan, progress, streams.sent)


async def relay(
    a: Side | tuple[StreamReader, StreamWriter] | Transport,
    b: Side | tuple[StreamReader, StreamWriter] | Transport,
    *,
    idle_timeout: float | None = None,
    to_a: bytes = b"",
    to_b: bytes = b"",
    byte_limit: int | None = None,
) -> RelayResult:
    """Copy bytes both ways between two sides until both have reached end of file.

    Everything is as in `spliceio.relay`, and a side may also be an asyncio (reader, writer) pair,
    or a transport after `pause_reading()`: what its protocol was given goes into `to_a`, `to_b`.
    Sockets are nonblocking while it runs, and get their mode back.
    """
    limit = idle_ns(idle_timeout, "idle_timeout")
    to_a, to_b = bytes(memoryview(to_a)), bytes(memoryview(to_b))
    left = None if byte_limit is None else byte_limit - len(to_a) - len(to_b)
    with Streams() as streams:
        side_a, from_a = streams.take(a, "a", left)
        left = None if left is None else left - len(from_a)
        side_b, from_b = streams.take(b, "b", left)
        make = partial(Pair, side_a, side_b, to_a + from_b, to_b + from_a, byte_limit, "auto")
        return await run_relay(make, limit, streams.sent)


async def serve_proxy(
    listen: Listen | list[Listen],
    upstream: address.AddressLike | list[address.AddressLike] | None = None,
    *,
    route: Route | AsyncRoute | None = None,
    drain: float | None = None,
    task_status: anyio.abc.TaskStatus[Proxy] = anyio.TASK_STATUS_IGNORED,
    **options: Any,
) -> None:
    """Run a Proxy until it is cancelled, or its `shutdown` is called.

    The parameters are those of `Proxy`; `route` may also be an async function, which then runs in
    this event loop. With `await task_group.start(serve_proxy, ...)` the Proxy is what `start`
    returns, as soon as it listens. When it is cancelled, open connections have `drain` seconds to
    end, and are cut then.
    """
    async with AsyncExitStack() as stack:
        if inspect.iscoroutinefunction(route) or inspect.iscoroutinefunction(
            getattr(route, "__call__", None)  # noqa: B004 - an object whose call is async
        ):
            portal = await stack.enter_async_context(anyio.from_thread.BlockingPortal())
            stack.push_async_callback(portal.stop, cancel_remaining=True)
            route = partial(portal.call, cast(AsyncRoute, route))
        proxy = Proxy(listen, upstream, route=cast("Route | None", route), **options)
        limiter = anyio.CapacityLimiter(2)  # not shared: no other call can use up these two threads
        try:
            proxy.start()
            task_status.started(proxy)
            await anyio.to_thread.run_sync(
                proxy.serve_forever, abandon_on_cancel=True, limiter=limiter
            )
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(proxy.shutdown, drain, limiter=limiter)
            except BaseException:
                proxy.shutdown()  # a task of asyncio was cancelled again: no more draining
                raise
