"""`spliceio serve` as a process, and what it has logged."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.commands import HANG, listening, started
from tests.support.wires import MIB, payload

SECRET = b"outside"
BIG = payload(16 * MIB)


class Served:
    """A running `spliceio serve`."""

    def __init__(self, process: subprocess.Popen, root: Path) -> None:
        self.process, self.root = process, root
        self.address = listening(process)
        self.url = f"http://{self.address}"
        self.log = ""

    def connect(self) -> socket.socket:
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)))

    def raw(self, request: bytes) -> bytes:
        """Send bytes, say that there are no more, and read all that comes back."""
        with self.connect() as sock:
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(MIB), b""))

    def status(self, target: str, *fields: str) -> int:
        """Ask for a target exactly as it is written; return the status."""
        lines = [f"GET {target} HTTP/1.1", "Host: x", "Connection: close", *fields, "", ""]
        answer = self.raw("\r\n".join(lines).encode("latin-1"))
        assert SECRET not in answer
        assert b"root:" not in answer
        return int(answer.split()[1])

    def lines(self, count: int) -> list[str]:
        """Wait for so many lines of the log, and return them."""
        found = [self.process.stderr.readline().decode() for _ in range(count)]
        self.log += "".join(found)
        return found

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.log += self.process.communicate(timeout=HANG)[1].decode()
        return self.process.returncode


@contextlib.contextmanager
def serving(root, *options, bind="127.0.0.1:0"):
    """Serve a directory until the block ends, which the server must survive."""
    with started("serve", root, "--bind", bind, *options) as process:
        server = Served(process, root)
        yield server
        if process.returncode is None:
            assert process.poll() is None
            assert server.stop() == 0
        assert "Traceback" not in server.log


def filled(place: Path) -> Path:
    """Make a directory with some files, and a secret beside it."""
    root = place / "root"
    (root / "sub").mkdir(parents=True)
    (root / "small").write_bytes(BIG[:1024])
    (root / "big.bin").write_bytes(BIG)
    (root / "page.html").write_bytes(b"<p>page")
    (root / "sub" / "index.html").write_bytes(b"<p>index")
    (place / "secret").write_bytes(SECRET)
    (place / "away").mkdir()
    (place / "away" / "file").write_bytes(SECRET)
    return root
