"""A small file in one call into C: what takes that way, what does not, and what it costs.

Rule 1: what the call does not do, it has not begun: the long way does it, or says why not, and
nothing is left beside the destination.
Rule 2: what it does is what the long way does; tests/files/test_both_ways.py compares them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from spliceio import copy_file
from spliceio._cffi import lib
from spliceio._files import act as _act
from tests.support.cases import cases
from tests.support.programs import need
from tests.support.seam import ALWAYS, Seam, cap, fail, zero
from tests.support.small_files import BUF, DATA, MOST, OLD, PLACES, SIZES, holds
from tests.support.wires import payload


@pytest.fixture
def large(folder):
    """A source that is read in three pieces."""
    (folder / "src").write_bytes(payload(3 * BUF - 1000))
    return folder / "src"


# ---- what takes that way ------------------------------------------------------------------------


@cases(folder=PLACES, size=SIZES, old=[None, OLD, payload(2 * MOST)]).with_args(indirect=["folder"])
def test_small_files_take_one_call(folder, long_way, size, old):
    """New or over an old file: all of it, and no look by the long way."""
    src, dst = folder / "src", folder / "dst"
    src.write_bytes(payload(size))
    if old is not None:
        dst.write_bytes(old)
        inode = dst.stat().st_ino
    result = copy_file(src, dst)
    assert long_way == []
    holds(folder, dst=payload(size))
    assert (result.moved, result.holes, result.in_place, result.not_preserved) == (size, 0, "", ())
    assert sum(result.by_method.values()) == size
    assert result.seconds > 0
    if size:
        refused = result.fallbacks[0]
        assert (refused.method, refused.errno) == ("reflink", errno.EOPNOTSUPP)
        assert refused.why == "this filesystem cannot share blocks between files"
    assert old is None or dst.stat().st_ino != inode


@pytest.mark.parametrize("size", [MOST + 1, 2 * MOST])
def test_larger_files_do_not(folder, long_way, size):
    """The state machine moves them, in slices."""
    (folder / "src").write_bytes(payload(size))
    assert copy_file(folder / "src", folder / "dst").moved == size
    assert long_way
    holds(folder, dst=payload(size))


@pytest.mark.parametrize(
    "options",
    [
        {"reflink": "never"},
        {"sparse": "always"},
        {"sparse": "never"},
        {"progress": lambda moved: None},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_is_asked_for_takes_the_long_way(folder, long_way, options):
    copy_file(folder / "src", folder / "dst", **options)
    assert long_way
    holds(folder, dst=DATA)


PRESERVE = ["mode", "ownership", "timestamps", "xattr", "standard", "all", ("mode", "timestamps")]


@pytest.mark.parametrize("preserve", PRESERVE, ids=str)
@pytest.mark.parametrize("old", [True, False])
def test_attributes_of_a_new_file_take_one_call(folder, long_way, preserve, old):
    """Owner, mode and times as asked for; over an old file by the long way."""
    src, dst = folder / "src", folder / "dst"
    src.chmod(0o2751)
    os.utime(src, ns=(1_000_000_000_000_000_001, 999_999_999_999_999_999))
    if old:
        dst.write_bytes(OLD)
    result = copy_file(src, dst, preserve=preserve)
    assert bool(long_way) == old
    assert (result.moved, result.not_preserved) == (len(DATA), ())
    status = dst.stat()  # before it is read
    holds(folder, dst=DATA)
    names = {"standard": "mode ownership timestamps", "all": "mode timestamps"}.get(
        preserve, preserve
    )
    assert (status.st_mtime_ns == 999_999_999_999_999_999) == ("timestamps" in names)
    if "timestamps" in names and not old:
        assert status.st_atime_ns == 1_000_000_000_000_000_001
    if "mode" in names:
        assert stat.S_IMODE(status.st_mode) == 0o2751
    else:
        assert stat.S_IMODE(status.st_mode) == (0o644 if old else 0o751 & ~0o022)


@pytest.mark.parametrize("form", [str, os.fsencode, Path, lambda path: os.path.basename(path)])
def test_every_form_of_a_path(folder, long_way, monkeypatch, form):
    """Text, bytes, a path object; relative to the working directory."""
    monkeypatch.chdir(folder)
    copy_file(form(folder / "src"), form(folder / "dst"))
    assert long_way == []
    holds(folder, dst=DATA)


@pytest.mark.parametrize("name", ["x" * 255, os.fsdecode(b"\xff\xfe"), "a b\n", "-", ".hidden"])
def test_every_name(folder, long_way, name):
    """The longest that there is, and bytes that are no text; for a new file and over it."""
    for _ in range(2):
        copy_file(folder / "src", folder / name)
        holds(folder, **{name: DATA})
    assert long_way == []


def test_a_source_behind_a_link(folder, long_way):
    (folder / "src").rename(folder / "real")
    (folder / "src").symlink_to("real")
    copy_file(folder / "src", folder / "dst")
    assert long_way == []
    holds(folder, dst=DATA, real=DATA)


@pytest.mark.parametrize("way", ["one call", "long"])
def test_a_name_that_is_taken_is_kept(folder, long_way, way):
    """overwrite=False, whatever has the name: nothing is changed."""
    options = {"progress": lambda moved: None} if way == "long" else {}
    copy_file(folder / "src", folder / "dst", overwrite=False, **options)
    assert bool(long_way) == (way == "long")
    (folder / "src").write_bytes(OLD)
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("nowhere")
    for name in ("dst", "fifo", "link"):
        with pytest.raises(FileExistsError, match=name):
            copy_file(folder / "src", folder / name, overwrite=False, **options)
    assert (folder / "dst").read_bytes() == DATA
    assert not (folder / "nowhere").exists()


def test_a_name_that_is_taken_meanwhile(folder, monkeypatch):
    """It appeared after the look: it is replaced as any other, or kept where that was asked."""
    rule = fail("stat", errno.ENOENT, site="drain")
    for options in ({}, {"overwrite": False}):
        (folder / "dst").write_bytes(OLD)
        (folder / "dst").chmod(0o640)
        with Seam(rule).everywhere(monkeypatch) as seam:
            if options:
                with pytest.raises(FileExistsError):
                    copy_file(folder / "src", folder / "dst", **options)
                holds(folder, dst=OLD)
            else:
                copy_file(folder / "src", folder / "dst")
                assert stat.S_IMODE((folder / "dst").stat().st_mode) == 0o640
                holds(folder, dst=DATA)
        assert seam.unused() == [0]
        assert [row.result for row in seam.calls("link")] == [-errno.EEXIST]


def test_a_directory_that_keeps_every_name_gets_a_whole_file(folder):
    """Append-only: nothing has to be removed there, so nobody meets half a file."""
    chattr = need("chattr")
    (folder / "there").mkdir()
    done = subprocess.run([chattr, "+a", folder / "there"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no chattr +a there: {done.stderr.decode().strip()}")
    try:
        assert copy_file(folder / "src", folder / "there" / "dst").in_place == ""
        assert "append-only" in copy_file(folder / "src", folder / "there" / "dst").in_place
        holds(folder / "there", dst=DATA)
    finally:
        subprocess.run([chattr, "-a", folder / "there"], check=True)


@pytest.mark.parametrize("where", ["/proc/self/status", "/sys/kernel/mm/ksm/run"])
def test_what_the_kernel_makes_up_is_not_read_twice(folder, long_way, monkeypatch, where):
    """It has a size of 0, or a page, and reading it may act: the long way alone reads it."""
    if not os.access(where, os.R_OK):
        pytest.skip(f"no {where} here")
    with Seam().everywhere(monkeypatch) as seam:
        result = copy_file(where, folder / "dst")
    assert long_way
    assert result.moved > 0
    assert seam.calls("statfs")
    assert {row.call for row in seam.log[: seam.log.index(seam.calls("statfs")[0])]} <= {
        "stat",
        "open",
    }


@pytest.mark.parametrize(("size", "is_left"), [(65536, False), (65537, True)])
def test_what_others_might_copy_is_left_to_the_long_way(monkeypatch, tmp_path, size, is_left):
    """Without a device, and of a filesystem that is none of those whose files are here."""
    with tempfile.TemporaryDirectory(dir=PLACES["memory"]) as made:
        src, dst = Path(made) / "src", Path(made) / "dst"
        src.write_bytes(payload(size))
        asked = []
        with Seam(fail("statfs", errno.EPERM)).everywhere(monkeypatch) as seam:
            real = _act.copied
            monkeypatch.setattr(_act, "copied", lambda *a: asked.append(real(*a)) or asked[-1])
            assert copy_file(src, dst).moved == size
        assert [result is None for result in asked] == [is_left]
        assert seam.unused() == [0 if is_left else 1]
        holds(Path(made), dst=payload(size))


# ---- how many system calls ----------------------------------------------------------------------

SCRIPT = """
import os, sys, spliceio
for turn in range(3):
    with open("src", "wb") as file:
        file.write(b"x" * {size})
    {before}
    os.access("/begin", 0)
    spliceio.copy_file({src}, {dst})
    os.access("/end", 0)
    assert os.stat("dst").st_size == {size}
"""
GONE = "os.path.exists('dst') and os.unlink('dst')"
CALLS = {
    "new": (12, 16384, GONE),
    "new, empty": (11, 0, GONE),
    "replaced": (20, 16384, "turn or open('dst', 'w').write('old')"),
}


@pytest.mark.parametrize("paths", ["relative", "absolute"])
@pytest.mark.parametrize("name", CALLS)
def test_no_more_system_calls_than(folder, name, paths):
    """Counted by strace between two marks, at the last of three copies."""
    most, size, before = CALLS[name]
    near = [repr(str(folder / end) if paths == "absolute" else end) for end in ("src", "dst")]
    script = SCRIPT.format(size=size, before=before, src=near[0], dst=near[1])
    command = [need("strace"), "-qq", "-o", "log", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = (folder / "log").read_text().splitlines()
    begin = max(i for i, line in enumerate(lines) if '"/begin"' in line)
    end = max(i for i, line in enumerate(lines) if '"/end"' in line)
    made = [line.partition("(")[0] for line in lines[begin + 1 : end] if re.match(r"\w+\(", line)]
    assert 0 < len(made) <= most, made


INJECTED = """
import os, spliceio
open("src", "wb").write(b"x" * 16384)
for _ in range({copies}):
    result = spliceio.copy_file("src", "dst")
    assert (result.moved, result.in_place) == (16384, ""), result
    assert open("dst", "rb").read() == b"x" * 16384
assert sorted(os.listdir(".")) == ["dst", "log", "src"], os.listdir(".")
"""
INJECTIONS = {
    "the number, without a privilege": ("linkat:error=ENOENT:when=1", 1, "linkat", 2),
    "no link at all": ("linkat:error=EACCES", 1, "rename", 1),
    "a kernel without faccessat2": ("faccessat2:error=ENOSYS", 2, "rename", 1),
    "a kernel without statx": ("statx:error=ENOSYS", 2, "rename", 2),
}


@pytest.mark.parametrize("name", INJECTIONS)
def test_what_a_kernel_or_a_sandbox_refuses(folder, name):
    """By strace, in a process of its own: whole all the same, by the next way."""
    what, copies, call, times = INJECTIONS[name]
    script = INJECTED.format(copies=copies)
    names = ["linkat", "?rename", "renameat", "renameat2", what.partition(":")[0]]
    command = [need("strace"), "-f", "-qq", "-o", "log", f"-etrace={','.join(names)}"]
    command += [f"-einject={what}", sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    log = (folder / "log").read_text()
    assert "(INJECTED)" in log
    assert len(re.findall(rf"\b{call}\w*\(", log)) == times, log


# ---- every answer of the kernel -----------------------------------------------------------------

NEW_CALLS = {
    "look at the target": ("stat", "drain", 0),
    "look at the source": ("stat", "fill", 0),
    "open the source": ("open", "fill", 0),
    "look at the open source": ("stat", "fill", 1),
    "its ACL": ("xattr", "fill", 0),
    "make a file without a name": ("open", "drain", 0),
    "share the blocks": ("clone", "direct", 0),
    "read": ("read", "fill", 0),
    "write": ("write", "drain", 0),
    "link": ("link", "drain", 0),
}
# Where there are no files without a name: what is asked after that is known.
NAMED_CALLS = {
    "open the directory": ("open", "drain", 1),
    "look at the directory": ("stat", "drain", 1),
    "the name": ("random", "drain", 0),
    "make the file": ("open", "drain", 2),
    "share the blocks": ("clone", "direct", 0),
    "read": ("read", "fill", 0),
    "write": ("write", "drain", 0),
    "rename": ("rename", "drain", 0),
}
ONLY_NEW = ("its ACL", "make a file without a name", "link")
OLD_CALLS = {
    **{name: NEW_CALLS[name] for name in NEW_CALLS if name not in ONLY_NEW},
    "may it be written": ("access", "drain", 0),
    "its attributes": ("xattr", "drain", 0),
    "open the directory": ("open", "drain", 0),
    "look at the directory": ("stat", "drain", 1),
    "the name": ("random", "drain", 0),
    "make the file": ("open", "drain", 1),
    "look at the part": ("stat", "drain", 2),
    "the attributes of the part": ("xattr", "drain", 1),
    "the mode": ("chmod", "drain", 0),
    "rename": ("rename", "drain", 0),
}
EACH = [("new", name) for name in NEW_CALLS] + [("old", name) for name in OLD_CALLS]
ERRORS = ["EPERM", "EACCES", "EIO", "ENOSPC", "EDQUOT", "EFBIG", "EINTR", "EAGAIN", "EMFILE"]
ERRORS += ["ENOMEM", "ENOSYS", "EOPNOTSUPP", "EROFS", "ESTALE", "EEXIST", "EXDEV", "EINVAL"]

ANSWERED = {
    ("make a file without a name", "EOPNOTSUPP"),
    *(("share the blocks", err) for err in ("EOPNOTSUPP", "EXDEV", "EINVAL")),
    *(
        (step, err)
        for step in ("its ACL", "its attributes", "the attributes of the part")
        for err in ("EOPNOTSUPP", "ENOSYS")
    ),
}
"""What is an answer, and no failure: this filesystem has no such thing."""


@pytest.mark.parametrize("err", ERRORS)
@pytest.mark.parametrize(("kind", "step"), EACH, ids=str)
def test_each_call_fails_once(folder, long_way, monkeypatch, kind, step, err):
    """The long way goes on from nothing; the content is whole, and nothing else is there."""
    dst = folder / "dst"
    call, site, skip = (NEW_CALLS if kind == "new" else OLD_CALLS)[step]
    if kind == "old":
        dst.write_bytes(OLD)
        dst.chmod(0o640)
    rule = fail(call, getattr(errno, err), site=site, skip=skip)
    with Seam(rule).everywhere(monkeypatch) as seam:
        result = copy_file(folder / "src", dst)
    assert seam.unused() == [0]
    assert (result.moved, result.in_place) == (len(DATA), "")
    holds(folder, dst=DATA)
    assert stat.S_IMODE(dst.stat().st_mode) == (0o640 if kind == "old" else 0o644)
    assert bool(long_way) == ((step, err) not in ANSWERED)


PRESERVING_CALLS = {
    "its ACL": ("xattr", "fill", 0),
    "its attributes": ("xattr", "fill", 1),
    "look at the new file": ("stat", "drain", 1),
    "the ACL of the new file": ("xattr", "drain", 0),
    "the mode": ("chmod", "drain", 0),
    "the times": ("utimes", "drain", 0),
}


@pytest.mark.parametrize("err", ERRORS)
@pytest.mark.parametrize("step", PRESERVING_CALLS)
def test_each_call_that_preserves_fails_once(folder, long_way, monkeypatch, step, err):
    """As of any other: from nothing, by the long way, which says what is not preserved."""
    call, site, skip = PRESERVING_CALLS[step]
    (folder / "src").chmod(0o604)
    rule = fail(call, getattr(errno, err), site=site, skip=skip)
    with Seam(rule).everywhere(monkeypatch) as seam:
        result = copy_file(folder / "src", folder / "dst", preserve="all")
    assert seam.unused() == [0]
    assert (result.moved, result.not_preserved) == (len(DATA), ())
    holds(folder, dst=DATA)
    status, was = (folder / "dst").stat(), (folder / "src").stat()
    assert (status.st_mode, status.st_mtime_ns) == (was.st_mode, was.st_mtime_ns)
    answered = call == "xattr" and err in ("EOPNOTSUPP", "ENOSYS")
    assert bool(long_way) != answered


@pytest.mark.parametrize("err", ["EOPNOTSUPP", "EISDIR"])
def test_a_filesystem_without_unnamed_files(folder, long_way, monkeypatch, err):
    """A new file is made beside, and renamed; one that may replace nothing takes the long way."""
    before = os.umask(0o027)
    try:
        for overwrite in (True, False):
            rule = fail("open", getattr(errno, err), site="drain")
            with Seam(rule).everywhere(monkeypatch) as seam:
                result = copy_file(folder / "src", folder / "dst", overwrite=overwrite)
            assert seam.unused() == [0]
            assert result.moved == len(DATA)
            assert bool(long_way) != overwrite
            assert len(seam.calls("rename")) == overwrite
            assert not seam.calls("link")
            holds(folder, dst=DATA)
            assert stat.S_IMODE((folder / "dst").stat().st_mode) == 0o640
            (folder / "dst").unlink()
    finally:
        os.umask(before)


def test_a_kernel_that_forgets_the_umask(folder, long_way, monkeypatch):
    """Before Linux 6.0 no file without a name is asked for: it might be everybody's."""
    monkeypatch.setattr(_act, "_ALWAYS", lib.SIO_FILE_NAMED)
    for overwrite in (True, True, False):
        if not overwrite:
            (folder / "dst").unlink()
        with Seam().everywhere(monkeypatch) as seam:
            result = copy_file(folder / "src", folder / "dst", overwrite=overwrite)
        assert result.moved == len(DATA)
        assert bool(long_way) != overwrite
        assert not seam.calls("link")
        holds(folder, dst=DATA)


@pytest.mark.parametrize("err", ERRORS)
@pytest.mark.parametrize("step", NAMED_CALLS)
def test_each_call_without_unnamed_files_fails_once(folder, long_way, monkeypatch, step, err):
    """As of any other: from nothing, by the long way."""
    call, site, skip = NAMED_CALLS[step]
    first = fail("open", errno.EOPNOTSUPP, site="drain")
    # The turns of a rule are counted from the call that the one before it has left to it.
    skip -= call == "open"
    with Seam(first, fail(call, getattr(errno, err), site=site, skip=skip)).everywhere(
        monkeypatch
    ) as seam:
        result = copy_file(folder / "src", folder / "dst")
    assert seam.unused() == [0, 0]
    assert result.moved == len(DATA)
    holds(folder, dst=DATA)
    assert stat.S_IMODE((folder / "dst").stat().st_mode) == 0o644
    assert bool(long_way) == ((step, err) not in ANSWERED)


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize(
    "rule",
    [
        cap("read", 0, times=1),
        cap("read", 1, times=1),
        cap("read", len(DATA) - 1, times=1),
        zero("read"),
        cap("write", 1, times=1),
        cap("write", len(DATA) - 1, times=1),
        zero("write"),
        zero("random"),
    ],
    ids=lambda rule: f"{rule.call}-{rule.value}",
)
def test_each_call_is_short(folder, long_way, monkeypatch, kind, rule):
    """As of a file that has just changed, or a disk that has just filled: asked again."""
    dst = folder / "dst"
    if kind == "old":
        dst.write_bytes(OLD)
    with Seam(rule).everywhere(monkeypatch):
        result = copy_file(folder / "src", dst)
    assert result.moved == len(DATA)
    holds(folder, dst=DATA)
    assert bool(long_way) == (kind == "old" or rule.call != "random")


LARGE_CALLS = [("read", "fill", 0), ("read", "fill", 1), ("read", "fill", 2)]
LARGE_CALLS += [("write", "drain", 0), ("write", "drain", 2)]
CHANGES = [
    lambda call, site, skip, n=n: cap(call, n, site=site, skip=skip, times=1) for n in (0, 9)
]
CHANGES += [
    lambda call, site, skip, err=err: fail(call, err, site=site, skip=skip)
    for err in (errno.EIO, errno.EINTR, errno.ENOSPC)
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("call", LARGE_CALLS, ids=str)
def test_each_piece_fails_once(folder, large, long_way, monkeypatch, call, change):
    """Of several, as of one: from nothing, by the long way."""
    with Seam(change(*call)).everywhere(monkeypatch) as seam:
        copy_file(large, folder / "dst")
    assert len(seam.calls(call[0], call[1])) > call[2]
    assert long_way
    holds(folder, dst=large.read_bytes())


@pytest.mark.parametrize("err", ERRORS)
def test_room_that_is_asked_for(folder, large, long_way, monkeypatch, err):
    """Only of an ext4.  A full disk is asked about again; that it cannot be asked is no matter."""
    with Seam(fail("fallocate", getattr(errno, err))).everywhere(monkeypatch) as seam:
        result = copy_file(large, folder / "dst")
    holds(folder, dst=large.read_bytes())
    asked = seam.calls("fallocate")
    on_ext4 = os.fspath(folder).startswith(PLACES["disk"])
    assert bool(asked) == on_ext4
    again = err in ("ENOSPC", "EDQUOT", "EFBIG", "EINTR")
    assert bool(long_way) == (on_ext4 and again)
    assert result.moved == large.stat().st_size
    assert (folder / "dst").stat().st_blocks * 512 < result.moved + 70_000


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize("err", ["ENOSPC", "EDQUOT", "EIO", "EFBIG"])
def test_a_write_that_fails_for_ever(folder, monkeypatch, kind, err):
    """The error of the long way, with its words and counts, and the old file."""
    dst, number = folder / "dst", getattr(errno, err)
    if kind == "old":
        dst.write_bytes(OLD)
    rules = [fail(call, number, times=ALWAYS) for call in ("write", "sendfile", "splice")]
    with Seam(*rules).everywhere(monkeypatch), pytest.raises(OSError, match="dst") as caught:
        copy_file(folder / "src", dst)
    assert caught.value.errno == number
    assert caught.value.result.moved == 0
    holds(folder, **({} if kind == "new" else {"dst": OLD}))


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize(
    "content", ["zeros", "a zero block", "hole first", "hole last", "all hole"]
)
def test_a_block_of_zeros_may_be_a_hole(folder, long_way, monkeypatch, kind, content):
    """Asked once where there is one; holes are the long way's to keep, zeros are content."""
    src, dst = folder / "src", folder / "dst"
    with open(src, "wb") as file:
        if content == "zeros":
            file.write(bytes(32768))
        elif content == "a zero block":
            file.write(b"x" * 1000 + bytes(1048) + b"y" * 5000)
        else:
            if content != "hole first":
                file.write(b"x" * 8192 if content == "hole last" else b"")
            file.truncate(file.tell() + 32768)
            if content == "hole first":
                file.seek(0, os.SEEK_END)
                file.write(b"x" * 8192)
    if kind == "old":
        dst.write_bytes(OLD)
    with Seam().everywhere(monkeypatch) as seam:
        result = copy_file(src, dst)
    holds(folder, dst=src.read_bytes())
    assert seam.calls("seek")
    assert bool(long_way) == bool(result.holes) == ("hole" in content)


@pytest.mark.parametrize("at", [0, 4096, BUF - 4096, BUF, 2 * BUF + 4096])
@pytest.mark.parametrize("hole", [True, False])
def test_a_block_of_zeros_in_any_piece(folder, large, long_way, monkeypatch, hole, at):
    """Asked before anything is read where blocks are missing, else once, at the first zeros."""
    with open(large, "r+b") as file:
        content = file.read()
        if hole:
            file.seek(at)
            file.truncate(at)
            file.seek(at + 8192)
            file.write(content[at + 8192 :])
        else:
            for where in (at, 2 * BUF + 12288):
                file.seek(where)
                file.write(bytes(4096))
    with Seam().everywhere(monkeypatch) as seam:
        result = copy_file(large, folder / "dst")
    holds(folder, dst=large.read_bytes())
    assert result.holes == (8192 if hole else 0)
    assert bool(long_way) == hole
    if hole:
        calls = [row.call for row in seam.log]
        assert "read" not in calls[: calls.index("seek")]
    else:
        assert len(seam.calls("seek")) == 1


def test_reserved_blocks_that_were_never_written(folder):
    """The kernel takes them for a hole until somebody has read them, and then for data."""
    src = folder / "src"
    src.write_bytes(DATA)
    with open(src, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 65536)
    result = copy_file(src, folder / "dst")
    assert result.moved + result.holes == 65536
    holds(folder, dst=DATA + bytes(65536 - len(DATA)))


@pytest.mark.parametrize("err", ["EINTR", "EINVAL", "EOPNOTSUPP"])
def test_a_filesystem_that_cannot_tell_holes(folder, long_way, monkeypatch, err):
    """Zeros are copied as they are; one that was interrupted is asked again."""
    (folder / "src").write_bytes(bytes(16384))
    with Seam(fail("seek", getattr(errno, err))).everywhere(monkeypatch) as seam:
        result = copy_file(folder / "src", folder / "dst")
    assert seam.unused() == [0]
    assert (result.moved, result.holes) == (16384, 0)
    assert bool(long_way) == (err == "EINTR")
    holds(folder, dst=bytes(16384))
