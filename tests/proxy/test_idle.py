"""What waits for a pool or a proxy makes no system call until something happens, as strace sees it.

A thread of the program under test waits until the others sleep, then for two seconds; all that they
call meanwhile counts. The programs wait all at once: beside one that does nothing there is room.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import HANG, unused_port
from tests.support.programs import need

SCRIPT = """
import os, signal, socket, sys, threading, time
from spliceio import Proxy, RelayPool
def switches():
    own, found = threading.get_native_id(), []
    for tid in os.listdir("/proc/self/task"):
        if int(tid) == own:
            continue
        try:
            with open(f"/proc/self/task/{tid}/status") as status:
                found += [line for line in status if line.startswith(("State", "voluntary"))]
        except OSError:  # it has just ended
            found.append(tid)
    return found
def watch():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    before, quiet, end = [], 0, time.monotonic() + 10  # what never sleeps is watched all the same
    while quiet < 10 and time.monotonic() < end:
        time.sleep(0.05)
        now = switches()
        quiet = quiet + 1 if now == before else 0
        before = now
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


def start(script: str, trace: Path) -> subprocess.Popen:
    """Start it under strace."""
    strace = [need("strace"), "-f", "-qq", "-o", trace]
    return subprocess.Popen(
        [*strace, sys.executable, "-c", SCRIPT + script, str(unused_port())],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def idle_calls(trace: Path) -> list[str]:
    """Return what was called while it was watched."""
    lines = trace.read_text().splitlines()
    marks = [n for n, line in enumerate(lines) if "[begin]" in line or "[end]" in line]
    watcher = lines[marks[0]].split()[0]
    return [line for line in lines[marks[0] : marks[1]] if line.split()[0] != watcher]


def test_what_waits_calls_nothing(tmp_path):
    """In two seconds, in no thread; the live line is looked at once a second, and drawn at need."""
    pytest.importorskip("rich")
    scripts = {**WAITS, "live": WAITS["command"].replace("to]", "to, '--live']")}
    with contextlib.ExitStack() as stack:
        programs = {}
        for what, script in scripts.items():
            programs[what] = stack.enter_context(start(script, tmp_path / what))
            stack.callback(programs[what].kill)
        for what, program in programs.items():
            _, err = program.communicate(timeout=10 * HANG)
            assert "[end]" in err, (what, err)
    found = {what: idle_calls(tmp_path / what) for what in scripts}
    assert len(found.pop("live")) <= 6  # two looks, or three at the edge
    assert found == {what: [] for what in WAITS}
