"""Kernel TLS: whether the kernel encrypts what an `ssl.SSLSocket` sends, or decrypts what it gets.

The one place that decides it, for every function of the library.

Rule 1: plaintext never gets to the wire. What counts is that the kernel has the key of the
        direction (getsockopt(2), SOL_TLS), and not that TLS is attached to the socket (TCP_ULP):
        it stays attached, and sends plaintext, when the kernel has refused the key.
Rule 2: and that the handshake is done. The server of TLS 1.3 gives the kernel its key before it has
        seen who the client is.
Rule 3: what OpenSSL has decrypted comes first. It holds nothing else: with the default of
        read_ahead, it takes one record at a time.
Not seen: that the caller's own send() was cut short (SSLWantWriteError, TimeoutError). OpenSSL then
        has a part of that record, and wants the same call again first.

See tls(7), Documentation/networking/tls.rst in the kernel's source, SSL_CTX_set_options(3).
"""

from __future__ import annotations

import errno
import io
import sys
from typing import TYPE_CHECKING, Any

from .number import is_a

if TYPE_CHECKING:
    from ssl import SSLSocket

__all__ = [
    "SOL_TLS",
    "TCP_ULP",
    "TLS_RX",
    "TLS_TX",
    "check_end",
    "is_attachable",
    "key_text",
    "pending",
    "read_past",
    "take_pending",
    "under",
    "why_not",
]

SOL_TLS, TLS_TX, TLS_RX = 282, 1, 2
TCP_ULP = 31
# Python has the name from 3.12 on; the number is OpenSSL's, and its options take it before.
_OP_ENABLE_KTLS = 1 << 3
_HEAD = 4  # struct tls_crypto_info: version and cipher, of 16 bits each
_CIPHERS = {51: "AES-128-GCM", 52: "AES-256-GCM", 53: "AES-128-CCM", 54: "ChaCha20-Poly1305"}
_KNOWN_CIPHER = r"AES_?(128|256)[-_]GCM|AES_?128[-_]CCM(?![-_]?8)|CHACHA20"
_RECORD = 16384


def under(given: Any) -> SSLSocket | None:
    """Return the SSLSocket that an object is, or that it is a file of; None without one."""
    if "ssl" not in sys.modules:
        return None
    if isinstance(given, io.BufferedReader | io.BufferedWriter):
        given = given.raw
    if is_a(given, "socket", "SocketIO") or is_a(given, "socketserver", "_SocketWriter"):
        given = given._sock
    return given if is_a(given, "ssl", "SSLSocket") else None


def why_not(sock: SSLSocket, *, sends: bool) -> str | None:
    """Return why the kernel does not encrypt (or decrypt) for this socket, in a clause; or None."""
    if sock.fileno() < 0:
        return "it is closed"
    if sock._sslobj is None or sock.version() is None:  # type: ignore[attr-defined]
        return "its handshake is not done, or unwrap() has ended TLS on it"
    if _key(sock, sends) is not None:
        return None
    option = _why_not_tried(sock)
    if option is not None:
        return option
    if not _is_attached(sock):
        return (
            f"the kernel has the tls module, and its {_openssl()} has not used it: built without "
            "(no-ktls)?"
            if is_attachable() == 0
            else "the kernel has no tls module, or this process may not load it: modprobe tls"
        )
    if not sends and _key(sock, True) is not None:
        return f"its {_openssl()} decrypts {sock.version()} itself"
    return f"the kernel has refused the key of {_cipher(sock)}"


def _why_not_tried(sock: SSLSocket) -> str | None:
    """Return why OpenSSL did not ask the kernel, as far as the connection tells."""
    import re
    import socket

    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return "it is not over TCP"
    if not sock.context.options & _OP_ENABLE_KTLS:
        since = "" if sys.version_info >= (3, 12) else ", which Python has from 3.12 on"
        return f"its SSLContext has no ssl.OP_ENABLE_KTLS among its options{since}"
    if not re.search(_KNOWN_CIPHER, _cipher(sock)):
        return f"{_cipher(sock)} is no cipher of kernel TLS"
    return None


def key_text(sock: SSLSocket, *, sends: bool) -> str:
    """Return version and cipher that the kernel has the key of, as "TLS 1.3, AES-256-GCM"."""
    version, cipher = _key(sock, sends) or (0, 0)
    return f"TLS 1.{version - 0x301}, {_CIPHERS.get(cipher, f'cipher {cipher}')}"


def _key(sock: SSLSocket, sends: bool) -> tuple[int, int] | None:
    try:
        head = sock.getsockopt(SOL_TLS, TLS_TX if sends else TLS_RX, _HEAD)
    except OSError:  # EBUSY: attached, and without a key
        return None
    return int.from_bytes(head[:2], sys.byteorder), int.from_bytes(head[2:4], sys.byteorder)


def _is_attached(sock: SSLSocket) -> bool:
    import socket

    try:
        return sock.getsockopt(socket.IPPROTO_TCP, TCP_ULP, 16).startswith(b"tls\0")
    except OSError:
        return False


def _cipher(sock: SSLSocket) -> str:
    cipher = sock.cipher()
    return cipher[0] if cipher else "no cipher"


def _openssl() -> str:
    return " ".join(sys.modules["ssl"].OPENSSL_VERSION.split()[:2])


def is_attachable() -> int:
    """Return 0 if the kernel has TLS for sockets, or the errno with which it says that it has not.

    Asked of a socket that is not connected, to which it cannot be attached. For a privileged
    process the kernel loads its module, as it does for any connection.
    """
    import socket

    try:
        with socket.socket() as unconnected:
            unconnected.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
    except OSError as error:
        return 0 if error.errno == errno.ENOTCONN else error.errno or errno.EINVAL
    return 0


# ---- receiving: what only the SSL object can give ------------------------------------------------


def pending(sock: SSLSocket) -> int:
    """Return how many bytes OpenSSL has decrypted that nobody has read."""
    return sock.pending() if sock._sslobj is not None else 0  # type: ignore[attr-defined]


def take_pending(sock: SSLSocket, most: int | None) -> bytes:
    """Take what OpenSSL has decrypted, at most so much; reads nothing from the connection."""
    pieces: list[bytes] = []
    while (n := pending(sock) if most is None else min(most, pending(sock))) > 0:
        pieces.append(sock.recv(n))
        if most is not None:
            most -= len(pieces[-1])
    return b"".join(pieces)


def read_past(sock: SSLSocket, most: int) -> bytes | None:
    """Let OpenSSL read the records that are no data; return the data after them, without waiting.

    At most so much; None if there is none yet, b"" if the connection has ended. Raises SSLError.
    """
    data = _read_now(sock, min(most, _RECORD))
    # It may have got more at once than fits: the kernel puts records together.
    return data + take_pending(sock, most - len(data)) if data else data


def check_end(sock: SSLSocket) -> None:
    """Raise SSLEOFError if a connection has ended without close_notify, and that is not suppressed.

    To be asked only once it has ended.
    """
    if not sock.suppress_ragged_eofs:  # type: ignore[attr-defined]
        _read_now(sock, 1)


def _read_now(sock: SSLSocket, most: int) -> bytes | None:
    # Meanwhile a send() in another thread may say that it would block.
    ssl = sys.modules["ssl"]
    kept = sock.gettimeout()
    sock.settimeout(0)
    try:
        return sock.recv(most)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
        return None
    finally:
        sock.settimeout(kept)
