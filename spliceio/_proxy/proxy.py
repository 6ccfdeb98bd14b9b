"""`Proxy`: accept, connect and relay, all in C; Python configures, routes and logs.

Every thread is an engine of csrc/loop/loop.c with listeners (csrc/proxy/listener.c) and upstreams
(csrc/proxy/connector.c). Nothing here sees a byte of a connection, but for the first ones that a
route gets.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal

from .._cffi import ffi, lib
from .._kernel import errors
from .._kernel.arguments import at_most
from .._public import public
from .._relay.engine import Engines
from .._relay.notify import Event, Waiters
from .._transfer.flow import idle_ns, limit_ns
from . import address as _address
from . import upstreams as _upstreams
from .access_log import ProxyLog
from .keepalive import KEEPALIVE, whole_seconds
from .listeners import Listen, Listeners
from .resolver import Resolver
from .router import More, Route, Router

if TYPE_CHECKING:
    from .._cffi import struct_sio_conn_ptr

__all__ = ["Listen", "Proxy", "ProxyStats"]

log = logging.getLogger("spliceio.proxy")
_MOST = 2**63 - 1
_METHODS = {"auto": lib.SIO_SPLICE_PIPE, "read_write": lib.SIO_READ_WRITE}


@public
@dataclass(frozen=True)
class ProxyStats:
    """The counts of a Proxy.

    `active` connections are open, of `total` that were accepted; `failed` found no upstream.
    `a_to_b` are bytes from clients that arrived at upstreams, `b_to_a` those of the other way, open
    connections included; `methods` says how many of both went by "splice" and how many by
    "read_write". `pipes_open` pipes exist, `pipes_held` of them are in use. `full` counts how
    often no descriptor was left for a connection, which then waited in the backlog.
    """

    active: int
    total: int
    failed: int
    a_to_b: int
    b_to_a: int
    methods: dict[str, int]
    pipes_open: int
    pipes_held: int
    full: int


@public
class Proxy:
    """A TCP and unix socket proxy whose bytes never wait for Python.

    `listen` is "host:port", "[v6]:port", ":port", "unix:/path", "unix:@name", a (host, port) pair,
    a listening socket (nonblocking meanwhile), or a list of these. `upstream` is such an address
    too, or a list of them, which take turns; one that cannot be reached is passed over for a while
    (1 s, doubling up to 30 s), and a connection is lost only when none can. Names are resolved now,
    by `set_upstreams`, and again when they cannot be reached; their addresses are tried in the
    order of RFC 8305.

    `route(client_address, first_bytes)` instead decides per connection: it returns an address, a
    list of them, None to close the connection, or `Proxy.MORE` to be asked again with more bytes.
    The bytes (16 KiB at most) are only peeked at: the upstream gets them too. It is called when
    the client has sent something, or after `peek_timeout` seconds with what there is (perhaps
    b""), or at the client's end of file; in one of four threads.

    `connect_timeout` and `idle_timeout` are seconds; the latter closes a connection on which
    nothing has moved either way. A TCP peer that is silent for `keepalive` seconds is asked whether
    it is there, and its connection is cut after as many again without an answer; None leaves that
    as it is. Above `max_connections` clients wait in the backlog. `proxy_protocol` 1 or 2 sends the
    upstream a header that names the client. `trust_proxy_protocol` lists the networks (or "unix")
    that have to send such a header, which is then believed. `reuse_port` lets several processes
    share the address. Each of `threads` threads serves all listeners. `method="read_write"` copies
    instead of splicing.

    Entering the context starts it. Log records (logger "spliceio.proxy") carry `event`, `client`,
    `upstream`, `a_to_b`, `b_to_a`, `seconds` and `reason` as attributes; each connection is logged
    if the logger is enabled for INFO when the proxy starts.

    Raises ValueError and TypeError for arguments that cannot be, OSError when it cannot listen; a
    name that cannot be resolved is logged and tried again. Not promised: a TCP urgent byte is
    passed over (everything around it arrives), and ancillary data on unix sockets is lost.
    """

    MORE: ClassVar[Literal[More.MORE]] = More.MORE

    def __init__(
        self,
        listen: Listen | list[Listen],
        upstream: _address.AddressLike | list[_address.AddressLike] | None = None,
        *,
        route: Route | None = None,
        connect_timeout: float | None = 10.0,
        idle_timeout: float | None = None,
        keepalive: float | None = KEEPALIVE,
        max_connections: int | None = None,
        proxy_protocol: int | None = None,
        trust_proxy_protocol: Iterable[str] = (),
        reuse_port: bool = False,
        threads: int = 1,
        max_pipes: int = 64,
        method: str = "auto",
        peek_timeout: float | None = 5.0,
    ) -> None:
        if (upstream is None) == (route is None):
            raise TypeError("Proxy: give an upstream or a route, one of the two")
        if proxy_protocol not in (None, 1, 2):
            raise ValueError(f"proxy_protocol must be None, 1 or 2, not {proxy_protocol!r}")
        if max_connections is not None and max_connections < 1:
            raise ValueError(f"max_connections must be None or at least 1, not {max_connections}")
        if route is not None and not callable(route):
            raise TypeError(f"Proxy: route must be callable, not {type(route).__name__}")
        if connect_timeout is not None and not connect_timeout > 0:
            raise ValueError(f"connect_timeout must be None or more than 0, not {connect_timeout}")
        if method not in _METHODS:
            raise ValueError(f"method must be one of {', '.join(_METHODS)}, not {method!r}")
        self._setup = ffi.new("struct sio_proxy_config *")
        self._open = ffi.new("int64_t *")
        self._networks, trusted = _upstreams.networks(trust_proxy_protocol)
        self._setup.route = route is not None
        self._setup.proxy_protocol = proxy_protocol or 0
        self._setup.method = _METHODS[method]
        self._setup.idle_ns = idle_ns(idle_timeout, "idle_timeout")
        self._setup.keepalive = whole_seconds(keepalive)
        self._setup.connect_ns = limit_ns(connect_timeout, "connect_timeout")
        self._setup.peek_ns = limit_ns(peek_timeout, "peek_timeout")
        if max_connections is not None:
            max_connections = at_most(max_connections, _MOST, "max_connections")
        self._setup.most = -1 if max_connections is None else max_connections
        self._setup.open = self._open
        self._setup.trusted, self._setup.trusted_count = self._networks, trusted
        self._setup.shared = threads > 1 or reuse_port
        upstreams = [] if upstream is None else _upstreams.upstreams(upstream)
        if upstream is not None and not upstreams:
            raise ValueError("Proxy: the list of upstreams is empty")
        self._log = ProxyLog()
        self._upstreams = self._log.number(upstreams)
        self._changed, self._ended = Waiters(), Event()
        self._state = "new"
        self._down: set[int] = set()
        self._listeners = Listeners()
        # Nothing that it owns refers back to it before it is started: dropped until then, it is
        # closed with its last reference.
        this = weakref.ref(self)
        self._engines = engines = Engines(
            threads,
            max_pipes,
            lambda conn, events: _of(this)._on_event(conn, events),
            on_batch=lambda: _of(this)._on_batch(),
            on_fork=self._listeners.close_in_child,
            name="spliceio-proxy",
        )
        self._resolver = Resolver(partial(_connect_to, engines), partial(bool, self._down))
        self._router = None if route is None else Router(route, self._setup, engines.wake)
        try:
            wanted = listen if isinstance(listen, list) else [listen]
            if not wanted:
                raise ValueError("Proxy: the list of addresses to listen on is empty")
            for one in wanted:
                self._listeners.add(one, reuse_port)
        except BaseException:
            self._close()
            raise

    # -- the public face ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The address of the first listening socket."""
        addresses = self.addresses
        if not addresses:
            raise RuntimeError("Proxy.address: it is shut down, and listens nowhere")
        return addresses[0]

    @property
    def addresses(self) -> list[str]:
        """All addresses that it listens on, as `listen` takes them; after `shutdown`, none."""
        return list(self._listeners.addresses)

    def start(self) -> None:
        """Begin to accept, in threads of its own; `with` does it too."""
        self._engines.check("Proxy.start")
        if self._state != "new":
            raise RuntimeError("Proxy.start: it has been started")
        self._state = "started"
        self._engines.owner = self
        self._setup.completions, self._setup.tell = (
            self._engines.completions_for("Proxy.start"),
            log.isEnabledFor(logging.INFO),
        )
        fds = self._listeners.fds
        for engine in self._engines.each:
            if err := lib.sio_engine_serve(engine, self._setup, fds, len(fds)):
                self._close()
                raise errors.failure("Proxy.start", -err)
        self._engines.start()
        self._resolver.look_up(self._upstreams)

    def serve_forever(self) -> None:
        """Wait until `shutdown` was called, and has ended everything; start it if need be.

        Signal handlers run meanwhile, and may call `shutdown`. Raises OSError, when all is cut, if
        a sandbox, say, refuses the system calls that it needs.
        """
        self._engines.check_process("Proxy.serve_forever")
        if self._state == "new":
            self.start()
        self._changed.wait_for(self._has_ended, None)
        if (failure := self._engines.failure) is not None:
            self.shutdown()
            raise failure
        self._ended.wait()

    def _has_ended(self) -> bool:
        return self._ended.is_set() or self._engines.failure is not None

    def shutdown(self, drain: float | None = None) -> None:
        """Accept no more; wait up to `drain` seconds for open connections to end, then abort them.

        Without `drain` it is cut at once: both sides see a reset, so nothing looks whole that is
        not. Safe to repeat and to call from another thread; not from the route.
        """
        if self._engines.pid != os.getpid():
            return
        for engine in self._engines.each:
            lib.sio_engine_close_listeners(engine)
        self._listeners.close()
        if drain and self._state == "started":
            self._changed.wait_for(self._is_drained, drain)
        self._close()

    def _is_drained(self) -> bool:
        return self._ended.is_set() or not self._engines.counts()["active"]

    def set_upstreams(self, upstream: _address.AddressLike | list[_address.AddressLike]) -> None:
        """Connect to these from now on; connections that are open stay.

        Raises ValueError for an empty list or what is no address.
        """
        self._engines.check("Proxy.set_upstreams")
        if self._router is not None:
            raise RuntimeError("Proxy.set_upstreams: its route decides; there is no list")
        wanted = _upstreams.upstreams(upstream)
        if not wanted:
            raise ValueError("Proxy.set_upstreams: the list is empty")
        self._upstreams = numbered = self._log.number(wanted, self._upstreams)
        self._down.clear()
        if self._state == "started":
            self._resolver.look_up(numbered)

    def stats(self) -> ProxyStats:
        """Count what is open now, and what was done since the start."""
        self._engines.check_process("Proxy.stats")
        counts = self._engines.counts()
        both = counts["a_to_b"] + counts["b_to_a"]
        methods = {"splice": both - counts["copied"], "read_write": counts["copied"]}
        plain = {name: counts[name] for name in ProxyStats.__dataclass_fields__ if name in counts}
        return ProxyStats(**plain, methods={name: n for name, n in methods.items() if n})

    def __enter__(self) -> Proxy:
        self._engines.check_process("Proxy.__enter__")
        if self._state != "started":
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    # -- completions -------------------------------------------------------------------------------

    def _on_event(self, conn: struct_sio_conn_ptr, events: int) -> None:
        over = events & lib.SIO_EVENT_OVER
        routed = self._router.forget(conn) if self._router is not None and over else None
        report = ffi.new("struct sio_proxy_report *")
        lib.sio_proxy_report(conn, report)
        try:
            if events & lib.SIO_EVENT_UP:
                self._down.discard(report.event_upstream)
            elif events & lib.SIO_EVENT_DOWN and report.event_upstream in self._upstreams.numbers:
                self._down.add(report.event_upstream)
                self._resolver.look_up_again()
            self._log.log_event(report, events, routed)
        finally:  # a handler of the logger may have failed
            if events & lib.SIO_EVENT_ROUTE and not over and self._router is not None:
                self._router.ask(conn, report, self._log.client(report))
            else:
                lib.sio_proxy_release(conn)

    def _on_batch(self) -> None:
        try:
            self._log.log_full(self._engines.counts()["full"])
            if self._log.log_trouble(*self._engines.trouble()):
                self._listeners.close()
        finally:
            if self._router is not None:
                self._router.answer()
            self._changed.notify_all()

    # -- the end -----------------------------------------------------------------------------------

    def _close(self) -> None:
        # Each step can be repeated, as it is when a signal handler that raises has interrupted it.
        if self._state != "closed":
            self._state = "closing"
        self._resolver.close()
        self._listeners.close()
        if self._router is not None:
            self._router.close()
        self._engines.close()
        self._listeners.restore_mode()
        self._state = "closed"
        self._ended.set()
        self._changed.notify_all()


def _of(this: weakref.ref[Proxy]) -> Proxy:
    proxy = this()
    assert proxy is not None
    return proxy


def _connect_to(
    engines: Engines, addresses: list[list[bytes]], numbered: _upstreams.Numbered
) -> None:
    for engine in engines.each:
        lib.sio_engine_upstreams(engine, _upstreams.packed(addresses, numbered))
