"""Requests that can be read in two ways, with nginx as the referee.

Each row is sent to nginx, to a handler with `SendfileMixin` and to `spliceio serve`. In most a
request is hidden where one reader sees a body and another does not: what counts is how many
responses there are, and that the last one says when the connection is closed.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import subprocess
import sys
import textwrap
from typing import NamedTuple

import pytest

from spliceio._http import request as _request
from spliceio._http.request import BadHead, HeadReader
from tests.http.test_mixin import Handler, serving
from tests.support.programs import nginx
from tests.support.served import serving as serve_command
from tests.support.wires import MIB

FILE, HIDDEN = b"the file\n", b"the hidden file\n"
NEXT = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
N = b"%d" % len(NEXT)
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(NEXT), NEXT)
GET = b"GET /file HTTP/1.1\r\nHost: x\r\n"
OLD = b"GET /file HTTP/1.0\r\nConnection: "
HANG = 60


def get(fields: bytes, body: bytes = NEXT) -> bytes:
    """Ask for the file with more lines in the header, and send more after it."""
    return GET + fields + b"\r\n" + body


def host(field: bytes) -> bytes:
    """Ask for the file by HTTP/1.1 with these lines about the host alone, and once more."""
    return b"GET /file HTTP/1.1\r\n" + field + b"\r\n" + NEXT


def line(text: bytes) -> bytes:
    """Begin with this line, and ask once more."""
    return text + b"\r\nHost: x\r\n\r\n" + NEXT


class Row(NamedTuple):
    """What is sent, and the statuses of the responses: of all three, or where they differ."""

    sent: bytes
    mixin: str
    nginx: str = ""
    serve: str = ""
    why: str = ""


# Where nginx answers what we refuse, and the other way round.
NO_TOKEN = "a name that is no token is a field to some, the end of the header or nothing to others"
NO_VALUE = "RFC 9110, 5.5: control characters are invalid, and some readers end a line at them"
NO_HOST = "no host and port by RFC 3986: readers differ about which part is the host"
TAB = "RFC 9112, 5: a tab may stand around a value"
OPTIONS = "RFC 9110, 7.6.1: close closes, wherever it stands in the list, and as that word alone"
OURS = "http.server's own answer to what is clear"
UNREAD = "nobody reads the body, so the connection ends; nginx reads it and goes on to its end"

ROWS = {
    # -- in step -------------------------------------------------------------------------------
    "two requests": Row(get(b""), "200 200"),
    "line feeds": Row(b"GET /file HTTP/1.1\nHost: x\n\n" + NEXT, "200 200"),
    "empty lines before": Row(b"\r\n\r\n" + get(b""), "200 200"),
    "an empty value": Row(get(b"X:\r\n"), "200 200"),
    "a tab in a value": Row(get(b"X: a\tb\r\n"), "200 200"),
    "eight bits in a value": Row(get(b"X: \xff\xe4\x85\xa0\r\n"), "200 200"),
    "From: is a field": Row(host(b"From: me\r\nHost: x\r\n"), "200 200"),
    "an underscore": Row(get(b"Transfer_Encoding: chunked\r\n"), "200 200"),
    "an upgrade": Row(get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"), "200 200"),
    "ninety fields": Row(get(b"X: y\r\n" * 90), "200 200"),
    "an expectation": Row(get(b"Expect: x\r\n"), "200 200"),
    "HEAD": Row(GET.replace(b"GET", b"HEAD") + b"\r\n" + NEXT, "200 200"),
    # -- how long the body is ------------------------------------------------------------------
    "no body": Row(get(b"Content-Length: 0\r\n"), "200 200"),
    "no body in two digits": Row(get(b"Content-Length: 00\r\n"), "200 200"),
    "a body": Row(get(b"Content-Length: " + N + b"\r\n"), "200", why=UNREAD),
    "a body, and a zero": Row(get(b"Content-Length: 0" + N + b"\r\n"), "200", why=UNREAD),
    "a body, close by": Row(get(b"Content-Length:" + N + b"\r\n"), "200", why=UNREAD),
    "a body, tabs": Row(get(b"Content-Length:\t" + N + b"\t\r\n"), "200", nginx="400", why=TAB),
    "a body of HEAD": Row(
        GET.replace(b"GET", b"HEAD") + b"Content-Length: " + N + b"\r\n\r\n" + NEXT, "200"
    ),
    "a body of a 404": Row(
        GET.replace(b"file", b"none") + b"Content-Length: " + N + b"\r\n\r\n" + NEXT, "404"
    ),
    "a body of a 304": Row(get(b"If-None-Match: *\r\nContent-Length: " + N + b"\r\n"), "304"),
    "a body of a 416": Row(get(b"Range: bytes=99-\r\nContent-Length: " + N + b"\r\n"), "416"),
    "a body of a 501": Row(
        GET.replace(b"GET", b"BREW") + b"Content-Length: " + N + b"\r\n\r\n" + NEXT,
        "501", nginx="405", serve="501", why=OURS,
    ),
    "a body of a POST": Row(
        GET.replace(b"GET", b"POST") + b"Content-Length: " + N + b"\r\n\r\n" + NEXT,
        "501", nginx="405", serve="405", why=OURS,
    ),
    "chunks of a POST": Row(
        GET.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
        "501", nginx="405", serve="405", why=OURS,
    ),
    "a body that is waited for": Row(
        get(b"Content-Length: " + N + b"\r\nExpect: 100-continue\r\n"),
        "100 200", serve="200", why="`serve` says at once that it wants no body",
    ),
    "two lengths, equal": Row(get((b"Content-Length: " + N + b"\r\n") * 2), "400"),
    "two lengths, 0 first": Row(
        get(b"Content-Length: 0\r\nContent-Length: " + N + b"\r\n"), "400"
    ),
    "two lengths, 0 last": Row(get(b"Content-Length: " + N + b"\r\nContent-Length: 0\r\n"), "400"),
    "two lengths, both 0": Row(get(b"Content-Length: 0\r\n" * 2), "400"),
    "two lengths, other cases": Row(get(b"Content-Length: 0\r\ncontent-length: 5\r\n"), "400"),
    "a list of lengths": Row(get(b"Content-Length: " + N + b", " + N + b"\r\n"), "400"),
    "a length, blank before": Row(get(b"Content-Length : " + N + b"\r\n"), "400"),
    "a length, tab before": Row(get(b"Content-Length\t: " + N + b"\r\n"), "400"),
    "a length, continued": Row(get(b"Content-Length:\r\n " + N + b"\r\n"), "400"),
    "a length of letters": Row(get(b"Content-Length: abc\r\n"), "400"),
    "a length with +": Row(get(b"Content-Length: +" + N + b"\r\n"), "400"),
    "a length with -": Row(get(b"Content-Length: -1\r\n"), "400"),
    "a length in two": Row(get(b"Content-Length: 5 6\r\n"), "400"),
    "a length in hexadecimal": Row(get(b"Content-Length: 0x24\r\n"), "400"),
    "a length of Python": Row(get(b"Content-Length: 3_6\r\n"), "400"),
    "a length of superscripts": Row(get(b"Content-Length: \xb2\r\n"), "400"),
    "a length of nothing": Row(get(b"Content-Length:\r\n"), "400"),
    "a length without end": Row(get(b"Content-Length: " + b"9" * 23 + b"\r\n"), "400"),
    "a bad length that waits": Row(get(b"Content-Length: a\r\nExpect: 100-continue\r\n"), "400"),
    # -- how it is coded -----------------------------------------------------------------------
    "chunks": Row(get(b"Transfer-Encoding: chunked\r\n", CHUNKED), "200", why=UNREAD),
    "Chunks": Row(get(b"Transfer-Encoding: Chunked\r\n", CHUNKED), "200", why=UNREAD),
    "chunks after a line feed": Row(
        get(b"X: y\nTransfer-Encoding: chunked\r\n", CHUNKED), "200", why=UNREAD
    ),
    "identity": Row(get(b"Transfer-Encoding: identity\r\n"), "501"),
    "gzip": Row(get(b"Transfer-Encoding: gzip\r\n"), "501"),
    "nearly chunked": Row(get(b"Transfer-Encoding: xchunked\r\n", CHUNKED), "501"),
    "gzip, chunked": Row(get(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKED), "501"),
    "chunked, identity": Row(get(b"Transfer-Encoding: chunked, identity\r\n", CHUNKED), "501"),
    "chunked with a parameter": Row(get(b"Transfer-Encoding: chunked;x=y\r\n", CHUNKED), "501"),
    "chunked in quotes": Row(get(b'Transfer-Encoding: "chunked"\r\n', CHUNKED), "501"),
    "no coding": Row(get(b"Transfer-Encoding:\r\n", CHUNKED), "501"),
    "a vertical tab and chunked": Row(
        get(b"Transfer-Encoding: \x0bchunked\r\n", CHUNKED), "400", nginx="501", why=NO_VALUE
    ),
    "chunked and NUL": Row(get(b"Transfer-Encoding: chunked\0\r\n", CHUNKED), "400"),
    "chunked twice": Row(get(b"Transfer-Encoding: chunked\r\n" * 2, CHUNKED), "400"),
    "chunked, blank before": Row(get(b"Transfer-Encoding : chunked\r\n", CHUNKED), "400"),
    "chunked, continued": Row(get(b"Transfer-Encoding:\r\n chunked\r\n", CHUNKED), "400"),
    "chunked after a CR": Row(get(b"X: y\rTransfer-Encoding: chunked\r\n", CHUNKED), "400"),
    "chunked and a length": Row(
        get(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", CHUNKED), "400"
    ),
    "a length and chunked": Row(
        get(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", CHUNKED), "400"
    ),
    "chunked in HTTP/1.0": Row(
        b"GET /file HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNKED,
        "400",
    ),
    # -- lines that are no fields ----------------------------------------------------------------
    "no colon, a length": Row(
        get(b"nothing\r\nContent-Length: " + N + b"\r\n"), "400", nginx="200", why=NO_TOKEN
    ),
    "no colon, a range": Row(
        get(b"nothing\r\nRange: bytes=0-0\r\n"), "400", nginx="206 200", why=NO_TOKEN
    ),
    "no colon, an end": Row(
        get(b"nothing\r\nConnection: close\r\n"), "400", nginx="200", why=NO_TOKEN
    ),
    "no name": Row(get(b": y\r\nContent-Length: " + N + b"\r\n"), "400"),
    "a colon": Row(get(b":\r\n"), "400"),
    "a blank in a name": Row(get(b"X Y: y\r\nContent-Length: " + N + b"\r\n"), "400"),
    "a blank after a name": Row(get(b"X : y\r\n"), "400"),
    "From the mailbox": Row(
        host(b"From me\r\nHost: x\r\nContent-Length: " + N + b"\r\n"), "400"
    ),
    "a bracket in a name": Row(get(b"X(: y\r\n"), "400", nginx="200 200", why=NO_TOKEN),
    "eight bits in a name": Row(
        get(b"X\xe4: y\r\nContent-Length: " + N + b"\r\n"), "400", nginx="200", why=NO_TOKEN
    ),
    "a control character in a name": Row(get(b"X\x01: y\r\n"), "400"),
    "continued before it began": Row(host(b" X: y\r\nHost: x\r\n"), "400"),
    "continued": Row(get(b"X: y\r\n z\r\n"), "400"),
    "continued by a tab": Row(get(b"X: y\r\n\tz\r\n"), "400"),
    "continued by nothing": Row(get(b"X: y\r\n \r\n"), "400"),
    "a CR": Row(get(b"X: y\rz\r\n"), "400"),
    "a CR at the end": Row(get(b"X: y\r\r\n"), "400", nginx="200 200", why=NO_VALUE),
    "a CR before the end": Row(GET + b"X: y\r\n\r\r\n" + NEXT, "400"),
    "a CR for the end": Row(GET + b"X: y\r\n\r" + NEXT, "400"),
    "NUL": Row(get(b"X: a\0b\r\n"), "400"),
    "a control character": Row(get(b"X: a\x01b\r\n"), "400", nginx="200 200", why=NO_VALUE),
    "a vertical tab": Row(
        get(b"X: a\x0bContent-Length: 5\r\n"), "400", nginx="200 200", why=NO_VALUE
    ),
    "DEL": Row(get(b"X: a\x7fb\r\n"), "400", nginx="200 200", why=NO_VALUE),
    # -- for which host --------------------------------------------------------------------------
    "no host": Row(host(b""), "400"),
    "no host in HTTP/1.0": Row(b"GET /file HTTP/1.0\r\n\r\n", "200"),
    "two hosts": Row(host(b"Host: x\r\nHost: y\r\n"), "400"),
    "a host twice": Row(host(b"Host: x\r\nHost: x\r\n"), "400"),
    "two hosts in HTTP/1.0": Row(b"GET /file HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", "400"),
    "an empty host": Row(host(b"Host:\r\n"), "400"),
    "a host with a path": Row(host(b"Host: x/y\r\n"), "400"),
    "a host in two words": Row(host(b"Host: x y\r\n"), "400"),
    "hosts in a list": Row(host(b"Host: x, y\r\n"), "400"),
    "a host, blank before": Row(host(b"Host : x\r\n"), "400"),
    "a host's user": Row(host(b"Host: a@x\r\n"), "400", nginx="200 200", why=NO_HOST),
    "a host's quote": Row(host(b'Host: x"y\r\n'), "400", nginx="200 200", why=NO_HOST),
    "a host's backslash": Row(host(b"Host: x\\y\r\n"), "400", nginx="200 200", why=NO_HOST),
    "a port of letters": Row(host(b"Host: x:abc\r\n"), "400", nginx="200 200", why=NO_HOST),
    "two ports": Row(host(b"Host: x:1:2\r\n"), "400", nginx="200 200", why=NO_HOST),
    "a bracket left open": Row(host(b"Host: [::1\r\n"), "400", nginx="200 200", why=NO_HOST),
    "IPv6 without brackets": Row(host(b"Host: ::1\r\n"), "400"),
    "a port": Row(host(b"Host: x:80\r\n"), "200 200"),
    "a port of no digits": Row(host(b"Host: x:\r\n"), "200 200"),
    "IPv6": Row(host(b"Host: [::1]:80\r\n"), "200 200"),
    "IPv6 of a link": Row(host(b"Host: [fe80::1%25eth0]\r\n"), "200 200"),
    "a host with an underscore": Row(host(b"Host: my_host\r\n"), "200 200"),
    "a host in UTF-8": Row(host("Host: \u00e4.example\r\n".encode()), "200 200"),
    "a host with two dots": Row(
        host(b"Host: a..b\r\n"), "200 200", nginx="400", why="a registered name may have them"
    ),
    # -- whether it goes on ----------------------------------------------------------------------
    "close": Row(get(b"Connection: close\r\n"), "200"),
    "CLOSE and a blank": Row(get(b"Connection: CLOSE \r\n"), "200"),
    "TE, close": Row(get(b"Connection: TE, close\r\n"), "200"),
    "close,TE": Row(get(b"Connection: close,TE\r\n"), "200"),
    "close in the second": Row(get(b"Connection: TE\r\nConnection: close\r\n"), "200"),
    "keep-alive, then close": Row(get(b"Connection: keep-alive\r\nConnection: close\r\n"), "200"),
    "close, then keep-alive": Row(
        get(b"Connection: close\r\nConnection: keep-alive\r\n"), "200", nginx="200 200", why=OPTIONS
    ),
    "closed": Row(get(b"Connection: closed\r\n"), "200 200", nginx="200", why=OPTIONS),
    "1.0": Row(b"GET /file HTTP/1.0\r\n\r\n" + NEXT, "200"),
    "1.0 that stays": Row(OLD + b"keep-alive\r\n\r\n" + NEXT, "200 200"),
    "1.0 that Stays": Row(OLD + b"Keep-Alive\r\n\r\n" + NEXT, "200 200"),
    "1.0 and a list": Row(
        b"GET /file HTTP/1.0\r\nConnection: keep-alive, TE\r\n\r\n" + NEXT,
        "200", nginx="200 200", serve="200 200", why=OURS,
    ),
    # -- the request line ------------------------------------------------------------------------
    "0.9": Row(b"GET /file\r\n" + NEXT, "", serve="400", why="`serve` has no HTTP/0.9"),
    "0.9 that stays": Row(
        b"GET /file\r\nConnection: keep-alive\r\n\r\n" + NEXT, "", serve="400", why="the same"
    ),
    "0.9 by its name": Row(line(b"GET /file HTTP/0.9"), "400"),
    "1.9": Row(line(b"GET /file HTTP/1.9"), "200 200"),
    "1.10": Row(
        line(b"GET /file HTTP/1.10"), "400", nginx="200 200", why="RFC 9112, 2.3: one digit"
    ),
    "01.1": Row(line(b"GET /file HTTP/01.1"), "400"),
    "1.1x": Row(line(b"GET /file HTTP/1.1x"), "400"),
    "1": Row(line(b"GET /file HTTP/1"), "400"),
    "1.": Row(line(b"GET /file HTTP/1."), "400"),
    "+1.1": Row(line(b"GET /file HTTP/+1.1"), "400"),
    "http": Row(line(b"GET /file http/1.1"), "400"),
    "2.0": Row(line(b"GET /file HTTP/2.0"), "505"),
    "3.0": Row(line(b"GET /file HTTP/3.0"), "505"),
    "a preface of HTTP/2": Row(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", nginx="400", why=OURS),
    "TLS": Row(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
    "one word": Row(b"GARBAGE\r\n\r\n", "400"),
    "four words": Row(line(b"GET /fi le HTTP/1.1"), "400"),
    "blanks": Row(line(b"GET  /file  HTTP/1.1 "), "200 200"),
    "a blank before": Row(line(b" GET /file HTTP/1.1"), "400"),
    "tabs": Row(line(b"GET\t/file\tHTTP/1.1"), "400"),
    "a vertical tab for a blank": Row(line(b"GET /file\x0bHTTP/1.1"), "400"),
    "a CR in the line": Row(line(b"GET /file HTTP/1.1\rX: y"), "400"),
    "NUL in the line": Row(line(b"GET /fi\0le HTTP/1.1"), "400"),
    "a lower method": Row(line(b"get /file HTTP/1.1"), "501", nginx="400", why=OURS),
    "an absolute target": Row(
        line(b"GET http://x/file HTTP/1.1"), "404", nginx="200 200", serve="200 200", why=OURS
    ),
    "an asterisk": Row(line(b"GET * HTTP/1.1"), "404", nginx="400", serve="400", why=OURS),
    "an authority": Row(line(b"GET x:80 HTTP/1.1"), "404", nginx="400", serve="400", why=OURS),
    "no slash": Row(line(b"GET file HTTP/1.1"), "200 200", nginx="400", serve="400", why=OURS),
    "UTF-8, a no-break space in it": Row(
        line(b"GET /\xc3\xa0 HTTP/1.1"), "404", nginx="200 200", serve="200 200",
        why="http.server knows names in UTF-8 only with percent signs",
    ),
    # -- too much, and too little ----------------------------------------------------------------
    "two hundred fields": Row(get(b"X: y\r\n" * 200), "431", nginx="200 200", why=OURS),
    "a long field": Row(get(b"X: " + b"y" * 70_000 + b"\r\n"), "431", nginx="400", why=OURS),
    "a long line": Row(line(b"GET /" + b"y" * 70_000 + b" HTTP/1.1"), "414"),
    "a long line after an empty one": Row(
        b"\r\n" + line(b"GET /" + b"y" * 70_000 + b" HTTP/1.1"), "414"
    ),
    "a head that is cut": Row(GET, ""),
    "a head that is cut in a line": Row(GET + b"Content-Length: 5", ""),
    "a line that is cut": Row(b"GET /file HTTP/1.1", ""),
}  # fmt: skip


class Answer(NamedTuple):
    """All that came back."""

    statuses: str
    raw: bytes


def ask(address: tuple, sent: bytes) -> Answer:
    """Send everything, say that there is no more, and read to the end."""
    with socket.create_connection(address, timeout=HANG) as sock:
        with contextlib.suppress(ConnectionError):  # what is refused is not read to its end
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
        raw = b""
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(MIB):
                raw += data
    return Answer(" ".join(re.findall(r"HTTP/1\.1 (\d+) ", raw.decode("latin-1"))), raw)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with a file to ask for, and one that only a hidden request asks for."""
    root = tmp_path_factory.mktemp("requests") / "root"
    root.mkdir()
    for name, data in (("file", FILE), ("hidden", HIDDEN), ("\u00e0", FILE)):
        (root / name).write_bytes(data)
    return root


SCRIPT = """
    import functools, http.server, spliceio, sys
    class Handler(spliceio.SendfileMixin, http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
    made = functools.partial(Handler, directory=sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), made)
    print(server.server_port, flush=True)
    server.serve_forever()
"""


@pytest.fixture(scope="module")
def mixin(root):
    """The address of a handler with the mixin."""
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), root]
    with (
        (root.parent / "log").open("w+b") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            yield "127.0.0.1", int(process.stdout.readline())
        finally:
            process.kill()
        log.seek(0)
        assert b"Traceback" not in log.read()


@pytest.fixture(scope="module")
def command(root):
    """The address of `spliceio serve`."""
    with serve_command(root, "--quiet") as server:
        host, _, port = server.address.rpartition(":")
        yield host, int(port)


@pytest.fixture(scope="module")
def referee(root):
    """The address of nginx."""
    with nginx(root) as port:
        yield "127.0.0.1", port


@pytest.mark.parametrize("name", ROWS)
def test_nginx_reads_it_so(referee, name):
    """What the table says of nginx is so."""
    row = ROWS[name]
    assert ask(referee, row.sent).statuses == (row.nginx or row.mixin)
    assert row.why or not row.nginx


def check(answer: Answer, sent: bytes, expected: str) -> None:
    """See the statuses, that the end is announced, and that nothing hidden was answered."""
    assert answer.statuses == expected
    statuses = expected.replace("100 ", "").split()
    assert answer.raw.lower().count(b"\r\nconnection: close\r\n") == (len(statuses) == 1)
    assert (HIDDEN in answer.raw) == (len(statuses) == 2 and b" HEAD " not in sent)


@pytest.mark.parametrize("name", ROWS)
def test_the_mixin_reads_it_so(mixin, name):
    """As many responses as nginx gives, or fewer; the last one says that it is the last."""
    row = ROWS[name]
    check(ask(mixin, row.sent), row.sent, row.mixin)


@pytest.mark.parametrize("name", ROWS)
def test_serve_reads_it_so(command, name):
    """By the same rules."""
    row = ROWS[name]
    check(ask(command, row.sent), row.sent, row.serve or row.mixin)


def test_nothing_is_hidden_that_nginx_sees():
    """More responses than nginx gives are only where that is the stricter one."""
    more = {
        name
        for name, row in ROWS.items()
        if row.nginx and len(row.mixin.split()) > len(row.nginx.split())
    }
    assert more == {"closed", "a host with two dots", "no slash"}


def test_a_refusal_says_why(mixin, command):
    """In words of ours, so that the client's own bytes are not in the answer."""
    for sent, words in (
        (get(b"Content-Length: <b>\r\n"), b"The Content-Length is no number"),
        (get(b"<b>\r\n"), b"A header line has no colon"),
        (host(b""), b"There is no Host field"),
    ):
        for address in (mixin, command):
            answer = ask(address, sent)
            assert words in answer.raw
            assert b"<b>" not in answer.raw


def test_a_bad_request_after_a_good_one(mixin, command):
    """The first is answered, and nothing after the second."""
    sent = get(b"", b"") + get(b"nothing\r\n") + NEXT
    for address in (mixin, command):
        answer = ask(address, sent)
        assert answer.statuses == "200 400"
        assert HIDDEN not in answer.raw


def test_a_refusal_after_head_has_a_body(mixin):
    """What answers a request line that is none is not silent because the last request was HEAD."""
    head = get(b"", b"").replace(b"GET", b"HEAD")
    answer = ask(mixin, head + b"GARBAGE\r\n\r\n")
    assert answer.statuses == "200 400"
    assert b"The request line" in answer.raw


def test_a_client_that_still_sends_reads_its_answer(mixin):
    """A connection that is closed with something unread is reset, and the answer may be lost."""
    with socket.create_connection(mixin, timeout=HANG) as sock:
        sock.sendall(GET + b"Content-Length: 1000000\r\n\r\n")
        stream = sock.makefile("rb")
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        headers = http.client.parse_headers(stream)
        assert headers["Connection"] == "close"
        assert stream.read() == FILE
        sock.sendall(bytes(1_000_000))  # a connection that was reset refuses it
        sock.shutdown(socket.SHUT_WR)
        stream.close()


class Waiting(Handler):
    """A handler that decides what becomes of a body, and reads one."""

    seen: list
    rbufsize = 0

    def handle_expect_100(self):
        self.seen.append(type(self.rfile).__name__)
        return super().handle_expect_100()

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def test_a_handler_that_reads_bodies_keeps_its_connection(root):
    """`rfile` is the stream that it was, also while the request is read, buffered or not."""
    for size in (0, -1):
        made = type("Handler", (Waiting,), {"seen": [], "rbufsize": size})
        with serving(root, made) as site:
            post = GET.replace(b"GET", b"POST") + b"Content-Length: 2\r\n"
            answer = ask(site.address, post + b"\r\nhi" + post + b"Expect: 100-continue\r\n\r\nho")
            assert answer.statuses == "200 100 200"
            assert re.findall(rb"\r\n\r\n(h.)", answer.raw) == [b"hi", b"ho"]
            assert b"connection: close" not in answer.raw.lower()
        assert made.seen == ["BufferedReader" if size else "SocketIO"]


class Replacing(Handler):
    """A handler that has put something else in place of `rfile`."""

    def setup(self):
        super().setup()
        self.rfile = io.BufferedReader(self.rfile)


def test_an_rfile_of_ones_own(root):
    """Is read through as any other."""
    with serving(root, Replacing) as site:
        assert ask(site.address, get(b"")).statuses == "200 200"
        assert ask(site.address, get(b"Content-Length : 5\r\n")).statuses == "400"


# -- by themselves ---------------------------------------------------------------------------------


def test_a_reader_of_heads_judges_once():
    """Lines are handed on as they are; what comes after the head is the stream's again."""
    seen = []
    reader = HeadReader(io.BytesIO(b"A: b\r\n\r\nC: d\r\n\r\n"), seen.append)
    assert [reader.readline(65537) for _ in range(4)] == [
        b"A: b\r\n",
        b"\r\n",
        b"C: d\r\n",
        b"\r\n",
    ]
    assert seen == [[b"A: b\r\n"]]
    assert reader.readline() == b""
    assert reader.seekable()


def test_a_reader_of_heads_knows_a_cut_one():
    """An end of the stream is no end of a head."""
    reader = HeadReader(io.BytesIO(b"A: b\r\n"), pytest.fail)
    assert reader.readline() == b"A: b\r\n"
    with pytest.raises(_request.CutHead):
        reader.readline()


@pytest.mark.parametrize("number", range(256))
def test_every_byte_of_a_field(number):
    """In a name only the letters of a token, in a value no control character but the tab."""
    byte = bytes([number])
    token = byte.isalnum() or byte in b"!#$%&'*+-.^_`|~"
    for text, good in ((b"X%sX: y", token), (b"X: y%sy", number >= 32 != 127 or byte == b"\t")):
        lines = [b"Host: x\r\n", (text % byte) + b"\r\n"]
        good = good or (byte == b":" and text.startswith(b"X%s"))
        if good and number != 127:
            assert not _request.facts(lines, b"HTTP/1.1").has_body
        else:
            with pytest.raises(BadHead):
                _request.facts(lines, b"HTTP/1.1")
