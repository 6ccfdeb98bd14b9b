"""`copy_file` when something goes wrong in earnest: full disks, limits, signals, files that change.

Rule 1: whatever went wrong, the destination is the old file or the whole new one.
Rule 2: nothing is left beside it, except by SIGKILL.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

from spliceio import copy_file
from tests.support.cases import cases
from tests.support.programs import need
from tests.support.seam import Seam, cap, fail
from tests.support.states import until
from tests.support.wires import MIB, payload

DATA = payload(300_001)
OLD = b"the old content"


class Interrupted(Exception):
    """What the callbacks and signal handlers here raise."""


PLACES = ("disk", "memory")


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    """A directory with a source, on a disk and in memory in turn."""
    with tempfile.TemporaryDirectory(
        dir=tmp_path if request.param == "disk" else "/dev/shm"
    ) as made:
        (Path(made) / "src").write_bytes(DATA)
        yield Path(made)


OLDS = (None, OLD)


@pytest.fixture(params=OLDS, ids=["new", "old"])
def dst(request, place):
    """A destination that is not there, or has old content."""
    path = place / "dst"
    if request.param is not None:
        path.write_bytes(request.param)
    return path


def untouched(dst, old):
    """Assert that a failed copy has left what was there before, and nothing else."""
    if old is None:
        assert not dst.exists()
    else:
        assert dst.read_bytes() == old
    assert sorted(os.listdir(dst.parent)) == ["dst", "src"][old is None :]


def content_of(path):
    return path.read_bytes() if path.exists() else None


def pausing():
    """Rules that stop the copy after 64 KiB, so that `progress` is called in the middle.

    No byte is on its way then: a call is interrupted that takes from the source.
    """
    calls = (("copy_file_range", "direct"), ("sendfile", "direct"), ("splice", "fill"))
    return [
        rule
        for call, site in (*calls, ("read", "fill"))
        for rule in (cap(call, 64 << 10, site=site, times=1), fail(call, errno.EINTR, site=site))
    ]


# ---- exceptions of the caller -------------------------------------------------------------------


@cases(
    place=PLACES,
    dst=OLDS,
    error=[Interrupted, KeyboardInterrupt, SystemExit, GeneratorExit],
    middle=[False, True],
    sparse=["auto", "always", "never"],
).with_args(indirect=["place", "dst"])
def test_a_progress_that_raises(dst, monkeypatch, error, middle, sparse):
    """In the middle or at the end: its exception comes out, with counts, and nothing is left."""
    old = content_of(dst)
    told = []

    def progress(moved):
        told.append(moved)
        raise error

    rules = pausing() if middle else []
    with Seam(*rules).everywhere(monkeypatch), pytest.raises(error) as caught:
        copy_file(dst.with_name("src"), dst, progress=progress, sparse=sparse)
    assert len(told) == 1
    if middle:
        assert 0 < told[0] < len(DATA)
    assert caught.value.result.moved == told[0]
    untouched(dst, old)


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "handler"])
def test_a_signal_whose_handler_raises(dst, monkeypatch, kind):
    """Ctrl-C in the middle: it comes out, and nothing is left."""
    old = content_of(dst)
    number, expected = signal.SIGINT, KeyboardInterrupt
    handler = signal.default_int_handler
    if kind == "handler":
        number, expected = signal.SIGALRM, Interrupted

        def handler(_signum, _frame):
            raise Interrupted

    before = signal.signal(number, handler)
    try:
        with Seam(*pausing()).everywhere(monkeypatch), pytest.raises(expected):
            copy_file(dst.with_name("src"), dst, progress=lambda _: os.kill(os.getpid(), number))
    finally:
        signal.signal(number, before)
    untouched(dst, old)


def test_a_storm_of_signals_loses_nothing(place):
    """Handlers that return interrupt calls all the time; the content is whole."""
    caught = []
    src = place / "src"
    src.write_bytes(payload(MIB) * 64)
    before = signal.signal(signal.SIGALRM, lambda *_: caught.append(1))
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        while len(caught) < 50:
            result = copy_file(src, place / "dst")
            assert result.moved + result.holes == 64 * MIB
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (place / "dst").read_bytes() == src.read_bytes()
    untouched(place / "dst", src.read_bytes())


EVERYWHERE = """
    import os, sys
    import spliceio
    from spliceio import copy_file

    package = os.path.dirname(spliceio.__file__)
    if sys.argv[2] == "long":
        from spliceio._files import act
        act.copied = lambda *args: None
    options = {"new": {}, "old": {}, "kept": {"overwrite": False}}[sys.argv[1]]
    with open("src", "rb") as file:
        content = file.read()

    def prepared():
        for name in os.listdir("."):
            if name != "src":
                os.unlink(name)
        if sys.argv[1] == "old":
            with open("dst", "wb") as file:
                file.write(b"old")

    def copied_with_a_signal_at(step):
        count = 0

        def trace(frame, event, arg):
            nonlocal count
            if not frame.f_code.co_filename.startswith(package):
                return None
            if event == "line":
                count += 1
                if count == step:
                    sys.settrace(None)
                    raise KeyboardInterrupt(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            return trace

        sys.settrace(trace)
        try:
            copy_file("src", "dst", **options)
        except KeyboardInterrupt as error:
            return str(error)
        finally:
            sys.settrace(None)
        return None

    prepared()
    copy_file("src", "dst", **options)
    left, step = {}, 0
    while True:
        step += 1
        prepared()
        where = copied_with_a_signal_at(step)
        parts = [name for name in os.listdir(".") if name.endswith(".part")]
        if parts:
            left[os.path.relpath(where, package)] = parts
        there = open("dst", "rb", buffering=0).readall() if os.path.exists("dst") else None
        assert there in (content, b"old" if sys.argv[1] == "old" else None), where
        if where is None:
            break
    assert there == content
    assert step > (50 if sys.argv[2] == "long" else 10), step
    assert not left, left
    print("done", end="")
"""


@pytest.mark.parametrize("kind", ["new", "old", "kept"])
@pytest.mark.parametrize("way", ["one call", "long"])
def test_an_interrupt_at_every_line(place, kind, way):
    """Ctrl-C may come between any two lines: no part is left, and the destination is whole."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EVERYWHERE), kind, way],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "done"), done.stderr


KILLED = """
    import os, sys
    from spliceio import copy_file
    copy_file("src", "dst", progress=lambda moved: os.kill(os.getpid(), int(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_copy_leaves_at_most_a_part(place, number):
    """SIGKILL leaves the part by its name, and the old file; the next copy is not in its way."""
    dst = place / "dst"
    dst.write_bytes(OLD)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(int(number))],
        cwd=place,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -number
    assert dst.read_bytes() == OLD
    left = set(os.listdir(place)) - {"src", "dst"}
    if number == signal.SIGINT:
        assert left == set()
    else:
        [part] = left
        assert part.startswith(".dst.")
        assert part.endswith(".part")
    copy_file(place / "src", dst)
    assert dst.read_bytes() == DATA
    assert set(os.listdir(place)) == {"src", "dst"} | left


def test_a_thread_that_copies_is_not_stopped_by_the_end_of_another(place):
    """Each call has its own part and its own descriptors."""
    started, stopped = threading.Event(), []

    def progress(_moved):
        started.set()
        raise Interrupted

    def failing():
        for _ in range(20):
            try:
                copy_file(place / "src", place / "dst", progress=progress)
            except Interrupted:
                stopped.append(1)

    thread = threading.Thread(target=failing)
    thread.start()
    try:
        started.wait()
        for number in range(20):
            copy_file(place / "src", place / f"other{number}")
            assert (place / f"other{number}").read_bytes() == DATA
    finally:
        thread.join()
    assert len(stopped) == 20
    assert not [name for name in os.listdir(place) if name.endswith(".part")]


# ---- nothing more fits --------------------------------------------------------------------------


@contextlib.contextmanager
def limited(size):
    """Limit the size of files, for no longer than it takes: the test's own output may be one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@cases(
    place=PLACES,
    dst=OLDS,
    reflink=["auto", "never"],
    sparse=["auto", "always", "never"],
    limit=[0, 1, 100_000, len(DATA) - 1],
).with_args(indirect=["place", "dst"])
def test_the_file_size_limit(dst, reflink, sparse, limit):
    """RLIMIT_FSIZE: EFBIG, and the old file."""
    old = content_of(dst)
    with pytest.raises(OSError, match="limit") as caught, limited(limit):
        copy_file(dst.with_name("src"), dst, reflink=reflink, sparse=sparse)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.result.moved <= limit
    untouched(dst, old)


def test_a_hole_beyond_the_file_size_limit(place):
    """A hole counts by its length: EFBIG too."""
    with open(place / "src", "wb") as file:
        file.truncate(10 * MIB)
    with pytest.raises(OSError, match="limit") as caught, limited(MIB):
        copy_file(place / "src", place / "dst")
    assert caught.value.errno == errno.EFBIG
    untouched(place / "dst", None)


def python(script, *args, wrapper=()):
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def mounting():
    """Return how to run a program that may mount; skip where that cannot be."""
    wrapper = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    need("unshare")
    probe = subprocess.run(
        [*wrapper, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"no mount namespace here: {probe.stderr.decode().strip()}")
    return wrapper


FULL = """
    import errno, os, subprocess, sys
    from spliceio import copy_file
    where, kind, sparse, reflink, src = sys.argv[1:]
    there = where + "/there"
    os.mkdir(there)
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", there], check=True)
    else:
        with open(where + "/image", "wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", where + "/image"], check=True)
        subprocess.run(["mount", "-o", "loop", where + "/image", there], check=True)
    before = sorted(os.listdir(there))
    def free():
        os.sync()
        status = os.statvfs(there)
        return status.f_bfree * status.f_frsize
    with open(src, "wb") as file:
        file.write(os.urandom(20 << 20))
    with open(there + "/dst", "wb") as file:
        file.write(b"old")
    was = free()
    for dst in ("/dst", "/new"):
        try:
            copy_file(src, there + dst, sparse=sparse, reflink=reflink)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            assert "full" in str(error), error
            if kind == "ext4" and sparse != "always":
                assert error.result.moved == 0, error.result
        else:
            raise SystemExit("20 MiB went into less")
        assert sorted(os.listdir(there)) == sorted([*before, "dst"]), os.listdir(there)
        with open(there + "/dst", "rb") as file:
            assert file.read() == b"old"
    assert free() >= was - 65536, (free(), was)

    # In place: what went is there; nothing else is promised.
    with open(there + "/open", "wb") as file:
        try:
            result = copy_file(src, file, sparse=sparse, reflink=reflink)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        else:
            raise SystemExit(f"20 MiB went into less: {result}")
    os.unlink(there + "/open")

    # A hole needs no room.
    with open(src, "wb") as file:
        file.write(b"x" * 100_000)
        file.truncate(1 << 30)
        file.seek(500 << 20)
        file.write(b"y" * 100_000)
    result = copy_file(src, there + "/dst")
    assert result.moved + result.holes == 1 << 30
    assert result.moved < 1 << 20, result
    os.chdir("/")
    subprocess.run(["umount", there], check=True)
    print("whole", end="")
"""


@cases(
    place=PLACES,
    kind=["tmpfs", "ext4"],
    sparse=["auto", "always", "never"],
    reflink=["auto", "never"],
).with_args(indirect=["place"])
def test_a_full_filesystem(place, kind, sparse, reflink):
    """ENOSPC; the old file stays, every block is given back; ext4 tells before a byte is copied."""
    wrapper = mounting()
    if kind == "ext4":
        need("mkfs.ext4")
        if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
            pytest.skip("only root mounts a file")
    args = (place, kind, sparse, reflink, place / "src")
    assert python(FULL, *args, wrapper=wrapper) == "whole"


READ_ONLY = """
    import errno, os, subprocess, sys
    from spliceio import copy_file
    where = sys.argv[1]
    os.mkdir(where + "/there")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", where + "/there"], check=True)
    with open(where + "/there/dst", "wb") as file:
        file.write(b"old")
    subprocess.run(["mount", "-o", "remount,ro", where + "/there"], check=True)
    for name in ("dst", "new"):
        try:
            copy_file(where + "/src", where + "/there/" + name)
        except OSError as error:
            assert error.errno == errno.EROFS, error
        else:
            raise SystemExit("written to a read-only filesystem")
    assert os.listdir(where + "/there") == ["dst"]
    print("refused", end="")
"""


def test_a_read_only_filesystem(place):
    """EROFS, for a new file and an old one."""
    assert python(READ_ONLY, place, wrapper=mounting()) == "refused"


# ---- a source that changes ----------------------------------------------------------------------


def changing(monkeypatch, src, dst, change, **options):
    """Copy with a change of the source in the middle; return the result or the error."""
    changed = []

    def progress(_moved):
        if not changed:
            changed.append(1)
            change()

    with Seam(*pausing()).everywhere(monkeypatch):
        try:
            result = copy_file(src, dst, progress=progress, **options)
        except OSError as error:
            result = error
    assert changed
    return result


@cases(
    place=PLACES,
    dst=OLDS,
    reflink=["auto", "never"],
    sparse=["auto", "always", "never"],
    size=[0, 1, 70_000, 200_000],
).with_args(indirect=["place", "dst"])
def test_a_source_that_is_truncated_meanwhile(dst, monkeypatch, reflink, sparse, size):
    """A copy of what could still be read, with no byte made up; or an error and the old file."""
    old, src = content_of(dst), dst.with_name("src")
    result = changing(
        monkeypatch, src, dst, lambda: os.truncate(src, size), reflink=reflink, sparse=sparse
    )
    if isinstance(result, OSError):
        untouched(dst, old)
        return
    content = dst.read_bytes()
    assert DATA.startswith(content)
    assert len(content) >= size
    assert result.moved + result.holes == len(content)
    untouched(dst, content)


@cases(
    place=PLACES,
    dst=OLDS,
    sparse=["auto", "always", "never"],
    size=[1, 64 << 10, 100_000, 128 << 10, 150_000, 200_000],
).with_args(indirect=["place", "dst"])
def test_a_source_with_holes_that_is_truncated_meanwhile(dst, monkeypatch, sparse, size):
    """In a hole, in data behind one, or at an edge: no byte is made up, none is miscounted."""
    old, src = content_of(dst), dst.with_name("src")
    with open(src, "r+b") as file:
        file.truncate(64 << 10)
        for seed in range(3):
            file.seek(64 << 10, os.SEEK_END)
            file.write(payload(64 << 10, seed))
        file.truncate(file.seek(64 << 10, os.SEEK_END))
    whole = src.read_bytes()
    result = changing(monkeypatch, src, dst, lambda: os.truncate(src, size), sparse=sparse)
    if isinstance(result, OSError):
        untouched(dst, old)
        return
    content = dst.read_bytes()
    assert whole.startswith(content)
    assert len(content) >= size
    assert result.moved + result.holes == len(content)
    untouched(dst, content)


@cases(
    place=PLACES, dst=OLDS, reflink=["auto", "never"], sparse=["auto", "always", "never"]
).with_args(indirect=["place", "dst"])
def test_a_source_that_grows_meanwhile(dst, monkeypatch, reflink, sparse):
    """At least what it had at the beginning, and nothing that it never had."""
    src = dst.with_name("src")
    more = payload(500_000, seed=3)

    def grow():
        with open(src, "ab") as file:
            file.write(more)

    result = changing(monkeypatch, src, dst, grow, reflink=reflink, sparse=sparse)
    content = dst.read_bytes()
    assert len(content) >= len(DATA)
    assert (DATA + more).startswith(content)
    assert result.moved + result.holes == len(content)
    untouched(dst, content)


def test_a_source_that_is_removed_meanwhile(dst, monkeypatch):
    """It is open: the copy is whole."""
    src = dst.with_name("src")
    changing(monkeypatch, src, dst, lambda: (src.unlink(), src.touch()))
    assert dst.read_bytes() == DATA


def test_a_source_that_is_replaced_meanwhile(dst, monkeypatch):
    """The one that was opened is copied, not a mix."""
    src = dst.with_name("src")

    def replace():
        other = dst.with_name("other")
        other.write_bytes(payload(len(DATA), seed=8))
        other.replace(src)

    changing(monkeypatch, src, dst, replace)
    assert dst.read_bytes() == DATA


def test_a_part_that_is_removed_meanwhile(dst, monkeypatch):
    """Somebody tidies up: an error, and the old file."""
    old = content_of(dst)

    def remove():
        [part] = dst.parent.glob(".dst.*.part")
        part.unlink()

    error = changing(monkeypatch, dst.with_name("src"), dst, remove)
    assert isinstance(error, FileNotFoundError)
    untouched(dst, old)


def test_a_directory_that_is_renamed_meanwhile(place, monkeypatch):
    """Either the file arrives in the directory it was for, or an error says that it did not."""
    (place / "into").mkdir()
    result = changing(
        monkeypatch,
        place / "src",
        place / "into" / "dst",
        lambda: (place / "into").rename(place / "moved"),
    )
    left = os.listdir(place / "moved")
    if isinstance(result, OSError):
        assert not (place / "into").exists()
        assert "dst" not in left
    else:
        assert left == ["dst"]
        assert (place / "moved" / "dst").read_bytes() == DATA


def test_a_destination_that_becomes_a_directory_meanwhile(place, monkeypatch):
    """It is not replaced: IsADirectoryError, and nothing is left beside it."""
    dst = place / "dst"
    error = changing(monkeypatch, place / "src", dst, dst.mkdir)
    assert isinstance(error, IsADirectoryError | FileExistsError)
    assert sorted(os.listdir(place)) == ["dst", "src"]
    assert os.listdir(dst) == []


# ---- a destination that goes away ---------------------------------------------------------------


BOUND = """
    import errno, os, subprocess, sys
    from spliceio import copy_file
    os.chdir(sys.argv[1])
    for name in ("below", "dst"):
        with open(name, "wb") as file:
            file.write(name.encode())
    subprocess.run(["mount", "--bind", "below", "dst"], check=True)
    with open("src", "rb") as file:
        content = file.read()
    told = []
    result = copy_file("src", "dst", progress=told.append)
    assert result.in_place == "it is a mount point", result
    assert told == sorted(told) and len(told) == 1, told
    for name in ("below", "dst"):
        with open(name, "rb") as file:
            assert file.read() == content, name
    assert sorted(os.listdir(".")) == ["below", "dst", "src"], os.listdir(".")
    print("written", end="")
"""


def test_a_file_that_is_a_mount_point_is_written_in_place(place):
    """As /etc/hosts of a container: no rename can replace it."""
    assert python(BOUND, place, wrapper=mounting()) == "written"


UNMAPPED = """
    import os, sys
    from spliceio import copy_file
    os.chdir(sys.argv[1])
    inode = os.stat("dst").st_ino
    assert "owner" in copy_file("src", "dst").in_place
    assert os.stat("dst").st_ino == inode
    with open("src", "rb") as src, open("dst", "rb") as dst:
        assert dst.read() == src.read()
    assert os.stat("dst").st_mode & 0o7777 == 0o666, oct(os.stat("dst").st_mode)
    assert sorted(os.listdir(".")) == ["dst", "src"], os.listdir(".")
    print("written", end="")
"""


def test_an_owner_that_this_namespace_does_not_know(place):
    """In a container, an old file may be of somebody without a number here: it stays his."""
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    wrapper = [need("unshare"), "-r"]
    probe = subprocess.run([*wrapper, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no user namespace here: {probe.stderr.decode().strip()}")
    (place / "dst").write_bytes(OLD)
    (place / "dst").chmod(0o666)
    os.chown(place / "dst", 1234, 4321)
    assert python(UNMAPPED, place, wrapper=wrapper) == "written"


def test_a_fifo_whose_reader_goes(place):
    """BrokenPipeError with the counts; the FIFO stays."""
    fifo = place / "fifo"
    os.mkfifo(fifo)
    (place / "src").write_bytes(payload(4 * MIB))
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        opened = threading.Event()

        def go():
            opened.wait()
            os.close(reader)

        leaving = threading.Thread(target=go)
        leaving.start()
        filled = threading.Thread(
            target=lambda: (
                until(lambda: os.stat(f"/proc/self/fd/{reader}") and full(reader)),
                opened.set(),
            )
        )
        filled.start()
        with pytest.raises(BrokenPipeError) as caught:
            copy_file(place / "src", fifo)
        assert 0 < caught.value.result.moved < 4 * MIB
    finally:
        filled.join()
        leaving.join()
    assert fifo.is_fifo()
    assert sorted(os.listdir(place)) == ["fifo", "src"]


def full(reader):
    """Whether a pipe has something to read: the copy has begun."""
    import fcntl
    import struct
    import termios

    return struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4))[0] > 0


def test_too_many_descriptors(place):
    """EMFILE wherever it strikes: the old file, nothing left, nothing leaked."""
    dst = place / "dst"
    dst.write_bytes(OLD)
    copy_file(place / "src", place / "warm")
    (place / "warm").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    failed = 0
    for room in range(12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
        try:
            copy_file(place / "src", dst)
        except OSError as error:
            raised = error
        else:
            raised = None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if raised is None:
            assert dst.read_bytes() == DATA
            break
        assert raised.errno == errno.EMFILE
        failed += 1
        untouched(dst, OLD)
    else:
        pytest.fail("a dozen descriptors are not enough")
    assert failed >= 3


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EEXIST])
def test_an_error_of_the_callback_is_not_taken_for_one_of_the_rename(place, monkeypatch, number):
    """Whatever its errno: it comes out, the old file stays, and nothing is written in place."""
    (place / "dst").write_bytes(OLD)

    def progress(_moved):
        raise OSError(number, "mine")

    with Seam(*pausing()).everywhere(monkeypatch), pytest.raises(OSError, match="mine"):
        copy_file(place / "src", place / "dst", progress=progress)
    untouched(place / "dst", OLD)


@pytest.mark.parametrize("number", ["RLIMIT_FSIZE", "progress"])
def test_an_open_destination_keeps_what_was_written(place, monkeypatch, number):
    """In place there is no going back: `result` says how much is there, the position too."""
    with open(place / "dst", "wb", buffering=0) as opened:
        if number == "RLIMIT_FSIZE":
            with pytest.raises(OSError, match="limit") as caught, limited(100_000):
                copy_file(place / "src", opened)
        else:

            def progress(_moved):
                raise Interrupted

            with Seam(*pausing()).everywhere(monkeypatch), pytest.raises(Interrupted) as caught:
                copy_file(place / "src", opened, progress=progress)
        moved = caught.value.result.moved
        assert 0 <= moved < len(DATA)
        assert opened.tell() == moved
    assert (place / "dst").read_bytes() == DATA[:moved]


def test_an_open_destination_keeps_no_room_that_it_does_not_use(place, monkeypatch):
    """Blocks that were reserved for the rest are given back when the rest does not come."""
    (place / "src").write_bytes(payload(MIB) * 8)

    def progress(_moved):
        raise Interrupted

    with (
        open(place / "dst", "wb", buffering=0) as opened,
        Seam(*pausing()).everywhere(monkeypatch),
        pytest.raises(Interrupted),
    ):
        copy_file(place / "src", opened, progress=progress)
    status = (place / "dst").stat()
    assert status.st_size == 64 << 10
    assert status.st_blocks * 512 < MIB
