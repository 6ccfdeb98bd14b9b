"""Software that nobody here wrote, in front of, behind and beside spliceio.

A program that is missing is skipped by its name; where CI is set, that is a failure.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from spliceio import copy, relay
from tests.support.commands import HANG, SPLICEIO, listening, started, unused_port
from tests.support.programs import answers, need, nginx, running
from tests.support.servers import proxy
from tests.support.sides import digest
from tests.support.states import Worker, until
from tests.support.wires import MIB, payload


@contextlib.contextmanager
def http_server(directory: Path):
    """Serve a directory by the standard library's server."""
    port = unused_port()
    command = [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", directory, str(port)]
    with running(*command) as process:
        until(answers(process, port))
        yield port


SERVERS = {"http.server": http_server, "nginx": nginx}


@pytest.mark.parametrize("server", SERVERS)
def test_curl_downloads_through_the_proxy(server, tmp_path):
    """Whole, in part, many at once and over one connection: the same bytes."""
    curl = need("curl")
    site = tmp_path / "site"
    site.mkdir()
    data = {f"{number}.bin": payload(number * MIB + number, number) for number in range(5)}
    for name, content in data.items():
        (site / name).write_bytes(content)
    with SERVERS[server](site) as port, proxy(f"127.0.0.1:{port}") as through:
        base = f"http://{through.address}"
        names = list(data)
        for options in ([], ["--parallel", "--parallel-immediate"], ["--http1.0"]):
            out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
            out.mkdir()
            urls = [part for name in names for part in ("-o", out / name, f"{base}/{name}")]
            subprocess.run(
                [curl, "-sS", "--fail", "--noproxy", "*", *options, *urls], check=True, timeout=HANG
            )
            for name in names:
                assert digest((out / name).read_bytes()) == digest(data[name])
        if server == "nginx":
            part = subprocess.run(
                [curl, "-sS", "--noproxy", "*", "-r", "1000-1999999", f"{base}/4.bin"],
                check=True,
                timeout=HANG,
                stdout=subprocess.PIPE,
            ).stdout
            assert part == data["4.bin"][1000:2_000_000]
        through.stop()
        assert through.stats["b_to_a"] > 3 * sum(map(len, data.values()))
        assert through.stats["methods"]["splice"] > through.stats["methods"]["read_write"]


def test_an_upload_that_nginx_refuses_is_told(tmp_path):
    """It answers before it has read the body and closes: curl gets the 413, not a mere reset."""
    curl = need("curl")
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "body").write_bytes(payload(5 * MIB))
    with nginx(site) as port, proxy(f"127.0.0.1:{port}") as through:
        upload = ["-H", "Expect:", "-T", tmp_path / "body", f"http://{through.address}/put/x"]
        done = subprocess.run(
            [curl, "-sS", "--noproxy", "*", "-o", os.devnull, "-w", "%{http_code}", *upload],
            capture_output=True,
            text=True,
            timeout=HANG,
        )
    assert done.stdout == "413", done.stderr


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix"])
def test_redis_through_the_proxy(listen, tmp_path):
    """Pipelined commands, large values, and a unix socket at the near end."""
    server, cli = need("redis-server"), need("redis-cli")
    port = unused_port()
    options = ["--port", str(port), "--save", "", "--appendonly", "no", "--dir", tmp_path]
    address = f"unix:{tmp_path}/redis" if listen == "unix" else listen
    with running(server, "--bind", "127.0.0.1", *options) as process:
        until(answers(process, port))
        with proxy(f"127.0.0.1:{port}", address) as through:
            if listen == "unix":
                client = [cli, "-s", f"{tmp_path}/redis"]
            else:
                client = [cli, "-p", through.address.rpartition(":")[2]]

            def ask(*args, data=None):
                return subprocess.run(
                    [*client, *args], input=data, stdout=subprocess.PIPE, check=True, timeout=HANG
                ).stdout

            assert ask("ping") == b"PONG\n"
            big = payload(2 * MIB).hex().encode()
            assert ask("-x", "set", "big", data=big) == b"OK\n"
            assert digest(ask("get", "big")) == digest(big + b"\n")
            many = b"".join(
                b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\nv\r\n" % (len(k), k)
                for k in (b"key%d" % i for i in range(20_000))
            )
            assert b"replies: 20000" in ask("--pipe", data=many)
            assert ask("dbsize") == b"20001\n"


@pytest.mark.parametrize("which", ["connect", "proxy"])
def test_socat_echoes(which, tmp_path):
    """Socat serves one connection with cat; everything comes back."""
    socat = need("socat")
    data = payload(3 * MIB)
    port = unused_port()
    command = [socat, f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", "EXEC:cat"]
    with running(*command) as process, contextlib.ExitStack() as stack:
        until(answers(process, port))
        to = f"127.0.0.1:{port}"
        if which == "proxy":
            to = stack.enter_context(proxy(to)).address
        done = subprocess.run(
            [*SPLICEIO, "connect", to], input=data, capture_output=True, timeout=HANG
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert digest(done.stdout) == digest(data)


@pytest.mark.parametrize("program", ["socat", "ncat"])
def test_recv_from_another_tool(program, tmp_path):
    """`spliceio recv` gets what socat or ncat send."""
    path = need(program)
    data = payload(3 * MIB)
    with started("recv", "127.0.0.1:0", tmp_path / "out") as receiver:
        host, _, port = listening(receiver).rpartition(":")
        command = [path, "-u", "-", f"TCP:{host}:{port}"]
        if program == "ncat":
            command = [path, "--send-only", host, port]
        subprocess.run(command, input=data, check=True, timeout=HANG)
        assert receiver.wait(HANG) == 0
    assert (tmp_path / "out").read_bytes() == data


def test_a_pipeline_of_core_utilities(tmp_path):
    """Between seq, gzip, sort and sha256sum it is as if it were not there."""
    tool = f"'{sys.executable}' -m spliceio pipe"
    plain = "seq 200000 | gzip -c | gzip -dc | sort -rn | sha256sum"
    spliced = plain.replace(" | ", f" | {tool} | ")
    out = [
        subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=HANG).stdout
        for line in (plain, spliced)
    ]
    assert out[0] == out[1]


def test_dd_limits_agree(tmp_path):
    """`pipe -s` takes as many bytes as dd with a count of bytes."""
    (tmp_path / "in").write_bytes(payload(300_000))
    with open(tmp_path / "in", "rb") as src:
        done = subprocess.run(
            ["sh", "-c", f"'{sys.executable}' -m spliceio pipe -s 100001; dd bs=1M status=none"],
            stdin=src,
            capture_output=True,
            check=True,
            timeout=HANG,
        )
    assert done.stdout == payload(300_000)


def test_a_child_compresses_on_the_way():
    """relay() between a socket and `gzip -c`: its output is a gzip file of the input."""
    data = payload(2 * MIB)
    near, far = socket.socketpair()
    with near, far:
        child = subprocess.Popen(["gzip", "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with child:
            feeder = Worker(lambda: (far.sendall(data), far.shutdown(socket.SHUT_WR)))
            collector = Worker(lambda: b"".join(iter(lambda: far.recv(MIB), b"")))
            result = relay(near, (child.stdout, child.stdin))
            feeder.result()
            packed = collector.result()
        assert hashlib.sha256(gzip.decompress(packed)).digest() == hashlib.sha256(data).digest()
        assert (result.a_to_b, result.b_to_a) == (len(data), len(packed))


def test_copy_into_a_program():
    """copy() from a file to the stdin of sha256sum."""
    data = payload(5 * MIB)
    fd = os.memfd_create("data")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        with subprocess.Popen(
            ["sha256sum"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            result = copy(fd, child.stdin)
            out, _ = child.communicate(timeout=HANG)
    finally:
        os.close(fd)
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert result.method == "splice"
