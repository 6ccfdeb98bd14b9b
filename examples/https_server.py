"""Serve a directory over HTTPS with sendfile: `python https_server.py DIR CERT KEY [PORT]`.

The kernel encrypts where it can (Python 3.12, OpenSSL and Linux with kernel TLS); elsewhere the
files are read and encrypted. Each line of the output says which of the two it was, and why.
"""

from __future__ import annotations

import functools
import http.server
import ssl
import sys

from spliceio import SendfileMixin


class Handler(SendfileMixin, http.server.SimpleHTTPRequestHandler):
    """Files, as the standard library serves them."""

    protocol_version = "HTTP/1.1"  # keeps connections open
    timeout = 60  # seconds, for the handshake, a request and a client that stops reading

    def serve_file(self, *args, **options):
        """Say how a file was sent."""
        result = super().serve_file(*args, **options)
        if result is not None:
            why = "".join(f": {fallback.why}" for fallback in result.fallbacks)
            print(f"{self.path}: {result.moved} bytes by {result.method}{why}", flush=True)
        return result


def main(directory: str, certificate: str, key: str, port: str = "8443") -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.options |= getattr(ssl, "OP_ENABLE_KTLS", 0)
    handler = functools.partial(Handler, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler) as server:
        # The handshake is done by the thread of the connection, at its first read.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        print(f"serving {directory} on port {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
