"""`copy_file` in one call into C, held against the long way, situation by situation.

Rule 1: each situation is made twice; one copy may take the call, the other is kept from it. What is
there afterwards, what is said and what is raised are the same, as the same user.
Rule 2: some of every axis take the call, and some do not: else nothing would be compared.
Rule 3: a directory has after a copy what it had before, and the destination.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from spliceio import copy_file
from spliceio._cffi import ffi, lib
from spliceio._files import act as _act
from spliceio._kernel.fdinfo import fd_info
from spliceio._transfer.plan import NAMES
from tests.support.cases import FULL, cases, pairwise
from tests.support.rights import (
    DEFAULT,
    GROUP,
    GROUP_READS,
    NOBODY,
    NOBODY_WRITES,
    OF_DIRECTORY,
    OLD,
    SOMEBODY,
    in_child,
    make,
    state,
)
from tests.support.seam import Seam, fail
from tests.support.small_files import PLACES, SIZES
from tests.support.wires import payload

CONTENT = payload(16384)


def holed(path):
    with open(path, "wb") as file:
        file.write(CONTENT)
        file.truncate(len(CONTENT) + 32768)


def linked(path, to):
    to(path.with_name("behind"))
    path.symlink_to("behind")


SOURCES = {
    "plain": lambda path: make(path, CONTENT, 0, 0o644),
    "private": lambda path: make(path, CONTENT, NOBODY, 0o600),
    "for its group": lambda path: make(path, CONTENT, 0, 0o664),
    "all bits": lambda path: make(path, CONTENT, NOBODY, 0o7777),
    "read-only": lambda path: make(path, CONTENT, NOBODY, 0o444),
    "write-only": lambda path: make(path, CONTENT, 0, 0o222),
    "with an ACL": lambda path: make(path, CONTENT, 0, 0o644, acl=GROUP_READS),
    "with a note": lambda path: make(path, CONTENT, 0, 0o644, note=b"of the source"),
    "empty": lambda path: make(path, b"", 0, 0o640 | 0o004),
    "zeros": lambda path: make(path, bytes(16384), 0, 0o644),
    "with a hole": holed,
    "a hole": lambda path: (path.touch(), os.truncate(path, 16384)),
    "large": lambda path: make(path, payload(200_000), 0, 0o644),
    "too large": lambda path: make(path, payload(300_001) * 4, 0, 0o644),
    "a link": lambda path: linked(path, SOURCES["plain"]),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a directory": lambda path: path.mkdir(),
    "a FIFO": lambda path: os.mkfifo(path),
    "nothing": lambda path: None,
}
TARGETS = {
    "nothing": lambda path, src: None,
    "a file": lambda path, src: make(path, OLD, 0, 0o640),
    "nobody's": lambda path, src: make(path, OLD, NOBODY, 0o600),
    "nobody's, of a group": lambda path, src: (
        make(path, OLD, NOBODY, 0o660),
        os.chown(path, NOBODY, GROUP),
    ),
    "another's": lambda path, src: make(path, OLD, SOMEBODY, 0o666),
    "another's, closed": lambda path, src: make(path, OLD, SOMEBODY, 0o600),
    "read-only": lambda path, src: make(path, OLD, NOBODY, 0o444),
    "setuid": lambda path, src: make(path, OLD, NOBODY, 0o4755),
    "sticky": lambda path, src: make(path, OLD, NOBODY, 0o1644),
    "with an ACL": lambda path, src: make(path, OLD, NOBODY, 0o600, acl=GROUP_READS),
    "by an ACL": lambda path, src: make(path, OLD, SOMEBODY, 0o660, acl=NOBODY_WRITES),
    "with a note": lambda path, src: make(path, OLD, NOBODY, 0o644, note=b"mine"),
    "empty": lambda path, src: make(path, b"", NOBODY, 0o644),
    "large": lambda path, src: make(path, payload(200_000, 2), NOBODY, 0o644),
    "two names": lambda path, src: (
        make(path, OLD, NOBODY, 0o644),
        os.link(path, path.with_name("other")),
    ),
    "a link": lambda path, src: (
        make(path.with_name("real"), OLD, NOBODY, 0o644),
        path.symlink_to("real"),
    ),
    "a dangling link": lambda path, src: path.symlink_to("made"),
    "a link to itself": lambda path, src: path.symlink_to(path.name),
    "a directory": lambda path, src: path.mkdir(),
    "the source": lambda path, src: src.is_file() and os.link(src, path),
    "a link to the source": lambda path, src: path.symlink_to("../from/src"),
}
DIRECTORIES = {
    "open": (0o777, None),
    "sticky": (0o1777, None),
    "closed": (0o755, None),
    "setgid": (0o2777, None),
    "a default ACL": (0o777, OF_DIRECTORY),
    "not to be entered": (0o700, None),
    "for new files alone": (0o733, None),
}
PRESERVE = [(), "mode", "ownership", "timestamps", "xattr", "standard", "all"]
UMASKS = [0o022, 0o077, 0o000, 0o027]
WHEN = 999_999_999_999_999_999
USERS = {"root": 0, "nobody": NOBODY}


def told(src, dst, overwrite, preserve):
    """Copy; return what is said of it, without what is another in each copy."""
    inode = os.lstat(dst).st_ino if os.path.lexists(dst) else None
    try:
        result = copy_file(src, dst, overwrite=overwrite, preserve=preserve)
    except (OSError, shutil.Error) as error:
        text = str(error).replace(str(dst.parent.parent), "")
        return {"error": type(error).__name__, "errno": error.errno, "text": text}
    return {
        "in_place": result.in_place,
        "moved": result.moved,
        "holes": result.holes,
        "fallbacks": [list(fallback) for fallback in result.fallbacks],
        "lost": list(result.not_preserved),
        "kept": inode == os.lstat(dst).st_ino,
        "count": sum(result.by_method.values()),
    }


def tree(folder):
    """All that a directory has; and whether a file has the times of its source."""
    return {
        path.name: ("link", os.readlink(path))
        if path.is_symlink()
        else (path.stat().st_mode, path.stat().st_nlink, path.stat().st_mtime_ns == WHEN)
        + ((tuple(sorted(state(path).items())),) if path.is_file() else ())
        for path in folder.iterdir()
    }


def pair(base, number, names):
    """Make a situation twice."""
    source, target, directory = names
    mode, default = DIRECTORIES[directory]
    for way in ("quick", "long"):
        top = base / f"{way}{number}"
        (top / "from").mkdir(parents=True)
        (top / "to").mkdir()
        SOURCES[source](top / "from" / "src")
        if (top / "from" / "src").is_file():
            os.utime(top / "from" / "src", ns=(WHEN, WHEN))
        TARGETS[target](top / "to" / "dst", top / "from" / "src")
        os.chown(top / "to", 0, GROUP if directory == "setgid" else 0)
        (top / "to").chmod(mode)
        if default:
            os.setxattr(top / "to", DEFAULT, default)


@pytest.mark.parametrize("user", USERS)
def test_what_both_ways_leave(base, user):
    """Every source, target, directory, umask and `preserve`, with and without overwriting."""
    axes = [list(SOURCES), list(TARGETS), list(DIRECTORIES), UMASKS, [True, False], PRESERVE]
    rows = [("plain", "nothing", directory, 0o022, True, ()) for directory in DIRECTORIES]
    rows += pairwise(axes)
    if FULL:
        rows += [
            (source, target, directory, 0o022, True, preserve)
            for source in SOURCES
            for target in TARGETS
            for directory in DIRECTORIES
            for preserve in ((), "all")
        ]
    for number, row in enumerate(rows):
        pair(base, number, row[:3])

    def copies():
        by_call, answers, real = [], [], _act.copied

        def counted(*args):
            by_call.append(real(*args))
            return by_call[-1]

        for number, (*_names, umask, overwrite, preserve) in enumerate(rows):
            os.umask(umask)
            said = []
            for way in ("quick", "long"):
                _act.copied = counted if way == "quick" else lambda *args: None
                top = base / f"{way}{number}"
                said.append(told(top / "from" / "src", top / "to" / "dst", overwrite, preserve))
            answers.append((*said, by_call[-1] is not None))
        _act.copied = real
        return answers

    wrong, took = [], {}
    for number, (quick, long, by_call) in enumerate(in_child(USERS[user], copies)):
        for axis, value in enumerate(rows[number]):
            took.setdefault((axis, value), set()).add(by_call)
        after = [tree(base / f"{way}{number}" / "to") for way in ("quick", "long")]
        if quick != long or after[0] != after[1]:
            wrong.append((rows[number], quick, long, *after))
    assert not wrong, "\n".join(map(str, wrong[:3])) + f"\n{len(wrong)} of {len(rows)}"
    quickly = {key for key, ways in took.items() if True in ways}
    assert {value for axis, value in quickly if axis == 0} >= {
        "plain",
        "empty",
        "zeros",
        "large",
        "a link",
    }
    assert {value for axis, value in quickly if axis == 1} >= {"nothing"} | (
        {"a file"} if user == "root" else {"nobody's", "two names", "large"}
    )
    assert {value for axis, value in quickly if axis == 2} >= {"open", "sticky", "setgid"}
    never = {(1, "setuid"), (1, "with an ACL"), (1, "a link"), (1, "empty"), (0, "with a hole")}
    never |= {(0, "too large"), (0, "a FIFO"), (1, "the source"), (1, "another's")}
    assert not quickly & never


def planned(folder, size, in_one_call):
    """Return the methods for a file that replaces nothing there, best first."""
    there = filesystem(folder)
    pair, order = ffi.new("struct sio_file_pair *"), ffi.new("int32_t[]", 6)
    pair.dst_kind, pair.size = lib.SIO_KIND_FILE, size
    pair.may_share, pair.in_one_call = True, in_one_call
    pair.src_filesystem = pair.dst_filesystem = there
    methods = [NAMES[number] for number in order[0 : lib.sio_plan_file(pair, order)]]
    return methods, bool(lib.sio_plan_reserves(there, size))


def filesystem(folder):
    with tempfile.TemporaryFile(dir=folder) as file:
        return fd_info(file.fileno()).filesystem


@pytest.mark.parametrize("refused", [(), ("clone",)])
@cases(folder=PLACES, size=[*SIZES[1:], 524288, 524289]).with_args(indirect=["folder"])
def test_both_ways_ask_the_same_plan(folder, monkeypatch, size, refused):
    """What each tried, in its order, what moved the bytes, and whether it allocated blocks before.

    Each by what the plan says of its way: to share the blocks and to allocate them, it is the same.
    """
    (folder / "src").write_bytes(payload(size))
    took, plans = [], []
    for way in ("quick", "long"):
        with Seam(*(fail(call, errno.EXDEV) for call in refused)).everywhere(monkeypatch) as seam:
            if way == "long":
                monkeypatch.setattr(_act, "copied", lambda *args: None)
            result = copy_file(folder / "src", folder / way)
        assert (folder / way).read_bytes() == payload(size)
        tried = [fallback.method for fallback in result.fallbacks]
        took.append(([*tried, result.method], bool(seam.calls("fallocate"))))
        methods, reserves = planned(folder, size, way == "quick")
        plans.append((methods[: len(tried) + 1], reserves))
    assert took == plans
    assert [methods[0] for methods, _ in took] == ["reflink", "reflink"]
    assert took[0][1] == took[1][1]


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "there/", "there/.", "there/..", "nowhere/dst", "file/dst", "x" * 256),
        *(
            "a\0b",
            "x/" * 2500,
            "/",
            "//",
            "../to/dst",
            "./dst",
            "there//dst",
            "deep/../dst",
            "dst/",
        ),
    ],
)
@pytest.mark.parametrize("form", [str, os.fsencode])
def test_odd_paths(tmp_path, monkeypatch, name, form):
    """As source and as target: the same file, or the same error."""
    said = []
    for way in ("quick", "long"):
        top = tmp_path / way
        for folder in ("to/there", "to/deep"):
            (top / folder).mkdir(parents=True)
        (top / "to" / "src").write_bytes(CONTENT)
        (top / "to" / "file").write_bytes(OLD)
        monkeypatch.chdir(top / "to")
        if way == "long":
            monkeypatch.setattr(_act, "copied", lambda *args: None)
        for src, dst in (("src", form(name)), (form(name), "dst")):
            try:
                answer = copy_file(src, dst).in_place
            except (OSError, ValueError) as error:
                answer = (type(error), str(error))
            files = {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}
            said.append((way, answer, files))
    assert [row[1:] for row in said[:2]] == [row[1:] for row in said[2:]]


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("where", ["fd", "stdout", "fd, none"])
def test_open_files_by_a_path(tmp_path, monkeypatch, old, where):
    """What a link of /proc leads to is written as it is open, and no name is made."""
    (tmp_path / "src").write_bytes(CONTENT)
    said = []
    for way in ("quick", "long"):
        if way == "long":
            monkeypatch.setattr(_act, "copied", lambda *args: None)
        with open(tmp_path / way, "wb", buffering=0) as opened:
            opened.write(OLD if old else b"")
            number = opened.fileno()
            path = f"/dev/fd/{number}" if where == "fd" else f"/proc/self/fd/{number}"
            if where == "fd, none":
                path = "/proc/self/fd/987"
            try:
                said.append(copy_file(tmp_path / "src", path).in_place)
            except OSError as error:
                said.append((error.errno, str(error)))
        said.append((tmp_path / way).read_bytes())
    assert said[:2] == said[2:]
    assert sorted(os.listdir(tmp_path)) == ["long", "quick", "src"]
    assert Path("/proc/self/fd").exists()
