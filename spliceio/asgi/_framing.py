"""Framing of a file in a response: what goes around it, and what is left of Content-Length.

uvicorn's two protocols count the bytes of a body as they write them. A file passes by them, so its
length is put into their account here, by what they keep for themselves: attributes of the
httptools cycle, and `send_with_data_passthrough`, which h11 has for sendfile.

Rule 1: the account is asked first: a file that does not fit is refused before a byte of it leaves.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Parts", "h11_parts", "httptools_parts"]

Parts = tuple[bytes, bytes]
"""What goes before the file, and what after it."""


class _OfLength:
    """Stands for the bytes of a file where only their number is asked for."""

    __slots__ = ("_count",)

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


def httptools_parts(cycle: Any, count: int) -> Parts:
    """Count a file in a cycle of uvicorn's httptools_impl."""
    if cycle.chunked_encoding:
        return b"%x\r\n" % count, b"\r\n"
    if count > cycle.expected_content_length:
        raise RuntimeError("Response content longer than Content-Length")
    cycle.expected_content_length -= count
    return b"", b""


def h11_parts(cycle: Any, count: int) -> Parts:
    """Count a file in the h11 connection of a cycle of uvicorn's h11_impl."""
    import h11

    file: Any = _OfLength(count)
    before, after = b"", b""
    seen = False
    for part in cycle.conn.send_with_data_passthrough(h11.Data(data=file)) or []:
        if part is file:
            seen = True
        elif seen:
            after += part
        else:
            before += part
    return before, after
