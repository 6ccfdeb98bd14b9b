"""`spliceio proxy` between clients and servers that nobody here wrote: ssh, wrk, HAProxy, psql.

curl, nginx, redis and socat are in test_real_programs.py. A program that is missing is skipped by
its name; where CI is set, that is a failure.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.commands import HANG, unused_port
from tests.support.programs import answers, need, nginx, running
from tests.support.servers import proxy
from tests.support.sides import digest
from tests.support.states import until
from tests.support.wires import MIB, payload

LONG = 60
# Under `make sanitize` the library of ASan is in it, which not every program bears.
PLAIN = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


@contextlib.contextmanager
def sshd(work: Path):
    """Run an sshd of our own, for one key that was made for it; give its port and ssh's command."""
    server, keygen, client = need("sshd"), need("ssh-keygen"), need("ssh")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its empty home, which it asks for
    work.chmod(0o700)
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", work / name], check=True)
    port = unused_port()
    shutil.copy(work / "user.pub", work / "authorized")
    (work / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {work}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {work}/authorized\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\n"
    )
    options = ["-F", "none", "-i", work / "user", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={work}/known"]
    with running(server, "-D", "-e", "-f", work / "config") as process:
        until(answers(process, port))
        yield port, [client, *options, "-l", getpass.getuser()]


def test_ssh_sessions_through_the_proxy(tmp_path):
    """Bulk both ways at once, many small answers, a forwarded port inside: an endless protocol."""
    data = payload(5 * MIB)
    with sshd(tmp_path) as (port, ssh), proxy(f"127.0.0.1:{port}") as through:
        to = ["-p", through.address.rpartition(":")[2], "127.0.0.1"]

        def ask(command: str, sent: bytes = b"") -> bytes:
            done = subprocess.run(
                [*ssh, *to, command], input=sent, capture_output=True, timeout=LONG, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert digest(ask("cat", data)) == digest(data)
        assert ask("seq 20000") == b"".join(b"%d\n" % n for n in range(1, 20001))
        several = [
            subprocess.Popen(
                [*ssh, *to, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
            for _ in range(4)
        ]
        # One after the other, again and again: each session stays open while others speak.
        for turn in range(50):
            for number, session in enumerate(several):
                line = b"%d %d\n" % (turn, number)
                session.stdin.write(line)
                assert session.stdout.readline() == line
        for session in several:
            assert session.communicate(timeout=HANG)[0] == b""
            assert session.returncode == 0
        through.stop()
        assert through.stats["connections"] == 6
        assert through.stats["a_to_b"] > len(data) < through.stats["b_to_a"]


def test_wrk_against_nginx(tmp_path):
    """Two seconds of requests on 32 connections: no error of any kind, small files and large."""
    wrk = need("wrk")
    site = tmp_path / "site"
    site.mkdir()
    (site / "small").write_bytes(payload(1000))
    (site / "large").write_bytes(payload(MIB))
    with nginx(site) as port, proxy(f"127.0.0.1:{port}", ":0", "--threads", "2") as through:
        base = through.address.replace("[::]", "127.0.0.1")
        for name in ("small", "large"):
            done = subprocess.run(
                [wrk, "-t1", "-c32", "-d1s", f"http://{base}/{name}"],
                capture_output=True,
                text=True,
                timeout=LONG,
                check=True,
            )
            assert int(re.search(r"(\d+) requests in", done.stdout)[1]) > 0, done.stdout
            assert "Non-2xx" not in done.stdout
            assert "Socket errors" not in done.stdout, done.stdout
        through.stop()
        assert through.stats["connections"] >= 64
        assert through.stats["methods"]["splice"] > MIB


HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
{body}
"""


@contextlib.contextmanager
def haproxy(work: Path, body: str, port: int):
    """Run HAProxy with a configuration, listening on a port."""
    program = need("haproxy")
    config = work / f"haproxy-{port}.cfg"
    config.write_text(HAPROXY.format(body=body))
    with running(program, "-db", "-q", "-f", config, env=PLAIN) as process:
        until(answers(process, port))
        yield


@pytest.mark.parametrize("version", ["1", "2"])
def test_haproxy_believes_our_header_and_we_believe_its(version, tmp_path):
    """curl, HAProxy with send-proxy, ours, HAProxy with accept-proxy: it logs the first client."""
    curl = need("curl")
    first, last = unused_port(), unused_port()
    send = "send-proxy" if version == "1" else "send-proxy-v2"
    with contextlib.ExitStack() as stack:
        # It answers any request itself, with the client that the header named.
        answer = (
            f"frontend last\n    mode http\n    bind 127.0.0.1:{last} accept-proxy\n"
            "    http-request return status 200 content-type text/plain "
            'lf-string "%[src]:%[src_port]"'
        )
        stack.enter_context(haproxy(tmp_path, answer, last))
        options = ("--proxy-protocol", version, "--trust-proxy-protocol", "127.0.0.0/8")
        ours = stack.enter_context(proxy(f"127.0.0.1:{last}", "127.0.0.1:0", *options))
        forward = f"listen first\n    bind 127.0.0.1:{first}\n    server ours {ours.address} {send}"
        stack.enter_context(haproxy(tmp_path, forward, first))
        done = subprocess.run(
            [curl, "-sS", "--noproxy", "*", "--interface", "127.0.0.7", "-w", " %{local_port}",
             f"http://127.0.0.1:{first}/"],
            capture_output=True,
            text=True,
            timeout=HANG,
            check=True,
        )  # fmt: skip
        client, _, port_of_curl = done.stdout.partition(" ")
        assert client == f"127.0.0.7:{port_of_curl}"


@contextlib.contextmanager
def postgres(work: Path):
    """Run a PostgreSQL server of our own; skipped by name where there is only a client."""
    installed = map(str, Path("/usr/lib/postgresql").glob("*/bin"))
    places = os.pathsep.join([os.environ["PATH"], *installed])
    initdb, server = shutil.which("initdb", path=places), shutil.which("postgres", path=places)
    if initdb is None or server is None:
        pytest.skip("initdb and postgres are not installed")
    become: list[str] = []
    if os.geteuid() == 0:
        become = [need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(work, 65534, 65534)
    port, data = unused_port(), work / "data"
    made = subprocess.run(
        [*become, initdb, "-A", "trust", "-U", "tester", "-D", data, "--no-sync"],
        capture_output=True,
        text=True,
        cwd=work,
        env=PLAIN,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    options = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-k", work, "-F"]
    with running(*become, server, "-D", data, *options, cwd=work, env=PLAIN) as process:
        until(answers(process, port))
        yield port


def test_psql_against_postgresql():
    """A long answer, a large COPY in and out, and a cancelled query over another connection."""
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not installed")
    with (
        # Each pytest that starts closes the directory of all of them to other users.
        tempfile.TemporaryDirectory(dir="/var/tmp") as work,
        postgres(Path(work)) as port,
        proxy(f"127.0.0.1:{port}") as through,
    ):
        client = [psql, "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", "tester", "-d", "postgres"]
        client += ["-p", through.address.rpartition(":")[2]]

        def ask(sql: str, sent: bytes | None = None) -> bytes:
            done = subprocess.run(
                [*client, "-c", sql],
                input=sent,
                capture_output=True,
                timeout=LONG,
                env=PLAIN,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        def starts() -> bool:
            asked = [*client, "-c", "select 1"]
            return subprocess.run(asked, capture_output=True, env=PLAIN).returncode == 0

        until(starts)
        assert ask("select sum(n) from generate_series(1, 100000) n") == b"5000050000\n"
        rows = b"".join(b"%d\t%s\n" % (n, payload(60, n).hex().encode()) for n in range(20_000))
        ask("create table rows (n int, text text)")
        ask("copy rows from stdin", rows)
        assert digest(ask("copy (select * from rows order by n) to stdout")) == digest(rows)
