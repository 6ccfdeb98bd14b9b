"""The servers of examples/: short enough to read, and what they say they do."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from spliceio import features
from tests.support.programs import need
from tests.support.states import until
from tests.support.tls import certificate
from tests.support.wires import MIB, payload

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DATA = payload(8 * MIB + 3)
HANG = 60
GIB = 1 << 30


@contextlib.contextmanager
def example(name: str, *args, wrapper=(), **options):
    """Run an example server on a free port; yields the port and the process."""
    command = [*wrapper, sys.executable, EXAMPLES / name, *args]
    process = subprocess.Popen(
        [*map(os.fspath, map(str, command))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **options,
    )  # fmt: skip
    with process:
        try:
            line = process.stdout.readline().decode()
            match = re.search(r" on port (\d+)\n$", line)
            assert match, line + process.stderr.read().decode()
            yield int(match[1]), process
        finally:
            process.kill()


def connection(port: int):
    """Open a connection that closes with the block."""
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG))


def ask(client, method, path, body=None, headers=()):
    """Make one request; return the response, whose body is read."""
    client.request(method, path, body, dict(headers))
    response = client.getresponse()
    response.body = response.read()
    return response


@pytest.mark.parametrize("name", ["static_server.py", "upload_server.py", "https_server.py"])
def test_an_example_is_short(name):
    """Under 60 lines, with what it is for on top."""
    text = (EXAMPLES / name).read_text()
    assert len(text.splitlines()) < 60
    assert text.startswith('"""')
    assert f"python {name} DIR" in text


def test_the_static_server(tmp_path):
    """Files, parts of them, and 304 for what a client has."""
    (tmp_path / "file").write_bytes(DATA)
    with example("static_server.py", tmp_path, 0) as (port, _), connection(port) as client:
        first = ask(client, "GET", "/file")
        assert (first.status, first.body) == (200, DATA)
        assert first.headers["Cache-Control"] == "no-cache"
        part = ask(client, "GET", "/file", headers={"Range": "bytes=-10"})
        assert (part.status, part.body) == (206, DATA[-10:])
        again = ask(client, "GET", "/file", headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")


def test_uploads(tmp_path):
    """Whole files under their names, new or in place of old ones, on one connection."""
    with example("upload_server.py", tmp_path, 0, GIB) as (port, _), connection(port) as client:
        assert ask(client, "PUT", "/one", DATA).status == 201
        sock = client.sock
        assert ask(client, "POST", "/two.txt", b"").status == 201
        assert ask(client, "PUT", "/one", DATA[:5]).status == 204
        assert client.sock is sock
        assert sorted(os.listdir(tmp_path)) == ["one", "two.txt"]
        assert (tmp_path / "one").read_bytes() == DATA[:5]
        assert ask(client, "PUT", "/one", DATA).status == 204
        assert (tmp_path / "one").read_bytes() == DATA


def test_uploads_by_curl(tmp_path):
    """Which asks first, and sends then."""
    (tmp_path / "source").write_bytes(DATA)
    (tmp_path / "to").mkdir()
    with example("upload_server.py", tmp_path / "to", 0, GIB) as (port, _):
        for code in ("201", "204"):
            done = subprocess.run(
                [
                    need("curl"), "-sS", "-w", "%{http_code}", "-T", tmp_path / "source",
                    f"http://127.0.0.1:{port}/it",
                ],
                capture_output=True, timeout=HANG, check=True,
            )  # fmt: skip
            assert done.stdout.decode() == code
        assert (tmp_path / "to" / "it").read_bytes() == DATA


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("PUT /x HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        ("PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        ("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        ("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\n", 400),
        ("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413),
        ("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413),
        ("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ("PUT /x HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 400),
        ("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\n", 400),
        ("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length : 1\r\n\r\n", 400),
        (
            "PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            400,
        ),
        ("PUT /../x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 404),
        ("PUT /a/b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 404),
        ("PUT /%2e%2e HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 404),
        ("PUT /.x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 404),
        ("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 404),
    ],
)
def test_uploads_that_are_refused(tmp_path, head, status):
    """Before the body is asked for, and the connection ends."""
    with (
        example("upload_server.py", tmp_path, 0, 1000) as (port, _),
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        sock.sendall(head.encode())
        answer = b"".join(iter(lambda: sock.recv(MIB), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nConnection: close\r\n" in answer
    assert os.listdir(tmp_path) == []


def test_an_upload_that_breaks_off(tmp_path):
    """Leaves nothing, and the old file as it was."""
    (tmp_path / "x").write_bytes(b"old")
    with example("upload_server.py", tmp_path, 0, GIB) as (port, _), connection(port) as client:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(
                b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(500_000)
            )
            until(lambda: len(os.listdir(tmp_path)) == 2)
        until(lambda: os.listdir(tmp_path) == ["x"])
        assert (tmp_path / "x").read_bytes() == b"old"
        assert ask(client, "PUT", "/x", b"new").status == 204
    assert (tmp_path / "x").read_bytes() == b"new"


def test_a_full_disk(tmp_path):
    """507, nothing left behind, and the next request on the connection is understood."""
    wrapper = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    need("unshare")
    mount = f"mount -t tmpfs -o size=1m none {tmp_path}"
    probe = subprocess.run([*wrapper, "sh", "-c", mount], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no mount namespace here: {probe.stderr.decode().strip()}")
    inside = [*wrapper, "sh", "-c", f'{mount} && exec "$@"', "-"]
    with (
        example("upload_server.py", tmp_path, 0, GIB, wrapper=inside) as (port, process),
        connection(port) as client,
    ):
        there = Path(f"/proc/{process.pid}/root{tmp_path}")
        assert ask(client, "PUT", "/small", b"fits").status == 201
        sock = client.sock
        for _ in range(3):
            assert ask(client, "PUT", "/big", DATA).status == 507
            assert ask(client, "PUT", "/small", b"fits too").status == 204
        assert client.sock is sock
        assert os.listdir(there) == ["small"]
        assert (there / "small").read_bytes() == b"fits too"


def test_https(tmp_path):
    """The same file either way; where the kernel does not encrypt, it says why."""
    (tmp_path / "big.bin").write_bytes(DATA)
    cert, key = certificate() / "cert", certificate() / "key"
    by_kernel = features().kernel_tls.status == "works" and hasattr(ssl, "OP_ENABLE_KTLS")
    said = r"sendfile" if by_kernel else r"read_write: wfile is a file over TLS, which .*\(.*\).*"
    with example("https_server.py", tmp_path, cert, key, 0) as (port, process):
        trusting = ssl.create_default_context(cafile=str(cert))
        client = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=HANG)
        with contextlib.closing(client):
            for _ in range(2):
                assert ask(client, "GET", "/big.bin").body == DATA
                line = process.stdout.readline().decode()
                assert re.fullmatch(rf"/big\.bin: \d+ bytes by {said}\n", line), line
