"""Method overrides in a handler's other base classes, which the mixin leaves in charge.

Rule 1: a method that neither http.server's plain classes nor the mixin define is an
override that counts: who may see what, which bytes are sent, how a directory looks.
Rule 2: a redirect is the base class's, except where a browser would follow it to another host.
"""

from __future__ import annotations

import re
from urllib.parse import quote

__all__ = ["is_overridden", "location"]


def is_overridden(handler: object, mixin: type, name: str, *, above: bool = False) -> bool:
    """Return whether a method is neither http.server's plain one nor the mixin's.

    `above` asks only the classes after the mixin, which its `super()` reaches.
    """
    from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler

    if not above and name in vars(handler):
        return True
    mro = type(handler).__mro__
    for owner in mro[mro.index(mixin) if above else 0 :]:
        if name in vars(owner) and not issubclass(mixin, owner):
            return owner not in (SimpleHTTPRequestHandler, BaseHTTPRequestHandler)
    return False


def location(target: str, wanted: str) -> str:
    """Return `wanted`, where http.server redirects `target` to, if it is on this server.

    A browser takes // for the begin of another host, and a backslash for a slash.
    """
    if re.match(r"/(?![/\\])", wanted):
        return wanted
    url, mark, query = target.partition("?")
    safe = "/%:@!$&'()*+,;=~"
    path = quote("/" + url.partition("#")[0].lstrip("/"), safe=safe, encoding="latin-1")
    return f"{path}/{quote(mark + query, safe=safe + '?', encoding='latin-1')}"
