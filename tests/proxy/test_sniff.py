"""http_host and tls_server_name: whom the first bytes of a client ask for.

Rule 1: no bytes make them raise, or take more than one pass.
Rule 2: the beginning of a message is MORE until something else can be said; that is final.
"""

from __future__ import annotations

import socketserver
import ssl
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import spliceio
from spliceio import MORE, Proxy, http_host, peek, tls_server_name
from spliceio._proxy import router as _route
from spliceio._proxy import sniff as _sniff
from tests.support.programs import need
from tests.support.states import Worker, until
from tests.support.tls_hello import hello_of, made_hello, name_extension, records, vector

HANG = 50
HELLO = hello_of("a.example")


def request(*lines: str, start: str = "GET / HTTP/1.1") -> bytes:
    return "\r\n".join([start, *lines, "", ""]).encode("latin-1")


def is_final(sniff, message: bytes) -> bool:
    """Say whether every beginning is MORE up to one, and what the whole is from there on."""
    answers = [sniff(message[:length]) for length in range(len(message) + 1)]
    told = next((at for at, answer in enumerate(answers) if answer is not MORE), len(answers))
    return set(answers[told:]) <= {answers[-1]}


def test_more_is_one_thing():
    """The proxy's, the route's and this one."""
    assert MORE is Proxy.MORE is _route.More.MORE is _sniff.More.MORE is spliceio.MORE
    assert repr(MORE) == "Proxy.MORE"


@pytest.mark.parametrize("sniff", [http_host, tls_server_name])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_nothing_is_more(sniff, kind):
    """No bytes have come yet."""
    assert sniff(kind()) is MORE


# -- HTTP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "host"),
    [
        (request("Host: a.example"), "a.example"),
        (request("Host: a.example") + b"body\r\n\r\nHost: b.example", "a.example"),
        (request("hOST:A.Example:8080", "X: y"), "a.example"),
        (request("X: y", "Host: \t a.example \t"), "a.example"),
        (request("Host: a.example:"), "a.example"),
        (request("Host: a.example."), "a.example."),
        (request("Host: 127.0.0.1:80"), "127.0.0.1"),
        (request("Host: [::1]:80"), "[::1]"),
        (request("Host: [::A]"), "[::a]"),
        (request("Host:"), ""),
        (request(start="GET / HTTP/1.0"), ""),
        (request("X: y", start="GET / HTTP/1.0"), ""),
        (request("Host: a", start="GET / HTTP/1.0"), "a"),
        (request("Host: a", start="OPTIONS * HTTP/1.1"), "a"),
        (request("Host: a", start="GET http://A:80/x?y HTTP/1.1"), "a"),
        (request("Host: a", start="GET http://a?y HTTP/1.1"), "a"),
        (request("Host: a:443", start="CONNECT a:443 HTTP/1.1"), "a"),
        (request("Host: a", start="GET /\xe4 HTTP/1.1"), "a"),
        (request("Host: a", "X: \xe4\t,"), "a"),
        (request("Host: a", "X:"), "a"),
        # Servers refuse these, or do not agree.
        (request(), None),
        (request("X-Host: a"), None),
        (request("Host: a", "Host: a"), None),
        (request("Host: a", "host: b", start="GET / HTTP/1.0"), None),
        (request("Host: a b"), None),
        (request("Host: a/b"), None),
        (request("Host: u@a"), None),
        (request("Host: a:80:80"), None),
        (request("Host: a:x"), None),
        (request("Host: [::1"), None),
        (request("Host: \xe4"), None),
        (request("Host : a"), None),
        (request(" Host: a"), None),
        (request("Host: a", " b"), None),
        (request("X: y", "\tHost: b", "Host: a"), None),
        (request("Host: a", "no header"), None),
        (request("Host: a", ": y"), None),
        (request("Host: a", "X: y\0"), None),
        (request("Host: a", "X: y\nHost: b"), None),
        (request("Host: a", "X: y\rHost: b"), None),
        (request("Host: a\r"), None),
        (request("Host: a", start="GET http://b/ HTTP/1.1"), None),
        (request("Host: b", start="GET http://b@a/ HTTP/1.1"), None),
        (request("Host: a", start="GET a HTTP/1.1"), None),
        (request("Host:", start="GET a HTTP/1.1"), None),
        (request("Host: a", start="CONNECT b:443 HTTP/1.1"), None),
        # And these are no HTTP/1.
        (request("Host: a", start="GET /"), None),
        (request("Host: a", start="GET  / HTTP/1.1"), None),
        (request("Host: a", start="GET / HTTP/1.1 "), None),
        (request("Host: a", start="GET / HTTP/2.0"), None),
        (request("Host: a", start="get / HTTP/1.1"), None),
        (request("Host: a", start="M-SEARCH * HTTP/1.1"), None),
        (b"\r\n" + request("Host: a"), None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        (b"GET / HTTP/1.1\nHost: a\n\n", None),
        (b"A" * 21, None),
        (HELLO, None),
        (b"SSH-2.0-x\r\n", None),
        # Here it cannot be told yet.
        (b"G", MORE),
        (b"GET", MORE),
        (b"GET /" + b"x" * 50000, MORE),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", MORE),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r", MORE),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000, MORE),
    ],
)
def test_hosts(head, host):
    """One host that all servers see, or none; and nothing is taken back."""
    assert http_host(head) == host
    assert http_host(bytearray(head)) == host
    assert is_final(http_host, head[:2000])


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (request("Host: a"), len(request("Host: a"))),
        (request("Host : a"), len("GET / HTTP/1.1\r\nHost : a\r\n")),
        (b"GET / HTTP/1.1\nHost: a\n\n", len("GET / HTTP/1.1\n")),
        (b"get /", 1),
        (b"SSH-2.0", 4),
    ],
)
def test_an_answer_comes_as_soon_as_it_can(head, told):
    """What will not be a request is not waited for; what may be one is."""
    assert http_host(head[: told - 1]) is MORE
    assert http_host(head[:told]) is not MORE


TOKENS = st.sampled_from(
    ["GET", " ", "/", "HTTP/1.1", "HTTP/1.0", "\r\n", "\r\n\r\n", "\r", "\n", "Host", ":", ": ",
     "a", "http://", "[", "]", "X", "\t", "\0", "\xe4", "CONNECT", "@", "80"]
).map(lambda text: text.encode("latin-1"))  # fmt: skip


@given(st.lists(TOKENS, max_size=25).map(b"".join), st.booleans())
def test_no_text_makes_http_host_raise(noise, begun):
    """Any text has an answer, which is final."""
    message = (b"GET / HTTP/1.1\r\nHost: a\r\n" if begun else b"") + noise
    assert is_final(http_host, message)


@given(st.binary(max_size=100))
def test_no_bytes_make_either_raise(noise):
    """The same for any bytes."""
    assert is_final(http_host, noise)
    assert is_final(tls_server_name, noise)


# -- TLS -------------------------------------------------------------------------------------------


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(content, 2)


NAMED = name_extension((0, b"a.example"))


@pytest.mark.parametrize(
    ("hello", "name"),
    [
        (HELLO, "a.example"),
        (HELLO + b"\x17\x03\x03\xff\xff early", "a.example"),
        (records(HELLO[5:], 1), "a.example"),
        (records(HELLO[5:], 5), "a.example"),
        (hello_of("A.EXAMPLE"), "a.example"),
        (made_hello(extension(0x1234, b"x") + NAMED), "a.example"),
        (made_hello(name_extension((7, b"?"), (0, b"a.example"))), "a.example"),
        (made_hello(name_extension((0, b"x" * 255))), "x" * 255),
        (hello_of(None), ""),
        (made_hello(None), ""),
        (made_hello(b""), ""),
        (made_hello(name_extension()), ""),
        (made_hello(name_extension((7, b"a.example"))), ""),
        # Servers refuse these.
        (made_hello(NAMED + NAMED), None),
        (made_hello(name_extension((0, b"a"), (0, b"b"))), None),
        (made_hello(name_extension((0, b""))), None),
        (made_hello(name_extension((0, b"x" * 256))), None),
        (made_hello(name_extension((0, b"a\0b"))), None),
        (made_hello(name_extension((0, b"a b"))), None),
        (made_hello(name_extension((0, b"\xe4"))), None),
        (made_hello(extension(0, b"")), None),
        (made_hello(extension(0, NAMED[4:] + b"x")), None),
        (made_hello(b"\0\0\0\5\0\xff\0\0\1"), None),
        (made_hello(b"\0\0\xff\xff"), None),
        (made_hello(b"\0"), None),
        (records(b"\1" + vector(made_hello(NAMED)[9:] + b"x", 3), 16384), None),
        (records(b"\1\0\0\0", 100), None),
        (records(b"\1\0\0\1x", 100), None),
        # And these are none.
        (b"\x16\x03\x01\0\0" + HELLO, None),
        (b"\x16\x03\x01\x40\x01", None),
        (b"\x16\x03\x01\0\x05\1\2\1\x41\0", None),
        (b"\x16\x03\x01\0\x04\1\xff\xff\xff", None),
        (b"\x16\x03\x01\0\x80\2", None),
        (b"\x16\x02", None),
        (b"\x15\x03\x01\0\2\1\0", None),
        (b"\x80\x2e\1\3\1", None),
        (request("Host: a"), None),
        (b"\x16", MORE),
        (b"\x16\x03\x01", MORE),
        (b"\x16\x03\x01\x40\x00\1\0\xff\xff", MORE),
        (HELLO[:-1], MORE),
    ],
)
def test_names(hello, name):
    """One name that servers accept, or none; and nothing is taken back."""
    assert tls_server_name(hello) == name
    assert tls_server_name(bytearray(hello)) == name
    assert is_final(tls_server_name, hello)


@given(
    st.from_regex(rb"[a-z0-9.\-]{1,40}", fullmatch=True),
    st.integers(1, 200),
    st.lists(st.tuples(st.integers(1, 0xFFFF), st.binary(max_size=20)), max_size=4),
    st.integers(0, 4),
)
def test_a_hello_is_more_until_it_is_whole(name, size, others, place):
    """Whatever is around the name, and however it is spread over records."""
    extensions = [extension(kind, content) for kind, content in others]
    extensions.insert(place, name_extension((0, name)))
    hello = records(made_hello(b"".join(extensions))[5:], size)
    assert all(tls_server_name(hello[:length]) is MORE for length in range(len(hello)))
    assert tls_server_name(hello) == name.decode()


@given(st.binary(max_size=40), st.integers(0, len(HELLO)), st.integers(0, len(HELLO)))
def test_no_bytes_in_a_hello_make_it_raise(noise, begin, end):
    """Any bytes in the place of any stretch have an answer, which is final."""
    assert is_final(tls_server_name, HELLO[:begin] + noise + HELLO[end:])


def steps(sniff, message: bytes) -> int:
    """Return how many lines of _sniff.py and calls out of it one answer takes."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += 1
        return trace if frame.f_code.co_filename == _sniff.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        sniff(message)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    ("sniff", "begin", "part"),
    [
        (tls_server_name, b"", b"\x16\x03\x01\0\1\1"),
        (http_host, b"GET / HTTP/1.1\r\n", b"a:\r\n"),
        (http_host, b"GET / HTTP/1.1\r\n", b"Host:\r\n"),
    ],
)
def test_the_work_grows_with_the_bytes(sniff, begin, part):
    """Twice the hostile bytes are twice the steps."""
    once, twice = (steps(sniff, begin + part * count) for count in (1000, 2000))
    assert twice <= 2 * once + 10


# -- real clients ----------------------------------------------------------------------------------


class Peeking(socketserver.BaseRequestHandler):
    """Says what the first bytes ask for, before it reads them."""

    def handle(self):
        def told(first):
            return http_host(first) is not MORE and tls_server_name(first) is not MORE

        first = peek(self.request, until=told, timeout=HANG)
        self.server.asked.append((http_host(first), tls_server_name(first)))
        assert self.request.recv(len(first)) == first
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nseen")


@pytest.fixture
def peeking():
    """Run a server; gives what its clients ask for."""
    with socketserver.TCPServer(("127.0.0.1", 0), Peeking) as server:
        server.asked = []
        serving = Worker(lambda: server.serve_forever(0.01))
        yield server
        server.shutdown()
        serving.result()


def test_curl_and_openssl(peeking):
    """What the real programs send is understood."""
    port = str(peeking.server_address[1])
    for url in ("http://A.example/", "http://b.example:8080/x"):
        target = ["--connect-to", f"::127.0.0.1:{port}", url]
        done = subprocess.run(
            [need("curl"), "-sS", "--noproxy", "*", *target],
            capture_output=True, check=True, timeout=HANG,
        )  # fmt: skip
        assert done.stdout == b"seen"
    for more in (["-servername", "c.example"], ["-noservername"]):
        subprocess.run(
            [need("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *more],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=HANG,
        )  # fmt: skip
    until(lambda: len(peeking.asked) == 4)
    assert peeking.asked == [
        ("a.example", None),
        ("b.example", None),
        (None, "c.example"),
        (None, ""),
    ]


def test_the_versions_of_tls():
    """TLS 1.2 and 1.3 say it in the same place."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context, out = ssl.create_default_context(), ssl.MemoryBIO()
        context.minimum_version = context.maximum_version = version
        with pytest.raises(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.example").do_handshake()
        assert tls_server_name(out.read()) == "a.example"
