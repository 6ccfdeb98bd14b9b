"""What waits for a pool or a proxy makes no system call until something happens, as strace sees it.

A thread of the program under test waits for two seconds, and all that others call meanwhile counts.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.support.commands import HANG
from tests.support.programs import need

SCRIPT = """
import os, signal, socket, sys, threading, time
from spliceio import Proxy, RelayPool
def watch():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(1)
    os.write(2, b"[begin]")
    time.sleep(2)
    os.write(2, b"[end]")
    os._exit(0)
threading.Thread(target=watch).start()
(a, x), (b, y) = socket.socketpair(), socket.socketpair()
echo = socket.create_server(("127.0.0.1", 0))
def connect(proxy):
    host, port = proxy.address.split(":")
    sock = socket.create_connection((host, int(port)))
    sock.send(b"x")
    return sock, echo.accept()[0].recv(1)
to = "127.0.0.1:%d" % echo.getsockname()[1]
"""
WAITS = {
    "result": "RelayPool().submit(a, b).result()",
    "outcome": "RelayPool().submit(a, b).outcome()",
    "pool": "pool = RelayPool(2); pool.submit(a, b); pool.shutdown()",
    "pool, drain": "pool = RelayPool(); pool.submit(a, b); pool.shutdown(drain=3600)",
    "serve": "Proxy('127.0.0.1:0', to, threads=2).serve_forever()",
    "serve a name": "Proxy('127.0.0.1:0', 'localhost:1').serve_forever()",
    "serve by a route": """
proxy = Proxy('127.0.0.1:0', route=lambda *_: to)
proxy.start()
kept = connect(proxy)
proxy.serve_forever()
""",
    "drain": """
proxy = Proxy('127.0.0.1:0', to)
proxy.start()
peer = []
accepting = threading.Thread(target=lambda: peer.append(echo.accept()))
accepting.start()
host, port = proxy.address.split(":")
sock = socket.create_connection((host, int(port)))
accepting.join()
proxy.shutdown(drain=3600)
""",
    "command": """
from spliceio.__main__ import main
main(["proxy", "127.0.0.1:0", to])
""",
    "command that drains": """
import signal
from spliceio.__main__ import main
def serve():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    peer = echo.accept()
    os.kill(os.getpid(), signal.SIGTERM)
    peer[0].recv(1)
threading.Thread(target=serve).start()
def come():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        try:
            sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        except ConnectionRefusedError:
            continue
        return sock.recv(1)
threading.Thread(target=come).start()
main(["proxy", "127.0.0.1:" + sys.argv[1], to, "--drain", "3600"])
""",
}


def idle_calls(script: str, tmp_path) -> list[str]:
    """Run it under strace; return what was called while it was watched."""
    trace = tmp_path / "trace"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run(
        [
            need("strace"),
            "-f",
            "-qq",
            "-o",
            trace,
            sys.executable,
            "-c",
            SCRIPT + script,
            str(port),
        ],
        stderr=subprocess.PIPE,
        text=True,
        timeout=10 * HANG,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert "[end]" in done.stderr, done.stderr
    lines = trace.read_text().splitlines()
    marks = [n for n, line in enumerate(lines) if "[begin]" in line or "[end]" in line]
    watcher = lines[marks[0]].split()[0]
    return [line for line in lines[marks[0] : marks[1]] if line.split()[0] != watcher]


@pytest.mark.parametrize("what", WAITS)
def test_what_waits_calls_nothing(what, tmp_path):
    """In two seconds, in no thread."""
    assert idle_calls(WAITS[what], tmp_path) == []


def test_the_live_line_of_an_idle_proxy(tmp_path):
    """It is looked at once a second, and drawn again when something has changed."""
    pytest.importorskip("rich")
    script = WAITS["command"].replace("to]", "to, '--live']")
    assert len(idle_calls(script, tmp_path)) <= 6  # two looks, or three at the edge
