"""poll(2) for one descriptor: whether it is ready, or wait until it is."""

from __future__ import annotations

import select

__all__ = ["ready"]

_MOST_SECONDS = 2_000_000
"""The most that poll() takes, in milliseconds: about 23 days."""


def ready(fd: int, events: int, seconds: float | None = 0) -> int:
    """Return which of `events` are there, POLLERR and POLLHUP too; 0 when there are none.

    Waits up to so many seconds, by default not at all; with None for ever. A signal handler runs
    meanwhile, and what it raises passes through.
    """
    poll = select.poll()
    poll.register(fd, events)
    found = poll.poll(None if seconds is None else min(seconds, _MOST_SECONDS) * 1000)
    return found[0][1] if found else 0
