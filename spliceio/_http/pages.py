"""Pages about files: the type that a name tells, and the listing of a directory.

Rule 1: nothing that a file is called can be more than text of the page.
"""

from __future__ import annotations

import errno
import functools
import html
import mimetypes
import os
from http.server import SimpleHTTPRequestHandler
from urllib.parse import quote_from_bytes

__all__ = ["INDEX", "listing", "type_of"]

INDEX = ("index.html", "index.htm")


@functools.lru_cache(maxsize=1024)
def type_of(name: str) -> str:
    kind, encoding = mimetypes.guess_type(f"/{name}")
    if encoding or kind is None:
        suffix = os.path.splitext(name)[1]
        return SimpleHTTPRequestHandler.extensions_map.get(suffix, "application/octet-stream")
    return kind


def listing(path: str, fd: int, *, dotfiles: bool = True) -> bytes:
    """Return an HTML page of a directory; names that are not UTF-8 keep working as links.

    Raises PermissionError for one that is open with O_PATH alone.
    """
    title = html.escape(f"Directory listing for {path}")
    lines = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f"<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n<hr>\n<ul>",
    ]
    for entry in _entries(fd):
        if entry.name.startswith(".") and not dotfiles:
            continue
        raw = os.fsencode(entry.name)
        link, shown = quote_from_bytes(raw), raw.decode("utf-8", "replace")
        if entry.is_dir(follow_symlinks=False):
            link, shown = f"{link}/", f"{shown}/"
        elif entry.is_symlink():
            shown += "@"
        elif not entry.is_file(follow_symlinks=False):
            continue
        lines.append(f'<li><a href="{link}">{html.escape(shown)}</a></li>')
    lines.append("</ul>\n<hr>\n</body>\n</html>\n")
    return "\n".join(lines).encode()


def _entries(fd: int) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(fd) as entries:
            return sorted(entries, key=lambda entry: entry.name.lower())
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
