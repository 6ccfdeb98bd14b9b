"""The routers, the gate and the units of examples/, between real clients and servers.

Rule 1: a server gets every byte that its client has sent, those that were looked at included.
Rule 2: what has nowhere to go is closed, and costs the others nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import http.server
import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from spliceio import Proxy
from spliceio._cli import main as cli
from spliceio._cli import metrics as _metrics
from tests.support.commands import HANG, listening, unused_port
from tests.support.examples import EXAMPLES, example
from tests.support.programs import need
from tests.support.servers import Server, echo, read_all
from tests.support.states import Worker, until
from tests.support.tls_hello import hello_of, made_hello, name_extension, records
from tests.support.wires import MIB, payload

UNITS = EXAMPLES / "systemd"
NAMES = ("a.example", "b.example")
UPSTREAMS = {name: f"upstream of {name}" for name in NAMES}
CLIENT = ("192.0.2.1", 1)


def load(name: str):
    """Import an example as a module, without running it."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def is_refused(sock: socket.socket) -> bool:
    """Say whether nothing comes but the end, whichever way it is told."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("name", ["sni_proxy.py", "host_router.py", "async_proxy.py"])
def test_an_example_says_how_it_is_run(name):
    """Its docstring has the command, --help the arguments, and wrong ones are 2."""
    text = (EXAMPLES / name).read_text()
    assert f"python {name} 127.0.0.1:" in text.split('"""')[1]
    for args, code in ((["--help"], 0), ([], 2), (["127.0.0.1:0", "nowhere"], 2)):
        environment = {key: value for key, value in os.environ.items() if key != "TOKEN"}
        done = subprocess.run(
            [sys.executable, EXAMPLES / name, *args],
            capture_output=True, text=True, timeout=HANG, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == code
        assert "usage: " in done.stdout + done.stderr


# -- the server name -------------------------------------------------------------------------------


@pytest.fixture
def sni(monkeypatch):
    """Load the router, with an upstream for each name."""
    module = load("sni_proxy")
    monkeypatch.setattr(module, "UPSTREAMS", UPSTREAMS)
    return module


HELLO = hello_of("a.example")


@pytest.mark.parametrize("name", NAMES)
def test_a_hello_of_every_length_is_incomplete_until_it_is_not(sni, name):
    """MORE for each beginning; the upstream for the whole, also with more behind it."""
    hello = hello_of(name)
    for length in range(len(hello)):
        assert sni.route(CLIENT, hello[:length]) is Proxy.MORE
    assert sni.route(CLIENT, hello) == UPSTREAMS[name]
    assert sni.route(CLIENT, hello + b"\x17\x03\x03\xff\xff early") == UPSTREAMS[name]


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_a_hello_over_many_records(sni, size):
    """The same, however it is spread."""
    hello = records(HELLO[5:], size)
    assert sni.route(CLIENT, hello[:-1]) is Proxy.MORE
    assert sni.route(CLIENT, hello) == UPSTREAMS["a.example"]


@pytest.mark.parametrize(
    ("hello", "upstream"),
    [
        (hello_of("A.Example"), UPSTREAMS["a.example"]),
        (made_hello(name_extension((0, b"B.EXAMPLE"))), UPSTREAMS["b.example"]),
        (made_hello(name_extension((7, b"?"), (0, b"b.example"))), UPSTREAMS["b.example"]),
        (made_hello(b"\xaa\xaa\0\0" + name_extension((0, b"b.example"))), UPSTREAMS["b.example"]),
        (made_hello(name_extension((0, b"b.example")), bytes(32)), UPSTREAMS["b.example"]),
        (hello_of("c.example"), None),
        (hello_of(None), None),
        (made_hello(None), None),
        (made_hello(b""), None),
        (made_hello(name_extension()), None),
        (made_hello(name_extension((7, b"a.example"))), None),
        (made_hello(name_extension((0, b"a.ex\xe4mple"))), None),
        (made_hello(name_extension((0, b"a.example\0"))), None),
        (made_hello(b"\0\0\0\5\0\xff\0\0\1"), None),
        (made_hello(b"\0\0\xff\xff"), None),
        (made_hello(b"\0"), None),
        (records(b"\1\0\0\0", 100), None),
        (records(b"\2" + HELLO[6:], 100), None),
        (b"\x16\x03\x01\0\0" + HELLO, None),
        (b"\x15\x03\x01\0\2\1\0", None),
        (b"\x80\x2e\1\3\1", None),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", None),
        (b"\n", None),
    ],
)
def test_hellos(sni, hello, upstream):
    """A known name has an upstream; unknown ones, none and garbage do not, and none is awaited."""
    assert sni.route(CLIENT, hello) == upstream


@given(st.binary(max_size=300), st.integers(0, len(HELLO)), st.integers(0, len(HELLO)))
def test_no_bytes_make_it_raise(noise, begin, end):
    """Whatever is put in the place of a part of a hello, it has one of three answers."""
    module = load("sni_proxy")
    module.UPSTREAMS = UPSTREAMS
    mangled = HELLO[:begin] + noise + HELLO[end:]
    assert module.route(CLIENT, mangled) in (*UPSTREAMS.values(), None, Proxy.MORE)
    assert module.route(CLIENT, noise) in (None, Proxy.MORE)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Make a certificate for each name; returns the directory of NAME.pem and NAME.key."""
    directory = tmp_path_factory.mktemp("certificates")
    for name in NAMES:
        subprocess.run(
            [
                need("openssl"), "req", "-x509", "-newkey", "ec", "-days", "2", "-nodes",
                "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}",
                "-addext", f"subjectAltName=DNS:{name}",
                "-out", directory / f"{name}.pem", "-keyout", directory / f"{name}.key",
            ],
            capture_output=True, check=True, timeout=HANG,
        )  # fmt: skip
    return directory


@contextlib.contextmanager
def tls_server(certificates: Path, name: str):
    """Run a server that says its name, and sends back what comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")

    def serve(sock):
        # OSError: the client does not like the certificate, or has gone without a word.
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as stream:
            stream.sendall(name.encode())
            echo(stream)
            with contextlib.suppress(OSError):
                stream.unwrap().close()

    with Server(serve) as server:
        yield server.address


@contextlib.contextmanager
def sni_proxy(certificates: Path):
    """Run the example in front of a TLS server for each name."""
    with contextlib.ExitStack() as stack:
        pairs = [f"{name}={stack.enter_context(tls_server(certificates, name))}" for name in NAMES]
        yield stack.enter_context(example("sni_proxy.py", "127.0.0.1:0", *pairs))[0]


def trusting(certificates: Path, name: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates / f"{name}.pem")


def test_two_names_behind_one_port(certificates):
    """Each client sees the certificate of the server that it asked for, and 3 MiB go and come."""
    data = payload(3 * MIB)
    with sni_proxy(certificates) as port, contextlib.ExitStack() as stack:
        streams = {
            name: stack.enter_context(
                trusting(certificates, name).wrap_socket(connect(port), server_hostname=name)
            )
            for name in NAMES
        }
        for name, stream in streams.items():
            assert stream.recv(100) == name.encode()
            sending = Worker(lambda stream=stream: stream.sendall(data))
            got = bytearray()
            while len(got) < len(data):
                got += stream.recv(MIB)
            sending.result()
            assert got == data


def test_openssl_as_the_client(certificates):
    """s_client verifies the certificate through the router, and fails for the wrong name."""
    with sni_proxy(certificates) as port:
        for name in NAMES:
            for asked in NAMES:
                done = subprocess.run(
                    [
                        need("openssl"), "s_client", "-connect", f"127.0.0.1:{port}",
                        "-servername", asked, "-verify_hostname", name, "-verify_return_error",
                        "-CAfile", certificates / f"{name}.pem",
                    ],
                    input=b"Q\n", capture_output=True, timeout=HANG, check=False,
                )  # fmt: skip
                assert (done.returncode == 0) == (name == asked), done.stderr
                assert (b"Verify return code: 0 (ok)" in done.stdout) == (name == asked)


def test_a_hello_byte_by_byte(certificates):
    """A handshake whose client sends one byte at a time is routed all the same."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(certificates, "b.example").wrap_bio(
        incoming, outgoing, server_hostname="b.example"
    )
    with sni_proxy(certificates) as port, connect(port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                got = tls.read(100)
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    sock.sendall(bytes([byte]))
                incoming.write(sock.recv(MIB))
        assert got == b"b.example"


@pytest.mark.parametrize(
    "first",
    [hello_of("c.example"), hello_of(None), b"GET / HTTP/1.1\r\n\r\n", payload(5000), HELLO[:100]],
    ids=["unknown", "no name", "no TLS", "noise", "half"],
)
def test_refused_names(certificates, first):
    """The connection ends, and the one that came before goes on."""
    context = trusting(certificates, "a.example")
    with (
        sni_proxy(certificates) as port,
        connect(port) as sock,
        context.wrap_socket(connect(port), server_hostname="a.example") as stream,
    ):
        assert stream.recv(100) == b"a.example"
        with contextlib.suppress(OSError):  # it may be over before all is sent
            sock.sendall(first)
            sock.shutdown(socket.SHUT_WR)
        assert is_refused(sock)
        stream.sendall(b"still here")
        assert stream.recv(100) == b"still here"


def test_refused_by_tls_itself(certificates):
    """A client that asks for a name nobody has sees its connection closed, and no certificate."""
    with sni_proxy(certificates) as port, connect(port) as sock:
        context = trusting(certificates, "a.example")
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            context.wrap_socket(sock, server_hostname="c.example")


# -- the Host header -------------------------------------------------------------------------------


@pytest.fixture
def hosts(monkeypatch):
    """Load the router, with an upstream for each host."""
    module = load("host_router")
    monkeypatch.setattr(module, "UPSTREAMS", UPSTREAMS)
    return module


@pytest.mark.parametrize(
    ("head", "upstream"),
    [
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", UPSTREAMS["a.example"]),
        ("GET / HTTP/1.1\r\nhost:b.example\r\n\r\n", UPSTREAMS["b.example"]),
        ("GET / HTTP/1.1\r\nHOST: \t B.Example \t\r\n\r\n", UPSTREAMS["b.example"]),
        ("GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", UPSTREAMS["a.example"]),
        ("PUT /x HTTP/1.1\r\nX: y\r\nHost: a.example\r\n\r\nbody", UPSTREAMS["a.example"]),
        ("M-SEARCH * HTTP/1.1\r\nHost: a.example\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: c.example\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", None),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nX-Host: a.example\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nX: y\r\n Host: a.example\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nX: y\r\n\r\nHost: a.example\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a.example\xe4\r\n\r\n", None),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        ("", Proxy.MORE),
        ("G", Proxy.MORE),
        ("GET / HTTP/1.1\r\nHost: a.example\r\n", Proxy.MORE),
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\r", Proxy.MORE),
        ("get / HTTP/1.1\r\nHost: a.example\r\n", None),
        ("\x16\x03\x01", None),
        ("A" * 100, None),
    ],
)
def test_heads(hosts, head, upstream):
    """A known host has an upstream; more is awaited only of what may still become a request."""
    assert hosts.route(CLIENT, head.encode("latin-1")) == upstream


class Named(http.server.BaseHTTPRequestHandler):
    """Says which server it is, and what the request was."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer with the name, the host and the body."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = f"{self.server.name} {self.headers['Host']} ".encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_GET

    def log_message(self, *args):
        """Stay quiet."""


@contextlib.contextmanager
def http_server(name: str):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Named)
    server.name = name
    serving = Worker(server.serve_forever)
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        serving.result()
        server.server_close()


@contextlib.contextmanager
def host_router():
    """Run the example in front of an HTTP server for each host."""
    with contextlib.ExitStack() as stack:
        pairs = [f"{name}={stack.enter_context(http_server(name[0]))}" for name in NAMES]
        yield stack.enter_context(example("host_router.py", "127.0.0.1:0", *pairs))[0]


def curl(port: int, *args: str) -> subprocess.CompletedProcess:
    to = [
        word
        for name in (*NAMES, "c.example")
        for word in ("--connect-to", f"{name}:80:127.0.0.1:{port}")
    ]
    return subprocess.run(
        [need("curl"), "-sS", *to, *args], capture_output=True, timeout=HANG, check=False
    )


def test_curl_and_two_hosts():
    """Each host has its server; none, and one that nobody has, gets no answer."""
    with host_router() as port:
        assert curl(port, "http://a.example/").stdout == b"a a.example "
        assert curl(port, "http://b.example/").stdout == b"b b.example "
        both = curl(port, "http://a.example/", "http://b.example/")
        assert both.stdout == b"a a.example b b.example "
        for args in (["http://c.example/"], ["-H", "Host:", "http://a.example/"]):
            done = curl(port, *args)
            assert done.returncode in (52, 56), done.stderr  # an empty reply, or a reset
            assert done.stdout == b""


def test_a_connection_that_is_kept():
    """Requests with bodies, one after the other, on the same connection to the same server."""
    with (
        host_router() as port,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)) as client,
    ):
        for size in (0, 1, 20_000, MIB):
            body = payload(size)
            client.request("PUT", "/", body, {"Host": "b.example:80"})
            if not size:
                sock = client.sock
            assert client.getresponse().read() == b"b b.example:80 " + body
            assert client.sock is sock


def test_a_head_byte_by_byte():
    """It is awaited to its end, and the server gets it whole."""
    with host_router() as port, connect(port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n":
            sock.sendall(bytes([byte]))
        assert read_all(sock).endswith(b"\r\n\r\na a.example ")


def test_a_head_that_never_ends():
    """More than 16 KiB of head are not waited for."""
    with host_router() as port, connect(port) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)
        assert is_refused(sock)


# -- the gate --------------------------------------------------------------------------------------


@contextlib.contextmanager
def gate(upstream: str, *args: str):
    """Run the asyncio example; yields its port and the process."""
    with example("async_proxy.py", "127.0.0.1:0", upstream, *args, TOKEN="secret") as running:
        yield running


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_the_token_opens(ending):
    """What came with the line goes first, then 3 MiB each way, and the ends pass."""
    data = payload(3 * MIB)
    with (
        Server(echo) as server,
        gate(server.address, "-v") as (port, process),
        connect(port) as sock,
    ):
        sock.sendall(b"secret" + ending + data[:1000])  # in one segment
        sending = Worker(lambda: (sock.sendall(data[1000:]), sock.shutdown(socket.SHUT_WR)))
        assert read_all(sock) == b"welcome\n" + data
        sending.result()
        line = process.stderr.readline().decode()
        assert f"{3 * MIB} there, {3 * MIB} back, eof" in line


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"Secret\n", b"no\n"),
        (b"\n", b"no\n"),
        (b"secret2\n", b"no\n"),
        (b"", b"no\n"),
        (b"secret", b"welcome\n"),  # the end of the stream ends a line too
        (b"x" * 5000, b""),
        (b"\xff\0\n", b"no\n"),
    ],
)
def test_without_the_token(said, answer):
    """It is closed, and the server hears nothing of it."""
    with Server(echo) as server, gate(server.address) as (port, _):
        with connect(port) as sock:
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert read_all(sock) == answer
        with connect(port) as sock:  # the next one is let in
            sock.sendall(b"secret\n")
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"welcome\n"
        heard = 1 + (answer == b"welcome\n")
        until(lambda: len(server.workers) == heard)


def test_the_gate_without_a_server():
    """The client is closed, a line says why, and the gate goes on."""
    with gate(f"127.0.0.1:{unused_port()}") as (port, process):
        for _ in range(2):
            with connect(port) as sock:
                sock.sendall(b"secret\n")
                assert is_refused(sock)
            assert "ConnectionRefusedError" in process.stderr.readline().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_gate(number):
    """With connections open, which are closed: 0, a line for each, and no traceback."""
    with (
        Server(echo) as server,
        gate(server.address, "-v") as (port, process),
        connect(port) as sock,
    ):
        sock.sendall(b"secret\n")
        assert sock.recv(100) == b"welcome\n"
        sock.sendall(b"ping")
        assert sock.recv(100) == b"ping"
        process.send_signal(number)
        assert process.wait(HANG) == 0
        assert re.fullmatch(r"INFO:.* 4 there, 4 back, cancelled\n", process.stderr.read().decode())
        assert is_refused(sock)


# -- systemd ---------------------------------------------------------------------------------------


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Read a unit file: sections, keys, and the values of each in their order."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = found[match[1]] = {}
        elif line and line[0] not in "#;":
            key, equals, value = line.partition("=")
            assert equals, line
            section.setdefault(key, []).append(value)
    return found


SERVICE = unit("spliceio-proxy.service")["Service"]
COMMAND = shlex.split(SERVICE["ExecStart"][0])

# What systemd does: the sockets are passed from 3 on, then the command takes the process over.
STARTER = """\
import ctypes, os, resource, sys
count, upstream, *command = sys.argv[1:]
fds = [int(fd) for fd in count.split(",")]
for number, fd in enumerate(fds):
    os.dup2(fd, 3 + number, inheritable=True)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0  # NoNewPrivileges
if prctl(65, 1, 0, 0, 0):  # MemoryDenyWriteExecute, from Linux 6.3 on
    assert ctypes.get_errno() == 22
os.execvp(command[0], [upstream if word == "127.0.0.1:5432" else word for word in command])
"""


@contextlib.contextmanager
def service(listeners: list[socket.socket], upstream: str, command: list[str] = COMMAND):
    """Run ExecStart as systemd does, with another upstream; SIGTERM has to end it with 0."""
    # Above the numbers that are passed, or one would be put in the place of another.
    passed = [fcntl.fcntl(one, fcntl.F_DUPFD, 20) for one in listeners]
    scripts = sysconfig.get_path("scripts")
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", STARTER, ",".join(map(str, passed)), upstream, *command],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0, pass_fds=passed,
            env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
        )  # fmt: skip
    finally:
        for fd in passed:
            os.close(fd)
    with process:
        try:
            yield process
            process.send_signal(getattr(signal, SERVICE["KillSignal"][0]))
            assert process.wait(HANG) == 0
        finally:
            process.kill()


def test_the_units_fit_the_command():
    """The command line is one, its drain ends before systemd's patience, and no path is ours."""
    assert COMMAND[:3] == ["/usr/bin/env", "spliceio", "proxy"]
    args = cli.parser().parse_args(COMMAND[2:])
    assert args.listen == "systemd"
    assert 0 < args.drain < float(SERVICE["TimeoutStopSec"][0])
    assert SERVICE["KillSignal"] == ["SIGTERM"]
    for name in ("spliceio-proxy.socket", "spliceio-proxy.service"):
        text = "\n".join(
            line for line in (UNITS / name).read_text().splitlines() if not line.startswith("#")
        )
        assert set(re.findall(r"(?<![\w.])/[\w/]+", text)) <= {"/usr/bin/env"}
    assert unit("spliceio-proxy.socket")["Socket"]["ListenStream"]
    assert unit("spliceio-proxy.service")["Unit"]["Requires"] == ["spliceio-proxy.socket"]


def test_the_service_relays():
    """It says where systemd listens, and 3 MiB go there and back."""
    data = payload(3 * MIB)
    with (
        Server(echo) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
        service([listener], server.address) as process,
    ):
        host, port = listener.getsockname()
        assert listening(process) == f"{host}:{port}"
        with connect(port) as sock:
            sending = Worker(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            assert read_all(sock) == data
            sending.result()


def test_two_sockets_are_passed(tmp_path):
    """A port and a path, both served; the path is systemd's, and stays."""
    path = str(tmp_path / "sock")
    with (
        Server(echo) as server,
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.socket(socket.AF_UNIX) as two,
    ):
        two.bind(path)
        two.listen()
        with service([one, two], server.address) as process:
            assert listening(process).startswith("127.0.0.1:")
            assert listening(process) == f"unix:{path}"
            with connect(one.getsockname()[1]) as tcp, socket.socket(socket.AF_UNIX) as unix:
                unix.connect(path)
                for sock in (tcp, unix):
                    sock.sendall(b"hello")
                    assert sock.recv(10) == b"hello"
                    sock.shutdown(socket.SHUT_WR)
                    assert sock.recv(10) == b""
        assert os.path.exists(path)


def test_between_two_runs_clients_wait():
    """Who connects while nothing runs is served by the next run."""
    with Server(echo) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        with service([listener], server.address) as process:
            listening(process)
        with connect(listener.getsockname()[1]) as sock:
            sock.sendall(b"patience")
            with service([listener], server.address):
                assert sock.recv(10) == b"patience"
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(10) == b""


def test_a_reload(tmp_path):
    """ExecReload has the file of upstreams read again; connections that are open stay."""
    upstreams = tmp_path / "upstreams"

    def says(name):
        return lambda sock: (sock.sendall(name), echo(sock))

    command = [*COMMAND[:4], "--upstreams", str(upstreams), *COMMAND[5:]]
    with (
        Server(says(b"one")) as one,
        Server(says(b"two")) as two,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        port = listener.getsockname()[1]
        upstreams.write_text(f"# where it goes\n{one.address}\n")
        with service([listener], "", command) as process:
            listening(process)
            with connect(port) as old:
                assert old.recv(10) == b"one"
                upstreams.write_text(f"\n{two.address}  # the new one\n")
                reload = SERVICE["ExecReload"][0].replace("$MAINPID", str(process.pid))
                subprocess.run(shlex.split(reload), check=True, timeout=HANG)
                line = process.stderr.readline().decode()
                assert line == f"spliceio: proxy: SIGHUP: 1 upstreams from {upstreams}\n"
                with connect(port) as new:
                    assert new.recv(10) == b"two"
                    new.shutdown(socket.SHUT_WR)
                    assert new.recv(10) == b""
                old.sendall(b"still here")
                assert old.recv(20) == b"still here"
                old.shutdown(socket.SHUT_WR)
                assert old.recv(10) == b""


def is_watched(pid: int, sock: socket.socket) -> bool:
    """Say whether an epoll of a process has a socket, which proc(5) tells of each."""
    inode, found = os.fstat(sock.fileno()).st_ino, set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found |= set(re.findall(r"^tfd:.* ino:(\w+)", path.read_text(), re.M))
    return f"{inode:x}" in found


def test_it_drains_when_it_is_stopped():
    """After SIGTERM nobody new is let in, and who is in may finish."""
    with (
        Server(echo) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
        service([listener], server.address) as process,
    ):
        listening(process)
        with connect(listener.getsockname()[1]) as sock:
            sock.sendall(b"begun")
            assert sock.recv(10) == b"begun"
            assert is_watched(process.pid, listener)
            process.send_signal(signal.SIGTERM)
            until(lambda: not is_watched(process.pid, listener))
            with connect(listener.getsockname()[1]):  # waits for the next run, in the backlog
                sock.sendall(b"ended")
                assert sock.recv(10) == b"ended"
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(10) == b""
                assert process.wait(HANG) == 0


def systemd_analyze() -> str:
    path = shutil.which("systemd-analyze")
    if path is None:
        pytest.skip("systemd-analyze is not installed")
    return path


def test_systemd_finds_nothing_wrong(tmp_path):
    """`systemd-analyze verify` is quiet."""
    for path in UNITS.iterdir():
        shutil.copy(path, tmp_path)
    done = subprocess.run(
        [systemd_analyze(), "--man=no", "verify", *map(str, tmp_path.iterdir())],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).splitlines()
    # It reads the machine's own units too, and a new systemd has something to say of old ones.
    ours = [line for line in said if not re.match(r"(/usr)?/lib/systemd/system/", line)]
    assert (done.returncode, ours) == (0, [])


def allowed() -> set[str]:
    """Work out SystemCallFilter= as systemd does."""
    listing = subprocess.run(
        [systemd_analyze(), "syscall-filter"],
        capture_output=True, text=True, timeout=HANG, check=True,
    ).stdout  # fmt: skip
    sets: dict[str, list[str]] = {}
    for line in re.sub(r"\x1b\[[0-9;]*m", "", listing).splitlines():
        if line.startswith("@"):
            members = sets[line.strip()] = []
        elif (word := line.strip()) and word[0] != "#":
            members.append(word)

    def expanded(word: str) -> set[str]:
        return set().union(*map(expanded, sets[word])) if word in sets else {word}

    calls = expanded("@default")
    for value in SERVICE["SystemCallFilter"]:
        words = set().union(*map(expanded, value.removeprefix("~").split()))
        calls = calls - words if value[0] == "~" else calls | words
    return calls


def test_the_filter_lets_through_what_it_calls(tmp_path):
    """Every system call of a run, with names to resolve and bytes to splice, is allowed."""
    trace = tmp_path / "trace"
    data = payload(3 * MIB)
    with Server(echo) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # As a child, so that strace need not be what systemd has passed the sockets to.
        traced = [need("strace"), "-D", "-f", "-qq", "-o", str(trace), *COMMAND]
        upstream = server.address.replace("127.0.0.1", "localhost")
        with service([listener], upstream, traced) as process:
            listening(process)
            with connect(port) as sock:
                sending = Worker(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
                assert read_all(sock) == data
                sending.result()
            subprocess.run(["kill", "-HUP", str(process.pid)], check=True, timeout=HANG)
            assert "SIGHUP" in process.stderr.readline().decode()
    called = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.M))
    assert {"splice", "pipe2", "epoll_wait", "accept4"} <= called
    assert called - allowed() == set()


# -- the pages -------------------------------------------------------------------------------------


PAGES = EXAMPLES.parent / "docs"


def test_the_reference_has_every_event():
    """docs/reference/proxy.md lists the events of the log, and no other."""
    source = "".join(path.read_text() for path in (EXAMPLES.parent / "spliceio").rglob("*.py"))
    page = (PAGES / "reference" / "proxy.md").read_text()
    events = set(re.findall(r'"event": "([\w-]+)"', source))
    assert events
    assert events == set(re.findall(r'^\| `"([\w-]+)"` \|', page, re.M))


def test_the_reference_has_every_metric():
    """docs/reference/proxy.md lists what /metrics answers, and no other."""
    registry = CollectorRegistry()
    with Proxy("127.0.0.1:0", "127.0.0.1:1") as proxy:
        registry.register(_metrics._Collector(proxy.stats))
        text = generate_latest(registry).decode()
    page = (PAGES / "reference" / "proxy.md").read_text()
    shown = set(re.findall(r"^\| `(spliceio_\w+)", page, re.M))
    assert shown == set(re.findall(r"^(spliceio_\w+)", text, re.M))


def test_the_command_lines_of_the_pages_are_ones():
    """Each `spliceio ...` of the pages about the proxy is understood by the command."""
    lines = []
    for path in sorted(PAGES.rglob("*.md")):
        lines += re.findall(r"^(?:\$|>) (spliceio proxy .*)$", path.read_text(), re.M)
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(re.sub(r" &.*", "", line))
        cli.parser().parse_args(words[1:])
