"""`spliceio proxy`: a Proxy as a process, with signals, statistics and metrics.

SIGTERM drains and ends it, SIGINT cuts and ends it, SIGHUP reads the file of upstreams again. The
signals are waited for in the main thread and nowhere else; the bytes are in other threads. When
nothing can be accepted any more it ends with that error.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .._proxy import address as _address
from .._proxy import upstreams as _upstream
from .._proxy.proxy import Proxy, ProxyStats
from . import metrics, progress
from .progress import say

__all__ = ["run"]

log = logging.getLogger("spliceio.proxy")
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_FIRST_PASSED = 3  # sd_listen_fds(3)
_REFRESH = 0.5
_IDLE = 1.0


def run(args: argparse.Namespace) -> None:
    """Serve until a signal ends it."""
    if args.live:
        progress.require_rich("--live")
    if args.metrics:
        metrics.require_prometheus()
    if bool(args.upstreams) == bool(args.upstream):
        args.usage_error("give UPSTREAM, or --upstreams FILE")
    try:
        _upstream.networks(args.trust_proxy_protocol)
    except ValueError as error:
        reason = f"{error}; write 10.0.0.0/8, ::1 or unix"
        args.usage_error(f"argument --trust-proxy-protocol: {reason}")
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(format="spliceio: proxy: %(message)s", level=level)
    # What may take its time comes before: a resolver, a file of upstreams that is a FIFO.
    upstreams = _upstreams(args)
    there = [one if one == "systemd" else _address.places(one) for one in [args.listen, *args.also]]
    # Blocked before there are other threads: theirs are too, and sigwait() gets each.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    begun = time.process_time()
    with contextlib.ExitStack() as stack:
        proxy = Proxy(
            [*_listeners(there, stack)],
            upstreams,
            connect_timeout=args.connect_timeout,
            idle_timeout=args.idle_timeout,
            keepalive=args.keepalive,
            max_connections=args.max_connections,
            proxy_protocol=args.proxy_protocol,
            trust_proxy_protocol=args.trust_proxy_protocol,
            reuse_port=args.reuse_port,
            threads=args.threads,
            method=args.method,
        )
        stack.enter_context(proxy)
        if args.metrics:
            stop, where = metrics.serve(args.metrics, proxy.stats)
            stack.callback(stop)
            say(f"metrics on {where}")
        for address in proxy.addresses:
            say(f"listening on {_address.escaped(address)}")
        ended_by = _serve(proxy, args)
    if args.stats:
        _print_stats(proxy.stats(), time.process_time() - begun)
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt


def _listeners(
    there: Sequence[_address.Places | str], stack: contextlib.ExitStack
) -> Iterator[_address.Places | socket.socket]:
    for one in there:
        if isinstance(one, _address.Places):
            yield one
            continue
        for sock in _passed():
            yield stack.enter_context(sock)


def _passed() -> list[socket.socket]:
    """Take the sockets that systemd has opened for this process, as sd_listen_fds(3) does."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise ValueError("systemd passed no sockets to this process (LISTEN_PID); use a .socket")
    passed = os.environ.get("LISTEN_FDS", "")
    if not passed.isdecimal() or int(passed) == 0:
        raise ValueError(f"systemd passed no sockets (LISTEN_FDS is {passed!r}); use a .socket")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    found = []
    for number in range(_FIRST_PASSED, _FIRST_PASSED + int(passed)):
        try:
            found.append(socket.socket(fileno=number))
        except OSError as error:
            raise ValueError(f"descriptor {number} of LISTEN_FDS: {error.strerror}") from None
    return found


def _upstreams(args: argparse.Namespace) -> list[_address.AddressLike]:
    if not args.upstreams:
        return list(args.upstream)
    found: list[_address.AddressLike] = []
    for number, line in enumerate(Path(args.upstreams).read_bytes().splitlines(), 1):
        try:
            text = _text(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
            if text:
                found.append(_address.target(text))
        except ValueError as error:
            raise ValueError(f"{args.upstreams}, line {number}: {error}") from None
    if not found:
        raise ValueError(f"{args.upstreams}: no upstream in it; write one address a line")
    return found


def _text(line: bytes) -> str:
    """Return a line without its comment, which may be in any encoding."""
    said = line.partition(b"#")[0].strip()
    try:
        return said.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{said!r} is not UTF-8 (byte {error.start + 1} of it)") from None


def _reload(proxy: Proxy, args: argparse.Namespace) -> None:
    """Read the file of upstreams again; an error in it leaves everything as it was."""
    if not args.upstreams:
        log.warning("SIGHUP: there is no file of upstreams to read again (--upstreams FILE)")
        return
    try:
        wanted = _upstreams(args)
    except (OSError, ValueError) as error:
        log.warning("SIGHUP: %s; the upstreams stay as they were", error)
        return
    proxy.set_upstreams(wanted)
    log.warning("SIGHUP: %d upstreams from %s", len(wanted), args.upstreams)


def _serve(proxy: Proxy, args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT, and end the proxy; return which signal it was."""
    failed: list[OSError] = []
    threading.Thread(target=_watch, args=(proxy, failed), daemon=True).start()
    with _display(args.live) as show:
        number = None
        while number not in (signal.SIGTERM, signal.SIGINT):
            number = _wait(show(proxy.stats()))
            if failed:
                raise failed[0]
            if number == signal.SIGHUP:
                _reload(proxy, args)
        if number == signal.SIGTERM:
            shutdown = _Shutdown(proxy, args.drain)
            while not shutdown.is_over:
                again = _wait(show(proxy.stats()))
                if again in (signal.SIGTERM, signal.SIGINT):
                    return again  # a second signal ends it without the drain
    return number


def _watch(proxy: Proxy, failed: list[OSError]) -> None:
    """Signal the main thread when the proxy has ended by an error."""
    try:
        proxy.serve_forever()
    except OSError as error:
        failed.append(error)
        os.kill(os.getpid(), signal.SIGTERM)


class _Shutdown:
    """A shutdown in a thread, whose end is signalled to the main thread."""

    def __init__(self, proxy: Proxy, drain: float | None) -> None:
        self.is_over = False
        self._proxy, self._drain = proxy, drain
        threading.Thread(target=self._run).start()

    def _run(self) -> None:
        try:
            self._proxy.shutdown(self._drain)
        finally:
            self.is_over = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGHUP)


def _wait(seconds: float | None) -> int | None:
    if seconds is None:
        return signal.sigwait(_SIGNALS)
    came = signal.sigtimedwait(_SIGNALS, seconds)
    return None if came is None else came.si_signo


@contextlib.contextmanager
def _display(wanted: bool) -> Iterator[Callable[[ProxyStats], float | None]]:
    """Give a function that shows the counts, in a line on standard error or nowhere.

    It returns in how many seconds to call it again, if at all.
    """
    if not wanted:
        yield lambda stats: None
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.live import Live

    before: list[tuple[float, int]] = [(time.monotonic(), 0)]
    shown: list[str] = []
    with Live(console=Console(stderr=True), auto_refresh=False) as live:

        def show(stats: ProxyStats) -> float:
            now, total = time.monotonic(), stats.a_to_b + stats.b_to_a
            (then, was), before[0] = before[0], (now, total)
            rate = decimal(int((total - was) / max(now - then, 1e-3)))
            text = (
                f"{stats.active} open, {stats.total} accepted, {stats.failed} failed; "
                f"{decimal(stats.a_to_b)} there, {decimal(stats.b_to_a)} back, {rate}/s; "
                f"{stats.pipes_held} of {stats.pipes_open} pipes in use"
            )
            if [text] == shown:
                return _IDLE
            shown[:] = [text]
            live.update(text, refresh=True)
            return _REFRESH

        yield show


def _print_stats(stats: ProxyStats, cpu_seconds: float) -> None:
    counted = {
        "connections": stats.total,
        "a_to_b": stats.a_to_b,
        "b_to_a": stats.b_to_a,
        "cpu_seconds": round(cpu_seconds, 6),
        "methods": stats.methods,
    }
    print(json.dumps(counted), flush=True)
