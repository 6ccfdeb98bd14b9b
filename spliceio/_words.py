"""What a word of the command line means: sizes, addresses, times, counts, names.

Functions for argparse's `type`: they return a value, or raise ArgumentTypeError with a sentence
that says what to write instead.
"""

from __future__ import annotations

import argparse
import contextlib
import re

from . import _address
from ._keepalive import LONGEST

__all__ = [
    "address",
    "count",
    "digest",
    "keepalive",
    "listener",
    "names",
    "not_negative",
    "patience",
    "size",
    "tcp_address",
]

_LONGEST = 1e6
_MOST = 1_000_000
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(text: str) -> int:
    """Read a number of bytes such as 4096, 64K or 1GiB."""
    found = re.fullmatch(r"(\d+)([kmgt]?)(?:(?<=[kmgt])i)?b?", text.lower(), re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 4096, 64K, 10M or 1G")
    return int(found[1]) * _UNITS[found[2]]


def address(text: str) -> _address.Address:
    """Read an address, and let argparse say what is wrong with it."""
    try:
        return _address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def tcp_address(text: str) -> _address.Address:
    """Read an address that has a port."""
    found = address(text)
    if found.path:
        raise argparse.ArgumentTypeError(f"{text!r}: it takes host:port, and no unix socket")
    return found


def names(text: str) -> list[str]:
    """Read a list with commas."""
    return text.split(",")


def patience(text: str) -> float:
    """Read a time to wait: seconds, more than none and less than for ever."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= _LONGEST:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def not_negative(text: str) -> float:
    """Read a number of seconds, 0 among them."""
    return 0.0 if text.strip("0") in ("", ".") and text.strip(".") else patience(text)


def keepalive(text: str) -> float | None:
    """Read a time after which a silent peer is asked whether it is there; "off" is never."""
    if text == "off":
        return None
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= LONGEST:
            return float(text)
    text = f"{text!r} is neither off nor a number of seconds above 0, at most {LONGEST}"
    raise argparse.ArgumentTypeError(text)


def count(text: str) -> int:
    """Read a number of things, at least one."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= _MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {_MOST}")


def listener(text: str) -> _address.Address | str:
    """Read an address, or the word for what systemd passes."""
    return text if text == "systemd" else address(text)


def digest(text: str) -> str:
    """Read the name of a hash whose digest has a length of its own."""
    import hashlib  # for one option of one command

    name = text.lower().replace("-", "_")
    for known in (name, name.replace("_", "")):  # SHA3-256, SHA-256
        if known in hashlib.algorithms_available and hashlib.new(known).digest_size:
            return known
    names = sorted(one for one in hashlib.algorithms_guaranteed if hashlib.new(one).digest_size)
    raise argparse.ArgumentTypeError(f"{text!r} is no hash known here; write {', '.join(names)}")
