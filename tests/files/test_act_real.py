"""A small file in one call into C, in earnest: full disks, limits, signals, files that change.

Rule 1: whatever goes wrong, the destination is the old file or the whole new one.
Rule 2: nothing is left beside it, except by SIGKILL, and of a new file not even then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import threading
from functools import partial

import pytest

from spliceio import copy_file
from tests.support.programs import need
from tests.support.small_files import DATA, MOST, OLD, SIZES, holds
from tests.support.states import no_more_descriptors
from tests.support.wires import payload


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize("limit", [0, 1, 4096, len(DATA) - 1])
def test_the_file_size_limit(folder, kind, limit):
    """RLIMIT_FSIZE: EFBIG, and the old file."""
    dst = folder / "dst"
    if kind == "old":
        dst.write_bytes(OLD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match="limit") as caught:
            copy_file(folder / "src", dst)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    holds(folder, **({} if kind == "new" else {"dst": OLD}))


FULL = """
    import errno, os, subprocess, sys
    from spliceio import copy_file
    there, kind = sys.argv[1], sys.argv[3]
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", there], check=True)
    else:
        with open(there + ".image", "wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m0", there + ".image"], check=True)
        subprocess.run(["mount", "-o", "loop", there + ".image", there], check=True)
        os.rmdir(there + "/lost+found")
    os.chdir(there)
    with open(sys.argv[2], "rb") as file:
        content = file.read()
    with open("old", "wb") as file:
        file.write(b"old")
    if kind == "ext4":
        room = os.statvfs(".")
        with open("filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, (room.f_bavail - 16) * room.f_frsize)
    copies = []
    try:
        for number in range(9):
            copy_file(sys.argv[2], f"copy{number}")
            copies.append(f"copy{number}")
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        assert "full" in str(error), error
    assert 0 < len(copies) < 5, copies
    try:
        copy_file(sys.argv[2], "old")
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    left = set(os.listdir(".")) - {"filler"}
    assert left == {*copies, "old"}, left
    for name in copies:
        with open(name, "rb") as file:
            assert file.read() == content
    with open("old", "rb") as file:
        assert file.read() == b"old"
    os.unlink("copy0")
    os.sync()
    copy_file(sys.argv[2], "copy0")
    os.chdir("/")
    subprocess.run(["umount", there], check=True)
    print("full", end="")
"""


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_filesystem(folder, kind):
    """ENOSPC; what was there stays, and every block is given back."""
    if kind == "ext4":
        need("mkfs.ext4")
        if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
            pytest.skip("only root mounts a file")
    wrapper = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    (folder / "there").mkdir()
    probe = subprocess.run(
        [need("unshare"), *wrapper[1:], "mount", "-t", "tmpfs", "tmpfs", folder / "there"],
        capture_output=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"no mount namespace here: {probe.stderr.decode().strip()}")
    command = [*wrapper, sys.executable, "-c", textwrap.dedent(FULL)]
    done = subprocess.run(
        [*command, folder / "there", folder / "src", kind],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "full", "")


@pytest.mark.parametrize("kind", ["new", "old"])
def test_too_few_descriptors(folder, monkeypatch, kind):
    """EMFILE wherever it strikes: the old file, nothing left, nothing leaked."""
    dst = folder / "dst"
    copy_file(folder / "src", dst)
    failed = 0
    for room in range(9):
        dst.unlink(missing_ok=True)
        if kind == "old":
            dst.write_bytes(OLD)
        raised = None
        with no_more_descriptors(room):
            try:
                copy_file(folder / "src", dst)
            except OSError as error:
                raised = error
        if raised is None:
            holds(folder, dst=DATA)
            break
        failed += 1
        assert raised.errno == errno.EMFILE
        holds(folder, **({} if kind == "new" else {"dst": OLD}))
    assert failed == (2 if kind == "new" else 3)


class Interrupted(Exception):
    """What the handler here raises."""


@pytest.mark.parametrize("raises", [True, False])
def test_a_storm_of_signals(folder, raises):
    """Handlers that return, and handlers that raise: a whole file, old or new, and no part."""
    caught, done, stopped = [], 0, 0
    dst = folder / "dst"

    def handler(*_):
        caught.append(1)
        if raises:
            raise Interrupted

    contents = {DATA, payload(16384, seed=2), OLD}
    (folder / "other").write_bytes(payload(16384, seed=2))
    dst.write_bytes(OLD)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 2e-4, 2e-4)
        while len(caught) < 200 or not done:
            try:
                copy_file(folder / ("other" if len(caught) % 2 else "src"), dst)
                done += 1
                if len(caught) % 3 == 0:
                    os.unlink(dst)
                    copy_file(folder / "src", dst)
            except Interrupted:
                stopped += 1
    except Interrupted:
        stopped += 1
    finally:
        while True:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
                break
            except Interrupted:
                pass
    if dst.exists():
        assert dst.read_bytes() in contents
    assert set(os.listdir(folder)) <= {"src", "dst", "other"}
    assert bool(stopped) == raises


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize("scale", [1, 20])
def test_a_source_that_grows_and_shrinks_meanwhile(folder, kind, scale):
    """As many bytes as it had at some moment, and the right ones.

    The kernel empties the rest of the last page when it truncates, also for one that reads it.
    """
    src, dst = folder / "src", folder / "dst"
    whole = payload(40_000 * scale)
    least, middle = 10_000 * scale, 25_000 * scale
    stop = threading.Event()

    def change():
        with open(src, "r+b", buffering=0) as file:
            while not stop.is_set():
                os.ftruncate(file.fileno(), least)
                os.pwrite(file.fileno(), whole[least:middle], least)
                os.pwrite(file.fileno(), whole[middle:], middle)

    src.write_bytes(whole[:least])
    thread = threading.Thread(target=change)
    thread.start()
    sizes = set()
    try:
        # As long as it takes to meet two sizes: the other thread has its turns by chance.
        for number in range(50_000):
            if number >= 500 // scale and len(sizes) > 1:
                break
            if kind == "new":
                dst.unlink(missing_ok=True)
            result = copy_file(src, dst)
            content = dst.read_bytes()
            assert content[:least] == whole[:least]
            if not whole.startswith(content):
                assert all(got in (0, byte) for got, byte in zip(content, whole, strict=False))
            assert result.moved + result.holes == len(content) >= least
            sizes.add(len(content))
    finally:
        stop.set()
        thread.join()
    assert set(os.listdir(folder)) == {"src", "dst"}
    assert len(sizes) > 1


KILLED = """
import os, sys, spliceio
with open("src", "wb") as file:
    file.write(b"x" * 16384)
if sys.argv[1] == "old":
    with open("dst", "wb") as file:
        file.write(b"the old content")
os.access("/begin", 0)
spliceio.copy_file("src", "dst")
"""


@pytest.mark.parametrize(
    ("kind", "call", "number"),
    [("new", "write", 2), ("new", "linkat", 1), ("old", "write", 3), ("old", "renameat", 1)],
)
def test_a_process_that_is_killed(folder, kind, call, number):
    """A new file has left nothing, one that was to replace another its part."""
    command = [need("strace"), "-qq", "-o", "log", f"-etrace={call}"]
    command += [f"-einject={call}:signal=KILL:when={number}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", KILLED, kind],
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (folder / "log").unlink()
    left = [path.name for path in folder.iterdir() if path.name.endswith(".part")]
    if kind == "new":
        holds(folder)
    else:
        assert len(left) == 1
        assert (folder / "dst").read_bytes() == OLD
    copy_file(folder / "src", folder / "dst")
    assert (folder / "dst").read_bytes() == b"x" * 16384


IN_CREATE, IN_MOVED_TO, IN_MODIFY, IN_NONBLOCK = 0x100, 0x80, 0x2, 0x800


def test_what_a_watcher_of_the_directory_sees(folder):
    """Of a new file one event, when it is whole; of a replaced one the renaming."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(IN_NONBLOCK)
    if watch < 0:
        pytest.skip(f"no inotify here: {os.strerror(ctypes.get_errno())}")
    try:
        mask = IN_CREATE | IN_MOVED_TO
        assert libc.inotify_add_watch(watch, os.fsencode(folder), mask) >= 0
        seen = []
        for _ in range(2):
            copy_file(folder / "src", folder / "dst")
            raw, events = os.read(watch, 4096), []
            while raw:
                _, kind, _, size = struct.unpack_from("iIII", raw)
                events.append((kind, raw[16 : 16 + size].rstrip(b"\0")))
                raw = raw[16 + size :]
            seen.append(events)
    finally:
        os.close(watch)
    assert seen[0] == [(IN_CREATE, b"dst")]
    assert seen[1][-1] == (IN_MOVED_TO, b"dst")


def test_a_directory_that_is_swapped_meanwhile(folder):
    """The file is in one of them, whole, and nothing is in the other."""
    for name in "ab":
        (folder / name).mkdir()
    (folder / "into").symlink_to("a")
    stop = threading.Event()

    def swap():
        turn = 0
        while not stop.is_set():
            turn += 1
            (folder / "next").symlink_to("ab"[turn % 2])
            (folder / "next").rename(folder / "into")

    thread = threading.Thread(target=swap)
    thread.start()
    found = set()
    try:
        for number in range(400):
            copy_file(folder / "src", folder / "into" / f"dst{number}")
            there = {name for name in "ab" if (folder / name / f"dst{number}").exists()}
            assert len(there) == 1
            found |= there
            [name] = there
            assert (folder / name / f"dst{number}").read_bytes() == DATA
    finally:
        stop.set()
        thread.join()
    assert len(os.listdir(folder / "a")) + len(os.listdir(folder / "b")) == 400
    assert found == {"a", "b"}


def test_readers_meet_the_old_file_or_the_new_one(folder):
    """Whoever opens it while it is replaced again and again: one content, whole."""
    dst = folder / "dst"
    contents = {payload(30_000, seed): folder / f"from{seed}" for seed in range(2)}
    for content, path in contents.items():
        path.write_bytes(content)
    copy_file(folder / "from0", dst)
    stop, wrong, reads = threading.Event(), [], []

    def read():
        while not stop.is_set():
            content = dst.read_bytes()
            reads.append(1)
            if content not in contents:
                wrong.append(len(content))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        while len(reads) < 500:
            for path in contents.values():
                copy_file(path, dst)
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_threads_copy_side_by_side(folder):
    """Each call has its own memory and its own descriptors."""
    for number in range(4):
        (folder / f"from{number}").write_bytes(payload(20_000 + number, number))

    def work(number):
        for turn in range(100):
            copy_file(folder / f"from{number}", folder / f"to{number}-{turn % 3}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        for turn in range(3):
            copied = (folder / f"to{number}-{turn}").read_bytes()
            assert copied == payload(20_000 + number, number)
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("preserve", [(), "all"])
def test_copytree_takes_it(folder, preserve):
    """As copy_function of shutil.copytree: the tree is the same, with links and empty files.

    With preserve="all" it is what copy2 leaves, with the times.
    """
    tree = folder / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    for number, size in enumerate([*SIZES, 2 * MOST]):
        (tree / "deep" / f"file{number}").write_bytes(payload(size))
    (tree / "deep" / "er" / "link").symlink_to("../file3")
    (tree / "script").write_bytes(b"#!/bin/sh\n")
    (tree / "script").chmod(0o755)
    os.utime(tree / "script", ns=(10**18, 10**18 + 1))
    copy = partial(copy_file, preserve=preserve)
    shutil.copytree(tree, folder / "ours", copy_function=copy, symlinks=True)
    shutil.copytree(tree, folder / "theirs", symlinks=True)

    def listed(top):
        return {
            str(path.relative_to(top)): os.readlink(path)
            if path.is_symlink()
            else (
                stat.S_IMODE(path.stat().st_mode),
                path.stat().st_mtime_ns if preserve else 0,
                path.is_file() and path.read_bytes(),
            )
            for path in top.rglob("*")
        }

    assert listed(folder / "ours") == listed(folder / "theirs")
