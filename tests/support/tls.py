"""Connections over TLS, with a certificate of their own; and what is on the wire between them."""

from __future__ import annotations

import errno
import functools
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from spliceio._kernel import tls
from tests.support.programs import need
from tests.support.states import Worker

OP_ENABLE_KTLS = getattr(ssl, "OP_ENABLE_KTLS", 1 << 3)  # Python has the name from 3.12 on
VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
ETH_P_ALL = 3


@functools.cache
def certificate() -> Path:
    """Make a certificate for the loopback, once; return the folder with `cert` and `key`."""
    made = tempfile.TemporaryDirectory(prefix="spliceio-tls-")
    certificate.folder = made  # removed with the process
    folder = Path(made.name)
    command = [
        need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", folder / "key", "-out", folder / "cert",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return folder


def contexts(version: str = "TLS 1.3", *, server=True, client=False, cipher=None):
    """Make the contexts of a server and a client; True offers the kernel that side's keys."""
    folder = certificate()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "cert", folder / "key")
    asking = ssl.create_default_context(cafile=str(folder / "cert"))
    for context, offers in ((serving, server), (asking, client)):
        context.minimum_version = context.maximum_version = VERSIONS[version]
        if offers:
            context.options |= OP_ENABLE_KTLS
        if cipher is not None:
            context.set_ciphers(cipher)
    return serving, asking


def connected(wires, version: str = "TLS 1.3", **options):
    """Make the two ends of a connection over TCP, (server, client), whose handshake is done."""
    serving, asking = contexts(version, **options)
    near, far = wires.sockets("tcp4")
    server = Worker(lambda: serving.wrap_socket(near, server_side=True))
    client = wires.ends.sock(asking.wrap_socket(far, server_hostname="127.0.0.1"))
    return wires.ends.sock(server.result()), client


def pretend(monkeypatch, *, attached=False, tx=False, rx=False, module=errno.ENOENT) -> None:
    """Let a kernel say that TLS is attached to every SSLSocket, and which keys it has of it.

    `module` is the errno with which it says that it has no TLS, 0 for one that has.
    """
    ask = ssl.SSLSocket.getsockopt

    def getsockopt(sock, level, option, *size):
        if (level, option) == (socket.IPPROTO_TCP, tls.TCP_ULP):
            return b"tls\0" if attached else b""
        if level != tls.SOL_TLS:
            return ask(sock, level, option, *size)
        if tx if option == tls.TLS_TX else rx:
            return struct.pack("HH", 0x0304, 52)
        raise OSError(errno.EBUSY if attached else errno.EOPNOTSUPP, "none")

    monkeypatch.setattr(ssl.SSLSocket, "getsockopt", getsockopt)
    monkeypatch.setattr(tls, "is_attachable", lambda: module)


def has_key(sock: ssl.SSLSocket, *, sends: bool) -> bool:
    """Whether the kernel has the key of a direction, asked in another way than the library does."""
    option = tls.TLS_TX if sends else tls.TLS_RX
    with socket.socket(fileno=sock.fileno()) as same:
        try:
            return len(same.getsockopt(tls.SOL_TLS, option, 4)) == 4
        except OSError:
            return False
        finally:
            same.detach()


def read_exactly(sock: ssl.SSLSocket, count: int) -> bytes:
    """Read so many bytes, or all to the end."""
    data = bytearray()
    while len(data) < count and (block := sock.recv(count - len(data))):
        data += block
    return bytes(data)


class Wire:
    """Everything that goes over the loopback in a block, as a packet socket sees it."""

    def __init__(self) -> None:
        self.seen = bytearray()

    def __enter__(self) -> Wire:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self._socket.bind(("lo", 0))
        self._end = f"end of wire {id(self)}".encode()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while self._end not in (packet := self._socket.recv(1 << 17)):
            self.seen += packet

    def __exit__(self, *_) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(self._end, ("127.0.0.1", 9))
        self._thread.join()
        self.lost = self._socket.getsockopt(263, 6, 8)  # SOL_PACKET, PACKET_STATISTICS
        self._socket.close()
        assert int.from_bytes(self.lost[4:], "little") == 0, "the packet socket has lost packets"
