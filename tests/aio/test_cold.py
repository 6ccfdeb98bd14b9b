"""Files that are on their disk: what waits for a disk holds up neither loop, engine nor transfer.

A slow disk is one whose first read takes long in each thread: strace delays it. What is read with
pread64 is what the threads for disks read; an engine uses sendfile, splice and preadv2.

Rule 1: other transfers of the same engine end while a file is being read from its disk.
Rule 2: what arrives is what the file has, however it is cut into windows.
Rule 3: a transfer that ends meanwhile ends at once, and its read leaves nothing behind.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from spliceio import RelayPool, aio
from tests.support import loops
from tests.support.cases import cases
from tests.support.loops import run
from tests.support.programs import need
from tests.support.scripts import ROOT
from tests.support.states import Worker
from tests.support.wires import MIB, payload, read_all

backend, ending = loops.backend, loops.ending


def make_cold(path: Path, data: bytes) -> int:
    """Write a file and drop its pages; return a descriptor, or skip where that cannot be done."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.write(fd, data)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return fd
    except OSError:
        pass
    os.close(fd)
    pytest.skip(f"the pages of a file in {path.parent} cannot be dropped")


def threads() -> list[str]:
    """Return the names of the threads for disks."""
    names = [task.read_text() for task in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if name == "spliceio-disk\n"]


WINDOW = MIB
SIZES = (WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 5)


@cases(
    size=SIZES,
    kind=("tcp4", "unix"),
    framed=(False, True),
    part=("all", "count", "offset"),
    loop=("asyncio", "trio"),
)
def test_a_cold_file_arrives_whole(wires, tmp_path, size, kind, framed, part, loop):
    """Every byte once, by sendfile, and it was a thread for disks that waited."""
    data = payload(size)
    fd = make_cold(tmp_path / "cold", data)
    near, far = wires.sockets(kind)
    reader = Worker(lambda: read_all(far.fileno()))
    offset = 70_001 if part == "offset" else 0
    count = size - 4097 if part == "count" else None
    frame = {"header": b"head", "trailer": b"tail"} if framed else {}

    async def main():
        result = await aio.send_file(near, fd, offset, count, **frame)
        near.shutdown(socket.SHUT_WR)
        return result

    result = run(loop, main)
    os.close(fd)
    sent = data[offset : offset + count if count else None]
    assert reader.result() == (b"head" + sent + b"tail" if framed else sent)
    assert result.by_method["sendfile"] == len(sent)
    assert threads()


@pytest.mark.parametrize("to", ["unix", "pipe"])
def test_a_cold_file_from_its_position_on(wires, tmp_path, to):
    """`copy` goes on from the position, and leaves it behind what it sent; a pipe takes it too."""
    data = payload(2 * MIB + 9000)
    fd = make_cold(tmp_path / "cold", data)
    os.lseek(fd, 5000, os.SEEK_SET)
    if to == "pipe":
        out, near = wires.pipe()
    else:
        near, far = wires.sockets("unix")
        out = far.fileno()
    reader = Worker(lambda: read_all(out))

    async def main():
        result = await aio.copy(fd, near, 2 * MIB)
        if to == "unix":
            near.shutdown(socket.SHUT_WR)
        else:
            os.close(near)
        return result

    assert run("asyncio", main).moved == 2 * MIB
    assert os.lseek(fd, 0, os.SEEK_CUR) == 5000 + 2 * MIB
    os.close(fd)
    assert reader.result() == data[5000 : 5000 + 2 * MIB]
    assert threads()


def test_a_file_in_memory_needs_no_such_thread(wires):
    """What is in the page cache, or a memfd, is sent by the engine itself."""
    data = payload(3 * MIB)
    near, far = wires.sockets("tcp4")
    reader = Worker(lambda: read_all(far.fileno()))
    warm = wires.file(data)

    async def main():
        await aio.send_file(near, warm)
        near.shutdown(socket.SHUT_WR)

    run("asyncio", main)
    assert reader.result() == data
    assert not threads()


def test_holes_and_an_end_that_comes_early(wires, tmp_path):
    """A hole is read as zeros; a file that is cut meanwhile is UnexpectedEOF, as ever."""
    data = bytes(3 * MIB) + payload(10)
    fd = make_cold(tmp_path / "cold", payload(1))
    os.ftruncate(fd, 0)
    os.pwrite(fd, data[-10:], 3 * MIB)
    near, far = wires.sockets("tcp4")
    reader = Worker(lambda: read_all(far.fileno()))

    async def main():
        await aio.send_file(near, fd)
        near.shutdown(socket.SHUT_WR)

    run("asyncio", main)
    os.close(fd)
    assert reader.result() == data


def test_a_cold_file_as_one_side_of_a_relay(tmp_path):
    """Both ways at once: the file goes to the peer by a thread for disks, what it says to us."""
    data = payload(3 * MIB)
    fd = make_cold(tmp_path / "cold", data)
    near, far = socket.socketpair()
    got, put = os.pipe()
    far.sendall(b"answer")
    reader = Worker(lambda: read_all(far.fileno()))
    with RelayPool(threads=1) as pool, near, far, open(fd, "rb", buffering=0) as file:
        with open(put, "wb", buffering=0) as sink:
            future = pool.submit((file, sink), near)
            assert reader.result() == data
            assert threads()
            far.shutdown(socket.SHUT_WR)
            assert future.result().a_to_b == len(data)
        assert read_all(got) == b"answer"
    os.close(got)
    assert not threads()


# -- a slow disk -----------------------------------------------------------------------------------

SCRIPT = """
import asyncio, json, os, socket, sys
from tests.support.loops import queued, run
from tests.support.sandbox import refuse
from tests.support.states import descriptors, no_more_descriptors
from tests.support.wires import payload, read_all, MIB
from tests.support.states import Worker
from spliceio import RelayPool, aio

path = sys.argv[1]
data = payload(2 * MIB)

def pair():
    near, far = socket.socketpair()
    return near, far, Worker(lambda: read_all(far.fileno()))

async def send(file, near, said, name):
    await aio.send_file(near, file)
    near.shutdown(socket.SHUT_WR)
    said.append(name)

def cold():
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, data)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd

def warm():
    fd = os.memfd_create("warm")
    os.write(fd, data)
    return fd
"""


def slow(script: str, path: Path, *inject: str, argument: str = "") -> str:
    """Run SCRIPT and this under strace, with these injections; return what it printed."""
    done = subprocess.run(
        [
            *(need("strace"), "-f", "-qq", "-o", path.with_name("trace"), "--seccomp-bpf"),
            *("-e", "trace=pread64"),
            *(option for one in inject for option in ("-e", f"inject={one}")),
            *(sys.executable, "-c", SCRIPT + script, path, argument),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": ROOT, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


SLOW = "pread64:delay_enter=3000000:when=1"
VERY_SLOW = "pread64:delay_enter=5000000:when=1"

OTHERS = """
async def main():
    said, ends = [], [pair() for _ in range(5)]
    tasks = [asyncio.create_task(send(cold(), ends[0][0], said, "cold"))]
    await asyncio.sleep(0)
    for near, *_ in ends[1:]:
        tasks.append(asyncio.create_task(send(warm(), near, said, "warm")))
    await asyncio.gather(*tasks)
    assert all(worker.result() == data for *_, worker in ends)
    print(*said)

run("asyncio", main)
"""


@pytest.fixture
def cold_path(tmp_path):
    """Return the path of a file that can be made cold."""
    os.close(make_cold(tmp_path / "cold", payload(MIB)))
    return tmp_path / "cold"


def test_a_slow_disk_holds_up_nobody(cold_path):
    """Four transfers of the same two engines end while the fifth waits for its disk."""
    assert slow(OTHERS, cold_path, VERY_SLOW) == "warm warm warm warm cold\n"
    # A look for the end of a file asks memory only, where nobody may wait for a disk.
    trace = cold_path.with_name("trace").read_text()
    assert not re.search(r'", 1, \d+\) += \d', trace)


CANCEL = """
async def main():
    near, far = socket.socketpair()
    file = cold()
    task = asyncio.create_task(aio.send_file(near, file))
    while list(descriptors().values()).count(path) < 3:  # ours, the transfer's, the disk's
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.5)  # a read that has not begun by then would not be made at all
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as error:
        print("cancelled", error.result.moved, end=" ")
    print(list(descriptors().values()).count(path), end=" ")
    while list(descriptors().values()).count(path) > 1:
        await asyncio.sleep(0.001)
    print("closed")

run("asyncio", main)
"""


def test_cancelled_while_a_disk_reads(cold_path):
    """At once: the read goes on alone, with a descriptor of its own, and then closes that."""
    assert slow(CANCEL, cold_path, SLOW) == "cancelled 0 2 closed\n"


FORK = """
async def main():
    near, far = socket.socketpair()
    file = cold()
    task = asyncio.create_task(aio.send_file(near, file))
    while list(descriptors().values()).count(path) < 3:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)  # until the engine has noted what it has just duplicated
    if (child := os.fork()) == 0:
        os.write(1, b"%d " % list(descriptors().values()).count(path))
        os._exit(0)
    os.waitpid(child, 0)
    task.cancel()
    await asyncio.wait([task])
    os.write(1, b"parent")

run("asyncio", main)
"""


def test_a_child_has_no_descriptor_of_a_read(cold_path):
    """Its copies are ours and the transfer's, which Python closes with its objects."""
    assert slow(FORK, cold_path, SLOW) == "2 parent"


END = """
async def main():
    near, far = socket.socketpair()
    file = cold()
    task = asyncio.create_task(aio.send_file(near, file))
    while list(descriptors().values()).count(path) < 3:
        await asyncio.sleep(0.001)
    print("ending")

run("asyncio", main)
"""


def test_the_process_ends_while_a_disk_reads(cold_path):
    """In order, and with 0."""
    assert slow(END, cold_path, SLOW) == "ending\n"


NO_DESCRIPTOR = """
async def main():
    near, far, head = *socket.socketpair(), bytes(8 * MIB)
    file = cold()
    task = asyncio.create_task(aio.send_file(near, file, header=head))
    while not queued(far):
        await asyncio.sleep(0.001)
    with no_more_descriptors():
        got = 0
        while got < len(head) + len(data) - MIB:
            await asyncio.sleep(0)
            got += len(far.recv(MIB))
    reader = Worker(lambda: read_all(far.fileno()))
    await task
    near.close()
    print(got + len(reader.result()) == len(head) + len(data))

run("asyncio", main)
"""


def test_no_descriptor_for_the_read(cold_path):
    """Then the engine reads it itself, at least the first window."""
    assert slow(NO_DESCRIPTOR, cold_path) == "True\n"
    assert len(disk_reads(cold_path)) <= MIB // 32768


NO_WORD = """
refuse(json.loads(sys.argv[2]))

async def main():
    near, far, worker = pair()
    said = []
    await send(warm(), near, said, "sent")
    assert worker.result() == data
    print(*said)

run("asyncio", main)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="no call numbers for this machine")
@pytest.mark.parametrize("counted", [True, False])
def test_a_kernel_that_does_not_tell(cold_path, counted):
    """Without RWF_NOWAIT pages are counted; where that is refused too, each window is read."""
    rules = [(327, errno.EOPNOTSUPP)] if counted else [(327, errno.EOPNOTSUPP), (451, errno.EPERM)]
    assert slow(NO_WORD, cold_path, argument=json.dumps(rules)) == "sent\n"
    assert len(disk_reads(cold_path)) == (0 if counted else 2 * MIB // 32768)


def disk_reads(path: Path) -> list[str]:
    """Return the reads of a file in pieces, as the trace has them."""
    lines = path.with_name("trace").read_text().splitlines()
    return [line for line in lines if re.search(r", 32768, \d+(\)| <unfinished)", line)]
