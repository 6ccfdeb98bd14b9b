"""TCP connections whose segments and unsent bytes are counted."""

from __future__ import annotations

import fcntl
import socket
import struct


def segments(sock):
    """Return how many segments with data have left, probes for lost ones apart.

    tcpi_data_segs_out is at 156 in tcp_info, tcpi_total_retrans at 100.
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return struct.unpack_from("I", info, 156)[0] - struct.unpack_from("I", info, 100)[0]


def unsent(sock):
    """Return how many bytes wait in the socket without having been sent at all: SIOCOUTQNSD."""
    return struct.unpack("i", fcntl.ioctl(sock, 0x894B, bytes(4)))[0]


def connection(wires, kind="tcp4", nodelay=0, cork=0):
    """Connect two sockets, of which the far one delays its ACKs."""
    near, far = wires.sockets(kind)
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, cork)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    return near, far
