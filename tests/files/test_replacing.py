"""What a copy over an old file leaves of who may use it, held against cp, situation by situation.

Rule 1: each situation is made twice; cp does one, `copy_file` the other, as the same user, and
owner, mode, ACL, attributes and content are compared. What differs on purpose is in `model`.
Rule 2: whether the inode stayed is what the result says: `in_place`.
Rule 3: a directory has after a copy what it had before, and the destination.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import subprocess
import sys
import textwrap

import pytest

from spliceio import copy_file
from tests.support.cases import FULL, pairwise
from tests.support.programs import need
from tests.support.rights import (
    ACL,
    CAPABILITY,
    DEFAULT,
    GROUP,
    GROUP_READS,
    NAMED,
    NEW,
    NOBODY,
    NOBODY_WRITES,
    OF_DIRECTORY,
    OLD,
    SOMEBODY,
    acl,
    in_child,
    make,
    state,
)

SOURCES = {
    "plain": lambda path: make(path, NEW, 0, 0o644),
    "with an ACL": lambda path: make(path, NEW, 0, 0o644, acl=GROUP_READS),
    "setuid": lambda path: (make(path, NEW, SOMEBODY, 0o4755), os.chown(path, SOMEBODY, GROUP)),
    "with a note": lambda path: make(path, NEW, 0, 0o604, note=b"of the source"),
}
OLDS = {
    "none": lambda path, user: None,
    "own": lambda path, user: make(path, OLD, user, 0o640),
    "own, with an ACL": lambda path, user: make(path, OLD, user, 0o600, acl=GROUP_READS),
    "own, setuid": lambda path, user: make(path, OLD, user, 0o6755),
    "own, setgid without x": lambda path, user: make(path, OLD, user, 0o2644),
    "own, with a note": lambda path, user: make(path, OLD, user, 0o600, note=b"mine"),
    "own, capable": lambda path, user: make(path, OLD, user, 0o755, capability=CAPABILITY),
    "own, of a group": lambda path, user: (
        make(path, OLD, user, 0o660),
        os.chown(path, user, GROUP),
    ),
    "own, of another group": lambda path, user: (
        make(path, OLD, user, 0o660),
        os.chown(path, user, SOMEBODY),
    ),
    "another's": lambda path, user: make(path, OLD, SOMEBODY, 0o666),
    "another's, setuid": lambda path, user: make(path, OLD, SOMEBODY, 0o4777),
    "another's, by an ACL": lambda path, user: make(path, OLD, SOMEBODY, 0o660, acl=NOBODY_WRITES),
    "another's, with a note": lambda path, user: make(path, OLD, SOMEBODY, 0o666, note=b"his"),
    "another's, closed": lambda path, user: make(path, OLD, SOMEBODY, 0o600),
}
DIRECTORIES = {
    "open": (0o777, None),
    "sticky": (0o1777, None),
    "closed": (0o755, None),
    "setgid": (0o2777, None),
    "with a default ACL": (0o777, OF_DIRECTORY),
}
PRESERVE = {"nothing": (), "mode": "mode", "xattr": "xattr", "-p": "standard"}


def model(source, preserve, old):
    """What cp is told to do, to come to what we do: its source, its preserve."""
    if source == "with an ACL" and preserve == "xattr":
        return source, "mode,xattr"  # to us an ACL is an attribute, to cp it is the mode alone
    if source == "with an ACL" and preserve == "nothing" and old == "none":
        return "with that ACL's group", preserve  # cp gives the group the mask
    return source, preserve


def ours(src, dst, preserve):
    try:
        inode = os.stat(dst).st_ino if dst.exists() else None
        result = copy_file(src, dst, preserve=preserve)
    except OSError as error:
        return {"error": str(error)}
    kept = inode == os.stat(dst).st_ino
    return {"why": result.in_place, "kept": kept, "lost": result.not_preserved}


@pytest.mark.parametrize("directory", DIRECTORIES)
@pytest.mark.parametrize("user", [0, NOBODY], ids=["root", "nobody"])
def test_as_cp_leaves_it(base, directory, user):
    """Every old file with every source and every preserve, in a kind of directory."""
    (base / "src").mkdir()
    for name, lay in SOURCES.items():
        lay(base / "src" / name)
    make(base / "src" / "with that ACL's group", NEW, 0, 0o644)
    sources = SOURCES if directory == "open" else ("plain", "with an ACL")
    axes = [sources, OLDS, PRESERVE]
    cases = list(itertools.product(*axes)) if FULL else pairwise([list(axis) for axis in axes])
    mode, default = DIRECTORIES[directory]
    for number, (_, old, _) in enumerate(cases):
        for side in ("ours", "cp"):
            where = base / f"{side}{number}"
            where.mkdir()
            OLDS[old](where / "dst", user)
            os.chown(where, 0, GROUP if directory == "setgid" else 0)
            where.chmod(mode)
            if default:
                os.setxattr(where, DEFAULT, default)
    before = [state(base / f"ours{number}" / "dst") for number in range(len(cases))]

    def copies():
        answers = []
        for number, (source, old, preserve) in enumerate(cases):
            modelled, kept = model(source, preserve, old)
            option = [kept] if kept == "-p" else [f"--preserve={kept}"] * (kept != "nothing")
            command = ["cp", *option, base / "src" / modelled, base / f"cp{number}" / "dst"]
            done = subprocess.run(command, capture_output=True, check=False)
            answer = ours(base / "src" / source, base / f"ours{number}" / "dst", PRESERVE[preserve])
            answers.append((done.returncode, done.stderr.decode(), answer))
        return answers

    wrong = []
    for number, (status, said, answer) in enumerate(in_child(user, copies)):
        found, theirs = (state(base / f"{side}{number}" / "dst") for side in ("ours", "cp"))
        source, old, preserve = cases[number]
        special = stat.S_IMODE((base / "src" / source).stat().st_mode) & 0o6000
        if preserve in ("mode", "-p") and theirs and not special:
            # To us the setuid bits are a part of the mode; cp leaves those that the old file had.
            theirs["mode"] = oct(int(theirs["mode"], 8) & 0o777)
        if "error" in answer:
            # Refused: cp fails too, and what it has done by then is not done.
            right = status != 0 and found == before[number]
            right = right and (preserve in ("mode", "xattr") or theirs == before[number])
        else:
            right = found == theirs and answer["kept"] == bool(answer["why"])
            right = right and (status == 0 or bool(answer["lost"]))
        if not right or os.listdir(base / f"ours{number}") != ["dst"] * (found is not None):
            wrong.append((cases[number], answer, found, theirs, said))
    assert not wrong, "\n".join(map(str, wrong[:5])) + f"\n{len(wrong)} of {len(cases)}"


@pytest.mark.parametrize("old", [True, False])
def test_the_mask_is_given_to_no_group(base, old):
    """Neither by a plain copy nor by one that preserves the mode, nor where there are no ACLs."""
    make(base / "src", NEW, 0, 0o600, acl=acl((1, 6), (2, 6, NAMED), (4, 0), (16, 6), (32, 0)))
    assert state(base / "src")["mode"] == "0o660"
    if old:
        make(base / "dst", OLD, 0, 0o600)
    copy_file(base / "src", base / "dst")
    assert state(base / "dst")["mode"] == "0o600"
    copy_file(base / "src", base / "dst", preserve="mode")
    assert state(base / "dst") == state(base / "src")


@pytest.mark.parametrize("preserve", ["mode", "standard", "all"])
def test_a_list_that_cannot_be_kept(base, monkeypatch, preserve):
    """By name it is an error; else the group has what its entry says, and the result tells."""
    make(base / "src", NEW, 0, 0o600, acl=GROUP_READS)
    real = os.setxattr

    def refusing(path, name, value, *args):
        if name == ACL:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        real(path, name, value, *args)

    monkeypatch.setattr(os, "setxattr", refusing)
    if preserve == "mode":
        with pytest.raises(OSError, match="ACL") as caught:
            copy_file(base / "src", base / "dst", preserve=preserve)
        assert caught.value.errno == errno.EOPNOTSUPP
        assert not (base / "dst").exists()
        return
    result = copy_file(base / "src", base / "dst", preserve=preserve)
    assert result.not_preserved == ("ACL: Operation not supported",)
    assert stat.S_IMODE((base / "dst").stat().st_mode) == 0o644


def test_a_list_that_chmod_rewrites_is_put_back(base, monkeypatch):
    """As that of NFSv4: what the part was closed by, and opened again, leaves no trace."""
    make(base / "src", NEW, 0, 0o600)
    make(base / "dst", OLD, 0, 0o600, acl=GROUP_READS)
    before, real = state(base / "dst"), os.fchmod

    def rewriting(fd, mode):
        real(fd, mode)
        if ACL in os.listxattr(fd):
            os.removexattr(fd, ACL)

    monkeypatch.setattr(os, "fchmod", rewriting)
    assert not copy_file(base / "src", base / "dst").in_place
    assert state(base / "dst") == {**before, "content": NEW}


def test_other_names_of_an_old_file_keep_its_content(base):
    """A new file has one name; where it is written in place, all of them show the new content."""
    make(base / "dst", OLD, SOMEBODY, 0o666)
    os.link(base / "dst", base / "other")
    make(base / "src", NEW, 0, 0o644)
    result = copy_file(base / "src", base / "dst")
    assert result.in_place == ""
    assert (base / "other").read_bytes() == OLD
    os.link(base / "dst", base / "third")
    [why] = in_child(NOBODY, lambda: [copy_file(base / "src", base / "dst").in_place])
    assert "owner" in why or "directory" in why
    assert (base / "third").read_bytes() == NEW


@pytest.mark.parametrize("content", [OLD, b""])
def test_what_names_one_attribute_in_vain_touches_nothing(base, content):
    """In place, what the old file cannot have is refused before it is emptied."""
    base.chmod(0o777)
    make(base / "src", NEW, 0, 0o644)
    make(base / "dst", content, SOMEBODY, 0o666)
    for preserve in ("mode", "ownership", "timestamps", ["standard", "mode"], ["all", "ownership"]):
        answer = in_child(NOBODY, lambda p=preserve: ours(base / "src", base / "dst", p))
        assert "written in place" in answer["error"], preserve
        assert state(base / "dst")["content"] == content
    for preserve in ("standard", "all"):
        answer = in_child(NOBODY, lambda p=preserve: ours(base / "src", base / "dst", p))
        assert [line.partition(":")[0] for line in answer["lost"]] == [
            "ownership",
            "mode",
            "timestamps",
        ]
        assert state(base / "dst")["content"] == NEW


def test_what_the_old_file_has_already_is_preserved(base):
    """The owner of the source is that of the old file, whom nobody may change: nothing is lost."""
    base.chmod(0o777)
    make(base / "src", NEW, SOMEBODY, 0o644)
    make(base / "dst", OLD, SOMEBODY, 0o666)
    answer = in_child(NOBODY, lambda: ours(base / "src", base / "dst", "ownership"))
    assert answer["lost"] == []
    assert (state(base / "dst")["owner"], state(base / "dst")["content"]) == ((SOMEBODY,) * 2, NEW)


def test_a_reflink_that_could_cost_the_old_file_is_refused(base):
    """In place, the old content would be gone before the kernel says no."""
    base.chmod(0o777)
    make(base / "src", NEW, 0, 0o644)
    make(base / "dst", OLD, SOMEBODY, 0o666)

    def always():
        with pytest.raises(OSError, match="in place"):
            copy_file(base / "src", base / "dst", reflink="always")

    in_child(NOBODY, always)
    assert state(base / "dst")["content"] == OLD
    assert sorted(os.listdir(base)) == ["dst", "probe", "src", "warm"]


@pytest.fixture
def chattr(base):
    """Set a flag of a path, until the end of the test."""
    program, flagged = need("chattr"), []

    def change(flag, path):
        done = subprocess.run([program, f"+{flag}", path], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"no chattr +{flag} there: {done.stderr.decode().strip()}")
        flagged.append((flag, path))

    yield change
    for flag, path in flagged:
        subprocess.run([program, f"-{flag}", path], check=True)


@pytest.mark.parametrize("flag", ["i", "a"])
def test_a_file_that_may_not_be_written_is_not_replaced(base, chattr, flag):
    """Immutable, or for appending only: EPERM, as cp, before a byte is copied."""
    make(base / "src", NEW, 0, 0o644)
    make(base / "dst", OLD, 0, 0o644)
    chattr(flag, base / "dst")
    told = []
    with pytest.raises(PermissionError) as caught:
        copy_file(base / "src", base / "dst", progress=told.append)
    assert caught.value.errno == errno.EPERM
    assert (flag == "a") == ("append" in str(caught.value))
    assert not told
    assert (base / "dst").read_bytes() == OLD
    assert not list(base.glob(".dst*"))
    with open(base / "dst", "ab") if flag == "a" else open(os.devnull, "wb") as opened:
        copy_file(base / "src", opened)
    assert (base / "dst").read_bytes() == OLD + NEW * (flag == "a")


@pytest.mark.parametrize("old", [True, False])
def test_a_directory_that_keeps_every_name_gets_no_part(base, chattr, old):
    """Append-only: what is made there can never be removed, so the file is written in place.

    A new one that is small needs no part: see tests/files/test_act.py.
    """
    make(base / "src", NEW, 0, 0o640)
    (base / "there").mkdir()
    if old:
        make(base / "there" / "dst", OLD, 0, 0o644)
    chattr("a", base / "there")
    told = []
    result = copy_file(base / "src", base / "there" / "dst", overwrite=old, progress=told.append)
    assert "append-only" in result.in_place
    assert (base / "there" / "dst").read_bytes() == NEW
    assert os.listdir(base / "there") == ["dst"]
    if not old:
        with pytest.raises(FileExistsError):
            copy_file(base / "src", base / "there" / "dst", overwrite=False)


# ---- the kernel's refusals, scripted ------------------------------------------------------------

STEPS = ["listxattr", "getxattr", "fchown", "removexattr", "setxattr", "fchmod", "ftruncate"]
STEPS += ["open", "rename"]
REFUSALS, FAILURES = [errno.EPERM, errno.EINVAL, errno.ENAMETOOLONG], [errno.EIO, errno.ENOSPC]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", REFUSALS + FAILURES)
def test_each_step_may_be_refused(base, monkeypatch, step, number):
    """A refusal: in place, and told. A failure: an error, and the old file. Never a part."""
    import spliceio._kernel.owned as owned

    make(base / "src", NEW, 0, 0o644)
    (base / "there").mkdir()
    dst = base / "there" / "dst"
    make(dst, OLD, SOMEBODY, 0o4755, acl=GROUP_READS, note=b"mine")
    os.setxattr(dst.parent, DEFAULT, OF_DIRECTORY)
    if step == "removexattr":
        os.removexattr(dst, ACL)
    module, name = (owned, "open_at") if step == "open" else (os, step)
    real, was, inode, failed = getattr(module, name), state(dst), dst.stat().st_ino, []

    def refusing(*args, **options):
        if not failed and (step != "open" or os.fsencode(args[1]).endswith(b".part")):
            failed.append(args)
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(module, name, refusing)
        try:
            result = copy_file(base / "src", dst)
        except OSError as error:
            result = error
    assert failed
    assert os.listdir(dst.parent) == ["dst"]
    assert dst.stat().st_ino == inode
    if number in FAILURES:
        assert result.errno == number
        assert state(dst) == was
    else:
        assert os.strerror(number) in result.in_place
        assert {**was, "content": NEW} == state(dst)


def test_a_new_file_is_not_made_in_place(base, monkeypatch):
    """Where a directory takes no part, it takes no file: the error is the kernel's."""
    make(base / "src", NEW, 0, 0o644)
    (base / "there").mkdir(mode=0o755)
    answer = in_child(NOBODY, lambda: ours(base / "src", base / "there" / "dst", ()))
    assert answer["error"].startswith("[Errno 13] Permission denied: ")


def test_a_part_is_closed_to_all_while_it_is_written(base):
    """Whoever the old file is open to, and whatever list the directory gives."""
    os.setxattr(base, DEFAULT, OF_DIRECTORY)
    make(base / "src", NEW, 0, 0o644)
    for attributes in ({}, {"acl": GROUP_READS}):
        make(base / "dst", OLD, SOMEBODY, 0o666, **attributes)
        was, seen = state(base / "dst"), []

        def progress(_moved, seen=seen):
            [part] = base.glob(".dst.*.part")
            seen.append(stat.S_IMODE(part.stat().st_mode))

        result = copy_file(base / "src", base / "dst", progress=progress)
        assert result.in_place == ""
        assert set(seen) == {0o600}
        assert state(base / "dst") == {**was, "content": NEW}
        os.unlink(base / "dst")


INTERRUPTED = """
    import os, sys
    import spliceio
    from spliceio import copy_file
    from spliceio._files import access as _access

    package = os.path.dirname(spliceio.__file__)

    def refusing(*_args):
        raise PermissionError(1, "refused")

    _access.Inherited.prepare = refusing

    def interrupted_at(step):
        with open("dst", "wb") as file:
            file.write(b"old")
        os.chmod("dst", 0o4644)  # of these, one call does not replace
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
            assert copy_file("src", "dst").in_place
        except KeyboardInterrupt as error:
            return str(error)
        finally:
            sys.settrace(None)
        return None

    with open("src", "wb") as file:
        file.write(b"new content")
    copy_file("src", "dst")
    descriptors, step, where = len(os.listdir("/proc/self/fd")), 0, ""
    while where is not None:
        step += 1
        where = interrupted_at(step)
        assert sorted(os.listdir(".")) == ["dst", "src"], (where, os.listdir("."))
        assert len(os.listdir("/proc/self/fd")) == descriptors, where
        with open("dst", "rb") as file:
            content = file.read()
        assert content in (b"old", b"", b"new content"), (where, content)
    assert content == b"new content"
    assert step > 50, step
    print("done", end="")
"""


def test_an_interrupt_at_every_line_on_the_way_in_place(tmp_path):
    """No part and no descriptor is left; what was there is there, or its successor."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "done"), done.stderr
