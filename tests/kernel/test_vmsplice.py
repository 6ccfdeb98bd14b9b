"""vmsplice, raw: what its documentation says of the memory that is in a pipe.

Rule 1: whether this kernel maps or copies is asked through libc alone; where it copies, the reader
        gets what was there at the call, and the tests say so instead of being left out.
Rule 2: no test reads memory that is free. What "freed" means is shown where the memory has a new
        owner at the same address.
"""

from __future__ import annotations

import array
import ctypes
import mmap
import os
import select
import subprocess
import sys
import textwrap

import pytest

import spliceio
from spliceio import SPLICE_F_GIFT, SPLICE_F_NONBLOCK, vmsplice

PAGE = os.sysconf("SC_PAGESIZE")
OLD, NEW = b"o" * 4 * PAGE, b"n" * 4 * PAGE


@pytest.fixture(scope="module")
def later():
    """What a reader gets of memory that was OLD at the call and is NEW now."""
    reader, writer = os.pipe()
    memory = ctypes.create_string_buffer(b"old", PAGE)
    iov = (ctypes.c_void_p * 2)(ctypes.addressof(memory), 3)
    ctypes.CDLL(None).vmsplice(writer, ctypes.byref(iov), 1, 0)
    memory[0:3] = b"new"
    seen = os.read(reader, 3)
    os.close(reader)
    os.close(writer)
    return NEW if seen == b"new" else OLD


def mapped(size: int) -> mmap.mmap:
    """Memory of whole pages that nothing else is in."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


@pytest.mark.parametrize("flags", [0, SPLICE_F_GIFT], ids=["plain", "gift"])
@pytest.mark.parametrize(("at", "size"), [(0, PAGE), (0, 4 * PAGE), (1, PAGE), (100, 7)])
def test_a_later_change_is_seen_with_or_without_gift(wires, later, flags, at, size):
    """Aligned to pages or not: GIFT is accepted, and protects nothing."""
    reader, writer = wires.pipe()
    memory = mapped(5 * PAGE)
    memory[:] = b"o" * 5 * PAGE
    with memoryview(memory) as view, view[at : at + size] as part:
        assert vmsplice(writer, part, flags) == size
        part[:] = NEW[:size]
    assert os.read(reader, 2 * size) == later[:size]
    memory.close()


def test_freed_memory_shows_its_next_owner(wires, later):
    """A bytes object that is gone, and another one at its address."""
    reader, writer = wires.pipe()
    size = 400  # of the size for which the interpreter's own allocator takes back the last freed
    data = bytes(OLD[:size])
    address = id(data)
    assert vmsplice(writer, data) == size
    del data
    owners = []
    while not owners or id(owners[-1]) != address:
        owners.append(NEW[: size - 1] + b"n")
        assert len(owners) < 100_000, "the address was never used again"
    assert os.read(reader, size) == later[:size]


def test_an_export_stops_a_resize_and_no_change(wires, later):
    """A memoryview that is kept holds the memory where it is, not what is in it."""
    reader, writer = wires.pipe()
    data = bytearray(OLD[:PAGE])
    with memoryview(data) as view:
        vmsplice(writer, view)
        with pytest.raises(BufferError):
            data.extend(b"more")
        data[:] = NEW[:PAGE]
    assert os.read(reader, PAGE) == later[:PAGE]


def test_unmapping_is_safe(wires):
    """The pipe keeps the old pages, whatever is mapped at that place next."""
    reader, writer = wires.pipe()
    memory = mapped(4 * PAGE)
    memory[:] = OLD
    assert vmsplice(writer, memory) == len(OLD)
    memory.close()
    again = [mapped(4 * PAGE) for _ in range(10)]
    for one in again:
        one[:] = NEW
    assert os.read(reader, len(OLD)) == OLD
    for one in again:
        one.close()


def test_madvise_dontneed_is_safe(wires):
    """The memory is new afterwards; the pipe keeps the old pages."""
    reader, writer = wires.pipe()
    memory = mapped(4 * PAGE)
    memory[:] = OLD
    assert vmsplice(writer, memory) == len(OLD)
    memory.madvise(mmap.MADV_DONTNEED)
    assert memory[:1] == b"\0"
    memory[:] = NEW
    assert os.read(reader, len(OLD)) == OLD
    memory.close()


def test_a_child_does_not_reach_into_the_pipe(wires):
    """What a forked child writes into its copy of the memory is not seen."""
    reader, writer = wires.pipe()
    memory = mapped(4 * PAGE)
    memory[:] = OLD
    assert vmsplice(writer, memory) == len(OLD)
    pid = os.fork()
    if pid == 0:
        memory[:] = NEW
        os._exit(memory[:1] != b"n")
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(reader, len(OLD)) == OLD
    memory.close()


def test_untouched_memory_goes_as_zeros(wires):
    """Memory that was never written is the kernel's page of zeros, and stays that in the pipe."""
    reader, writer = wires.pipe()
    memory = mapped(4 * PAGE)
    assert vmsplice(writer, memory) == 4 * PAGE
    memory[:] = NEW
    assert os.read(reader, 4 * PAGE) == bytes(4 * PAGE)
    memory.close()


def test_tee_copies_the_pointers(wires, later):
    """Both pipes show a later change."""
    reader, writer = wires.pipe()
    copy_r, copy_w = wires.pipe()
    data = bytearray(OLD[:PAGE])
    vmsplice(writer, data)
    assert spliceio.tee(reader, copy_w, PAGE) == PAGE
    data[:] = NEW[:PAGE]
    assert os.read(reader, PAGE) == later[:PAGE]
    assert os.read(copy_r, PAGE) == later[:PAGE]


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_an_empty_pipe_does_not_mean_that_the_memory_is_free(wires, later, kind):
    """The pages have moved on into a socket, and a change is still seen."""
    reader, writer = wires.pipe()
    near, far = wires.sockets(kind)
    data = bytearray(OLD[:PAGE])
    vmsplice(writer, data)
    assert spliceio.splice(reader, near, PAGE) == PAGE
    assert spliceio.try_splice(reader, near, 1) is None
    data[:] = NEW[:PAGE]
    got = b""
    while len(got) < PAGE:
        got += far.recv(PAGE)
    assert got == later[:PAGE]


def test_the_read_direction_copies(wires):
    """What was read is the reader's own, and the writer's memory is not touched by it."""
    reader, writer = wires.pipe()
    data, mine = bytearray(OLD[:PAGE]), bytearray(PAGE)
    vmsplice(writer, data)
    assert vmsplice(reader, mine) == PAGE
    data[:] = NEW[:PAGE]
    assert mine == OLD[:PAGE]
    mine[:] = bytes(PAGE)
    assert data == NEW[:PAGE]


def test_pages_in_a_pipe_are_not_counted_as_locked_memory():
    """With RLIMIT_MEMLOCK 0 and no privilege a full pipe is pinned all the same."""
    code = """
        import os, resource
        from spliceio import vmsplice
        vmsplice.__name__
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        if os.geteuid() == 0:
            os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
        reader, writer = os.pipe()
        print(vmsplice(writer, bytearray(os.sysconf("SC_PAGESIZE") * 8)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{8 * PAGE}\n", done.stderr


def test_a_short_count_is_where_the_slots_end(wires):
    """A slot takes a page or a part of one: an unaligned buffer needs one more."""
    reader, writer = wires.pipe()
    memory = mapped(17 * PAGE)
    with memoryview(memory) as view, view[PAGE // 2 :] as part:
        expected = 16 * PAGE - PAGE // 2
        assert vmsplice(writer, part, SPLICE_F_NONBLOCK) == expected
    assert len(os.read(reader, 17 * PAGE)) == expected
    memory.close()


ONE_STRETCH = {
    "bytes": lambda: (bytes(range(200)), False),
    "bytearray": lambda: (bytearray(range(200)), True),
    "memoryview": lambda: (memoryview(bytearray(range(200))), True),
    "read-only memoryview": lambda: (memoryview(bytes(range(200))), False),
    "read-only of a bytearray": lambda: (memoryview(bytearray(range(200))).toreadonly(), False),
    "numbers": lambda: (memoryview(bytearray(range(200))).cast("I"), True),
    "table": lambda: (memoryview(bytearray(range(200))).cast("B", (10, 20)), True),
    "array": lambda: (array.array("I", bytes(range(200))), True),
}


@pytest.mark.parametrize("kind", ONE_STRETCH)
@pytest.mark.parametrize("call", [spliceio.vmsplice, spliceio.try_vmsplice])
def test_one_stretch_of_memory_goes_either_way(wires, kind, call):
    """Into a pipe from any, counted in bytes; out of it only where it may be written to."""
    memory, is_writable = ONE_STRETCH[kind]()
    reader, writer = wires.pipe()
    assert call(writer, memory) == 200
    assert os.read(reader, 300) == bytes(range(200))
    os.write(writer, bytes(200))
    if is_writable:
        assert call(reader, memory) == 200
        assert bytes(memory) == bytes(200)
    else:
        with pytest.raises(TypeError, match="read-only"):
            call(reader, memory)
        assert bytes(memory) == bytes(range(200))
        assert os.read(reader, 300) == bytes(200)


@pytest.mark.parametrize("call", [spliceio.vmsplice, spliceio.try_vmsplice])
@pytest.mark.parametrize("raised", ["full", "no pipe", "closed"])
def test_nothing_stays_pinned(wires, call, raised):
    """Whatever the call answers, while its exception is there, too: the memory can be resized."""
    memory, fd = bytearray(b"x" * 5000), wires.pipe()[1]
    if raised == "full":
        fd = wires.clogged()[1]
    elif raised == "no pipe":
        fd = wires.file()
    elif raised == "closed":
        fd = 10_000
    view = memoryview(memory)
    caught = None
    try:
        assert call(fd, view, spliceio.SpliceFlag.NONBLOCK) is None
    except OSError as error:
        caught = error
    assert (caught is None) == (raised == "full" and call is spliceio.try_vmsplice)
    view.release()
    memory.extend(b"y")


@pytest.mark.parametrize("flags", [-1, 1 << 40, 1.5, "1"])
def test_wrong_flags_are_told_of_every_kind_of_memory(wires, flags):
    for kind in ONE_STRETCH:
        memory, _ = ONE_STRETCH[kind]()
        reader, writer = wires.pipe()
        with pytest.raises((TypeError, ValueError, OverflowError, OSError)):
            spliceio.vmsplice(writer, memory, flags)
        assert not select.select([reader], [], [], 0)[0]
