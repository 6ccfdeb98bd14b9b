"""Strict request heads (RFC 9112): refuse what two programs could read in two ways.

The parser of http.server drops, merges and repairs lines (it is one for mail), so that two programs
on the way can differ about where a request ends: what is in the body of one is then answered as
the next. What could be read in two ways is refused here, from the raw lines, before they are
parsed.

Rule 1: nothing is repaired. A head is well-formed, or its connection ends with it.
Rule 2: nothing of the client's is in the text that says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = ["LONGEST", "BadHead", "CutHead", "Facts", "HeadReader", "facts", "version_of"]

_LINE = re.compile(rb"[!-~\x80-\xff][ -~\x80-\xff]*\r?\n")
_VERSION = re.compile(rb"HTTP/[1-9]\.[0-9]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)\r?\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
# A registered name may come in UTF-8; an address of IPv6 stands in brackets (RFC 3986, 3.2.2).
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._~%-]+)?\]|(?:[A-Za-z0-9._~!$&'()*+,;=\x80-\xff-]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?"
)
_ENDS = (b"\r\n", b"\n")
LONGEST = 65536
"""Of a line, as for http.server."""
_FRAMING = frozenset([b"connection", b"content-length", b"host", b"transfer-encoding"])


class BadHead(ValueError):
    """A head that is refused; the text says why."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


class CutHead(Exception):
    """The client has closed the connection before the end of the head."""


class Facts(NamedTuple):
    """What a head says of the end of the request and of the connection."""

    has_body: bool
    options: frozenset[bytes]
    """Of Connection, in all its lines, in lower case."""


def version_of(line: bytes) -> bytes | None:
    """Return the version in a request line; None for HTTP/0.9, which has no header.

    Raises BadHead for what is no request line, CutHead for one that has no end.
    """
    if len(line) > LONGEST:
        raise BadHead("The request line is too long", 414)
    if not line.endswith(b"\n"):
        raise CutHead
    if not _LINE.fullmatch(line):
        raise BadHead("The request line holds a control character, or begins with a blank")
    words = line.split()
    if len(words) == 2 and words[0] == b"GET":
        return None
    if len(words) != 3:
        raise BadHead("The request line is not a method, a target and a version")
    if not _VERSION.fullmatch(words[2]):
        raise BadHead("The request line ends in no version of HTTP")
    if words[2] >= b"HTTP/2":
        raise BadHead("This version of HTTP begins in another way", 505)
    return words[2]


def facts(lines: Iterable[bytes], version: bytes) -> Facts:
    """Parse the raw lines of a header, without the empty one at its end.

    Raises BadHead for lines that are no fields, and for fields that leave open where the request
    ends or for which host it is.
    """
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadHead(_why(line))
        name = match[1].lower()
        if name in _FRAMING:
            found.setdefault(name, []).append(match[2].strip(b" \t"))
    _check_host(found.get(b"host", []), version)
    options = b",".join(found.get(b"connection", [])).lower().split(b",")
    return Facts(_has_body(found, version), frozenset(option.strip(b" \t") for option in options))


def _why(line: bytes) -> str:
    if line[:1] in (b" ", b"\t"):
        return "A header line is continued on the next one"
    if re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", line.removesuffix(b"\n").removesuffix(b"\r")):
        return "A header line holds a control character"
    if b":" not in line:
        return "A header line has no colon"
    return "The name of a header field is none"


def _check_host(values: list[bytes], version: bytes) -> None:
    if len(values) > 1:
        raise BadHead("There are two Host fields")
    if not values and version >= b"HTTP/1.1":
        raise BadHead("There is no Host field")
    if values and not _HOST.fullmatch(values[0]):
        raise BadHead("The Host field names no host")


def _has_body(found: dict[bytes, list[bytes]], version: bytes) -> bool:
    lengths, codings = found.get(b"content-length", []), found.get(b"transfer-encoding")
    if len(lengths) > 1:
        raise BadHead("There are two Content-Length fields")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise BadHead("The Content-Length is no number")
    if codings is None:
        return bool(lengths) and int(lengths[0]) > 0
    if lengths or len(codings) > 1 or version < b"HTTP/1.1":
        raise BadHead("Transfer-Encoding stands once, without Content-Length, and not in HTTP/1.0")
    if codings[0].lower() != b"chunked":
        raise BadHead("The only Transfer-Encoding is chunked", 501)
    return True


class HeadReader:
    """A stream that returns the lines of a header, and calls `check` with them at its end.

    It stands in for `rfile` while http.server parses. `check` gets the raw lines, once, before the
    parser has seen their end, and may raise.

    Raises CutHead when the stream ends within them.
    """

    def __init__(self, under: Any, check: Callable[[list[bytes]], object]) -> None:
        self._under = under
        self._check: Callable[[list[bytes]], object] | None = check
        self._lines: list[bytes] = []

    def readline(self, limit: int = -1, /) -> bytes:
        """Read a line as the stream does."""
        line: bytes = self._under.readline(limit)
        if self._check is None:
            return line
        if not line:
            raise CutHead
        if line in _ENDS:
            check, self._check = self._check, None
            check(self._lines)
        elif len(line) <= LONGEST:  # the parser refuses a longer one
            self._lines.append(line)
        return line

    def __getattr__(self, name: str) -> Any:
        """Be the stream in everything else."""
        return getattr(self._under, name)
