"""Serve a directory over HTTP with sendfile: `python static_server.py DIR [PORT]`.

The mixin does the work: ranges, conditional requests, head and file in the same packets. Like the
server of the standard library it follows symlinks; `spliceio serve DIR` does not leave DIR.
"""

from __future__ import annotations

import functools
import http.server
import sys

from spliceio import SendfileMixin


class Handler(SendfileMixin, http.server.SimpleHTTPRequestHandler):
    """Files, as the standard library serves them."""

    protocol_version = "HTTP/1.1"  # keeps connections open
    timeout = 60  # seconds, for a request and for a client that stops reading

    def end_headers(self) -> None:
        """Let a browser ask again, and get a 304."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def main(directory: str, port: str = "8000") -> None:
    handler = functools.partial(Handler, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler) as server:
        print(f"serving {directory} on port {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
