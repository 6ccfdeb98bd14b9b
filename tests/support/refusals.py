"""Calls that are refused, or fail: each entry makes fresh arguments, as often as it is asked.

An entry takes the `wires` and gives the name of the function, its arguments and its options. What
comes of the call is for the tests to say.
"""

from __future__ import annotations

import io
import os
import socket
import struct

from tests.support.wires import payload

DATA = payload(9000)
LINGER = struct.pack("ii", 1, 0)


def stream(wires, kind="unix"):
    return wires.sockets(kind)[0]


def full(wires):
    return wires.ends.fd(os.open("/dev/full", os.O_WRONLY))


def appending(wires):
    return wires.file(b"before ", flags=os.O_RDWR | os.O_APPEND)


def closed_socket():
    with socket.socket() as sock:
        return sock


def gone(wires, kind):
    """Make a socket or pipe that nobody reads from any more."""
    if kind == "pipe":
        reader, writer = wires.pipe()
        os.close(reader)
        return writer
    near, far = wires.sockets(kind)
    far.close()
    return near


def reset(wires):
    near, far = wires.sockets("tcp4")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    far.close()
    return near


def on_itself(wires):
    file = wires.file(b"0123456789")
    return file, file, 5


def text(wires):
    return wires.ends._stack.enter_context(open(__file__))


def listening(wires):
    return wires.ends.sock(socket.create_server(("127.0.0.1", 0)))


def datagram(wires):
    return wires.ends.sock(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))


def silent(wires, data=b"", timeout=None):
    """Make a socket whose peer sends this and no more."""
    near, far = wires.sockets("unix")
    far.sendall(data)
    near.settimeout(timeout)
    return near


REFUSED = {
    "text": lambda w: ("copy", (text(w), stream(w)), {}),
    "BytesIO": lambda w: ("copy", (io.BytesIO(b"x"), stream(w)), {}),
    "BytesIO dst": lambda w: ("copy", (stream(w), io.BytesIO()), {}),
    "no fileno": lambda w: ("copy", (w.file(b"x"), "name"), {}),
    "closed": lambda w: ("copy", (closed_socket(), stream(w)), {}),
    "not open": lambda w: ("copy", (stream(w), 2**20), {}),
    "directory": lambda w: ("copy", (w.ends.fd(os.open("/", os.O_RDONLY)), stream(w)), {}),
    "datagram": lambda w: ("copy", (datagram(w), stream(w)), {}),
    "listening": lambda w: ("copy", (listening(w), stream(w)), {}),
    "unconnected": lambda w: ("copy", (w.ends.sock(socket.socket()), w.file()), {}),
    "wrong end": lambda w: ("copy", (w.pipe()[1], w.file()), {}),
    "one pipe": lambda w: ("copy", w.pipe(), {}),
    "itself": lambda w: ("copy", on_itself(w), {}),
    "count": lambda w: ("copy", (w.file(b"x"), w.file(), -1), {}),
    "count type": lambda w: ("copy", (w.file(b"x"), w.file(), 1.0), {}),
    "offset of a socket": lambda w: ("copy", (stream(w), w.file()), {"offset_src": 1}),
    "negative offset": lambda w: ("copy", (w.file(b"x"), w.file()), {"offset_dst": -1}),
    "huge offset": lambda w: ("copy", (w.file(b"x"), w.file()), {"offset_src": 2**63}),
    "appending": lambda w: ("copy", (w.file(b"x"), appending(w)), {"offset_dst": 1}),
    "method": lambda w: ("copy", (w.file(b"x"), w.file()), {"method": "magic"}),
    "method at": lambda w: (
        "copy",
        (w.file(b"x"), w.file()),
        {"method": "sendfile", "offset_dst": 1},
    ),
    "timeout": lambda w: ("copy", (w.file(b"x"), stream(w)), {"timeout": -1}),
    "timeout nan": lambda w: ("copy", (w.file(b"x"), stream(w)), {"timeout": float("nan")}),
    "send a pipe": lambda w: ("send_file", (stream(w), w.pipe()[0]), {}),
    "send past the end": lambda w: ("send_file", (stream(w), w.file(b"abc"), 4), {}),
    "send too much": lambda w: ("send_file", (stream(w), w.file(b"abc"), 1, 3), {}),
    "send text": lambda w: ("send_file", (stream(w), w.file(b"abc")), {"header": "text"}),
    "receive count": lambda w: ("receive_file", (silent(w, b"x"), w.file(), -1), {}),
    "receive offset": lambda w: ("receive_file", (silent(w), w.file(), 1), {"offset": -1}),
    "receive at": lambda w: ("receive_file", (silent(w), appending(w), 1), {"offset": 1}),
    "receive into text": lambda w: ("receive_file", (silent(w), text(w), 1), {"drain": True}),
}
FAILURES = {
    "file into /dev/full": lambda w: ("copy", (w.file(DATA), full(w)), {}),
    "pipe into /dev/full": lambda w: ("copy", (w.source("pipe", b"abc").end, full(w)), {}),
    "socket into /dev/full": lambda w: ("copy", (w.source("unix", b"abc").end, full(w)), {}),
    "file into a dead pipe": lambda w: ("copy", (w.file(DATA), gone(w, "pipe")), {}),
    "pipe into a dead pipe": lambda w: (
        "copy",
        (w.source("pipe", DATA).end, gone(w, "pipe")),
        {},
    ),
    "file into a dead socket": lambda w: ("copy", (w.file(DATA), gone(w, "unix")), {}),
    "socket into a dead socket": lambda w: (
        "copy",
        (w.source("unix", DATA).end, gone(w, "unix")),
        {},
    ),
    "a reset source": lambda w: ("copy", (reset(w), w.file()), {}),
    "a reset source, to a socket": lambda w: ("copy", (reset(w), stream(w)), {}),
    "a silent source": lambda w: ("copy", (silent(w, b"abc"), w.file()), {"timeout": 0.05}),
    "its own timeout": lambda w: ("copy", (silent(w, b"abc", 0.05), stream(w)), {}),
    "no time at all": lambda w: ("copy", (silent(w), w.file()), {"timeout": 0}),
    "a body cut short": lambda w: ("receive_file", (w.source("unix", b"abc").end, w.file(), 4), {}),
    "nobody sends": lambda w: ("receive_file", (silent(w, b"ab", 0.05), w.file(), 3), {}),
    "a body into /dev/full": lambda w: ("receive_file", (silent(w, b"abc"), full(w), 3), {}),
    "drained": lambda w: ("receive_file", (silent(w, b"abc"), full(w), 3), {"drain": True}),
    "half drained": lambda w: (
        "receive_file",
        (silent(w, b"abc"), full(w), 5),
        {"drain": True, "timeout": 0.05},
    ),
    "a /proc file that is shorter": lambda w: (
        "send_file",
        (stream(w), w.ends.fd(os.open("/proc/version", os.O_RDONLY)), 0, 10_000),
        {"header": b"h" * 200, "trailer": b"t"},
    ),
    "to a dead peer": lambda w: ("send_file", (gone(w, "unix"), w.file(b"abc")), {"header": b"h"}),
    "a relay's wrong side": lambda w: ("relay", (stream(w), 1.5), {}),
    "a relay's datagrams": lambda w: ("relay", (datagram(w), stream(w)), {}),
    "a relay's swapped pair": lambda w: ("relay", (stream(w), (w.pipe()[1], w.pipe()[0])), {}),
}
