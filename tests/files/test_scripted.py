"""`copy_file` and every answer of the kernel, at every call, scripted through the C seam.

Rule 1: a copy that returns has made exactly the content of the source.
Rule 2: a copy that raises has left the old destination, and nothing beside it.
Rule 3: a script that was not played out is a failure of the test.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from spliceio import CopyResult, copy_file
from spliceio._files import act as _act
from spliceio._kernel.fdinfo import fd_info
from spliceio._transfer import plan as _plan
from tests.support.cases import FULL, cases
from tests.support.seam import ALWAYS, Seam, cap, fail, zero
from tests.support.wires import payload

KIB64 = 64 << 10
OLD = b"the old content"
PIECES = [payload(2 * KIB64, 1), payload(3 * KIB64, 2), payload(5001, 3)]
CONTENT = bytes(KIB64).join(PIECES) + bytes(KIB64)
IN_BLOCKS = sum(-len(piece) % 4096 + len(piece) for piece in PIECES)
EXT4, NFS = 0xEF53, 0x6969
CHUNK = 32 << 10
# What class each errno is of, tests/transfer/test_errno_classes.py holds.
REFUSALS = ("EINVAL", "EPERM", "ENOSYS", "EOPNOTSUPP", "EXDEV", "EBADF")[: None if FULL else 2]
FAILURES = ("ENOSPC", "EIO", "ENOMEM", "EFBIG", "EDQUOT")[: None if FULL else 3]


@pytest.fixture(autouse=True)
def the_long_way(monkeypatch):
    """The calls of the state machine: what one call into C does is in tests/files/test_act.py."""
    monkeypatch.setattr(_act, "copied", lambda *args: None)


@pytest.fixture
def places(tmp_path):
    """A directory on an ext4, and one in memory; both are emptied after."""
    for parent in (tmp_path, Path("/var/tmp"), Path.cwd()):
        with tempfile.TemporaryFile(dir=parent) as probe:
            if fd_info(probe.fileno()).filesystem == EXT4:
                break
    else:
        pytest.skip("no directory of this machine is on an ext4")
    with (
        tempfile.TemporaryDirectory(dir=parent) as disk,
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
    ):
        yield {"disk": Path(disk), "tmpfs": Path(memory)}


def lay(path):
    """Data, hole, data, hole, data, hole."""
    with open(path, "wb") as file:
        for piece in PIECES:
            file.write(piece)
            file.seek(KIB64, os.SEEK_CUR)
        file.truncate(len(CONTENT))
    return path


def never(*calls):
    """Refuse these calls, so that another method has its turn."""
    return [fail(call, errno.ENOSYS, times=ALWAYS) for call in calls]


# How each loop is reached: the pair, the options, what is refused before, the call and its site.
# copy_file_range is for filesystems that do the work elsewhere: there, these are taken for such.
LOOPS = {
    "copy_file_range": ("disk", "disk", {}, [], "copy_file_range", "direct"),
    "sendfile": ("disk", "tmpfs", {"reflink": "never"}, ["splice"], "sendfile", "direct"),
    "sendfile in memory": ("tmpfs", "tmpfs", {}, ["splice"], "sendfile", "direct"),
    "sendfile, no holes": ("disk", "disk", {"sparse": "never"}, ["splice"], "sendfile", "direct"),
    "fill": ("disk", "disk", {}, [], "splice", "fill"),
    "fill in memory": ("tmpfs", "tmpfs", {}, [], "splice", "fill"),
    "fill, no holes": ("tmpfs", "disk", {"sparse": "never"}, [], "splice", "fill"),
    "drain": ("disk", "disk", {}, [], "splice", "drain"),
    "drain, no holes": ("disk", "tmpfs", {"sparse": "never"}, [], "splice", "drain"),
    "read": ("disk", "disk", {}, ["sendfile", "splice"], "read", "fill"),
    "write": ("tmpfs", "disk", {}, ["sendfile", "splice"], "write", "drain"),
    "read for zeros": ("disk", "disk", {"sparse": "always"}, [], "read", "fill"),
    "write for zeros": ("tmpfs", "tmpfs", {"sparse": "always"}, [], "write", "drain"),
}
loops = pytest.mark.parametrize("loop", LOOPS)
POSITIONS = {"first": 0, "middle": 3, "last": 10}
OLDS = (None, OLD)
olds = pytest.mark.parametrize("old", OLDS, ids=["new", "old"])


class Copy:
    """One scripted copy; `result` or `error` is what came of it."""

    def __init__(self, places, monkeypatch, src, dst, options, rules, *, old=None):
        self.src, self.dst = lay(places[src] / "src"), places[dst] / "dst"
        self.old = old
        if old is not None:
            self.dst.write_bytes(old)
        self.result = self.error = None
        self.seam = Seam(*rules)
        with self.seam.everywhere(monkeypatch):
            try:
                self.result = copy_file(self.src, self.dst, **options)
            except OSError as error:
                self.error = error

    def played(self, refused=0):
        """Assert that every rule after the refusals had its turns."""
        assert self.seam.unused()[refused:] == [0] * (len(self.seam.unused()) - refused)
        return self

    def whole(self):
        """Assert that the copy is whole."""
        if self.error is not None:
            raise self.error
        assert isinstance(self.result, CopyResult)
        assert self.dst.read_bytes() == CONTENT
        assert self.result.moved + self.result.holes == len(CONTENT)
        assert sum(self.result.by_method.values()) == self.result.moved
        return self.alone({"dst"})

    def failed(self, err=None):
        """Assert that it failed, by this error, and left what was there."""
        assert isinstance(self.error, OSError), self.result
        assert err is None or self.error.errno == err
        if self.old is not None:
            assert self.dst.read_bytes() == self.old
        return self.alone(set() if self.old is None else {"dst"})

    def either(self):
        """Assert one or the other."""
        return self.whole() if self.error is None else self.failed()

    def alone(self, expected):
        there = set(os.listdir(self.dst.parent)) - {"src"}
        assert there == expected
        return self


def scripted(places, monkeypatch, loop, answers, *, position="first", old=None):
    """Play the answers at a call of a loop, after some calls of a chunk each."""
    src, dst, options, refused, call, site = LOOPS[loop]
    if call == "copy_file_range":
        plan = _plan.whole_file_order
        monkeypatch.setattr(
            _plan,
            "whole_file_order",
            lambda src, dst, **asked: plan(
                src._replace(filesystem=NFS), dst._replace(filesystem=NFS), **asked
            ),
        )
    # The other half of the loop must not hand over everything at once.
    other = {"drain": "splice", "write": "read"}.get("write" if call == "write" else site)
    rules = [*never(*refused), *([cap(other, CHUNK, site="fill")] if other else [])]
    if POSITIONS[position]:
        rules.append(cap(call, CHUNK, site=site, times=POSITIONS[position]))
    rules += [*answers, cap(call, CHUNK, site=site)]
    return Copy(places, monkeypatch, src, dst, options, rules, old=old), len(refused)


@loops
def test_each_loop_is_reached(places, monkeypatch, loop):
    """The table is right: the call is made, and more than ten times in pieces of 32 KiB."""
    copy, _ = scripted(places, monkeypatch, loop, [])
    copy.whole()
    call, site = LOOPS[loop][4:]
    assert len([row for row in copy.seam.calls(call, site) if row.result > 0]) > 10
    assert copy.result.moved == len(CONTENT) if "no holes" in loop else IN_BLOCKS


@loops
@pytest.mark.parametrize("size", [1, 4095, 4097, 9973])
def test_short_counts_lose_nothing(places, monkeypatch, loop, size):
    """However few bytes a call moves, the content is whole."""
    call, site = LOOPS[loop][4:]
    answers = [cap(call, size, site=site, times=300 if size == 1 else 30)]
    copy, _ = scripted(places, monkeypatch, loop, answers)
    copy.whole()
    assert any(row.result == size for row in copy.seam.calls(call, site))


@cases(loop=LOOPS, position=POSITIONS, old=OLDS, times=[1, 5])
def test_an_interrupted_call_is_made_again(places, monkeypatch, loop, position, old, times):
    """EINTR ends nothing."""
    call, site = LOOPS[loop][4:]
    answers = [fail(call, errno.EINTR, site=site, times=times)]
    copy, refused = scripted(places, monkeypatch, loop, answers, position=position, old=old)
    copy.whole().played(refused)


ZERO_COPY = ("copy_file_range", "sendfile", "splice")


@cases(loop=LOOPS, position=POSITIONS, old=OLDS, err=FAILURES)
def test_a_failure_leaves_nothing(places, monkeypatch, loop, position, old, err):
    """At any call: the error comes out by its own number, with the counts, and the old file."""
    number = getattr(errno, err)
    call, site = LOOPS[loop][4:]
    answers = [fail(call, number, site=site)]
    copy, refused = scripted(places, monkeypatch, loop, answers, position=position, old=old)
    if err == "EIO" and position == "first" and call in ZERO_COPY and site != "drain":
        copy.whole().played(refused)  # no verdict on the file: another way of reading is tried
        assert number in [fallback.errno for fallback in copy.result.fallbacks]
        return
    copy.failed(number).played(refused)
    assert 0 <= copy.error.result.moved < len(CONTENT)
    assert copy.error.held == b""


@cases(loop=LOOPS, old=OLDS, err=REFUSALS)
def test_a_refused_method_falls_to_the_next(places, monkeypatch, loop, old, err):
    """Refused at its first call: recorded, and another way is taken; read and write have none."""
    (call, site), number = LOOPS[loop][4:], getattr(errno, err)
    answers = [fail(call, number, site=site)]
    copy, refused = scripted(places, monkeypatch, loop, answers, old=old)
    copy.played(refused)
    if call in ("read", "write"):
        copy.failed(number)
        return
    copy.whole()
    assert (call, number) in [(f.method, f.errno) for f in copy.result.fallbacks]


@cases(loop=LOOPS, old=OLDS, position=["middle", "last"], err=REFUSALS)
def test_a_refusal_in_the_middle(places, monkeypatch, loop, old, position, err):
    """Once a method has moved bytes: whole by another way, or the error and the old file."""
    call, site = LOOPS[loop][4:]
    answers = [fail(call, getattr(errno, err), site=site)]
    copy, refused = scripted(places, monkeypatch, loop, answers, position=position, old=old)
    copy.either().played(refused)
    if copy.error is not None:
        assert copy.error.errno == getattr(errno, err)


@cases(loop=LOOPS, position=POSITIONS, old=OLDS)
def test_a_zero_is_no_end(places, monkeypatch, loop, position, old):
    """A call that says "nothing" in the middle of a file never makes the copy short."""
    call, site = LOOPS[loop][4:]
    answers = [zero(call, site=site)]
    copy, refused = scripted(places, monkeypatch, loop, answers, position=position, old=old)
    copy.played(refused)
    if call != "read":
        copy.either()
        return
    # Of a read it is the end, as of a file that has just been truncated.
    assert copy.error is None
    content = copy.dst.read_bytes()
    assert CONTENT.startswith(content)
    assert copy.result.moved + copy.result.holes == len(content) < len(CONTENT)
    copy.alone({"dst"})


# ---- FICLONE ------------------------------------------------------------------------------------


@cases(
    old=OLDS,
    pair=[("disk", "disk"), ("tmpfs", "tmpfs"), ("disk", "tmpfs")],
    err=[*REFUSALS, "ENOTTY", "ETXTBSY"],
)
def test_a_refused_reflink_is_a_fallback(places, monkeypatch, pair, err, old):
    """With "auto" it is recorded first, and everything is copied; with "always" it is raised."""
    number = getattr(errno, err)
    copy = Copy(places, monkeypatch, *pair, {}, [fail("clone", number)], old=old)
    copy.whole().played()
    first = copy.result.fallbacks[0]
    assert (first.method, first.errno) == ("reflink", number)
    assert first.why
    copy.dst.unlink()
    copy = Copy(places, monkeypatch, *pair, {"reflink": "always"}, [fail("clone", number)], old=old)
    copy.failed(number).played()
    assert "reflink" in str(copy.error)
    assert {row.call for row in copy.seam.log} & {"copy_file_range", "sendfile", "write"} == set()


@olds
@pytest.mark.parametrize("reflink", ["auto", "always"])
def test_an_interrupted_reflink_is_made_again(places, monkeypatch, reflink, old):
    """EINTR is no refusal: with the filesystem's own answer it goes on."""
    copy = Copy(
        places,
        monkeypatch,
        "disk",
        "disk",
        {"reflink": reflink},
        [fail("clone", errno.EINTR, times=2)],
        old=old,
    )
    copy.played()
    assert len(copy.seam.calls("clone")) == 3
    if reflink == "auto" or copy.seam.calls("clone")[-1].result >= 0:
        copy.whole()
    else:
        copy.failed()


@olds
@pytest.mark.parametrize("err", ["ENOSPC", "EIO", "EDQUOT", "ENOMEM"])
def test_a_reflink_that_fails(places, monkeypatch, err, old):
    """Not for want of the feature: whole by another way, or the error and the old file."""
    number = getattr(errno, err)
    copy = Copy(places, monkeypatch, "disk", "disk", {}, [fail("clone", number)], old=old)
    copy.either().played()
    copy.dst.unlink(missing_ok=True)
    copy = Copy(
        places, monkeypatch, "disk", "disk", {"reflink": "always"}, [fail("clone", number)], old=old
    )
    copy.failed(number).played()


@pytest.mark.parametrize("reflink", ["auto", "always"])
def test_a_reflink_is_reported_as_one(places, monkeypatch, reflink):
    """One call, and no other: the method is "reflink", nothing was refused."""
    src, dst = lay(places["disk"] / "src"), places["disk"] / "dst"
    with Seam(zero("clone")).everywhere(monkeypatch) as seam:
        result = copy_file(src, dst, reflink=reflink)
    assert seam.unused() == [0]
    assert result.method == "reflink"
    assert result.fallbacks == ()
    assert len(seam.calls("clone")) == 1
    moves = {"copy_file_range", "sendfile", "splice", "read", "write", "fallocate"}
    assert {row.call for row in seam.log} & moves == set()


# ---- fallocate ----------------------------------------------------------------------------------


@cases(
    old=OLDS,
    pair=[("disk", "disk"), ("tmpfs", "disk")],
    err=[*REFUSALS, "ENODEV", "ESPIPE", "EINTR"],
)
def test_room_that_cannot_be_asked_for(places, monkeypatch, pair, err, old):
    """Fallocate is an aid: without it the copy is the same."""
    rules = [fail("fallocate", getattr(errno, err))]
    copy = Copy(places, monkeypatch, *pair, {"sparse": "never"}, rules, old=old)
    copy.whole().played()


@cases(old=OLDS, sparse=["auto", "never"], err=["ENOSPC", "EDQUOT", "EFBIG"])
def test_room_that_is_not_there(places, monkeypatch, err, sparse, old):
    """Known before a byte is copied."""
    number = getattr(errno, err)
    src = places["disk"] / "plain"
    src.write_bytes(CONTENT)
    dst = places["disk"] / "dst"
    if old is not None:
        dst.write_bytes(old)
    with (
        Seam(fail("fallocate", number)).everywhere(monkeypatch) as seam,
        pytest.raises(OSError, match=r"full|quota|limit") as caught,
    ):
        copy_file(src, dst, sparse=sparse)
    assert seam.unused() == [0]
    assert caught.value.errno == number
    assert caught.value.result.moved == 0
    assert {row.call for row in seam.log} & {
        "copy_file_range",
        "sendfile",
        "read",
        "write",
    } == set()
    assert set(os.listdir(dst.parent)) == {"plain", *(["dst"] if old is not None else [])}
    assert old is None or dst.read_bytes() == old


@olds
@pytest.mark.parametrize("err", ["EIO", "ENOMEM"])
def test_room_that_fails(places, monkeypatch, err, old):
    """Whole, or the error and the old file."""
    rules = [fail("fallocate", getattr(errno, err))]
    Copy(places, monkeypatch, "disk", "disk", {"sparse": "never"}, rules, old=old).either().played()


# ---- holes --------------------------------------------------------------------------------------


@cases(old=OLDS, skip=range(5), err=["EINVAL", "EOPNOTSUPP", "ENOSYS", "EINTR", "EIO", "EBADF"])
def test_a_hole_that_cannot_be_found(places, monkeypatch, err, skip, old):
    """At the first look it is all data; later whole, or the error and the old file."""
    rules = [fail("seek", getattr(errno, err), skip=skip)]
    copy = Copy(places, monkeypatch, "disk", "disk", {}, rules, old=old)
    copy.either().played()
    if err == "EINTR" or (skip == 0 and err in ("EINVAL", "EOPNOTSUPP", "ENOSYS")):
        copy.whole()


@cases(
    old=OLDS, sparse=["auto", "always"], err=["EINTR", "EINVAL", "EIO", "ENOSPC", "EFBIG", "EPERM"]
)
def test_an_end_that_cannot_be_set(places, monkeypatch, err, sparse, old):
    """The last hole is made by truncate: again after EINTR, else the error and the old file."""
    number = getattr(errno, err)
    copy = Copy(
        places, monkeypatch, "disk", "disk", {"sparse": sparse}, [fail("truncate", number)], old=old
    )
    copy.played()
    if err == "EINTR":
        copy.whole()
    else:
        copy.failed(number)


@olds
@pytest.mark.parametrize("err", ["EMFILE", "ENFILE", "ENOMEM", "EPERM"])
def test_no_pipe_to_be_had(places, monkeypatch, err, old):
    """Splice needs one: read and write do not."""
    rules = [
        *never("copy_file_range", "sendfile"),
        fail("pipe", getattr(errno, err), times=ALWAYS),
    ]
    copy = Copy(places, monkeypatch, "disk", "disk", {}, rules, old=old)
    copy.either()
    if copy.error is None:
        assert copy.result.method == "read_write"
    assert copy.seam.calls("pipe")


def test_no_answer_is_cached(places, monkeypatch):
    """A pair that was refused everything is asked again at the next copy."""
    rules = never("clone", "copy_file_range", "sendfile", "splice", "fallocate")
    Copy(places, monkeypatch, "disk", "disk", {}, rules).whole()
    copy = Copy(places, monkeypatch, "disk", "disk", {}, []).whole()
    assert copy.seam.calls("clone")
    assert copy.seam.calls("fallocate") == copy.seam.calls("copy_file_range") == []
    assert copy.seam.calls("splice")
    assert [f.method for f in copy.result.fallbacks if f.method != "reflink"] == []
