"""Access log of a proxy: its completions as records of the logger "spliceio.proxy".

Each record has a sentence for a person and attributes for a program. Reads connections, changes
nothing.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import math
import os
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._cffi import ffi, lib
from .._relay.result import REASONS
from . import address
from .router import ClientAddress, shown
from .upstreams import Numbered

if TYPE_CHECKING:
    from .._cffi import struct_sio_proxy_report_ptr

__all__ = ["ProxyLog"]

log = logging.getLogger("spliceio.proxy")
_LOG_AGAIN = 30.0


class ProxyLog:
    """Makes the log records of a proxy, with the names of its upstreams.

    The names of an upstream are kept as long as its number may come back, and no longer.
    """

    def __init__(self) -> None:
        self._lists: list[Numbered] = []
        self._full, self._full_logged = 0, -math.inf
        self._trouble, self._trouble_logged = 0, -math.inf

    def number(
        self, upstreams: Sequence[address.Address], current: Numbered | None = None
    ) -> Numbered:
        """Number upstreams with numbers that no others have; drop lists that are no longer used.

        The current ones, and the last that were numbered, may be on their way to the engines.
        """
        while True:
            before = self._lists
            kept = [one for one in before if one is current or one is before[-1] or one.is_used]
            new = Numbered(upstreams, _free(kept, len(upstreams)))
            after = [*kept, new]
            # No lock: a signal handler may do the same in the middle of this. Between these two
            # lines neither it nor another thread gets a turn.
            if self._lists is before:
                self._lists = after
                return new

    def _name(self, number: int) -> str | None:
        for one in self._lists:
            if number in one.numbers:
                return str(one.upstreams[number - one.numbers.start])
        return None

    def client(self, report: struct_sio_proxy_report_ptr) -> ClientAddress:
        """Return the address of the client: host and port, or "unix"."""
        peer = report.client
        if peer.family == socket.AF_UNIX:
            return "unix"
        ip = ipaddress.IPv6Address(bytes(ffi.buffer(peer.ip)))
        return str(ip.ipv4_mapped or ip), int(peer.port)

    def log_event(
        self, report: struct_sio_proxy_report_ptr, events: int, routed: Sequence[str] | None = None
    ) -> None:
        """Log the events of one connection; `routed` are the upstreams that the route gave it."""
        if events & (lib.SIO_EVENT_DOWN | lib.SIO_EVENT_UP):
            self._log_health(report, bool(events & lib.SIO_EVENT_DOWN))
        if events & lib.SIO_EVENT_OVER and log.isEnabledFor(logging.INFO):
            if routed is None:
                name = self._name(report.upstream)
            else:
                name = routed[report.upstream] if 0 <= report.upstream < len(routed) else None
            self._log_closed(report, name)

    def _log_health(self, report: struct_sio_proxy_report_ptr, is_down: bool) -> None:
        name = self._name(report.event_upstream)
        if is_down:
            why = os.strerror(report.event_err) if report.event_err else "it has no address"
            extra = {"event": "upstream-down", "upstream": name, "errno": int(report.event_err)}
            log.warning("%s: %s", name, why, extra=extra)
        else:
            log.info("%s: reached again", name, extra={"event": "upstream-up", "upstream": name})

    def _log_closed(self, report: struct_sio_proxy_report_ptr, upstream: str | None) -> None:
        who = shown(self.client(report))
        ab, ba = int(report.a_to_b), int(report.b_to_a)
        fields = {
            "event": "closed",
            "client": who,
            "upstream": upstream,
            "a_to_b": ab,
            "b_to_a": ba,
            "seconds": report.ns / 1e9,
            "reason": REASONS[report.reason],
        }
        if report.is_connected:
            log.info(
                "%s to %s: %d bytes there, %d back, %.3f s, %s",
                *(who, upstream, ab, ba, fields["seconds"], fields["reason"]),
                extra=fields,
            )
            return
        why = _why(report)
        log.info("%s: %s", who, why, extra={**fields, "event": "failed", "reason": why})

    def log_full(self, full: int) -> None:
        """Log that no descriptor was left, at most every 30 seconds."""
        now = time.monotonic()
        if full > self._full and now - self._full_logged > _LOG_AGAIN:
            text = "no descriptor is left (ulimit -n): connections wait in the backlog"
            log.warning(text, extra={"event": "full"})
            self._full_logged = now
        self._full = full

    def log_trouble(self, error: OSError | None, is_end: int, times: int) -> bool:
        """Log that a call of the engines fails: once if it is the end, else at intervals.

        Return whether it is.
        """
        if error is None:
            return False
        now = time.monotonic()
        extra: dict[str, object] = {"event": "stopped"} if is_end else {"event": "trouble"}
        extra["errno"] = error.errno
        if is_end and self._trouble_logged < math.inf:
            log.error("nothing is accepted any more: %s", error.strerror, extra=extra)
            self._trouble_logged = math.inf
        elif times > self._trouble and now - self._trouble_logged > _LOG_AGAIN:
            log.warning("connections wait in the backlog: %s", error.strerror, extra=extra)
            self._trouble_logged = now
        self._trouble = times
        return bool(is_end)


def _free(lists: Sequence[Numbered], count: int) -> int:
    """Find so many numbers in a row that no list has; return the first."""
    first = 0
    for numbers in sorted((one.numbers for one in lists), key=lambda numbers: numbers.start):
        if numbers.start - first >= count:
            break
        first = numbers.stop
    return first


def _why(report: struct_sio_proxy_report_ptr) -> str:
    """Return why an accepted connection got no upstream."""
    if report.err == errno.EPROTO:
        return "it sent no PROXY protocol header, which its network has to"
    if report.err == errno.ENODATA:
        return "the route wanted more bytes than the client sent"
    if report.err:
        return os.strerror(report.err)
    if report.reason == lib.SIO_REASON_CANCELLED:
        return "it was cut before it was connected"
    return "no upstream has an address" if report.tries else "the route refused it"
