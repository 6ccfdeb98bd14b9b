"""Servers with a thread a connection, and `spliceio proxy` as a process in front of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

from tests.support.commands import HANG, SPLICEIO, listening
from tests.support.programs import need
from tests.support.states import Worker
from tests.support.wires import MIB

LINGER = struct.pack("ii", 1, 0)


class Proxy:
    """A running `spliceio proxy`."""

    def __init__(self, process: subprocess.Popen, pid: int | None = None) -> None:
        self.process = process
        self.address = listening(process)
        self.pid = process.pid if pid is None else pid
        self.stats: dict = {}
        self.stderr = ""

    def connect(self) -> socket.socket:
        if self.address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.address[5:])
            return sock
        host, _, port = self.address.rpartition(":")
        host = {"[::]": "localhost", "0.0.0.0": "localhost"}.get(host, host)
        return socket.create_connection((host.strip("[]"), int(port)))

    def stop(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)
        out, err = self.process.communicate(timeout=HANG)
        self.stderr = self.process.said_before + err.decode()
        self.stats = json.loads(out)


@contextlib.contextmanager
def proxy(upstream: str, listen: str = "127.0.0.1:0", *options: str, command=(), **popen):
    """Run a proxy until the block ends; then SIGTERM must end it with 0."""
    process = subprocess.Popen(
        [*command, *SPLICEIO, "proxy", listen, upstream, "--stats", "--drain", "0", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        **popen,
    )
    with process:
        try:
            running = Proxy(process)
            yield running
            if process.poll() is None:
                running.stop()
            assert process.returncode == 0, running.stderr
        finally:
            process.kill()


class Server:
    """A server that gives every connection to a function, in a thread of its own."""

    def __init__(self, serve, family: int = socket.AF_INET, path: str = "") -> None:
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(512)
            self.address = f"unix:{path}"
        else:
            host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
            self.listener = socket.create_server((host, 0), family=family, backlog=512)
            port = self.listener.getsockname()[1]
            self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.serve = serve
        self.workers: list[Worker] = []
        self.acceptor = Worker(self._accept)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.workers.append(Worker(lambda sock=sock: self._one(sock)))

    def _one(self, sock: socket.socket) -> None:
        with sock:
            self.serve(sock)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()
        for worker in self.workers:
            if kind is None:
                worker.result()


def echo(sock: socket.socket) -> None:
    """Send back what comes, until the end of file, or until it is cut: its client knows which."""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(MIB):
            sock.sendall(part)


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(MIB), b""))


def ask(running: Proxy, data: bytes) -> bytes:
    """Send data and the end of file through the proxy; return what comes back."""
    with running.connect() as sock:
        feeder = Worker(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        got = read_all(sock)
        feeder.result()
        return got


def traced(trace: Path, *inject: str) -> list[str]:
    """Return the command that writes every accept with its time into a file."""
    return [need("strace"), "-f", "-qq", "-ttt", "-e", "trace=accept4", *inject, "-o", str(trace)]
