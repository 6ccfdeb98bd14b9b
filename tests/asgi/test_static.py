"""`StaticFiles`, called as a server calls it: with the extension, and without.

What goes over sockets is in test_static_served.py, the rules of conditional requests are in
tests/http/test_conditional.py.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import re
import resource
import socket
import subprocess
import sys
from urllib.parse import unquote

import anyio
import pytest

import spliceio.asgi
from spliceio.asgi import StaticFiles, _disk
from spliceio.asgi import _static as static
from tests.support.loops import backends, run
from tests.support.states import descriptors

ZEROCOPY = {"http.response.zerocopysend": {}}
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"


class Got:
    """What an app has answered."""

    def __init__(self):
        self.status, self.fields, self.body, self.kinds, self.done = 0, {}, b"", [], False

    async def send(self, message):
        assert not self.done
        self.kinds.append(message["type"].rpartition(".")[2])
        if message["type"] == "http.response.start":
            assert not self.status
            self.status = message["status"]
            for name, value in message["headers"]:
                assert name == name.lower()
                assert name.decode() not in self.fields
                self.fields[name.decode()] = value.decode("latin-1")
            message["headers"].append((b"x-middleware", b"was here"))
            return
        if message["type"] == "http.response.zerocopysend":
            fd, count = message["file"].fileno(), message["count"]
            self.body += os.pread(fd, count, message["offset"])
            assert count
        else:
            self.body += message["body"]
        self.done = not message.get("more_body", False)


async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}


def scope_of(target, method="GET", headers=(), root="", mounted=None, **more):
    raw, _, query = target.partition("?")
    path = unquote(raw)
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": raw.encode("latin-1"),
        "root_path": root,
        "query_string": query.encode("latin-1"),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        **more,
    }


def call(app, scope, backend="asyncio"):
    got = Got()
    run(backend, app, scope, receive, got.send)
    assert got.done
    return got


def ask(app, target, method="GET", *headers, extension=True, **more):
    """Ask an app for a target, with fields as "Name: value"."""
    pairs = [tuple(field.split(": ", 1)) for field in headers]
    extensions = ZEROCOPY if extension else {}
    got = call(app, scope_of(target, method, pairs, extensions=extensions, **more))
    length = got.fields.get("content-length")
    if method == "HEAD":
        assert got.body == b""
    elif got.status != 304:
        assert int(length) == len(got.body)
    return got


@pytest.fixture
def site(tmp_path):
    site = tmp_path / "site"
    (site / "sub" / "deep").mkdir(parents=True)
    (site / "file.txt").write_bytes(ALPHABET)
    (site / "sub" / "index.html").write_bytes(b"<p>index")
    (site / "sub" / "deep" / "page.html").write_bytes(b"<p>page")
    (site / ".secret").write_bytes(b"hidden")
    (site / ".git").mkdir()
    (site / ".git" / "config").write_bytes(b"hidden")
    (tmp_path / "outside").write_bytes(b"outside")
    return site


@pytest.fixture
def serve(site):
    """Make an app of the site; closed after the test."""
    made = []

    def make(directory=site, **options):
        made.append(StaticFiles(directory, **options))
        return made[-1]

    yield make
    for app in made:
        app.close()


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("extension", [False, True])
@pytest.mark.parametrize("size", [0, 1, 1024, _disk.BLOCK, _disk.BLOCK + 1, 3 * _disk.BLOCK])
def test_a_file(site, serve, backend, extension, size):
    """Its bytes and its length, with a version and a date; by one message, or in blocks."""
    data = os.urandom(size)
    (site / "file").write_bytes(data)
    os.utime(site / "file", (0, 784111777))
    app = serve()
    extensions = ZEROCOPY if extension else {}
    for _ in range(2):
        got = call(app, scope_of("/file", extensions=extensions), backend)
        assert (got.status, got.body) == (200, data)
        etag = got.fields.pop("etag")
        assert re.fullmatch(r'"[0-9a-f]+-[0-9a-f]+"', etag)
        assert got.fields == {
            "content-type": "application/octet-stream",
            "content-length": str(size),
            "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT",
            "accept-ranges": "bytes",
        }
        messages = max(1, -(-size // _disk.BLOCK))
        kinds = ["zerocopysend"] if extension and size else ["body"] * messages
        assert got.kinds == ["start", *kinds]


def test_head(serve):
    """The same head, and no body."""
    app = serve()
    for target in ("/file.txt", "/sub/", "/none", "/sub"):
        for fields in ((), ("If-None-Match: *",), ("Range: bytes=0-1",)):
            got, head = (ask(app, target, method, *fields) for method in ("GET", "HEAD"))
            if "Range: bytes=0-1" in fields and got.status == 206:
                got = ask(app, target)
            assert (head.status, head.fields) == (got.status, got.fields)


@pytest.mark.parametrize("extension", [False, True])
@pytest.mark.parametrize(
    ("fields", "status", "body"),
    [
        (["If-None-Match: {etag}"], 304, b""),
        (["If-None-Match: *"], 304, b""),
        (['If-None-Match: "other"'], 200, ALPHABET),
        (["If-Match: {etag}"], 200, ALPHABET),
        (['If-Match: "other"'], 412, b""),
        (["If-Modified-Since: {date}"], 304, b""),
        (["If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"], 200, ALPHABET),
        (["If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"], 412, b""),
        (["If-Unmodified-Since: {date}"], 200, ALPHABET),
        (["Range: bytes=0-0"], 206, b"a"),
        (["Range: bytes=-3"], 206, b"xyz"),
        (["Range: bytes=20-"], 206, b"uvwxyz"),
        (["Range: bytes=26-"], 416, b""),
        (["Range: bytes=x"], 200, ALPHABET),
        (["Range: bytes=0-1", "Range: bytes=2-3"], 200, ALPHABET),
        (["Range: bytes=0-1", "If-Range: {etag}"], 206, b"ab"),
        (["Range: bytes=0-1", 'If-Range: "other"'], 200, ALPHABET),
        (["Range: bytes=0-1", "If-Range: {date}"], 206, b"ab"),
        (["Range: bytes=0-1", "If-None-Match: {etag}"], 304, b""),
    ],
)
def test_a_conditional_request(serve, extension, fields, status, body):
    """304 and 412 have the version; a range says where it is; the file is unchanged by all."""
    app = serve()
    plain = ask(app, "/file.txt")
    known = {"etag": plain.fields["etag"], "date": plain.fields["last-modified"]}
    got = ask(
        app, "/file.txt", "GET", *[field.format(**known) for field in fields], extension=extension
    )
    assert (got.status, got.body) == (status, body)
    if status != 416:
        assert got.fields["etag"] == known["etag"]
    if status == 206:
        at = ALPHABET.index(body)
        assert got.fields["content-range"] == f"bytes {at}-{at + len(body) - 1}/26"
    elif status == 416:
        assert got.fields["content-range"] == "bytes */26"
    else:
        assert "content-range" not in got.fields
    assert ask(app, "/file.txt").body == ALPHABET


@pytest.mark.parametrize("extension", [False, True])
def test_several_ranges(serve, extension):
    """multipart/byteranges, in the order that they were asked for."""
    got = ask(serve(), "/file.txt", "GET", "Range: bytes=3-5, 0-0,-2", extension=extension)
    assert got.status == 206
    kind, _, boundary = got.fields["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    parts = got.body.split(b"\r\n--" + boundary.encode())
    assert (parts[0], parts[-1]) == (b"", b"--\r\n")
    heads, bodies = zip(*(part.split(b"\r\n\r\n") for part in parts[1:-1]), strict=True)
    assert bodies == (b"def", b"a", b"yz")
    assert [head.split(b"\r\n")[2] for head in heads] == [
        b"Content-Range: bytes 3-5/26",
        b"Content-Range: bytes 0-0/26",
        b"Content-Range: bytes 24-25/26",
    ]
    assert all(
        head.split(b"\r\n")[1] == b"Content-Type: text/plain; charset=utf-8" for head in heads
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "X"])
def test_another_method(serve, method):
    """It is told which there are; of a file, a directory and of nothing alike."""
    for target in ("/file.txt", "/sub/", "/none", "*"):
        got = ask(serve(), target, method)
        assert (got.status, got.fields["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.CSS", "text/css; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.tar.gz", "application/gzip"),
        ("a.glb", "model/x-of-ours"),
        ("a.HTM", "text/x-of-ours; charset=utf-8"),
        ("a.txt", "text/plain;charset=latin-1"),
        ("a", "application/octet-stream"),
    ],
)
def test_types(site, serve, name, kind):
    """By suffix, those that are given first."""
    types = {
        ".glb": "model/x-of-ours",
        ".htm": "text/x-of-ours",
        ".TXT": "text/plain;charset=latin-1",
    }
    (site / name).touch()
    assert ask(serve(types=types), f"/{name}").fields["content-type"] == kind
    without = kind.removesuffix("; charset=utf-8")
    assert ask(serve(types=types, charset=None), f"/{name}").fields["content-type"] == without


def test_cache_control_and_more_headers(serve):
    """In every response with a version of a file, 304 too; and nowhere else."""
    asked = []

    def control(path):
        asked.append(path)
        return "immutable" if path.endswith(".txt") else None

    for given in ("no-cache", control):
        app = serve(cache_control=given, headers=[("X-More", "ä")])
        for fields in ((), ("If-None-Match: *",), ("Range: bytes=0-1",)):
            got = ask(app, "/file.txt", "GET", *fields)
            wanted = "immutable" if given is control else "no-cache"
            assert (got.fields["cache-control"], got.fields["x-more"]) == (wanted, "ä")
        got = ask(app, "/sub/")
        assert got.fields.get("cache-control") == (None if given is control else "no-cache")
        assert "x-more" not in ask(app, "/none").fields
    assert asked == ["file.txt", "sub/index.html"]


def test_middleware_may_change_the_head(serve):
    """What it adds to the list of one response is in no other (Got adds to each)."""
    app = serve()
    for _ in range(3):
        assert "x-middleware" not in ask(app, "/file.txt").fields
        assert "x-middleware" not in ask(app, "/file.txt", "GET", "If-None-Match: *").fields


@pytest.mark.parametrize(
    "options",
    [
        {"headers": [("X", "a\r\nSet-Cookie: b")]},
        {"types": {".x": "a\nb"}},
        {"charset": "a\r\n"},
        {"open_files": -1},
    ],
)
def test_options_that_make_no_sense(site, options):
    """They are refused when the app is made."""
    with pytest.raises(ValueError, match=r"line break|negative"):
        StaticFiles(site, **options)


@pytest.mark.parametrize("directory", ["none", "file.txt"])
def test_a_directory_that_is_none(site, directory):
    """It is refused when the app is made."""
    with pytest.raises(OSError, match=directory):
        StaticFiles(site / directory)


# -- directories -----------------------------------------------------------------------------------


def test_an_index(site, serve):
    """The first name of those that it has; with a slash at the end, or a redirect to that."""
    app = serve()
    for _ in range(2):
        got = ask(app, "/sub/")
        assert (got.status, got.body) == (200, b"<p>index")
        assert got.fields["content-type"] == "text/html; charset=utf-8"
    (site / "sub" / "index.htm").write_bytes(b"other")
    assert ask(app, "/sub/").body == b"<p>index"
    (site / "sub" / "index.html").unlink()
    for _ in range(2):
        assert ask(app, "/sub/").body == b"other"
    (site / "sub" / "index.html").write_bytes(b"again")
    assert ask(app, "/sub/").body == b"again"
    (site / "sub" / "index.html").unlink()
    (site / "sub" / "index.html").mkdir()
    assert ask(app, "/sub/").body == b"other"
    assert ask(serve(index=["page.html"]), "/sub/deep/").body == b"<p>page"
    assert ask(serve(index=[]), "/sub/").status == 404


@pytest.mark.parametrize(
    ("target", "root", "location"),
    [
        ("/sub", "", "/sub/"),
        ("/sub?a=b&c", "", "/sub/?a=b&c"),
        ("/./sub", "", "/sub/"),
        ("//sub", "", "/sub/"),
        ("/static/sub", "/static", "/static/sub/"),
        ("/static/sub?x", "/static/", "/static/sub/?x"),
        ("/static", "/static", "/static/"),
        ("/st%C3%A4tic/sub", "/stätic", "/st%C3%A4tic/sub/"),
        ("//evil.example/sub", "//evil.example", "/evil.example/sub/"),
    ],
)
def test_a_directory_without_a_slash(serve, target, root, location):
    """A redirect that stays on this server, and at this mount point."""
    got = ask(serve(), target, root=root)
    assert (got.status, got.fields["location"]) == (301, location)
    assert got.body == b""


def test_a_listing(site, serve):
    """Only where it is wanted; of all names, which can all be followed."""
    names = [
        b"a\tb",
        b"line\nbreak",
        b'"quoted"',
        b"<b>",
        b"\xff\xfe",
        "ä".encode(),
        b"100%",
        b"?#",
    ]
    folder = site / "sub" / "deep"
    for name in names:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(name)
    (folder / ".hidden").touch()
    assert ask(serve(), "/sub/deep/").status == 404
    app = serve(listing=True)
    got = ask(app, "/sub/deep/")
    assert (got.status, got.fields["content-type"]) == (200, "text/html; charset=utf-8")
    page = got.body.decode()
    assert "<b>" not in page
    assert ".hidden" not in page
    links = re.findall(r'href="([^"]*)"', page)
    assert len(links) == len(names) + 1
    bodies = {ask(app, f"/sub/deep/{link}").body for link in links}
    assert bodies == {*names, b"<p>page"}
    assert ".hidden" in ask(serve(listing=True, dotfiles=True), "/sub/deep/").body.decode()
    assert ask(app, "/sub/").body == b"<p>index"
    assert 'href="sub/"' in ask(app, "/").body.decode()


@pytest.mark.parametrize(
    "target",
    ["/.secret", "/.git/config", "/.git/", "/.git", "/%2esecret", "/.well-known/.x", "/.x"],
)
def test_dotfiles(site, serve, target):
    """They look like missing ones, unless they are wanted."""
    (site / ".well-known").mkdir()
    (site / ".well-known" / ".x").write_bytes(b"hidden")
    (site / ".well-known" / "security.txt").write_bytes(b"for all")
    app = serve()
    assert ask(app, target).status == 404
    assert ask(app, "/.well-known/security.txt").body == b"for all"
    if target not in ("/.git/", "/.git", "/.x"):
        assert ask(serve(dotfiles=True), target).body == b"hidden"


# -- what is not served ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/../outside",
        "/sub/../../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/a%00",
        "/a%2fb",
        "x",
    ],
)
def test_a_target_that_climbs(serve, target):
    """It is no request for a file."""
    got = ask(serve(dotfiles=True), target)
    assert got.status == 400
    assert b"outside" not in got.body


@pytest.mark.parametrize(
    ("link", "status"),
    [
        ("../outside", 404),
        ("/etc/passwd", 404),
        ("sub/../../outside", 404),
        ("{site}/file.txt", 200),
        ("sub/../file.txt", 200),
        ("../site/file.txt", 200),
        ("self", 404),
        ("missing", 404),
        ("/proc/self/fd/0", 404),
        ("file.txt/", 404),
    ],
)
def test_links(site, serve, link, status):
    """Those that end in the directory are followed; all others look like missing files."""
    (site / "self").symlink_to(link.format(site=site))
    got = ask(serve(), "/self")
    assert got.status == status
    assert got.body == ALPHABET if status == 200 else b"outside" not in got.body


def test_what_is_neither_file_nor_directory(site, serve):
    """It looks like a missing file, and nothing waits for it."""
    os.mkfifo(site / "fifo")
    (site / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(site / "socket"))
        for name in ("fifo", "socket", "null"):
            assert ask(serve(), f"/{name}").status == 404
    assert ask(serve(), "/file.txt/").status == 404
    assert ask(serve(), "/file.txt/x").status == 404
    assert ask(serve(), "/" + "x" * 300).status == 404
    assert ask(serve(), "/" + "x/" * 3000).status == 404


@contextlib.contextmanager
def nobody():
    """Be an ordinary user."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read(site, serve):
    """403; and a directory that may be entered, and not listed, still has its index."""
    for folder in (site, site / "sub", site / "sub" / "deep"):
        folder.chmod(0o711)
    (site / "file.txt").chmod(0)
    (site / "sub" / "deep" / "index.html").touch(0)
    (site / "closed").mkdir(0)
    app = serve(listing=True, pin=True)  # a name of the directory could not be looked up
    with nobody():
        assert ask(app, "/file.txt").status == 403
        assert ask(app, "/sub/deep/").status == 403
        assert ask(app, "/closed/file").status == 403
        assert ask(app, "/closed/").status == 403
        assert ask(app, "/").status == 403
        assert ask(app, "/sub/").body == b"<p>index"


def test_no_descriptor_is_left(site, serve):
    """503; after the files that are kept have been let go, that is."""
    app, idle = serve(), serve(open_files=0)
    for number in range(5):
        (site / str(number)).write_bytes(b"%d" % number)

    async def main():
        async def status(app, target):
            got = Got()
            await app(scope_of(target, extensions=ZEROCOPY), receive, got.send)
            return got.status

        # The worker thread exists before, and whatever else is needed.
        assert [await status(app, f"/{n}") for n in range(5)] == [200] * 5
        assert await status(idle, "/none") == 404
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        filling = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 1, before[1]))
        try:
            with contextlib.suppress(OSError):
                while True:
                    filling.append(os.dup(0))
            return await status(idle, "/file.txt"), await status(app, "/file.txt")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for fd in filling:
                os.close(fd)

    assert anyio.run(main) == (503, 200)


# -- what changes ----------------------------------------------------------------------------------


@pytest.fixture
def opens(monkeypatch):
    """Count how often a file is opened by its name."""
    counted = []
    real = static.Docroot.open

    def open(self, names, **options):
        counted.append(b"/".join(names).decode())
        return real(self, names, **options)

    monkeypatch.setattr(static.Docroot, "open", open)
    return counted


def test_a_file_that_was_asked_for_is_not_opened_again(serve, opens):
    """It is there, by one stat of its name."""
    app = serve()
    for fields in ((), (), ("Range: bytes=0-1",), ("If-None-Match: *",)):
        ask(app, "/file.txt", "GET", *fields)
        ask(app, "/file.txt", "HEAD", *fields)
    assert opens == ["file.txt"]
    ask(app, "/sub/")
    ask(app, "/sub/")
    assert opens == ["file.txt", "sub", "sub/index.html"]


@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize(
    "how", ["written", "replaced", "appended", "same size and time", "removed"]
)
def test_a_file_that_changes(site, serve, how, pin):
    """The next response is of what is there."""
    app, path = serve(pin=pin), site / "file.txt"
    first = ask(app, "/file.txt")
    status = path.stat()
    if how == "written":
        path.write_bytes(b"another")
    elif how == "replaced":
        (site / "new").write_bytes(b"another")
        (site / "new").rename(path)
    elif how == "appended":
        with path.open("ab") as file:
            file.write(b"more")
    elif how == "removed":
        path.unlink()
        assert ask(app, "/file.txt").status == 404
        return
    else:
        path.write_bytes(ALPHABET[::-1])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    got = ask(app, "/file.txt")
    assert got.body == path.read_bytes() != first.body
    if how != "same size and time":  # which no validator of HTTP can tell
        assert got.fields["etag"] != first.fields["etag"]


def test_a_file_that_may_not_be_read_any_more(site, serve):
    """That it is open is no reason."""
    site.chmod(0o711)
    (site / "file.txt").chmod(0o644)
    app = serve(pin=True)
    with nobody():
        assert ask(app, "/file.txt").status == 200
    (site / "file.txt").chmod(0)
    with nobody():
        assert ask(app, "/file.txt").status == 403


def test_a_file_whose_place_a_link_out_takes(site, serve):
    """What is open is not what the name is now."""
    app = serve()
    assert ask(app, "/sub/deep/page.html").body == b"<p>page"
    away = site.parent / "away"
    away.mkdir()
    (site / "sub" / "deep").rename(away / "deep")
    (site / "sub" / "deep").symlink_to(away / "deep")
    # It is the same file, but now it is outside.
    assert ask(app, "/sub/deep/page.html").status in (200, 404)
    (away / "deep" / "page.html").write_bytes(b"outside")
    assert ask(app, "/sub/deep/page.html").status == 404


def test_a_directory_that_is_swapped(tmp_path, site, serve):
    """A link that leads elsewhere after a deployment; with pin, it is the one that it was."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode())
    (tmp_path / "now").symlink_to("one")
    app, pinned = serve(tmp_path / "now"), serve(tmp_path / "now", pin=True)
    assert (ask(app, "/file").body, ask(pinned, "/file").body) == (b"one", b"one")
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "now")
    assert (ask(app, "/file").body, ask(pinned, "/file").body) == (b"two", b"one")


def test_a_directory_that_is_removed_and_made_again(site, serve):
    """404 in between."""
    app = serve()
    assert ask(app, "/file.txt").body == ALPHABET
    site.rename(site.parent / "gone")
    assert ask(app, "/file.txt").status == 404
    assert ask(app, "/sub/").status == 404
    site.mkdir()
    assert ask(app, "/file.txt").status == 404
    (site / "file.txt").write_bytes(b"new")
    assert ask(app, "/file.txt").body == b"new"


def test_a_relative_directory_stays_where_it_was(site, serve, monkeypatch):
    """Whatever the current directory is later."""
    monkeypatch.chdir(site.parent)
    app = serve("site")
    monkeypatch.chdir("/")
    assert ask(app, "/file.txt").body == ALPHABET


@pytest.mark.parametrize("most", [0, 1, 3])
def test_how_many_files_stay_open(site, serve, most):
    """So many, those that were asked for last; none after close()."""
    app, names = serve(open_files=most), [f"/{number}" for number in range(10)]
    for name in names:
        (site / name[1:]).write_bytes(name.encode())
    before = len(descriptors())
    for name in names + names[:3]:
        assert ask(app, name).body == name.encode()
    gc.collect()
    open_now = [target for target in descriptors().values() if str(site) + "/" in str(target)]
    assert len(open_now) == most
    assert sorted(map(os.path.basename, open_now)) == sorted("012"[3 - most :])
    app.close()
    assert len(descriptors()) <= before


def test_a_file_that_is_let_go_while_it_is_sent(site, serve):
    """It stays open for the response."""
    app = serve(open_files=1)
    (site / "big").write_bytes(bytes(3 * _disk.BLOCK))
    (site / "new").write_bytes(b"other")

    async def main():
        big, other = Got(), Got()

        async def send(message):
            await big.send(message)
            await app(scope_of("/file.txt"), receive, other.send)
            if (site / "new").exists():
                (site / "new").rename(site / "big")

        other.send = lambda message: anyio.sleep(0)
        await app(scope_of("/big"), receive, send)
        return big

    assert anyio.run(main).body == bytes(3 * _disk.BLOCK)


def test_a_file_that_becomes_shorter_is_no_whole_response(site, serve):
    """The server is told by an exception, and closes the connection."""
    app = serve()
    (site / "big").write_bytes(bytes(3 * _disk.BLOCK))
    got = Got()

    async def send(message):
        await got.send(message)
        os.truncate(site / "big", 10)

    with pytest.raises(OSError, match="shorter"):
        run("asyncio", app, scope_of("/big"), receive, send)
    assert not got.done


def test_no_disk_is_waited_for_in_the_loop(serve, monkeypatch):
    """A name that is not in memory is looked up by another thread."""
    import threading

    app, threads = serve(), []
    real = static.Docroot.open

    def open(self, names, *, slash=False, cached=False):
        threads.append(threading.current_thread() is threading.main_thread())
        if cached:
            raise BlockingIOError(errno.EAGAIN, "not in memory")
        return real(self, names, slash=slash)

    monkeypatch.setattr(static.Docroot, "open", open)
    assert ask(app, "/file.txt").body == ALPHABET
    assert threads == [True, False]


# -- smaller forms ---------------------------------------------------------------------------------


@pytest.fixture
def coded(site):
    """A file in all its forms, and one with a stale form."""
    for suffix in ("", ".gz", ".br", ".zst"):
        (site / f"app.js{suffix}").write_bytes(b"app" + suffix.encode())
        (site / f"style.css{suffix}").write_bytes(b"style" + suffix.encode())
        os.utime(site / f"style.css{suffix}", (0, 100 if suffix else 200))
    (site / "plain.js").write_bytes(b"plain")
    (site / "folder.js").write_bytes(b"folder")
    (site / "folder.js.gz").mkdir()
    return site


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate", "gzip"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate, br, zstd", "br"),
        ("zstd, gzip", "zstd"),
        ("br;q=0.5, gzip", "gzip"),
        ("br;q=0, gzip;q=0.1", "gzip"),
        ("*", "br"),
        ("*;q=0", None),
        ("br;q=0, *", "zstd"),
        ("gzip;q=0", None),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.4", "gzip"),
        ("gzip ; q=0.5 , \tbr;q=0.6", "br"),
        ("gzip;q=x", None),
        ("gzip;q=1.2.3", None),
        ("deflate", None),
        ("gzi p", None),
    ],
)
def test_the_form_that_a_client_takes(coded, serve, accepted, coding):
    """Its bytes and its version, under the type of the file; and caches are told that it varies."""
    app = serve(precompressed=True)
    fields = [] if accepted is None else [f"Accept-Encoding: {accepted}"]
    suffix = {"gzip": ".gz", "br": ".br", "zstd": ".zst"}.get(coding, "")
    for _ in range(2):
        got = ask(app, "/app.js", "GET", *fields)
        assert (got.status, got.body) == (200, b"app" + suffix.encode())
        assert got.fields.get("content-encoding") == coding
        assert "javascript" in got.fields["content-type"]
        assert got.fields["vary"] == "Accept-Encoding"
        again = ask(app, "/app.js", "GET", *fields, f"If-None-Match: {got.fields['etag']}")
        assert (again.status, again.fields["vary"]) == (304, "Accept-Encoding")
        part = ask(app, "/app.js", "GET", *fields, "Range: bytes=-2")
        assert (part.status, part.body) == (206, got.body[-2:])
        assert part.fields.get("content-encoding") == coding
    plain = ask(app, "/app.js")
    assert (plain.fields["etag"] == got.fields["etag"]) == (coding is None)


def test_a_form_that_is_none(coded, serve):
    """Older than the file, missing, a directory: the file itself."""
    app = serve(precompressed=True)
    accept = "Accept-Encoding: gzip, br, zstd"
    for name, body in (("style.css", b"style"), ("plain.js", b"plain"), ("folder.js", b"folder")):
        got = ask(app, f"/{name}", "GET", accept)
        assert (got.body, got.fields.get("content-encoding")) == (body, None)
        assert got.fields["vary"] == "Accept-Encoding"
    (coded / "plain.js.gz").write_bytes(b"packed")
    assert ask(app, "/plain.js", "GET", accept).body == b"packed"
    (coded / "app.js.br").unlink()
    assert ask(app, "/app.js", "GET", accept).body == b"app.zst"
    # By itself it is a file like any other.
    got = ask(app, "/app.js.gz", "GET", accept)
    assert (got.body, got.fields["content-type"]) == (b"app.gz", "application/gzip")


def test_the_form_of_an_index(coded, serve):
    """It is that of the index page which is sent."""
    app = serve(precompressed=True)
    accept = "Accept-Encoding: gzip"
    (coded / "sub" / "index.html").unlink()
    for name in ("index.htm", "index.html"):
        (coded / "sub" / name).write_bytes(b"page")
        (coded / "sub" / f"{name}.gz").write_bytes(name.encode())
        for _ in range(2):
            assert ask(app, "/sub/", "GET", accept).body == name.encode()


def test_forms_are_not_looked_for_by_default(coded, serve, opens):
    """Nobody pays for what is not asked for."""
    got = ask(serve(), "/app.js", "GET", "Accept-Encoding: gzip")
    assert (got.body, got.fields.get("vary")) == (b"app", None)
    assert opens == ["app.js"]


# -- where it is mounted ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "raw", "root"),
    [
        ("/static/file.txt", b"/static/file.txt", "/static"),
        ("/static/file.txt", b"/static/file.txt", "/static/"),
        ("/a/b/file.txt", b"/a/b/file.txt", "/a/b"),
        ("/static/file.txt", None, "/static"),
        ("/file.txt", b"/static/file.txt", "/static"),
        ("/file.txt", None, "/static"),
        ("/file.txt", b"/file.txt?query", ""),
        ("/file.txt", b"/proxy/file.txt", ""),
        ("/file.txt", b"/file.txt", "/elsewhere"),
        ("/st tic/file.txt", b"/st%20tic/file.txt", "/st tic"),
        ("/stä/file.txt", b"/st%c3%a4/file.txt", "/stä"),
        ("/a/b/file.txt", b"/a%2fb/file.txt", "/a/b"),
        ("/file.txt", b"/%66ile.txt", ""),
    ],
)
def test_mount_points(serve, path, raw, root):
    """As the specification has it, and as frameworks have had it."""
    scope = {**scope_of("/"), "path": path, "raw_path": raw, "root_path": root}
    if raw is None:
        del scope["raw_path"]
    assert call(serve(), scope).body == ALPHABET


def test_names_that_are_no_utf_8(site, serve):
    """They are found by the raw path."""
    with open(os.fsencode(site) + b"/\xe4\xff", "wb") as file:
        file.write(b"odd")
    app = serve()
    assert ask(app, "/%e4%ff").body == b"odd"
    assert ask(app, "/static/%e4%ff", root="/static").body == b"odd"


def test_a_websocket_is_refused(serve):
    """Before it is accepted, which is 403."""
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    run("asyncio", serve(), {"type": "websocket", "path": "/"}, receive, send)
    assert sent == [{"type": "websocket.close"}]


def test_lifespan(serve):
    """It takes part, as an app by itself has to; at the end it lets go of its files."""
    app = serve()
    ask(app, "/file.txt")
    came, sent = iter(["lifespan.startup", "lifespan.shutdown"]), []

    async def receive():
        return {"type": next(came)}

    async def send(message):
        sent.append(message["type"])

    run("asyncio", app, {"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert not app._recent.clear()


def test_what_is_imported():
    """Nothing of a server for the app, and nothing of all this with the package."""
    script = (
        "import sys, spliceio, spliceio.asgi; first = set(sys.modules);"
        "from spliceio.asgi import StaticFiles;"
        "print(sorted({'anyio', 'uvicorn', 'spliceio.asgi._static', 'starlette'} & first),"
        "      sorted({'anyio', 'uvicorn', 'httptools', 'h11', 'starlette'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout == b"[] ['anyio']\n"


@pytest.mark.parametrize(
    ("name", "missing"),
    [("StaticFiles", "anyio"), ("UvicornProtocol", "uvicorn"), ("UvicornProtocol", "anyio")],
)
def test_what_is_missing_is_said(name, missing):
    """In one sentence, with what to install."""
    script = (
        f"import sys; sys.modules['{missing}'] = None\n"
        f"try: from spliceio.asgi import {name}\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    said = done.stdout.decode()
    assert said.startswith(f"spliceio.asgi.{name} needs ")
    assert said.endswith("anyio: pip install 'spliceio[asgi]'\n")


def test_names_that_are_not_there():
    """AttributeError, as of any module; and dir() has those that are."""
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = spliceio.asgi.Nothing
    assert {"StaticFiles", "UvicornProtocol"} <= set(dir(spliceio.asgi))
