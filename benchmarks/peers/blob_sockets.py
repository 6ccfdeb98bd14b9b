"""Send one body to many connections, one after the other, in several rounds; says what it cost.

usage: blob_sockets.py blob|sendfile|sendall PORT FILE CONNECTIONS ROUNDS
"""

import json
import os
import resource
import socket
import sys
from contextlib import ExitStack
from pathlib import Path


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def by_blob(body):
    from spliceio import Blob, send_file

    blob = Blob(body)
    return lambda sock: send_file(sock, blob).method


def by_sendfile(body):
    """The system call alone, on the same memory: what is left of the above is the kernel's."""
    from spliceio import Blob

    blob = Blob(body)
    fd, size = blob.fileno(), len(blob)

    def send(sock):
        done, out = 0, sock.fileno()
        while done < size:
            done += os.sendfile(out, fd, done, size - done)
        return "sendfile"

    # The memory stays as long as the blob does.
    send.blob = blob
    return send


def by_sendall(body):
    def send(sock):
        sock.sendall(body)
        return "sendall"

    return send


def main() -> None:
    port, body = int(sys.argv[2]), Path(sys.argv[3]).read_bytes()
    count, rounds = int(sys.argv[4]), int(sys.argv[5])
    ways = {"blob": by_blob, "sendfile": by_sendfile, "sendall": by_sendall}
    send = ways[sys.argv[1]](body)
    with ExitStack() as stack:
        socks = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)
        ]
        methods, before = set(), cpu()
        for _ in range(rounds):
            methods.update(map(send, socks))
        spent = cpu() - before
    moved = count * rounds * len(body)
    print(json.dumps({"cpu": spent, "moved": moved, "methods": sorted(methods)}))


main()
