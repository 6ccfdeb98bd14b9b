"""Receive files over HTTP without copying them: `python upload_server.py DIR PORT MOST_BYTES`.

A body goes from the socket into a new file, which takes its name when it is whole. When the disk is
full, the rest of it is dropped, and answered 507. The mixin refuses requests that hide another one.
Try `curl -T disk.img http://127.0.0.1:PORT/it`.
"""

import errno
import http.server
import os
import re
import sys

from spliceio import SendfileMixin, receive_file


class Handler(SendfileMixin, http.server.BaseHTTPRequestHandler):  # noqa: D101
    protocol_version, timeout = "HTTP/1.1", 60

    def do_PUT(self) -> None:  # noqa: D102
        refused = self._refused()
        self.send_response(status := refused or self._receive())
        if status != 204:
            self.send_header("Content-Length", "0")
        if refused:
            self.send_header("Connection", "close")  # its body may still come
        self.end_headers()

    do_POST = do_PUT

    def handle_expect_100(self) -> bool:  # noqa: D102
        return bool(self._refused()) or super().handle_expect_100()

    def _refused(self) -> int:
        if not re.fullmatch(r"/\w[\w.-]*", self.path, re.ASCII):
            return 404
        length = self.headers.get("Content-Length")  # a number, as the mixin has seen
        return 411 if length is None else 413 * (int(length) > LIMIT)

    def _receive(self) -> int:
        path, part = DIRECTORY + self.path, f"{DIRECTORY}/.{os.urandom(8).hex()}.part"
        status = 204 if os.path.exists(path) else 201
        with open(part, "xb") as file:
            try:
                receive_file(self.rfile, file, int(self.headers["Content-Length"]), drain=True)
            except OSError as error:
                os.unlink(part)
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and not error.unread:
                    return 507
                raise
        os.replace(part, path)
        return status


if __name__ == "__main__":
    DIRECTORY, PORT, LIMIT = sys.argv[1], *map(int, sys.argv[2:])
    with http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler) as server:
        print(f"receiving into {DIRECTORY} on port {server.server_port}", flush=True)
        server.serve_forever()
