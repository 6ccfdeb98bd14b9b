"""TCP keepalive: after how many seconds of silence a peer is probed.

Decides which numbers may be given; csrc/proxy/tune.c says what is made of them.
"""

from __future__ import annotations

import socket

from .._cffi import lib

__all__ = ["KEEPALIVE", "LONGEST", "tune", "whole_seconds"]

KEEPALIVE = 60
LONGEST = 32767  # of TCP_KEEPIDLE


def whole_seconds(keepalive: float | None) -> int:
    """Return a keepalive time as the C takes it: whole seconds, rounded up, and 0 for None."""
    if keepalive is None:
        return 0
    if isinstance(keepalive, bool) or not 0 < keepalive <= LONGEST:
        text = f"keepalive must be None or seconds above 0, at most {LONGEST}, not {keepalive!r}"
        raise ValueError(text)
    return -int(-keepalive // 1)


def tune(sock: socket.socket) -> None:
    """Set the TCP options that a proxy sets, on a connection of our own."""
    lib.sio_tune(sock.fileno(), KEEPALIVE)
