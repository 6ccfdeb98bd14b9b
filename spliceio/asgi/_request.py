"""What a request of ASGI asks for: its path below a mount point, its header, its codings.

Rule 1: names are taken from `raw_path` where that is the path: `path` is decoded, so that %2f and
bytes that are no UTF-8 are lost in it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from .._http.docroot import Target, target

__all__ = ["Asked", "codings", "key_of", "location", "target_of"]

_CODING = re.compile(
    r"[\t ]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[\t ]*(?:;[\t ]*[qQ]=([0-9.]{1,5}))?[\t ]*"
)


class Asked:
    """The header of a request, as `conditional` reads it."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self._fields = fields

    def get_all(self, name: str) -> list[str] | None:
        """Return every value of a field, in order; None when it is absent."""
        wanted = name.lower().encode("latin-1")
        found = [value.decode("latin-1") for key, value in self._fields if key == wanted]
        return found or None


def key_of(scope: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what decides which file is meant."""
    return scope["path"], scope.get("raw_path"), scope.get("root_path", "")


def target_of(scope: Mapping[str, Any]) -> Target:
    """Return the names of a request below the point where the app is mounted.

    Raises BadTarget for what can be no file.
    """
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    query = scope.get("query_string", b"").decode("latin-1")
    # As the specification has it; some frameworks take the mount point off the path themselves.
    mounted = bool(root) and (path == root or path.startswith(root + "/"))
    below = path[len(root) :] if mounted else path
    raw: bytes | None = scope.get("raw_path")
    text = None if raw is None else _raw(raw.partition(b"?")[0], root, mounted, below)
    if text is None:
        text = quote(below, safe="/", errors="surrogateescape")
    found = target(text or "/")
    if not text and root:  # the mount point itself, without the slash of a directory
        found = found._replace(slash=False)
    return found._replace(query=query)


def _raw(raw: bytes, root: str, mounted: bool, below: str) -> str | None:
    """Return the raw path below the mount point; None if it is not that of `below`."""
    text = raw.decode("latin-1")
    if unquote(text) == below:
        return text
    if not mounted:
        return None
    for _ in range(root.count("/")):
        text = "/" + text[1:].partition("/")[2] if "/" in text[1:] else ""
    return text if unquote(text) == below else None


def location(scope: Mapping[str, Any], wanted: Target) -> str:
    """Return where a directory is, with the slash at its end; always on this server."""
    root = quote("/" + scope.get("root_path", "").strip("/"), safe="/%:@!$&'()*+,;=~")
    query = "?" + quote(wanted.query, "/%:@!$&'()*+,;=~?") if wanted.query else ""
    return f"{'' if root == '/' else root}{wanted.path.rstrip('/')}/{query}"


@functools.lru_cache(maxsize=256)
def codings(accepted: str) -> dict[str, float]:
    """Parse Accept-Encoding: the weight of each coding; what cannot be read is left out."""
    found: dict[str, float] = {}
    for item in accepted.split(",")[:64]:
        match = _CODING.fullmatch(item)
        if match is None:
            continue
        try:
            weight = float(match[2]) if match[2] else 1.0
        except ValueError:
            continue
        name = match[1].lower()
        found["gzip" if name == "x-gzip" else name] = min(weight, 1.0)
    return found
