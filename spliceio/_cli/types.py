"""Argument types of the command line: sizes, addresses, seconds, counts, names.

Functions for argparse's `type`: they return a value, or raise ArgumentTypeError with a sentence
that says what to write instead.
"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Callable

from .._kernel.arguments import MOST_THREADS
from .._proxy import address as _address
from .._proxy.keepalive import LONGEST

__all__ = [
    "address",
    "bound",
    "count",
    "digest",
    "keepalive",
    "listener",
    "metrics_address",
    "names",
    "positive_seconds",
    "proxy_protocol",
    "seconds",
    "size",
    "target",
    "threads",
]

_MAX_SECONDS = 1e6
_MAX_COUNT = 1_000_000
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(text: str) -> int:
    """Parse a number of bytes such as 4096, 64K or 1GiB."""
    found = re.fullmatch(r"(\d+)([kmgt]?)(?:(?<=[kmgt])i)?b?", text.lower(), re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 4096, 64K, 10M or 1G")
    return int(found[1]) * _UNITS[found[2]]


def address(text: str) -> _address.Address:
    """Parse an address; ArgumentTypeError says what is wrong with it."""
    return _parsed(_address.parse, text)


def target(text: str) -> _address.Address:
    """Parse an address to connect to."""
    return _parsed(_address.target, text)


def _parsed(read: Callable[[str], _address.Address], text: str) -> _address.Address:
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def bound(text: str) -> _address.Address:
    """Parse an address to listen on; refuses a port alone, which does not say who may reach it."""
    if text.isascii() and text.isdigit():
        address(text)  # it may not even be a port
        raise argparse.ArgumentTypeError(
            f"{text!r} is a port alone; write 127.0.0.1:{text} for this machine only, or :{text} "
            "for every address of it"
        )
    return address(text)


def metrics_address(text: str) -> _address.Address:
    """Parse an address to listen on that has a port."""
    found = bound(text)
    if found.path:
        raise argparse.ArgumentTypeError(f"{text!r}: it takes host:port, and no unix socket")
    return found


def names(text: str) -> list[str]:
    """Parse a list with commas."""
    return text.split(",")


def positive_seconds(text: str) -> float:
    """Parse a time in seconds, above 0 and finite."""
    value = _parse_seconds(text)
    if value is None or value <= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds above 0; write 30 or 0.5, at most {_MAX_SECONDS:.0f}"
        )
    return value


def seconds(text: str) -> float:
    """Parse a time in seconds, 0 or more and finite."""
    value = _parse_seconds(text)
    if value is None or value < 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds; write 0, 30 or 0.5, at most {_MAX_SECONDS:.0f}"
        )
    return value


def _parse_seconds(text: str) -> float | None:
    """Parse a number up to the longest time; None for anything else."""
    with contextlib.suppress(ValueError):
        if text.isascii() and "_" not in text and float(text) <= _MAX_SECONDS:
            return float(text)
    return None


def keepalive(text: str) -> float | None:
    """Parse a keepalive time in seconds; "off" is None."""
    if text == "off":
        return None
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= LONGEST:
            return float(text)
    text = f"{text!r} is neither off nor a number of seconds above 0, at most {LONGEST}"
    raise argparse.ArgumentTypeError(text)


def count(text: str) -> int:
    """Parse a number of things, at least one."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= _MAX_COUNT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {_MAX_COUNT}; write 4")


def threads(text: str) -> int:
    """Parse a number of engine threads."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= MOST_THREADS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MOST_THREADS}; write 2")


def listener(text: str) -> _address.Address | str:
    """Parse an address to listen on, or "systemd" for the sockets that it passes."""
    return text if text == "systemd" else bound(text)


def proxy_protocol(text: str) -> int:
    """Parse a version of the PROXY protocol."""
    if text in ("1", "2"):
        return int(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} is no version of the PROXY protocol; write 1 (text) or 2 (binary)"
    )


def digest(text: str) -> str:
    """Parse the name of a hash whose digest has a fixed length."""
    import hashlib  # for one option of one command

    name = text.lower().replace("-", "_")
    for known in (name, name.replace("_", "")):  # SHA3-256, SHA-256
        if known in hashlib.algorithms_available and hashlib.new(known).digest_size:
            return known
    names = sorted(one for one in hashlib.algorithms_guaranteed if hashlib.new(one).digest_size)
    raise argparse.ArgumentTypeError(f"{text!r} is no hash known here; write {', '.join(names)}")
