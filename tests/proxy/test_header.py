"""The PROXY protocol: its header read and written, in memory and by a Proxy.

Rule 1: a header is exactly one, or it is refused; as long as it may become one, more is awaited.
Rule 2: what follows the header is the upstream's, every byte of it, and nothing of the header is.
Rule 3: who is not trusted says nothing about who it is: its bytes are bytes.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spliceio import Proxy
from spliceio._cffi import ffi, lib
from tests.support.proxies import ANY, LOG, At, events, heard, idle, of_listener, reset, skip
from tests.support.servers import Server, ask, read_all
from tests.support.states import Worker, until
from tests.support.wires import payload

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PEEK = 16 << 10
REFUSED = "it sent no PROXY protocol header, which its network has to"
MAPPED = bytes(10) + b"\xff\xff"
V4 = ("192.0.2.1", 56324), ("198.51.100.11", 443)
V6 = ("2001:db8::1", 1), ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 65535)
Peer = tuple[str, int]


def v1(client: Peer, server: Peer) -> bytes:
    """Write a header by the book."""
    family = "TCP6" if ":" in client[0] else "TCP4"
    return f"PROXY {family} {client[0]} {server[0]} {client[1]} {server[1]}\r\n".encode()


def v2(
    client: Peer | None = None, server: Peer | None = None, *, rest=b"", command=1, kind=None
) -> bytes:
    """Write a header by the book, with `rest` behind the addresses."""
    body = b""
    if client and server:
        kind = kind or (0x21 if ":" in client[0] else 0x11)
        body = b"".join(ipaddress.ip_address(ip).packed for ip, _ in (client, server))
        body += struct.pack("!HH", client[1], server[1])
    body += rest
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, kind or 0, len(body)) + body


def read(data: bytes) -> tuple[int, object, object]:
    """Let the C read a header: its answer, and both peers; None where it said nothing of one."""
    memory = ffi.new("unsigned char[]", list(data))
    peers = [ffi.new("struct sio_peer *") for _ in range(2)]
    for peer in peers:
        peer.family, peer.port, peer.ip = -7, 7, [7] * 16
    done = lib.sio_test_read_header(memory, len(data), *peers)
    return done, told(peers[0]), told(peers[1])


def told(peer) -> tuple[str, int] | None:
    if peer.family == -7:
        assert (peer.port, list(peer.ip)) == (7, [7] * 16)
        return None
    raw = bytes(ffi.buffer(peer.ip))
    if peer.family == socket.AF_INET:
        assert raw[:12] == MAPPED
        return socket.inet_ntop(socket.AF_INET, raw[12:]), peer.port
    assert peer.family == socket.AF_INET6
    return socket.inet_ntop(socket.AF_INET6, raw), peer.port


def peer_of(family: int, raw: bytes = bytes(16), port: int = 0):
    """Make a struct sio_peer."""
    peer = ffi.new("struct sio_peer *")
    peer.family, peer.ip, peer.port = family, list(raw), port
    return peer


def written(version: int, client, server) -> bytes:
    """Let the C write a header."""
    out = ffi.new("unsigned char[]", b"\xee" * 140)
    done = lib.sio_test_write_header(version, client, server, out)
    assert 0 < done <= 107
    assert bytes(ffi.buffer(out))[108:140] == b"\xee" * 32
    return bytes(ffi.buffer(out, done))


# -- reading ---------------------------------------------------------------------------------------

TLV = b"\x04\0\3abc" + b"\x01\0\x02h2"
NAMED = [
    (v1(*V4), *V4),
    (v1(("255.255.255.255", 65535), ("255.255.255.255", 65535)), *[("255.255.255.255", 65535)] * 2),
    (v1(("0.0.0.0", 0), ("0.0.0.0", 0)), *[("0.0.0.0", 0)] * 2),
    (v1(*V6), *V6),
    (v1(*V6).upper(), *V6),
    (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"0:" * 7 + b"0 65535 0\r\n",
        *(("ffff:" * 7 + "ffff", 65535), ("::", 0)),
    ),
    (v2(*V4), *V4),
    (v2(*V6), *V6),
    (v2(*V4, kind=0x12), *V4),
    (v2(*V6, kind=0x22), *V6),
    (v2(*V4, rest=TLV), *V4),
    (v2(*V6, rest=TLV), *V6),
    (v2(*V4, rest=bytes(65535 - 12)), *V4),
]
UNNAMED = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN \r\n",
    b"PROXY UNKNOWN " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
    b"PROXY UNKNOWN what ever \r is here\r\n",
    v2(),
    v2(rest=TLV),
    v2(command=0),
    v2(command=0, rest=TLV),
    v2(command=0, kind=0x11),
    v2(*V4, command=0),
    v2(*V6, command=0),
    v2(kind=0x31, rest=b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")),
    v2(kind=0x32, rest=bytes(216) + TLV),
]


@pytest.mark.parametrize(
    "rest", [b"", b"GET / HTTP/1.1\r\n\r\n", v1(*V4)], ids=["", "data", "header"]
)
@pytest.mark.parametrize(("data", "client", "server"), NAMED, ids=lambda x: repr(x)[:40])
def test_a_header_names_both(data, client, server, rest):
    """Its length is told, whatever follows it, and who it names."""
    assert read(data + rest) == (len(data), client, server)


@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n\r\n"], ids=["", "data"])
@pytest.mark.parametrize("data", UNNAMED, ids=lambda x: repr(x)[:40])
def test_a_header_names_nobody(data, rest):
    """It is taken, and both peers stay who they are."""
    assert read(data + rest) == (len(data), None, None)


@pytest.mark.parametrize("data", [row[0] for row in NAMED] + UNNAMED, ids=lambda x: repr(x)[:40])
def test_the_beginning_of_a_header(data):
    """Every prefix of every header is a reason to wait, and says nothing about anybody."""
    for length in range(0, len(data), 1 + len(data) // 400):
        assert read(data[:length]) == (0, None, None)
    assert read(data[:-1]) == (0, None, None)


WORST = b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n"
assert len(WORST) == 107
ADDRESSES = b"192.0.2.1 198.51.100.11"
MALFORMED = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"proxy TCP4 " + ADDRESSES + b" 1 2\r\n",
    b" PROXY TCP4 " + ADDRESSES + b" 1 2\r\n",
    b"PROXY\tTCP4 " + ADDRESSES + b" 1 2\r\n",
    b"PROXYTCP4 " + ADDRESSES + b" 1 2\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY  TCP4 " + ADDRESSES + b" 1 2\r\n",
    b"PROXY TCP4  " + ADDRESSES + b" 1 2\r\n",
    b"PROXY TCP4 " + ADDRESSES + b" 1 2 \r\n",
    b"PROXY TCP4 " + ADDRESSES + b" 1 2 3\r\n",
    b"PROXY TCP4 " + ADDRESSES + b" 1\r\n",
    b"PROXY TCP4 " + ADDRESSES + b"\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 " + ADDRESSES + b" 1 2\n",
    b"PROXY TCP4 " + ADDRESSES + b" 1 2\r\r\n",
    b"PROXY TCP4 " + ADDRESSES + b" 1 \r2\r\n",
    b"PROXY TCP4 " + ADDRESSES + b" 1\0 2\r\n",
    b"PROXY UNKNOWN \0\r\n",
    b"PROXY UNKNOWN\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY unknown\r\n",
    b"PROXY TCP " + ADDRESSES + b" 1 2\r\n",
    b"PROXY UDP4 " + ADDRESSES + b" 1 2\r\n",
    b"PROXY TCP6 " + ADDRESSES + b" 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 ::1 192.0.2.1 1 2\r\n",
    b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n",
    b"PROXY TCP6 ::1:: ::1 1 2\r\n",
    b"PROXY TCP4 256.0.2.1 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 192.0.2 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 192.0.02.1 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 localhost 192.0.2.1 1 2\r\n",
    *(
        b"PROXY TCP4 " + ADDRESSES + b" " + ports + b"\r\n"
        for ports in (
            *(
                b"65536 2",
                b"1 65536",
                b"-1 2",
                b"+1 2",
                b"1 0x2",
                b"1e1 2",
                b"1 99999999999999999999",
            ),
            *(b"080 2", b"1 00", b" 2", b"1 ", b"one 2"),
        )
    ),
    WORST[:-2] + b"xx",
    WORST[:-2] + b"x\r\n",
    b"PROXY " + b"x" * 101,
    *(SIGNATURE[:n] + b"x" + SIGNATURE[n + 1 :] + b"\x21\x11\0\0" for n in range(1, 12)),
    *(v2(*V4)[:12] + bytes([first]) + v2(*V4)[13:] for first in (0x01, 0x11, 0x31, 0xF1)),
    *(v2(*V4, command=command) for command in range(2, 16)),
    *(v2(*V4, kind=family << 4 | 1) for family in range(4, 16)),
    *(v2(*V4, kind=0x10 | transport) for transport in range(3, 16)),
    *(v2(*V6, kind=0x20 | transport) for transport in (3, 15)),
    v2(kind=0x11),
    v2(kind=0x11, rest=bytes(11)),
    v2(kind=0x12, rest=bytes(11)),
    v2(kind=0x21, rest=bytes(35)),
    v2(kind=0x22, rest=bytes(12)),
    v2(kind=0x31, rest=bytes(215)),
    v2(kind=0x32, rest=bytes(36)),
]


@pytest.mark.parametrize("data", MALFORMED, ids=lambda x: repr(x)[:70])
def test_what_is_no_header(data):
    """It is refused, however it goes on, and names nobody; before it was wrong it was awaited."""
    assert read(data) == (-errno.EPROTO, None, None)
    assert read(data + b"\r\n" + v1(*V4)) == (-errno.EPROTO, None, None)
    answers = [read(data[:length])[0] for length in range(len(data) + 1)]
    first = answers.index(-errno.EPROTO)
    assert answers == [0] * first + [-errno.EPROTO] * (len(answers) - first)


@pytest.mark.parametrize("data", [v2(*V4, kind=0x10), v2(*V6, kind=0x20), v2(kind=0x01, rest=TLV)])
def test_addresses_of_an_unspecified_protocol(data):
    """They are not believed: the header is refused, or taken as one that names nobody."""
    done, client, server = read(data)
    assert done in (-errno.EPROTO, len(data))
    assert (client, server) == (None, None)


beginnings = st.sampled_from(
    [b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::1 ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c"]
)
words = st.lists(
    st.sampled_from(
        [b" ", b"\r\n", b"\n", b"TCP4", b"TCP6", b"UNKNOWN", b"::1", b"1.2.3.4", b"80"]
    ),
    max_size=12,
).map(b"".join)


@given(beginnings, st.binary(max_size=300) | words)
def test_no_bytes_make_it_stumble(beginning, rest):
    """Whatever comes: more is awaited, then it is decided once and for all."""
    data = beginning + rest
    answers = [read(data[:length])[0] for length in range(len(data) + 1)]
    decided = [answer for answer in answers if answer]
    assert answers == [0] * (len(answers) - len(decided)) + decided
    assert len(set(decided)) <= 1
    for answer in decided[:1]:
        assert answer in (-errno.EPROTO, len(answers) - len(decided))


# -- writing ---------------------------------------------------------------------------------------

ports = st.integers(0, 65535)
v4_peers = st.builds(
    lambda raw, n: (socket.AF_INET, MAPPED + raw, n), st.binary(min_size=4, max_size=4), ports
)
v6_peers = st.builds(
    lambda raw, n: (socket.AF_INET6, raw, n), st.binary(min_size=16, max_size=16), ports
)


@given(st.sampled_from([1, 2]), *[st.tuples(v4_peers, v4_peers) | st.tuples(v6_peers, v6_peers)])
def test_what_is_written_is_read(version, peers):
    """Both peers come out as they went in."""
    data = written(version, *(peer_of(*peer) for peer in peers))
    v4 = peers[0][0] == socket.AF_INET
    expected = [
        (socket.inet_ntop(family, raw[12:] if v4 else raw), port) for family, raw, port in peers
    ]
    assert read(data + b"rest") == (len(data), *expected)
    assert len(data) <= (56 if v4 else 104) if version == 1 else len(data) == (28 if v4 else 52)


@given(st.sampled_from([1, 2]), v4_peers, v6_peers)
def test_a_client_of_another_family_than_the_server(version, four, six):
    """IPv4 is named as a part of IPv6."""
    data = written(version, peer_of(*four), peer_of(*six))
    done, client, server = read(data)
    assert done == len(data)
    assert client == (socket.inet_ntop(socket.AF_INET6, four[1]), four[2])
    assert server == (socket.inet_ntop(socket.AF_INET6, six[1]), six[2])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("families", [(1, 1), (1, 2), (2, 1), (0, 0), (2, 0), (10, 0)])
def test_a_client_without_an_address(version, families):
    """A header all the same, that names nobody."""
    data = written(version, *map(peer_of, families))
    assert data == {1: b"PROXY UNKNOWN\r\n", 2: SIGNATURE + b"\x21\0\0\0"}[version]
    assert read(data) == (len(data), None, None)


# -- a proxy that sends it -------------------------------------------------------------------------


class Heard(Server):
    """A server that keeps what each connection sent, whole, and answers with "ok"."""

    def __init__(self, **options) -> None:
        self.heard: list[bytes] = []

        def serve(sock):
            self.heard.append(read_all(sock))
            sock.sendall(b"ok")

        super().__init__(serve, **options)


def peer(name) -> Peer:
    """Return host and port; IPv4 as such."""
    ip = ipaddress.ip_address(name[0])
    return str(getattr(ip, "ipv4_mapped", None) or ip), name[1]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("to", ["tcp", "unix"])
@pytest.mark.parametrize("listen", [ANY, "[::1]:0", ":0", "unix"])
def test_header_out(listen, to, version, tmp_path):
    """The upstream reads exactly one header, then every byte of the client; bytes are counted."""
    data = payload(100_000)
    listen = f"unix:{tmp_path}/in" if listen == "unix" else listen
    with (
        Heard(path=str(tmp_path / "out") if to == "unix" else "") as server,
        Proxy(listen, server.address, proxy_protocol=version) as proxy,
        At(proxy).connect() as sock,
    ):
        if sock.family == socket.AF_UNIX:
            header = {1: b"PROXY UNKNOWN\r\n", 2: SIGNATURE + b"\x21\0\0\0"}[version]
        else:
            ends = peer(sock.getsockname()), peer(sock.getpeername())
            header = (v1 if version == 1 else v2)(*ends)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"ok"
        assert server.heard == [header + data]
        assert idle(proxy).a_to_b == len(data)


@pytest.mark.parametrize("version", [1, 2])
def test_header_out_before_the_client_says_anything(version):
    """A server that speaks first learns at once whom it speaks to."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(ANY, of_listener(listener), proxy_protocol=version) as proxy,
        At(proxy).connect() as sock,
        listener.accept()[0] as server,
    ):
        header = (v1 if version == 1 else v2)(sock.getsockname(), sock.getpeername())
        assert server.recv(1000) == header
        server.sendall(b"220 ready")
        assert sock.recv(100) == b"220 ready"


# -- a proxy that expects it -----------------------------------------------------------------------


@pytest.fixture
def log(caplog):
    """Log everything; return what gives the records of some events."""
    caplog.set_level(logging.INFO, LOG)
    return lambda *wanted: events(caplog, *wanted)


class Asked:
    """A route that sends everybody to one place, and remembers what it was asked."""

    def __init__(self, to: str) -> None:
        self.to, self.asked = to, []

    def __call__(self, client, first):
        self.asked.append((client, first))
        return self.to


LOOPBACK = ["127.0.0.0/8", "::1"]
CLIENTS = {
    "v1 four": (v1(*V4), V4[0]),
    "v1 six": (v1(*V6), V6[0]),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v2 four": (v2(*V4), V4[0]),
    "v2 six": (v2(*V6), V6[0]),
    "v2 local": (v2(*V4, command=0), None),
    "v2 tlv": (v2(*V4, rest=TLV), V4[0]),
    "v2 unix": (v2(kind=0x31, rest=bytes(216)), None),
    "v2 longest": (v2(*V4, rest=bytes(PEEK - 28)), V4[0]),
}


@pytest.mark.parametrize("routed", [False, True], ids=["static", "route"])
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
@pytest.mark.parametrize("which", CLIENTS)
def test_header_in(which, pieces, routed, log):
    """The header is taken out, route and log name its client, and what follows arrives whole."""
    header, client = CLIENTS[which]
    data = payload(50_000)
    with Heard() as server:
        route = Asked(server.address)
        to = {"route": route} if routed else {"upstream": server.address}
        with Proxy(ANY, trust_proxy_protocol=LOOPBACK, **to) as proxy, At(proxy).connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if pieces == "bytes":
                for number in range(len(header[:200])):
                    sock.sendall(header[number : number + 1])
                sock.sendall(header[200:] + data)
            else:
                sock.sendall(header + data)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"ok"
            assert server.heard == [data]
            assert idle(proxy).a_to_b == len(data)
            until(lambda: log())
            expected = client or sock.getsockname()
            host = f"[{expected[0]}]" if ":" in expected[0] else expected[0]
            assert [record.client for record in log()] == [f"{host}:{expected[1]}"]
            if routed:
                ((asked, first),) = route.asked
                assert asked == expected
                assert data.startswith(first)


def test_only_one_header_is_taken():
    """A second one is the upstream's, like everything else."""
    data = v1(*V4) + v2(*V6) + b"rest"
    with Heard() as server, Proxy(ANY, server.address, trust_proxy_protocol=LOOPBACK) as proxy:
        assert ask(At(proxy), v2(*V4) + data) == b"ok"
        assert server.heard == [data]
        idle(proxy)


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("second", [1, 2])
def test_a_chain_names_the_first_client(first, second, log):
    """Through two proxies: the server learns who came to the first one, and where to."""
    with (
        Heard() as server,
        Proxy(
            ANY, server.address, proxy_protocol=second, trust_proxy_protocol=["127.0.0.1"]
        ) as inner,
        Proxy("[::1]:0", inner.address, proxy_protocol=first) as outer,
        At(outer).connect() as sock,
    ):
        header = (v1 if second == 1 else v2)(sock.getsockname()[:2], sock.getpeername()[:2])
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"ok"
        assert server.heard == [header + b"hello"]
        assert (idle(inner).a_to_b, idle(outer).a_to_b) == (5, 5)
        until(lambda: len(log()) == 2)
        assert {record.client for record in log()} == {f"[::1]:{sock.getsockname()[1]}"}


@pytest.mark.parametrize(
    ("networks", "source", "trusted"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["127.0.0.2/31"], "127.0.0.3", True),
        (["127.0.0.2/31"], "127.0.0.1", False),
        (["126.0.0.0/7"], "127.0.0.1", True),
        (["128.0.0.0/1"], "127.0.0.1", False),
        (["0.0.0.0/0"], "127.0.0.1", True),
        (["0.0.0.0/0"], "::1", False),
        (["10.0.0.0/8", "::1", "127.0.0.0/8"], "127.0.0.9", True),
        (["::1"], "::1", True),
        (["::/127"], "::1", True),
        (["::2/127"], "::1", False),
        (["8000::/1"], "::1", False),
        (["::/0"], "::1", True),
        (["unix"], "127.0.0.1", False),
        (["unix"], "unix", True),
        (["127.0.0.1", "::1"], "unix", False),
        ([], "127.0.0.1", False),
    ],
    ids=str,
)
def test_who_is_trusted(networks, source, trusted, tmp_path):
    """The header of the others goes through as bytes, and says nothing about who they are."""
    header = v1(*V4)
    listen = f"unix:{tmp_path}/s" if source == "unix" else ":0"
    with Heard() as server:
        route = Asked(server.address)
        with Proxy(listen, route=route, trust_proxy_protocol=networks) as proxy:
            if source == "unix":
                sock = At(proxy).connect()
            else:
                port = int(proxy.address.rpartition(":")[2])
                sock = socket.create_connection((source, port), source_address=(source, 0))
            with sock:
                real = "unix" if source == "unix" else sock.getsockname()[:2]
                sock.sendall(header + b"data")
                sock.shutdown(socket.SHUT_WR)
                assert read_all(sock) == b"ok"
            assert server.heard == [b"data" if trusted else header + b"data"]
            assert {client for client, _ in route.asked} == {V4[0] if trusted else real}
            idle(proxy)


WRONG = {
    "none": b"GET / HTTP/1.1\r\n\r\n",
    "malformed": b"PROXY TCP4 1 2 3 4\r\n",
    "too long": b"PROXY UNKNOWN " + b"x" * 100,
    "too long v2": v2(*V4, rest=bytes(PEEK)),
    "a byte too long": v2(*V4, rest=bytes(PEEK - 27)),
}


@pytest.mark.parametrize("which", WRONG)
def test_a_wrong_header(which, log):
    """The connection is closed and logged, no upstream hears of it, and the next is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = of_listener(listener)
        with Proxy(ANY, upstream, trust_proxy_protocol=LOOPBACK) as proxy:
            with At(proxy).connect() as sock:
                sock.sendall(WRONG[which])
                assert heard(sock)[0] == b""
                stats = idle(proxy)
                assert (stats.total, stats.a_to_b, stats.failed) == (1, 0, 0)
                until(lambda: log())
                (record,) = log()
                assert (record.event, record.reason) == ("failed", REFUSED)
                assert record.client == "{}:{}".format(*sock.getsockname())
            with At(proxy).connect() as sock:
                sock.sendall(v1(*V4) + b"right")
                with listener.accept()[0] as server:  # it is the first that came
                    assert server.recv(100) == b"right"
            idle(proxy)


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 ", v2(*V4)[:20]], ids=["0", "v1", "v2"])
@pytest.mark.parametrize("end", ["eof", "time", "reset", "shutdown"])
def test_a_header_that_does_not_come(end, sent, log):
    """At the client's end, after peek_timeout, and at the end of the proxy it is over."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(
            ANY, of_listener(listener), trust_proxy_protocol=LOOPBACK, peek_timeout=3600
        ) as proxy,
    ):
        sock = At(proxy).connect()
        with sock:
            sock.sendall(sent)
            until(lambda: proxy.stats().active == 1)
            if end == "reset":
                reset(sock)
            elif end == "eof":
                sock.shutdown(socket.SHUT_WR)
            elif end == "time":
                skip(proxy, 3600)
            else:
                proxy.shutdown()
            if end != "reset":
                assert heard(sock)[0] == b""
        assert (idle(proxy).total, proxy.stats().failed) == (1, 0)
        until(lambda: log())
        (record,) = log()
        if end in ("eof", "time"):
            assert (record.event, record.reason) == ("failed", REFUSED)
        elif end == "reset":
            assert (record.event, record.reason) == ("failed", "Connection reset by peer")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_slow_header_delays_nobody_else():
    """One client's header takes its time, ten others are served meanwhile."""
    with Heard() as server, Proxy(ANY, server.address, trust_proxy_protocol=LOOPBACK) as proxy:
        with At(proxy).connect() as slow:
            slow.sendall(v1(*V4)[:20])
            crowd = [Worker(lambda: ask(At(proxy), v2(*V6) + b"quick")) for _ in range(10)]
            assert [worker.result() for worker in crowd] == [b"ok"] * 10
            slow.sendall(v1(*V4)[20:] + b"slow")
            slow.shutdown(socket.SHUT_WR)
            assert read_all(slow) == b"ok"
        assert server.heard == [b"quick"] * 10 + [b"slow"]
        idle(proxy)
