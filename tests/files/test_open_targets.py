"""A path that leads to an open file: /dev/stdout, /dev/fd/N, /proc/PID/fd/N, and links to them.

Rule 1: the bytes are where they were sent, and nothing has appeared beside anything.
Rule 2: what cp does is done by cp in the same test.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import socket
import subprocess
import sys
import tty
from pathlib import Path

import pytest

from spliceio import copy_file
from tests.support.programs import need
from tests.support.seam import ALWAYS, Seam, cap, fail
from tests.support.states import Worker

DATA = b"what is copied\n" * 1000
OLD = b"what was there before, at greater length\n" * 1000
SPLICEIO = [sys.executable, "-m", "spliceio"]

WAYS = {
    "/dev/fd": lambda fd, where: f"/dev/fd/{fd}",
    "/proc/self/fd": lambda fd, where: f"/proc/self/fd/{fd}",
    "/proc/thread-self/fd": lambda fd, where: f"/proc/thread-self/fd/{fd}",
    "/proc/PID/fd": lambda fd, where: f"/proc/{os.getpid()}/fd/{fd}",
    "bytes": lambda fd, where: b"/proc/self/fd/%d" % fd,
    "a link": lambda fd, where: linked(where / "link", f"/proc/self/fd/{fd}"),
    "a link to a link": lambda fd, where: linked(
        where / "second", linked(where / "link", f"/dev/fd/{fd}")
    ),
    "a relative link": lambda fd, where: linked(where / "fds", "/proc/self/fd") / str(fd),
}
ways = pytest.mark.parametrize("way", WAYS)


def linked(path, target):
    path.symlink_to(target)
    return path


@pytest.fixture
def where(tmp_path):
    """A directory with a source, and nothing that ends in (deleted) or .part."""
    (tmp_path / "src").write_bytes(DATA)
    before = set(os.listdir("/dev")) | set(os.listdir("/"))
    yield tmp_path
    after = {*os.listdir("/dev"), *os.listdir("/"), *os.listdir(tmp_path)} - before
    assert not [name for name in after if "deleted" in name or name.endswith(".part")]


def written(fd):
    """All that a file has, through a descriptor."""
    return os.pread(fd, 1 << 20, 0)


@ways
def test_a_named_file_is_emptied_and_written(where, way):
    """It is the one that is open, and keeps its inode."""
    (where / "dst").write_bytes(OLD)
    with open(where / "dst", "r+b", buffering=0) as opened:
        result = copy_file(where / "src", WAYS[way](opened.fileno(), where))
        assert written(opened.fileno()) == DATA
        assert os.path.samestat(os.fstat(opened.fileno()), os.stat(where / "dst"))
    assert result.moved == len(DATA)
    assert result.in_place == "dst is an open file"
    assert (where / "dst").read_bytes() == DATA


@ways
@pytest.mark.parametrize("name", ["dst", "dst (deleted)"])
def test_a_file_whose_name_has_gone(where, way, name):
    """Whatever the text of the link: a file of that name is none of it."""
    with open(where / "dst", "w+b", buffering=0) as opened:
        (where / "dst").unlink()
        (where / name).write_bytes(b"a stranger's")
        copy_file(where / "src", WAYS[way](opened.fileno(), where))
        assert written(opened.fileno()) == DATA
    assert (where / name).read_bytes() == b"a stranger's"
    (where / name).unlink()


@ways
def test_a_file_that_never_had_a_name(where, way):
    """O_TMPFILE, and memory."""
    for fd in (os.open(where, os.O_TMPFILE | os.O_RDWR), os.memfd_create("dst")):
        os.write(fd, OLD)
        copy_file(where / "src", WAYS[way](fd, where))
        assert written(fd) == DATA
        os.close(fd)
        for link in ("link", "second", "fds"):
            (where / link).unlink(missing_ok=True)


@ways
def test_what_is_open_for_appending_is_appended_to(where, way):
    """Nothing that was there is cut off."""
    (where / "dst").write_bytes(OLD)
    with open(where / "dst", "ab", buffering=0) as opened:
        result = copy_file(where / "src", WAYS[way](opened.fileno(), where))
        opened.write(b"after")
    assert (result.moved, result.holes) == (len(DATA), 0)
    assert (where / "dst").read_bytes() == OLD + DATA + b"after"


@ways
def test_a_pipe_a_socket_and_a_terminal(where, way):
    """The other end gets the bytes, from an end that nobody could open as well."""
    path = WAYS[way]

    def ends():
        yield os.pipe()
        a, b = socket.socketpair()
        yield a.detach(), b.detach()
        master, slave = os.openpty()
        tty.setraw(slave)
        yield master, slave

    for reader, writer in ends():
        if way == "/proc/thread-self/fd" and os.path.exists(f"/proc/self/fd/{reader}"):
            kind = os.readlink(f"/proc/self/fd/{writer}")
            if kind.startswith("socket:"):  # by this path it is another's, and cannot be opened
                with pytest.raises(OSError, match="No such device") as caught:
                    copy_file(where / "src", path(writer, where))
                assert caught.value.errno == errno.ENXIO
                os.close(reader)
                os.close(writer)
                continue

        def read(reader=reader):
            got = b""
            while len(got) < len(DATA):
                got += os.read(reader, 1 << 16)
            return got

        reading = Worker(read)
        result = copy_file(where / "src", path(writer, where))
        assert reading.result() == DATA
        assert result.in_place == "dst is " + {True: "a FIFO"}.get(
            os.readlink(f"/proc/self/fd/{writer}").startswith("pipe:"), result.in_place[7:]
        )
        os.close(reader)
        os.close(writer)
        for link in ("link", "second", "fds"):
            (where / link).unlink(missing_ok=True)


@pytest.mark.parametrize("mode", ["r+b", "ab"])
def test_holes_of_the_source(where, mode):
    """Kept where the file is emptied; zeros behind what it had where it is appended to."""
    with open(where / "src", "wb") as sparse:
        sparse.truncate(1 << 20)
        sparse.seek(1 << 19)
        sparse.write(DATA)
    (where / "dst").write_bytes(OLD)
    with open(where / "dst", mode) as opened:
        result = copy_file(where / "src", f"/dev/fd/{opened.fileno()}")
    assert result.moved + result.holes == 1 << 20
    assert (result.holes > 0) == (mode == "r+b")
    content = (where / "src").read_bytes()
    assert (where / "dst").read_bytes() == (OLD if mode == "ab" else b"") + content


def test_a_pipe_that_nobody_reads(where):
    """BrokenPipeError: to open it would wait for a reader for ever."""
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        copy_file(where / "src", f"/proc/self/fd/{writer}")
    os.close(writer)


@pytest.mark.parametrize("preserve", ["mode", "standard", ["ownership", "xattr"]], ids=str)
def test_a_fifo_keeps_its_attributes(where, preserve):
    """It is opened once, its reader gets everything, and the result says what was left."""
    os.mkfifo(where / "fifo", 0o600)
    before = os.stat(where / "fifo")
    reading = Worker((where / "fifo").read_bytes)
    result = copy_file(where / "src", where / "fifo", preserve=preserve)
    assert reading.result() == DATA
    assert result.in_place == "dst is a FIFO"
    assert result.not_preserved
    assert all(line.endswith("dst is no regular file") for line in result.not_preserved)
    after = os.stat(where / "fifo")
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


def test_an_end_that_is_open_for_reading_only(where):
    """As with any path: it is opened anew, where that is allowed."""
    (where / "dst").write_bytes(OLD)
    with open(where / "dst", "rb") as opened:
        copy_file(where / "src", f"/proc/self/fd/{opened.fileno()}")
    assert (where / "dst").read_bytes() == DATA
    reader, writer = os.pipe()
    small = where / "small"
    small.write_bytes(b"few")
    copy_file(small, f"/proc/self/fd/{reader}")
    assert os.read(reader, 100) == b"few"
    os.close(reader)
    os.close(writer)


def test_an_open_file_of_another_process(where):
    """By its number there, unlinked or for appending."""
    for mode in ("w+b", "ab"):
        (where / "dst").write_bytes(OLD)
        with open(where / "dst", mode) as opened:
            other = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=opened)
            inode = os.fstat(opened.fileno()).st_ino
            reader = os.open(where / "dst", os.O_RDONLY)
            (where / "dst").unlink()
        assert os.fstat(reader).st_ino == inode
        copy_file(where / "src", f"/proc/{other.pid}/fd/1")
        assert written(reader) == (OLD if mode == "ab" else b"") + DATA
        os.close(reader)
        other.communicate()


def test_the_source_itself_and_a_number_that_is_not_open(where):
    """SameFileError, FileExistsError, FileNotFoundError; the file is what it was."""
    with open(where / "src", "r+b") as opened:
        path = f"/proc/self/fd/{opened.fileno()}"
        with pytest.raises(shutil.SameFileError):
            copy_file(where / "src", path)
        with pytest.raises(FileExistsError):
            copy_file(__file__, path, overwrite=False)
    assert (where / "src").read_bytes() == DATA
    # The number is free, and the next file that is opened has it: the source.
    with pytest.raises(FileNotFoundError, match=path):
        copy_file(where / "src", path)
    assert (where / "src").read_bytes() == DATA


def test_a_sealed_memory(where):
    """The kernel's refusal, and it has what it had."""
    fd = os.memfd_create("dst", os.MFD_ALLOW_SEALING)
    os.write(fd, b"sealed")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
    with pytest.raises(PermissionError):
        copy_file(where / "src", f"/proc/self/fd/{fd}")
    assert written(fd) == b"sealed"
    os.close(fd)


@ways
def test_a_source_that_is_open(where, way):
    """All of it, from the beginning, with a name or without; its position stays."""
    with open(where / "src", "rb", buffering=0) as opened:
        opened.seek(7)
        (where / "src").unlink()
        copy_file(WAYS[way](opened.fileno(), where), where / "dst")
        assert opened.tell() == 7
    assert (where / "dst").read_bytes() == DATA


def test_where_a_directory_is_a_link_of_proc(where):
    """/proc/self/cwd/dst is a place: the file is replaced there."""
    (where / "there").mkdir()
    (where / "there" / "dst").write_bytes(OLD)
    folder = os.open(where / "there", os.O_RDONLY)
    result = copy_file(where / "src", f"/proc/self/fd/{folder}/dst")
    os.close(folder)
    assert result.in_place == ""
    assert (where / "there" / "dst").read_bytes() == DATA
    assert os.listdir(where / "there") == ["dst"]


# ---- in place there is no going back -------------------------------------------------------------


@pytest.fixture
def dst(where):
    """An old file, the path that leads to it in place, and what became of it."""
    (where / "dst").write_bytes(OLD)
    with open(where / "dst", "r+b", buffering=0) as opened:
        linked(where / "link", f"/proc/self/fd/{opened.fileno()}")
        yield where / "link"
    assert sorted(os.listdir(where)) == ["dst", "link", "src"]


@pytest.mark.parametrize("call", ["write", "splice", "sendfile"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("done", [0, 2])
def test_an_error_leaves_what_had_arrived(where, dst, monkeypatch, call, number, done):
    """At the first call or a later one: the old content is gone, as with cp, and counted."""
    site = {"write": "drain", "splice": "drain", "sendfile": "direct"}[call]
    rules = [
        *(fail(other, errno.ENOSYS, times=ALWAYS) for other in {"splice", "sendfile"} - {call}),
        *(cap(other, 4096, site="fill") for other in ("read", "splice")),
        *([cap(call, 4096, site=site, times=done)] if done else []),
        fail(call, number, site=site, times=ALWAYS),
    ]
    with Seam(*rules).everywhere(monkeypatch) as seam:
        try:
            moved, error = copy_file(where / "src", dst).moved, None
        except OSError as raised:
            moved, error = raised.result.moved, raised.errno
    assert len(seam.calls(call, site)) > done
    assert (where / "dst").read_bytes() == DATA[:moved]
    if (call, number, done) == ("sendfile", errno.EIO, 0):  # no verdict: read() is asked too
        assert (error, moved) == (None, len(DATA))
    else:
        assert (error, moved) == (number, done * 4096)


def test_a_limit_and_an_interrupt_leave_what_had_arrived(where, dst):
    """RLIMIT_FSIZE in the middle; a callback that raises at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError, match="limit") as caught:
            copy_file(where / "src", dst)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert (where / "dst").read_bytes() == DATA[: caught.value.result.moved]
    (where / "dst").write_bytes(OLD)

    def progress(_moved):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        copy_file(where / "src", dst, progress=progress)
    assert caught.value.result.moved == len(DATA)
    assert (where / "dst").read_bytes() == DATA


@pytest.mark.parametrize(
    ("options", "error"),
    [({"overwrite": False}, FileExistsError), ({"reflink": "always"}, OSError)],
    ids=str,
)
def test_what_is_refused_leaves_the_old_content(where, dst, options, error):
    """Before it is emptied."""
    with pytest.raises(error):
        copy_file(where / "src", dst, **options)
    assert (where / "dst").read_bytes() == OLD
    with pytest.raises(FileNotFoundError):
        copy_file(where / "gone", dst)
    assert (where / "dst").read_bytes() == OLD


# ---- the commands -------------------------------------------------------------------------------

REDIRECTS = {
    "{ CP src /dev/stdout; echo after; } > log": "as cp",
    "{ echo before; CP src /dev/stdout; echo after; } > log": "as cp",
    "{ CP src /dev/stdout; echo after; } 1<> log": "as cp",
    "{ CP src /dev/fd/3; echo after >&3; } 3> log": "as cp",
    "CP src /proc/self/fd/1 > log": "as cp",
    "CP src /dev/stdout | cat > log": "as cp",
    "cat src | CP /dev/stdin log": "as cp",
    "CP /dev/stdin log < src": "as cp",
    "{ read line; CP /dev/stdin log; } < src": "as cp",
    "CP /proc/self/fd/3 log 3< src": "as cp",
    "cat src | CP /dev/stdin /dev/stdout > log": "as cp",
    "{ CP src /dev/stdout; echo after; } >> log": OLD + DATA + b"after\n",
    "cat src | { CP /dev/stdin /dev/stdout; echo after; } >> log": OLD + DATA + b"after\n",
    "{ CP src -; echo after; } >> log": OLD + DATA + b"after\n",
    "{ CP - -; echo after; } < src >> log": OLD + DATA + b"after\n",
}


@pytest.mark.parametrize("line", REDIRECTS)
def test_a_shell_line(where, line):
    """With cp in it, the file is the same after; appending, it has both, and what it had."""
    expected = REDIRECTS[line]
    found = []
    for program in ("spliceio cp", "cp"):
        if program == "cp" and expected != "as cp":
            continue
        command = " ".join([*SPLICEIO, "cp"]) if program != "cp" else need("cp")
        (where / "log").write_bytes(OLD)
        done = subprocess.run(
            ["sh", "-c", line.replace("CP", command)],
            cwd=where,
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert not done.stderr
        found.append((where / "log").read_bytes())
    assert found[0] == (found[1] if expected == "as cp" else expected)
    assert sorted(os.listdir(where)) == ["log", "src"]


def test_standard_streams_that_are_sockets(where):
    """As under inetd: cp cannot open them, and they are there to be used."""
    for args, sent in ((["src", "/dev/stdout"], b""), (["/dev/stdin", "dst"], DATA)):
        near, far = socket.socketpair()
        with near, far:
            far.sendall(sent)
            far.shutdown(socket.SHUT_WR)
            done = subprocess.run(
                [*SPLICEIO, "cp", *args],
                cwd=where,
                stdin=near,
                stdout=near,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, b"")
            if not sent:
                near.shutdown(socket.SHUT_WR)
                assert far.makefile("rb").read() == DATA
    assert (where / "dst").read_bytes() == DATA


def test_recv_appends_to_what_is_appended_to(where):
    """`recv :0 /dev/stdout >> log` adds to the log."""
    log = where / "log"
    log.write_bytes(OLD)
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [*SPLICEIO, "recv", "127.0.0.1:0", "/dev/stdout"], stdout=out, stderr=subprocess.PIPE
        )
    line = process.stderr.readline().decode()
    host, _, port = line.split()[-1].rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(DATA)
    assert process.wait(60) == 0
    process.stderr.close()
    assert log.read_bytes() == OLD + DATA
    assert Path(log).stat().st_size == len(OLD + DATA)
