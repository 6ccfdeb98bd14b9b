"""Conditional requests (RFC 9110): validators, preconditions and ranges.

Pure functions of header values and of what fstat said: no file, no socket, no clock.

Rule 1: a field that cannot be understood is as good as absent (13.1, 14.2), except If-Match: there
an unknown tag is one that does not match, and nothing is sent that the client did not ask for.
Rule 2: what a range costs is bounded: many, overlapping or endless digits give the whole file.
"""

from __future__ import annotations

import datetime
import email.utils
import functools
import os
import re
from typing import NamedTuple, Protocol

__all__ = [
    "MOST_RANGES",
    "NO_FIELDS",
    "Fields",
    "Validators",
    "decide",
    "http_date",
    "parse_date",
    "precondition",
    "range_holds",
    "ranges",
    "validators",
]

MOST_RANGES = 16
_NS = 10**9
_LAST_SECOND = 253402300799  # of the year 9999: a date has four digits for the year
_TAG = re.compile(r'[\t ,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[\t ]*(?=,|$)')
_RANGE = re.compile(r"(\d{0,40})-(\d{0,40})", re.ASCII)


class Fields(Protocol):
    """The header of a request, as http.server has it."""

    def get_all(self, name: str, /) -> list[str] | None:
        """Return every value of a field, in order; None when it is absent."""


class _NoFields:
    def get_all(self, name: str, /) -> None:
        return None


NO_FIELDS: Fields = _NoFields()
"""The header of a request that has none."""


class Validators(NamedTuple):
    """The version of a file: a strong entity tag, and Unix seconds."""

    etag: str
    modified: int


def validators(status: os.stat_result) -> Validators:
    """Return the entity tag and the date of a file, from its mtime in nanoseconds and its size.

    Two versions of one size that the filesystem gave the same time cannot be told apart; on Linux
    that is the same tick of some milliseconds, or a time that was set by hand.
    """
    changed = status.st_mtime_ns
    return Validators(f'"{changed & (1 << 64) - 1:x}-{status.st_size:x}"', changed // _NS)


@functools.lru_cache(maxsize=256)
def http_date(seconds: int) -> str | None:
    """Return Unix seconds as a date of a header; None for a year without four digits."""
    if not 0 <= seconds <= _LAST_SECOND:
        return None
    return email.utils.formatdate(seconds, usegmt=True)


def parse_date(text: str) -> int | None:
    """Parse any of the three date formats of RFC 9110, 5.6.7; None for everything else."""
    return _parsed(text) if len(text) <= 64 else None


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> int | None:
    try:
        parts = email.utils.parsedate_tz(text)
        if parts is None or parts[9]:  # no zone but GMT
            return None
        second = min(parts[5], 59)  # a leap second
        at = datetime.datetime(*parts[:5], second, tzinfo=datetime.timezone.utc)
    except (TypeError, IndexError, ValueError, OverflowError):
        return None
    return int(at.timestamp())


def precondition(method: str, fields: Fields, now: Validators) -> int | None:
    """Return 412 or 304 when a precondition forbids the body, None to go on (13.2.2)."""
    reads = method in ("GET", "HEAD")
    if (wanted := _joined(fields, "If-Match")) is not None:
        if not _listed(wanted, now.etag, weak=False):
            return 412
    elif (since := _date(fields, "If-Unmodified-Since")) is not None and now.modified > since:
        return 412
    if (known := _joined(fields, "If-None-Match")) is not None:
        if _listed(known, now.etag, weak=True):
            return 304 if reads else 412
    elif reads and (since := _date(fields, "If-Modified-Since")) is not None:
        return 304 if now.modified <= since else None
    return None


def decide(
    method: str, fields: Fields, now: Validators, size: int
) -> tuple[int, list[tuple[int, int]] | None]:
    """Return the status of a response with a file, and the ranges of it to send.

    None is the whole file; of 304, 412 and 416 nothing is sent.
    """
    wanted = None
    if method in ("GET", "HEAD"):
        refused = precondition(method, fields, now)
        if refused is not None:
            return refused, None
        if method == "GET" and range_holds(fields, now):
            wanted = ranges(fields, size)
    if wanted is None:
        return 200, None
    return (206, wanted) if wanted else (416, None)


def range_holds(fields: Fields, now: Validators) -> bool:
    """Return whether If-Range lets a Range count: no such field, the same strong tag, or date."""
    values = fields.get_all("If-Range")
    if values is None:
        return True
    if len(values) != 1:
        return False
    value = values[0].strip()
    return value == now.etag or ('"' not in value and parse_date(value) == now.modified)


def ranges(fields: Fields, size: int) -> list[tuple[int, int]] | None:
    """Return the (offset, count) pairs asked for, in their order; [] if none is in the file.

    None means that the whole file is to be sent: no Range, one that is no list of byte ranges, more
    than `MOST_RANGES` of them, or more bytes in all than the file has. Of an empty file no part can
    be named, so it is sent whole too.
    """
    values = fields.get_all("Range")
    if values is None or len(values) != 1 or not size:
        return None
    unit, _, listed = values[0].partition("=")
    if unit.strip().lower() != "bytes" or listed.count(",") >= MOST_RANGES:
        return None
    found: list[tuple[int, int]] = []
    for item in listed.split(","):
        item = item.strip("\t ")
        if not item:
            continue  # empty elements of a list are ignored (5.6.1.2)
        match = _RANGE.fullmatch(item)
        if match is None or not _add(found, match[1], match[2], size):
            return None
    if not listed.strip("\t ,") or sum(count for _, count in found) > size:
        return None
    return found


def _add(found: list[tuple[int, int]], first: str, last: str, size: int) -> bool:
    """Add what one range has in the file; False when it is no range."""
    if not first:
        count = min(int(last), size) if last else -1
        begin = size - count
    else:
        begin = int(first)
        end = int(last) if last else size - 1
        if last and end < begin:
            return False
        count = min(end, size - 1) - begin + 1
    if count > 0:
        found.append((begin, count))
    return bool(first or last)


def _joined(fields: Fields, name: str) -> str | None:
    values = fields.get_all(name)
    return None if values is None else ",".join(values).strip()


def _date(fields: Fields, name: str) -> int | None:
    values = fields.get_all(name)
    return parse_date(values[0]) if values is not None and len(values) == 1 else None


def _listed(tags: str, etag: str, *, weak: bool) -> bool:
    """Return whether a tag is in a list. `etag` is strong, so a weak one equals it only weakly."""
    if tags == "*":
        return True
    at = 0
    while (match := _TAG.match(tags, at)) is not None:
        if match[1] == etag or (weak and match[1] == f"W/{etag}"):
            return True
        at = match.end()
    return False
