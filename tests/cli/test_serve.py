"""`spliceio serve` as a process, with curl, Chromium and sockets that say what no client says.

Rule 1: nothing outside the directory comes out of it, whatever is asked for, and how.
Rule 2: whatever a client does, the next one is served, and the server has what it had before.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import io
import os
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from spliceio._cli import main as cli
from spliceio._cli.serve import Server
from spliceio._cli.site import Limits
from spliceio._http import pages
from spliceio.asgi import StaticFiles
from tests.support import nasty
from tests.support.commands import HANG, SPLICEIO, run, said
from tests.support.programs import need
from tests.support.served import BIG, SECRET, Served, filled, serving
from tests.support.states import Worker, until
from tests.support.wires import MIB

LINGER = struct.pack("ii", 1, 0)


@pytest.fixture
def root(tmp_path):
    """Such a directory."""
    return filled(tmp_path)


@pytest.fixture
def server(root):
    """The directory, served."""
    with serving(root) as server:
        yield server


@pytest.fixture(scope="module")
def same_server(tmp_path_factory):
    """One for all that ask and change nothing: it serves on, whatever they asked."""
    with serving(filled(tmp_path_factory.mktemp("serve"))) as server:
        yield server
        assert server.status("/small") == 200


# -- curl ------------------------------------------------------------------------------------------


def curl(*args, **options) -> subprocess.CompletedProcess:
    """Run curl quietly."""
    options.setdefault("check", True)
    command = [need("curl"), "-sS", "--max-time", "60", *map(os.fspath, args)]
    return subprocess.run(command, capture_output=True, timeout=HANG, **options)


def test_curl_gets_files(server):
    """Several, of any size, on one connection."""
    done = curl(
        "-w", "%{num_connects} %{http_code} %{size_download} ",
        f"{server.url}/small", f"{server.url}/big.bin", f"{server.url}/none",
        "-o", server.root.parent / "1", "-o", server.root.parent / "2", "-o", "/dev/null",
    )  # fmt: skip
    assert done.stdout.decode().split()[:6] == ["1", "200", "1024", "0", "200", str(16 * MIB)]
    assert done.stdout.decode().split()[6:8] == ["0", "404"]
    assert (server.root.parent / "1").read_bytes() == BIG[:1024]
    assert (server.root.parent / "2").read_bytes() == BIG


@pytest.mark.parametrize("option", ["--http1.0", "--http1.1", "--compressed", "--tcp-fastopen"])
def test_curl_options(server, option):
    """Older versions, compression that we have not, and an open that carries data."""
    assert curl(option, f"{server.url}/big.bin").stdout == BIG


def test_curl_range(server):
    """One part, the end, several parts."""
    assert curl("-r", "5-9", f"{server.url}/big.bin").stdout == BIG[5:10]
    assert curl("-r", "-7", f"{server.url}/big.bin").stdout == BIG[-7:]
    several = curl("-r", "0-1,1000000-1999999", f"{server.url}/big.bin").stdout
    assert BIG[1_000_000:2_000_000] in several
    assert several.count(b"Content-Range: bytes ") == 2


def test_curl_resumes(server, tmp_path):
    """`-C -` gets what is missing, and finds that nothing is."""
    target = tmp_path / "part"
    target.write_bytes(BIG[:5_000_000])
    for _ in range(2):
        curl("-C", "-", "-o", target, f"{server.url}/big.bin")
        assert target.read_bytes() == BIG
    assert [line.split('"')[2].split()[0] for line in server.lines(2)] == ["206", "416"]


def test_curl_asks_whether_it_changed(server, tmp_path):
    """`-z` by date, `--etag-compare` by tag."""
    target, tag = tmp_path / "target", tmp_path / "tag"
    curl("-R", "--etag-save", tag, "-o", target, f"{server.url}/small")
    code = ["-w", "%{http_code}", "-o", tmp_path / "new"]
    assert curl("-z", target, *code, f"{server.url}/small").stdout == b"304"
    assert curl("--etag-compare", tag, *code, f"{server.url}/small").stdout == b"304"
    (server.root / "small").write_bytes(b"new")
    os.utime(server.root / "small", (2_000_000_000, 2_000_000_000))
    assert curl("--etag-compare", tag, *code, f"{server.url}/small").stdout == b"200"
    assert (tmp_path / "new").read_bytes() == b"new"


def test_curl_head(server):
    """All that is said of a file, without it."""
    head = curl("-I", f"{server.url}/big.bin").stdout.decode().lower()
    assert head.startswith("http/1.1 200 ok\r\n")
    for line in (f"content-length: {16 * MIB}", "accept-ranges: bytes", "etag: ", "last-modified"):
        assert f"\r\n{line}" in head


def test_curl_uploads_nothing(server):
    """405 says what there is, and comes before the body does."""
    done = curl("-T", server.root / "big.bin", "-i", f"{server.url}/new", check=False)
    assert b"HTTP/1.1 405 " in done.stdout
    assert b"allow: get, head\r\n" in done.stdout.lower()
    assert b" 100 " not in done.stdout
    assert not (server.root / "new").exists()


# -- what must not come out ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/../secret", 400),
        ("/%2e%2e/secret", 400),
        ("/%2E%2E%2Fsecret", 400),
        ("/..%2fsecret", 400),
        ("/..%5csecret", 404),
        ("/..\\secret", 404),
        ("/%252e%252e/secret", 404),
        ("/%c0%ae%c0%ae/secret", 404),
        ("/sub/../../secret", 400),
        ("/sub/..", 400),
        ("/./secret", 404),
        ("/small%00.html", 400),
        ("/%00", 400),
        ("//secret", 404),
        ("/file:///etc/passwd", 404),
        ("file:///etc/passwd", 400),
        ("http://x/../secret", 400),
        ("http://x/small", 200),
        ("small", 400),
        ("*", 400),
        ("/etc/passwd", 404),
        ("//etc/passwd", 404),
        ("/small/", 404),
        ("/small/x", 404),
        ("/small?/../..", 200),
        ("/small#/../..", 200),
        ("/%73mall", 200),
        ("/sub", 301),
        ("/sub/", 200),
        ("/sub/.", 200),
        ("/" + "a/" * 3000, 404),
        ("/" + "a" * 5000, 404),
    ],
)
def test_targets(same_server, target, status):
    """Every way to climb out that is known, and what looks like one and is none."""
    assert same_server.status(target) == status
    same_server.lines(1)


def test_symlinks_out_of_the_tree(server):
    """Relative, absolute, of a directory, in a circle: as if they were not there."""
    root = server.root
    (root / "file").symlink_to("../secret")
    (root / "absolute").symlink_to(root.parent / "secret")
    (root / "directory").symlink_to("../away")
    (root / "up").symlink_to("..")
    (root / "everything").symlink_to("/")
    (root / "circle").symlink_to("circle")
    (root / "inside").symlink_to("small")
    for target in (
        "/file", "/absolute", "/directory", "/directory/", "/directory/file", "/up/secret", "/up/",
        "/everything/etc/passwd", "/circle", "/circle/x",
    ):  # fmt: skip
        assert server.status(target) == 404
    assert server.status("/inside") == 200


def test_an_index_that_leads_out(server):
    """The directory is listed instead."""
    (server.root / "list").mkdir()
    (server.root / "list" / "index.html").symlink_to("../../secret")
    assert server.status("/list/") == 200


def test_what_is_no_file(server):
    """A FIFO, a socket and a device are not served, not waited for, and not listed."""
    os.mkfifo(server.root / "fifo")
    os.mkfifo(server.root / "sub" / "index.htm")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(server.root / "socket"))
        for target in ("/fifo", "/socket"):
            assert server.status(target) == 404
        listing = curl(f"{server.url}/").stdout
    assert b"small" in listing
    assert b"fifo" not in listing
    assert b"socket" not in listing


def test_a_link_that_is_swapped_while_requests_run(server):
    """Inside or missing, and never what is outside."""
    root, stop = server.root, threading.Event()
    (root / "link").symlink_to("small")

    def flip() -> None:
        while not stop.is_set():
            for leads in ("../secret", "small"):
                (root / "next").symlink_to(leads)
                (root / "next").rename(root / "link")

    worker = Worker(flip)
    statuses: dict[int, int] = {}
    try:
        client = http.client.HTTPConnection(server.address)
        with contextlib.closing(client):
            while min(statuses.get(200, 0), statuses.get(404, 0)) < 100:
                client.request("GET", "/link")
                response = client.getresponse()
                body = response.read()
                assert SECRET not in body
                assert response.status != 200 or body == BIG[:1024]
                statuses[response.status] = statuses.get(response.status, 0) + 1
                server.lines(1)
    finally:
        stop.set()
        worker.result()
    assert set(statuses) == {200, 404}


@pytest.mark.parametrize(
    "target",
    ["//sub", "/sub?a=b&c", "///sub?//evil.example", "/sub?\\x", "http://evil.example/sub"],
)
def test_redirects_stay_here(same_server, target):
    """One slash at the begin, whatever was asked for, and nothing that ends a line."""
    answer = same_server.raw(f"GET {target} HTTP/1.0\r\n\r\n".encode("latin-1"))
    same_server.lines(1)
    location = re.search(rb"^location: (.*)\r$", answer, re.M)[1].decode()
    assert location.startswith("/sub/")
    assert location.isprintable()


def test_names_in_listings_are_escaped(server):
    """Markup, quotes, percent signs, colons, line breaks and bytes that are no UTF-8."""
    folder = server.root / "odd"
    folder.mkdir()
    names = [b"<b>&\"'.txt", b"100%", b"a:b", b"#?", b"\xff\xfe", "ä ö".encode(), b".hidden"]
    for name in names:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(name)
    with open(os.fsencode(folder) + b"/a\r\nX: y", "wb"):
        pass
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("folder")
    page = curl(f"{server.url}/odd/").stdout.decode()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;&quot;" in page
    links = re.findall(r'href="([^"]*)"', page)
    assert {"folder/", "link"} <= set(links)
    assert all(link.isascii() and ":" not in link for link in links)
    bodies = [curl(f"{server.url}/odd/{link}").stdout for link in links]
    assert set(names) <= set(bodies)
    assert server.status("/odd/a%0d%0aX:%20y") == 200


def test_an_empty_directory_and_one_that_may_not_be_read(server):
    """A list of nothing."""
    (server.root / "empty").mkdir()
    page = curl(f"{server.url}/empty/").stdout
    assert b"href" not in page
    assert b"Directory listing for /empty/" in page


# -- requests that are none ------------------------------------------------------------------------

GOOD = b"GET /small HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /small\r\n\r\n", 400),
        (b"GET  /small HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /small HTTP/1.1 \r\nHost: x\r\n\r\n", 200),
        (b"GET /sm all HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /small HTTP/1\r\nHost: x\r\n\r\n", 400),
        (b"GET /small http/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /small HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /small HTTP/1.9\r\nHost: x\r\n\r\n", 200),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"get /small HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"BREW /small HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 405),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /small HTTP/1.1\r\n\r\n", 400),
        (GOOD + b"Host: y\r\n\r\n", 400),
        (b"GET /small HTTP/1.0\r\n\r\n", 200),
        (GOOD + b"X : y\r\n\r\n", 400),
        (GOOD + b" folded\r\n\r\n", 400),
        (GOOD + b"nothing\r\n\r\n", 400),
        (GOOD + b": x\r\n\r\n", 400),
        (GOOD + b"X: a\rb\r\n\r\n", 400),
        (GOOD + b"X: a\x00b\r\n\r\n", 400),
        (GOOD + b"X: \xff\xe4\r\n\r\n", 200),
        (GOOD + b"X:\r\n\r\n", 200),
        (GOOD + b"X: " + b"y" * 60_000 + b"\r\n\r\n", 200),
        (GOOD + b"X: y\r\n" * 98 + b"\r\n", 200),
        (GOOD + b"X: y\r\n" * 100 + b"\r\n", 431),
        (GOOD + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"y" * 1_000_000, 414),
        (b"GET /sub?\x07 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /small HTTP/1.1\nHost: x\n\n", 200),
        (b"\r\n\r\n" + GOOD + b"\r\n", 200),
    ],
    ids=lambda value: str(value)[:40],
)
def test_requests(same_server, request_bytes, status):
    """One answer, and the end of the connection after one that http.server cannot read."""
    answer = same_server.raw(request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    if status != 200:
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
    assert len(same_server.lines(1)[0]) < 5000


@pytest.mark.parametrize("request_bytes", [b"", b"\r\n", b"GET", b"GET /small HTTP/1.1\r\nHost: x"])
def test_a_request_that_ends_too_early(same_server, request_bytes):
    """Gets no answer: there is no question."""
    assert same_server.raw(request_bytes) == b""


def test_a_request_in_pieces(server):
    """Byte by byte, or several in one piece."""
    with server.connect() as sock, sock.makefile("rb") as stream:
        for byte in GOOD + b"\r\n":
            sock.sendall(bytes([byte]))
        sock.sendall((GOOD + b"\r\n") * 3)
        for _ in range(4):
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = http.client.parse_headers(stream)
            assert stream.read(int(headers["Content-Length"])) == BIG[:1024]


def test_a_body_is_no_request(server):
    """GET with a body is answered, and what is in the body is not."""
    inner = b"GET /page.html HTTP/1.1\r\nHost: x\r\n\r\n"
    for fields in (
        b"Content-Length: %d\r\n\r\n" % len(inner),
        b"Transfer-Encoding: chunked\r\n\r\n",
    ):
        answer = server.raw(GOOD + fields + inner)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"\r\nconnection: close\r\n" in answer
        assert b"<p>page" not in answer
    assert server.raw(GOOD + b"Content-Length: 0\r\n\r\n" + inner).count(b"HTTP/1.1 ") == 2


def test_a_client_that_waits_for_100(server):
    """Is answered at once."""
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(GOOD + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"


def test_http_1_0_is_kept_open_if_asked(server):
    """And told so."""
    with server.connect() as sock, sock.makefile("rb") as stream:
        for _ in range(2):
            sock.sendall(b"GET /small HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = http.client.parse_headers(stream)
            assert headers["Connection"] == "keep-alive"
            assert stream.read(1024) == BIG[:1024]
        sock.sendall(b"GET /small HTTP/1.0\r\n\r\n")
        assert b"connection: close" in stream.read()


def test_what_a_log_line_shows(server):
    """The line that http.server writes; control characters are written out."""
    server.status("/small")
    server.raw(b"GET /\x1b[31m\\ HTTP/1.1\r\nHost: x\r\n\r\n")
    server.raw(b"GET /\xe4 HTTP/1.1\r\nHost: x\r\n\r\n")
    lines = server.lines(3)
    when = r"\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d"
    assert re.fullmatch(rf'127\.0\.0\.1 - - \[{when}\] "GET /small HTTP/1\.1" 200 -\n', lines[0])
    assert "\x1b" not in lines[1]
    assert '"GET /\u00e4 HTTP/1.1" 404' in lines[2]


def test_nasty_requests(tmp_path):
    """The table of `StaticFiles`; what is refused here ends the connection besides."""
    found = {}
    with serving(nasty.make_site(tmp_path), "--quiet") as server:
        for row in (row for rows in nasty.TABLES.values() for row in rows):
            # It serves names with a dot, lists, and takes many slashes for one.
            if row.name.startswith(("/.dot", "/.hidden", "/%2edot", "/bare/")) or row.name in "///":
                continue
            statuses = tuple(501 if code == 405 else code for code in row.statuses)
            closes = None if {400, 405} & set(row.statuses) or "body" in row.name else row.closes
            closes = None if b"chunked" in row.request or b"Expect" in row.request else closes
            asked = row._replace(statuses=(*row.statuses, *statuses), closes=closes)
            if wrong := nasty.trouble(asked, server.connect):
                found[row.name[:100]] = wrong
    assert found == {}


# -- many, slow and gone ---------------------------------------------------------------------------


def settled(server: Served, *targets: str) -> int:
    """Return how many descriptors it has once these files are open, and its threads begun."""
    for target in ("/big.bin", *targets):
        with server.connect() as sock:
            sock.sendall(f"HEAD {target} HTTP/1.0\r\n\r\n".encode())
            assert sock.recv(MIB).startswith(b"HTTP/1.1 200 ")
    assert server.status("/big.bin") == 200
    server.lines(2 + len(targets))
    counts = [0]
    until(lambda: counts.append(server.descriptors()) or counts[-1] == counts[-2])
    return counts[-1]


def test_200_downloads_at_once(server):
    """Each whole; afterwards the server has the threads and descriptors it had before."""
    (server.root / "medium").write_bytes(BIG[:MIB])
    before, count = settled(server, "/medium"), 200
    gate = threading.Barrier(count)

    def download() -> bool:
        with server.connect() as sock, sock.makefile("rb") as stream:
            gate.wait()
            sock.sendall(b"GET /medium HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            http.client.parse_headers(stream)
            return stream.read() == BIG[:MIB]

    workers = [Worker(download) for _ in range(count)]
    assert [worker.result() for worker in workers] == [True] * count
    until(lambda: server.descriptors() == before)
    assert len(server.lines(count)) == count


def test_clients_that_vanish(server):
    """In the middle of an answer, or of a question, by a close or by a reset."""
    with (server.root / "huge").open("wb") as file:
        file.truncate(64 * MIB)  # more than the buffers of both sockets take
    before = settled(server, "/huge")
    for request in (b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /hu", b""):
        for reset in (False, True):
            with server.connect() as sock:
                sock.sendall(request)
                if request.endswith(b"\n"):
                    assert sock.recv(10) == b"HTTP/1.1 2"
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    until(lambda: server.descriptors() == before)
    assert server.status("/small") == 200
    server.stop()
    assert server.log.count("response broken off") == 2
    assert "Error:" not in server.log


def test_a_file_that_shrinks_while_it_is_sent(server):
    """The client sees a body that is too short, and then the end."""
    path = server.root / "shrinks"
    with path.open("wb") as file:
        file.truncate(512 * MIB)  # more than any buffer on the way holds
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(b"GET /shrinks HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        headers = http.client.parse_headers(stream)
        os.truncate(path, MIB)
        got = sum(map(len, iter(lambda: stream.read(MIB), b"")))
        assert got < int(headers["Content-Length"])
    assert "200" in server.lines(1)[0]
    assert "response broken off" in server.lines(1)[0]


def test_idle_connections_are_closed(root):
    """Before a request, within one, and after one; within one there is an answer."""
    with serving(root, "--timeout", "0.3") as server:
        for request, answer in (
            (b"", b""),
            (b"GET /small", b"HTTP/1.1 408 "),
            (GOOD + b"\r\n", b""),
        ):
            with server.connect() as sock, sock.makefile("rb") as stream:
                sock.sendall(request)
                got = stream.read()
                if request.endswith(b"\n"):
                    assert got.endswith(BIG[:1024])
                else:
                    assert got.startswith(answer)
                    assert bool(got) == bool(answer)


def test_a_request_that_dribbles_in_is_cut(root):
    """Its bytes win it no time: the limit is for the whole head."""
    with serving(root, "--timeout", "0.3") as server, server.connect() as sock:
        sock.sendall(GOOD + b"X: ")
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        while not poll.poll(50):
            sock.sendall(b"y")
        assert sock.recv(13) == b"HTTP/1.1 408 "


def test_a_download_that_stalls_is_cut(root):
    """A client that stops reading does not keep a thread for ever."""
    with serving(root, "--timeout", "0.3") as server, contextlib.ExitStack() as stack:
        before = settled(server)
        sock = stack.enter_context(server.connect())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        assert "200" in server.lines(1)[0]
        assert "nothing moved for 0.3 s" in server.lines(1)[0]
        until(lambda: server.descriptors() == before)


def test_when_descriptors_run_out(root):
    """Who is there is served, who is not waits; and when room comes, is served too."""
    with serving(root) as server, contextlib.ExitStack() as stack:
        base = settled(server, "/small")
        first = stack.enter_context(server.connect())
        first.sendall(GOOD + b"\r\n")
        assert first.recv(MIB).startswith(b"HTTP/1.1 200 ")
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (base + 4, base + 4))
        others = [stack.enter_context(server.connect()) for _ in range(10)]
        until(lambda: server.descriptors() == base + 4)
        first.sendall(b"GET /page.html HTTP/1.1\r\nHost: x\r\n\r\n")
        # What it keeps open is closed before it has none for a file.
        assert first.recv(13) in (b"HTTP/1.1 200 ", b"HTTP/1.1 503 ")
        first.close()
        for other in others:
            other.sendall(GOOD + b"Connection: close\r\n\r\n")
        for other in others:
            assert other.recv(MIB).startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 "))
            other.close()
        until(lambda: server.descriptors() <= base)
        assert server.status("/small") == 200


def test_10000_idle_connections(root):
    """None of them costs a thread, nor the next client its answer; the limits are raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 10_000
    if hard < count + 1000:
        pytest.skip(f"the limit of descriptors here is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socks = []
    try:
        with serving(root, "--max-connections", str(count + 10)) as server:
            before, threads = settled(server, "/small"), server.threads()
            for number in range(count):
                sock = socket.socket()
                sock.bind((f"127.0.1.{1 + number // 5000}", 0))
                sock.connect(("127.0.0.1", int(server.address.rpartition(":")[2])))
                socks.append(sock)
            for sock in socks[::1000]:
                sock.sendall(GOOD + b"\r\n")
                assert sock.recv(MIB).startswith(b"HTTP/1.1 200 ")
            until(lambda: server.descriptors() == before + count)
            assert server.status("/small") == 200
            assert server.threads() == threads
            server.stop()
    finally:
        for sock in socks:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_is_one_too_many_waits(root):
    """In the backlog, until another has ended."""
    with serving(root, "--max-connections", "2") as server, contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(server.connect()) for _ in range(3))
        for sock in (first, second):
            sock.sendall(GOOD + b"\r\n")
            assert sock.recv(MIB).startswith(b"HTTP/1.1 200 ")
        third.sendall(GOOD + b"\r\n")
        server.lines(2)
        assert not select.select([third], [], [], 0.2)[0]
        first.close()
        assert third.recv(MIB).startswith(b"HTTP/1.1 200 ")


def test_a_head_may_be_shorter(root):
    """With --max-head, a longer one is 431, and a request line alone 414."""
    with serving(root, "--max-head", "100") as server:
        for request, status in (
            (GOOD + b"\r\n", 200),
            (GOOD + b"X: " + b"y" * 100 + b"\r\n\r\n", 431),
            (b"GET /" + b"y" * 200, 414),
        ):
            assert server.raw(request).startswith(b"HTTP/1.1 %d " % status)


def test_the_deadline_of_a_head_begins_with_it(root):
    """Not with the response before: a client may think for most of the timeout, and then ask."""
    with serving(root, "--timeout", "1") as server, server.connect() as sock:
        for _ in range(3):
            time.sleep(0.7)
            for part in (GOOD, b"\r\n"):
                time.sleep(0.2)
                sock.sendall(part)
            assert sock.recv(MIB).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("err", [errno.EMFILE, errno.EPERM, errno.ENOSYS])
def test_an_accept_that_is_refused_does_not_spin(root, err):
    """One pause for each refusal; what is no shortage is told once."""
    logged, pauses = [], []

    class Refusing:
        def accept(self):
            raise OSError(err, os.strerror(err))

    async def main():
        server = Server([], StaticFiles(root), Limits(10), most=10)
        server.site.log = logged.append
        server.pause = pauses.append
        for _ in range(3):
            server.accept(Refusing())

    asyncio.run(main())
    assert pauses == [0.1] * 3
    assert [os.strerror(err) in line for line in logged] == ([] if err == errno.EMFILE else [True])


@pytest.mark.parametrize("what", ["parser", "app"])
def test_what_nobody_expects(root, monkeypatch, what):
    """A head that only the parser refuses is 400; an error of the app is a line, and 500."""
    logged = []

    def refused(protocol, data):
        protocol.send_400_response("what the parser says")

    async def broken(scope, receive, send):
        raise ZeroDivisionError("oh no")

    if what == "parser":
        monkeypatch.setattr(HttpToolsProtocol, "data_received", refused)

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = Server([listener], broken, Limits(10), most=10)
            server.site.log = logged.append
            server.start()
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(GOOD + b"\r\n")
            answer = await reader.read(10_000)
            writer.close()
            await server.stop()
        return answer

    answer = asyncio.run(main())
    if what == "parser":
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"400: what the parser says\n")
    else:
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert any("ZeroDivisionError: oh no" in line for line in logged)


def test_nothing_is_done_while_nothing_happens(root):
    """No tick: strace sees no call of the server in a second, but the end of its wait."""
    with serving(root, "--timeout", "60") as server, server.connect() as sock:
        sock.sendall(GOOD + b"\r\n")
        assert sock.recv(MIB)
        trace = root.parent / "idle"
        with subprocess.Popen(
            [need("strace"), "-f", "-qq", "-o", trace, "-p", str(server.process.pid)]
        ) as tracer:
            until(lambda: trace.exists() and trace.stat().st_size)
            time.sleep(1)
            tracer.terminate()
        begun = [line for line in trace.read_text().splitlines() if "detached" not in line]
        assert len(begun) <= server.threads() + 1, begun


def test_the_root_is_looked_up_again(tmp_path):
    """A link that is swapped, and a directory that is made anew; with --pin it stays the old."""
    for name in ("one", "two"):
        filled(tmp_path / name)
        (tmp_path / name / "root" / "name").write_text(name)
    link = tmp_path / "link"
    for options, wanted in (((), b"two"), (("--pin",), b"one")):
        link.unlink(missing_ok=True)
        link.symlink_to("one/root")
        with serving(link, *options) as server:
            assert server.raw(b"GET /name HTTP/1.0\r\n\r\n").endswith(b"one")
            (tmp_path / "next").symlink_to("two/root")
            (tmp_path / "next").rename(link)
            assert server.raw(b"GET /name HTTP/1.0\r\n\r\n").endswith(wanted)


def test_sendfile_is_what_runs(root):
    """Seen by strace: of a large file nothing is written, and all of it is sent."""
    trace = root.parent / "trace"
    command = [need("strace"), "-f", "-e", "trace=sendfile,sendto,write,pread64", "-o", trace]
    with subprocess.Popen(
        [*command, *SPLICEIO, "serve", root, "--bind", "127.0.0.1:0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    ) as process:  # fmt: skip
        try:
            server = Served(process, root)
            assert curl(f"{server.url}/big.bin").stdout == BIG
            assert curl("-r", "0-999999", f"{server.url}/big.bin").stdout == BIG[:1_000_000]
            server.lines(2)
        finally:
            for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(pid), signal.SIGTERM)
            process.wait(HANG)
    calls = trace.read_text()
    resumed = re.findall(r"sendfile(?:\(| resumed).* = (\d+)$", calls, re.M)
    assert sum(map(int, resumed)) == len(BIG) + 1_000_000
    sent = sum(int(n) for n in re.findall(r"sendto(?:\(| resumed).* = (\d+)$", calls, re.M))
    assert 0 < sent < 1000


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it(root, number, status):
    """Though one connection is idle, one is in the middle of a file, and one of a request."""
    with serving(root) as server, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(server.connect()) for _ in range(3)]
        socks[1].sendall(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        assert socks[1].recv(10) == b"HTTP/1.1 2"
        socks[2].sendall(b"GET /sm")
        until(lambda: server.threads() == 4)
        assert server.stop(number) == status
        with pytest.raises(ConnectionRefusedError):
            server.connect()


def test_addresses(root, tmp_path):
    """IPv6, all of them, and a unix socket, whose path is gone afterwards."""
    for bind in ("[::1]:0", ":0"):
        with serving(root, bind=bind) as server:
            assert re.fullmatch(r"(\[::1\]|\[::\]|0\.0\.0\.0):\d+", server.address)
            host = "[::1]" if "[::1]" in bind else "127.0.0.1"
            url = f"http://{host}:{server.address.rpartition(':')[2]}/small"
            assert curl(url).stdout == BIG[:1024]
    path = tmp_path / "sock"
    with serving(root, bind=f"unix:{path}") as server:
        assert server.address == f"unix:{path}"
        assert curl("--unix-socket", path, "http://x/big.bin").stdout == BIG
        assert server.lines(1)[0].startswith("unix: - - [")
    assert not path.exists()


def test_quiet(root):
    """Says where it listens, and what went wrong; not what was asked for."""
    with serving(root, "--quiet") as server:
        assert server.status("/small") == 200
        assert server.status("/none") == 404
        server.stop()
        assert server.log == ""


def test_a_log_that_nobody_reads(root):
    """Is no reason to stop serving."""
    with serving(root) as server:
        server.process.stderr.close()
        for _ in range(3):
            assert server.status("/small") == 200
        server.process.terminate()
        assert server.process.wait(HANG) == 0
        server.process.stderr = io.BytesIO()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["none"], "serve: none: No such file or directory"),
        (["small"], "serve: small: Not a directory"),
        ([".", "--bind", "192.0.2.1:0"], "Cannot assign requested address"),
        ([".", "--bind", "unix:none/sock"], "serve: unix:none/sock: No such file"),
    ],
)
def test_what_cannot_be_served(root, args, words):
    """One line, status 1."""
    done = run("serve", *args, cwd=root)
    assert done.returncode == 1
    assert words in said(done)


def test_an_address_in_use(root, server):
    """One line, status 1, and the other goes on."""
    done = run("serve", root, "--bind", server.address)
    assert done.returncode == 1
    assert said(done) == f"spliceio: serve: {server.address}: Address already in use"
    assert server.status("/small") == 200


def test_a_port_that_is_not_allowed(root):
    """One line, status 1."""
    command = [need("setpriv"), "--bounding-set", "-net_bind_service", *SPLICEIO, "serve", root]
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 1:
        pytest.skip("every port is allowed to everybody here (ip_unprivileged_port_start)")
    done = subprocess.run([*command, "--bind", "127.0.0.1:1"], capture_output=True, timeout=HANG)
    assert done.returncode == 1
    assert said(done) == "spliceio: serve: 127.0.0.1:1: Permission denied"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_timeout_that_is_none(value):
    """Usage."""
    done = run("serve", ".", "--timeout", value)
    assert done.returncode == 2
    assert "is no number of seconds above 0" in done.stderr.decode()


def test_defaults():
    """On this machine alone, port 8000, a minute."""
    args = cli.parser().parse_args(["serve", "."])
    assert (str(args.bind), args.timeout, args.quiet) == ("127.0.0.1:8000", 60.0, False)


def test_other_commands_do_not_load_the_server():
    """http.server takes longer to import than most commands take to run."""
    script = (
        "import sys; from spliceio._cli.parser import parser; parser(); "
        "print('http' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=HANG)
    assert done.stdout == b"False\n"


# -- by themselves --------------------------------------------------------------------------------


def test_types_of_names():
    """By suffix, in any case; what is compressed is not what is in it."""
    kinds = {
        "a.html": "text/html",
        "a.HTML": "text/html",
        "a.png": "image/png",
        "a:b.html": "text/html",
        "http:x.css": "text/css",
        "a.tar.gz": "application/gzip",
        "a.svg.xz": "application/x-xz",
        "a.unknown": None,
        "a": None,
        ".html": None,
    }
    for name, kind in kinds.items():
        assert pages.type_of(name) == (kind or "application/octet-stream")
