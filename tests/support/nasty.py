"""Requests of all kinds to a server of static files: what each is answered, and how it goes on.

For any server of the directory that `make_site` makes. A row is a request as it stands on the wire.
Behind each follows one for a known file, which ends the connection: it is answered rightly (the
connection was in step), or not at all (it was closed). Nothing else may come.

Rule 1: every response is whole and framed by its own head; not a byte stands outside of one.
Rule 2: nothing from outside of the directory is in any of them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.wires import MIB

ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
SECRET = b"from outside"
NEXT = b"GET /file.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Row(NamedTuple):
    """A request, the statuses that are right, and whether the connection closes after it.

    `closes` None: either. `waits`: the server cannot know that the request has ended; then the
    client says that it sends no more, and need not be answered.
    """

    name: str
    request: bytes
    statuses: tuple[int, ...]
    closes: bool | None = False
    waits: bool = False
    body: bytes | None = None


def make_site(parent: Path) -> Path:
    """Make the directory that the rows are about, with a secret beside it."""
    site = parent / "site"
    (site / "sub").mkdir(parents=True)
    (site / "bare").mkdir()
    (site / ".hidden").mkdir()
    (parent / "site-too").mkdir()
    for name, data in (
        ("file.txt", ALPHABET),
        ("empty", b""),
        ("a b", b"blank"),
        ("100%", b"percent"),
        ("a?b#c", b"marks"),
        ("sub/index.html", b"<p>index"),
        ("sub/file", b"deeper"),
        (".dot", SECRET),
        (".hidden/file", SECRET),
        ("../secret", SECRET),
        ("../site-too/file", SECRET),
    ):
        (site / name).write_bytes(data)
    with open(os.fsencode(site) + b"/\xe4", "wb") as file:
        file.write(b"latin")
    (site / "ä").write_bytes(b"utf-8")
    for name, to in (
        ("out", "../secret"),
        ("away", "/etc"),
        ("loop", "loop"),
        ("dangling", "none"),
        ("in", "sub/file"),
        ("near", "../site-too"),
    ):
        (site / name).symlink_to(to)
    os.mkfifo(site / "fifo")
    return site


def lines(first: str, *fields: str, host: str | None = "Host: x") -> bytes:
    """Return a request head of these lines."""
    given = [first, *([] if host is None else [host]), *fields, "", ""]
    return "\r\n".join(given).encode("latin-1")


def get(target: str, *fields: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    return lines(f"{method} {target} {version}", *fields)


def _rows(statuses: int | tuple[int, ...], *requests: tuple[str, bytes], **rest) -> list[Row]:
    found = (statuses,) if isinstance(statuses, int) else statuses
    return [Row(name, request, found, **rest) for name, request in requests]


def _targets(statuses: int | tuple[int, ...], *targets: str, **rest) -> list[Row]:
    return _rows(statuses, *((target, get(target)) for target in targets), **rest)


def _fields(statuses: int | tuple[int, ...], *fields: str | tuple[str, ...], **rest) -> list[Row]:
    given = [(field,) if isinstance(field, str) else field for field in fields]
    return _rows(statuses, *(("; ".join(each), get("/file.txt", *each)) for each in given), **rest)


RANGES = [
    *_fields(206, "Range: bytes=0-0", "Range: BYTES=0-0", "Range: bytes= 0-0",
             "Range: bytes=,0-0,,", body=b"a"),
    *_fields(206, "Range: bytes=0-", "Range: bytes=0-25", "Range: bytes=0-99999999999999999999",
             "Range: bytes=-26", "Range: bytes=-9999999999999999999999", body=ALPHABET),
    *_fields(206, "Range: bytes=-1", "Range: bytes=25-", "Range: bytes=25-25", "Range: bytes=25-30",
             body=b"z"),
    *_fields(206, "Range: bytes=0-1,3-4", "Range: bytes=-1,0-0", "Range: bytes=30-,0-0, 2-2"),
    *_fields(416, "Range: bytes=26-", "Range: bytes=26-30", "Range: bytes=-0",
             "Range: bytes=99999999999999999999-", "Range: bytes=26-,30-", body=b""),
    *_fields(200, "Range: bytes=", "Range: bytes", "Range: bytes=a-b", "Range: bytes=1-0",
             "Range: bytes=--1", "Range: bytes=0-0-0", "Range: bytes=0x1-", "Range: bytes=1.5-",
             "Range: bytes=-", "Range: bytes=0 -1", "Range: items=0-0", "Range: =0-0", "Range:",
             "Range: bytes=0-0;1-1", "Range: bytes=\xb2-", "Range: bytes=" + "0-0," * 20 + "0-0",
             "Range: bytes=0-25,0-25", "Range: bytes=" + "9" * 100 + "-",
             ("Range: bytes=0-0", "Range: bytes=1-1"), body=ALPHABET),
    *_rows(200, ("range of an empty file", get("/empty", "Range: bytes=0-0")), body=b""),
    *_rows(200, ("range of HEAD", get("/file.txt", "Range: bytes=0-0", method="HEAD"))),
    *_rows(404, ("range of nothing", get("/none", "Range: bytes=0-0"))),
    *_rows(206, ("range of an index", get("/sub/", "Range: bytes=0-2")), body=b"<p>"),
]  # fmt: skip

CONDITIONALS = [
    *_fields(304, "If-None-Match: *", "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT",
             ("If-None-Match: *", "Range: bytes=0-0"), body=b""),
    *_fields(412, 'If-Match: "x"', "If-Match: x", "If-Match:", 'If-Match: W/"x"', 'If-Match: "x',
             "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
             ('If-Match: "x"', "If-None-Match: *"), body=b""),
    *_fields(200, "If-Match: *", 'If-None-Match: "x"', "If-None-Match: x", "If-None-Match:",
             "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "If-Modified-Since: yesterday",
             "If-Modified-Since:", "If-Modified-Since: " + "9" * 1000,
             "If-Unmodified-Since: Fri, 31 Dec 9999 23:59:59 GMT", "If-Unmodified-Since: 0",
             "If-Modified-Since: Fri, 99 Dec 2020 23:59:59 GMT", 'If-Range: "x"',
             ("If-None-Match: x", "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT"),
             ('If-Range: "x"', "Range: bytes=0-0"), ("If-Range: x", "Range: bytes=0-0"),
             ('If-Range: W/"x"', "Range: bytes=0-0"), 'If-None-Match: "x", ' * 100 + '"y"',
             body=ALPHABET),
]  # fmt: skip

TRAVERSALS = [
    *_targets(400, "/../secret", "/sub/../../secret", "/..", "/../", "/sub/..", "/%2e%2e/secret",
              "/%2E%2E/secret", "/.%2e/secret", "/%2e./secret", "/..%2fsecret", "/%2e%2e%2fsecret",
              "/..%2Fsecret", "/sub%2f..%2f..%2fsecret", "/sub%2ffile", "/%2fetc%2fpasswd",
              "/%2f", "/a%00", "/file.txt%00", "/%00", "/file.txt%00.html", "/..;/..",
              "/./../secret", "//../secret", "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
    *_targets(404, "/..;/secret", "/%252e%252e/secret", "/..%252fsecret", "/..%c0%afsecret",
              "/%c0%ae%c0%ae/secret", "/..%5csecret", "/..\\secret", "/%5c..%5csecret",
              "/..%u2215secret", "/%uff0e%uff0e/secret", "/.../secret", "/.%20./secret",
              "/%e2%80%a5/secret", "/~root", "/C:/", "/etc/passwd", "//etc/passwd", "/file.txt/",
              "/file.txt/x", "/file.txt/.../secret", "/none", "/none/",
              "/out", "/away/passwd", "/away/", "/near/file", "/near/", "/loop", "/loop/x",
              "/dangling", "/fifo", "/.dot", "/.hidden/file", "/.hidden/", "/%2edot", "/bare/",
              "/", "/" + "x" * 255, "/" + "x" * 256, "/" + "x/" * 2000, "/%zz", "/%", "/%0d%0aX:y",
              "/%7f", "/%01", "/%ff%fe"),
    *_targets(200, "/./file.txt", "//file.txt", "/%66ile.txt", "/file.txt?../secret",
              "/file.txt?%00", "/file.txt?" + "x" * 2000, "/././file.txt", body=ALPHABET),
    *_targets(200, "/sub/file", "/sub//file", "/sub/./file", "/in", body=b"deeper"),
    *_targets(200, "/a%20b", body=b"blank"),
    *_targets(200, "/100%25", "/100%", body=b"percent"),
    *_targets(200, "/a%3Fb%23c", body=b"marks"),
    *_targets(200, "/%e4", body=b"latin"),
    *_targets(200, "/%c3%a4", body=b"utf-8"),
    *_targets(200, "/sub/", "/sub/?x", "/sub/.", body=b"<p>index"),
    *_targets(301, "/sub", "/sub?a=b", "//sub", "/bare", body=b""),
]  # fmt: skip

METHODS = [
    *_rows(405, *((method, get("/file.txt", "Content-Length: 0", method=method)) for method in (
        "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "MKCOL", "LOCK"))),
    *_rows((405, 400), *((method, get("/file.txt", method=method)) for method in (
        "PURGE", "LINK", "BREW", "get", "G", "X" * 100)), closes=None),
    *_rows((405, 400), ("OPTIONS *", lines("OPTIONS * HTTP/1.1")), closes=None),
    *_rows((405, 400), ("CONNECT", lines("CONNECT x:80 HTTP/1.1")), closes=None, waits=True),
    *_rows(200, ("HEAD", get("/file.txt", method="HEAD"))),
    *_rows(404, ("HEAD of nothing", get("/none", method="HEAD"))),
    *_rows(304, ("HEAD, known", get("/file.txt", "If-None-Match: *", method="HEAD"))),
    *_rows(301, ("HEAD of a directory", get("/sub", method="HEAD"))),
    *_rows(400, *((repr(line), lines(line)) for line in (
        "G\x00T /file.txt HTTP/1.1", "G@T /file.txt HTTP/1.1", "\x16\x03\x01 / HTTP/1.1",
        "(GET) / HTTP/1.1", "GET\t/file.txt\tHTTP/1.1")), closes=True),
]  # fmt: skip

FORMS = [
    *_targets(200, "http://x/file.txt", "http://x:80/file.txt", "http://other/file.txt",
              "HTTP://x/file.txt", body=ALPHABET, closes=None),
    *_targets((400, 404), "http://x/../secret", "http://x/%2e%2e/secret", "http:///../secret",
              "ftp://x/../secret", closes=None),
    *_targets((400, 404), "*", "file.txt", "x:80", "?x", "%2ffile.txt", "http:", "://", "///",
              closes=None),
    *_rows(400, *((line, lines(line)) for line in (
        "GET / HTTP/9.9.9", "GET / HTTP/", "GET / HTTP/a.b", "GET / FTP/1.1", "GET / http/1.1",
        "GET  HTTP/1.1", " GET / HTTP/1.1", "GET /file.txt  HTTP/1.1 x")), closes=True),
    *_rows((400, 505, 200), ("HTTP/2.0", lines("GET /file.txt HTTP/2.0")), closes=None),
    *_rows(200, ("HTTP/1.0", lines("GET /file.txt HTTP/1.0")), closes=True, body=ALPHABET),
    *_rows((400, 200), ("HTTP/0.9", b"GET /file.txt\r\n"), closes=None, waits=True),
    *_rows(200, ("close", get("/file.txt", "Connection: close")), closes=True, body=ALPHABET),
    *_rows(200, ("keep-alive", get("/file.txt", "Connection: keep-alive")), body=ALPHABET),
    *_rows((200, 400), ("an empty line before", b"\r\n" + get("/file.txt")), closes=None),
    *_rows((200, 400), ("many empty lines", b"\r\n" * 100 + get("/file.txt")), closes=None),
    *_rows((200, 400), ("line feeds", get("/file.txt").replace(b"\r\n", b"\n")), closes=None),
    *_rows(400, ("carriage returns", get("/file.txt").replace(b"\r\n", b"\r") + b"\r\n\r\n"),
           closes=True),
    *_rows((400, 404, 414, 431), ("a long target", get("/" + "x" * 70000)), closes=None),
    *_rows((200, 400, 414, 431), ("a long query", get("/file.txt?" + "x" * 70000)), closes=None),
]  # fmt: skip

HEADERS = [
    *_fields((200, 400, 431), "X: " + "x" * 70000, ("X: y",) * 3000, closes=None),
    *_fields(400, "X: a\x00b", "X\x00: a", "X y: a", ": a", "no colon", "X : a", "X: a\rb",
             closes=True),
    *_fields((200, 400), "X: a\x01b", "X: a\x7fb", "X: a\x0bb", "X(y): a", closes=None),
    *_fields(200, "X: \xe4\xff", "X:", "X:\t a \t", "Cookie: " + "a=b; " * 500,
             "Accept-Encoding: gzip", body=ALPHABET),
    *_rows((200, 400), ("continued", get("/file.txt", "X: a", " b")), closes=None),
    *_rows((200, 400), ("Host, continued", get("/file.txt", " X: a")), closes=None),
    *_rows((200, 400), ("no Host", lines("GET /file.txt HTTP/1.1", host=None)), closes=None),
    *_rows((200, 400), ("two Hosts", get("/file.txt", "Host: y")), closes=None),
    *_rows((200, 400), ("no such Host", lines("GET /file.txt HTTP/1.1", host="Host: a b/c")),
           closes=None),
    *_rows(200, ("no header", lines("GET /file.txt HTTP/1.0", host=None)), closes=True,
           body=ALPHABET),
    *_rows(200, ("an unknown upgrade", get("/file.txt", "Connection: Upgrade", "Upgrade: x")),
           closes=None),
]  # fmt: skip

BODY = b"hello"
_TLS = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"
_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
BODIES = [
    *_rows(200, ("GET with a body", get("/file.txt", "Content-Length: 5") + BODY), body=ALPHABET),
    *_rows(405, ("POST with a body", get("/", "Content-Length: 5", method="POST") + BODY)),
    *_rows(405, ("POST in chunks",
                 get("/", "Transfer-Encoding: chunked", method="POST") + _CHUNKS)),
    *_rows(200, ("GET in chunks", get("/file.txt", "Transfer-Encoding: chunked") + _CHUNKS),
           body=ALPHABET),
    *_rows(404, ("a body for nothing", get("/none", "Content-Length: 5") + BODY)),
    *_rows(200, ("a body that is a request",
                 get("/file.txt", f"Content-Length: {len(NEXT)}") + NEXT), body=ALPHABET),
    *_rows(400, *(("; ".join(fields), get("/file.txt", *fields) + BODY) for fields in (
        ("Content-Length: 5", "Content-Length: 6"), ("Content-Length: x",), ("Content-Length: -1",),
        ("Content-Length: 5x",), ("Content-Length : 5",), ("Content-Length: 0x5",),
        ("Content-Length: 5 5",), ("Content-Length: 99999999999999999999999",))), closes=True),
    *_rows((200, 400), *(("; ".join(fields), get("/file.txt", *fields) + BODY) for fields in (
        ("Content-Length: 5", "Content-Length: 5"), ("Content-Length: +5",),
        ("Content-Length: 5, 5",))), closes=None, waits=True),
    *_rows((400, 501), *(("; ".join(fields), get("/file.txt", *fields) + _CHUNKS) for fields in (
        ("Transfer-Encoding : chunked",), ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, gzip",))), closes=True),
    *_rows((200, 400, 501), *(("; ".join(each), get("/file.txt", *each) + _CHUNKS) for each in (
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Transfer-Encoding: gzip, chunked",), ("Transfer-Encoding: identity",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"))), closes=None, waits=True),
    *_rows((200, 400), *((repr(chunks), get("/file.txt", "Transfer-Encoding: chunked") + chunks) for
        chunks in (b"x\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"-1\r\n\r\n", b"ffffffffffffffffff\r\n",
                   b"5;\x00\r\nhello\r\n0\r\n\r\n")), closes=None, waits=True),
    *_rows(200, ("Expect", get("/file.txt", "Expect: 100-continue", "Content-Length: 5") + BODY),
           body=ALPHABET),
    *_rows((200, 417), ("Expect what is unknown", get("/file.txt", "Expect: x")), closes=None),
    *_rows(200, ("a body that does not come", get("/file.txt", "Content-Length: 99999")),
           closes=True, waits=True),
    *_rows((200, 400), ("garbage behind", get("/file.txt") + b"\x00\x01\x02garbage\r\n\r\n"),
           ("a reply behind", get("/file.txt") + b"HTTP/1.1 200 OK\r\n\r\n"), closes=None),
    *_rows((200, 400), ("TLS behind", get("/file.txt") + _TLS), closes=None, waits=True),
    *_rows(400, ("TLS", _TLS), ("nothing but NUL", bytes(100)), ("bytes", bytes(range(128, 256))),
           closes=True, waits=True),
    *_rows((400, 405, 505), ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), closes=None,
           waits=True),
]  # fmt: skip

TABLES = {
    "ranges": RANGES,
    "conditionals": CONDITIONALS,
    "traversals": TRAVERSALS,
    "methods": METHODS,
    "forms": FORMS,
    "headers": HEADERS,
    "bodies": BODIES,
}


class Reply(NamedTuple):
    """One response as it was framed."""

    status: int
    body: bytes


def replies(data: bytes, method: bytes) -> list[Reply]:
    """Parse all responses in what came; raises AssertionError for what is outside of them."""
    found: list[Reply] = []
    while data:
        head, mark, data = data.partition(b"\r\n\r\n")
        assert mark, f"no whole head: {head[:100]!r}"
        first, *rest = head.split(b"\r\n")
        assert first.startswith(b"HTTP/1."), f"no status line: {first[:100]!r}"
        status = int(first.split()[1])
        if status == 100:
            continue
        fields = {}
        for line in rest:
            name, colon, value = line.partition(b":")
            assert colon, f"no field: {line!r}"
            fields[name.lower()] = value.strip()
        if status in (304, 204) or (method == b"HEAD" and not found):
            found.append(Reply(status, b""))
        elif fields.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(data.partition(b"\r\n")[0], 16):
                data = data.partition(b"\r\n")[2]
                body, data = body + data[:size], data[size + 2 :]
            data = data.partition(b"\r\n\r\n")[2]
            found.append(Reply(status, body))
        elif b"content-length" in fields:
            length = int(fields[b"content-length"])
            assert len(data) >= length, f"{len(data)} bytes of {length}"
            found.append(Reply(status, data[:length]))
            data = data[length:]
        else:
            found.append(Reply(status, data))
            data = b""
    return found


def trouble(row: Row, connect: Callable[[], socket.socket]) -> str | None:
    """Send a row to a server; say what is wrong with what comes back, None if nothing."""
    with connect() as sock:
        data = b""
        try:
            sock.sendall(row.request + (b"" if row.waits else NEXT))
            if row.waits:
                sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(MIB):
                data += part
        except (ConnectionResetError, BrokenPipeError):
            pass  # closed, with something of the request unread
    if SECRET in data or b"root:" in data:
        return f"it gives away what is outside: {data!r}"
    try:
        found = replies(data, row.request.split(b" ")[0])
    except (AssertionError, ValueError) as error:
        return f"{error}, in {data[:300]!r}"
    if not found:
        return None if row.waits or row.closes is not False else "no reply"
    if found[0].status not in row.statuses:
        return f"status {found[0].status}"
    if row.body is not None and found[0].body != row.body and row.request[:4] != b"HEAD":
        return f"body {found[0].body[:100]!r}"
    after = found[1:]
    if row.closes is True and after:
        return f"it goes on with {after}"
    if row.closes is False and after != [Reply(200, ALPHABET)]:
        return f"it goes on with {after}"
    # What was behind the request and is none may have been answered: then with an error, once.
    if after not in ([], [Reply(200, ALPHABET)]) and [reply.status for reply in after] != [400]:
        return f"it goes on with {after}"
    return None
