"""`copy_file`: content, holes, attributes, and what it makes of every kind of path.

Rule 1: after every copy the destination is compared byte by byte with the source, and its directory
is listed: a `.part` left behind is a failure.
Rule 2: after every refusal the destination is what it was.
Rule 3: where the holes of a file are is asked of the kernel here, and not of the library.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spliceio
from spliceio import CopyResult, copy_file
from spliceio._kernel.fdinfo import fd_info
from tests.support.cases import cases
from tests.support.programs import need
from tests.support.seam import Seam, cap, fail
from tests.support.states import Worker
from tests.support.wires import MIB, payload

EXT4, TMPFS = 0xEF53, 0x01021994
DATA = payload(300_001)
KIB64 = 64 << 10


# ---- places and files ---------------------------------------------------------------------------


def filesystem(directory):
    """Return the magic number of a directory's filesystem."""
    with tempfile.TemporaryFile(dir=directory) as file:
        return fd_info(file.fileno()).filesystem


PLACES = ("ext4", "tmpfs")
BOTH = ["place", "other_place"]


@pytest.fixture
def tmpfs():
    """An empty directory on a tmpfs."""
    if not os.path.isdir("/dev/shm") or filesystem("/dev/shm") != TMPFS:
        pytest.skip("/dev/shm is no tmpfs")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="spliceio-") as made:
        yield Path(made)


@pytest.fixture
def ext4(tmp_path):
    """An empty directory on an ext4."""
    for parent in (tmp_path, Path("/var/tmp"), Path.cwd()):
        if filesystem(parent) == EXT4:
            with tempfile.TemporaryDirectory(dir=parent) as made:
                yield Path(made)
            return
    pytest.skip("no directory of this machine is on an ext4")


@pytest.fixture(params=PLACES)
def place(request):
    """An empty directory, on a disk and in memory in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=PLACES)
def other_place(request):
    """Another one, for pairs of filesystems."""
    return request.getfixturevalue(request.param)


def lay(path, *segments):
    """Write a file of ("data" | "hole" | "zeros", length) one after the other."""
    with open(path, "wb") as file:
        for number, (kind, length) in enumerate(segments):
            if kind == "hole":
                file.seek(length, os.SEEK_CUR)
            else:
                file.write(payload(length, seed=number) if kind == "data" else bytes(length))
        file.truncate(file.tell())
    return path


def holes(path):
    """Ask the kernel how many bytes of a file are in holes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        at, size, found = 0, os.fstat(fd).st_size, 0
        while at < size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                data = size
            found += data - at
            at = os.lseek(fd, data, os.SEEK_HOLE) if data < size else size
        return found
    finally:
        os.close(fd)


def allocated(path):
    return os.stat(path).st_blocks * 512


def same(src, dst):
    """Compare two files; a hole against a hole is not read."""
    one, two = os.stat(src).st_size, os.stat(dst).st_size
    assert one == two
    if one <= 100 * MIB:
        return filecmp.cmp(src, dst, shallow=False)
    with open(src, "rb") as a, open(dst, "rb") as b:
        for file, other in ((a, b), (b, a)):
            at = 0
            while True:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break
                end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
                while at < end:
                    n = min(MIB, end - at)
                    if os.pread(file.fileno(), n, at) != os.pread(other.fileno(), n, at):
                        return False
                    at += n
    return True


def names(directory):
    return sorted(os.listdir(directory))


def only(directory, *expected):
    """Assert what a directory has; a part of a copy has no place in it."""
    assert names(directory) == sorted(expected)


def audit(result, size):
    """Assert what must be true of every result."""
    assert isinstance(result, CopyResult)
    assert isinstance(result, spliceio.TransferResult)
    assert result.moved + result.holes == size
    assert result.moved >= 0
    assert result.holes >= 0
    assert sum(result.by_method.values()) == result.moved
    assert result.seconds >= 0
    if result.moved:
        assert result.method in result.by_method
    return result


@pytest.fixture
def file(tmp_path):
    """A source of its own directory, so that the destination's can be listed."""
    directory = tmp_path / "source"
    directory.mkdir()
    path = directory / "src"
    path.write_bytes(DATA)
    return path


def pausing(times=1):
    """Rules that stop the copy each 64 KiB, so that `progress` is called in the middle."""
    calls = (("copy_file_range", "direct"), ("sendfile", "direct"), ("splice", "fill"))
    return [
        rule
        for call, site in (*calls, ("read", "fill"))
        for _ in range(times)
        for rule in (cap(call, KIB64, site=site, times=1), fail(call, errno.EINTR, site=site))
    ]


# ---- content ------------------------------------------------------------------------------------

SIZES = [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1]
REFLINKS = ["auto", "never"]
SPARSE = ["auto", "always", "never"]


@cases(place=PLACES, other_place=PLACES, size=SIZES, reflink=REFLINKS, sparse=SPARSE).with_args(
    indirect=BOTH
)
def test_content_of_any_size(place, other_place, size, reflink, sparse):
    """Whole, on every pair of filesystems, with every option; nothing else is left."""
    src, dst = place / "src", other_place / "dst"
    src.write_bytes(payload(size))
    result = audit(copy_file(src, dst, reflink=reflink, sparse=sparse), size)
    assert dst.read_bytes() == payload(size)
    assert result.holes == 0
    only(other_place, *{"dst", *(["src"] if place == other_place else [])})


@cases(place=PLACES, other_place=PLACES, sparse=SPARSE).with_args(indirect=BOTH)
def test_content_of_a_big_file(place, other_place, sparse):
    """70 MiB: more than one call takes."""
    src, dst = place / "src", other_place / "dst"
    with open(src, "wb") as writer:
        for seed in range(7):
            writer.write(payload(MIB, seed) * 10)
    audit(copy_file(src, dst, sparse=sparse), 70 * MIB)
    assert same(src, dst)


@pytest.mark.parametrize("old", [b"", b"short", payload(MIB, seed=9)])
def test_an_old_destination_is_replaced(place, file, old):
    """Whatever was there, shorter or longer: it is gone."""
    dst = place / "dst"
    dst.write_bytes(old)
    audit(copy_file(file, dst), len(DATA))
    assert dst.read_bytes() == DATA
    only(place, "dst")


def test_progress_tells_the_total(place, file):
    """Called with what is there by then; the last time with everything."""
    told = []
    result = copy_file(file, place / "dst", progress=told.append)
    assert told == sorted(told)
    assert told[-1] in (result.moved, len(DATA))


@pytest.mark.parametrize("name", ["auto", "always", "never"])
def test_an_option_that_does_not_exist(place, file, name):
    """ValueError that names it, before anything is made."""
    for bad in (
        {"reflink": "maybe"},
        {"sparse": "some"},
        {"reflink": None},
        {"sparse": True},
        {"preserve": "everything"},
        {"preserve": ["mode", "colour"]},
        {"preserve": "mode,timestamps"},
    ):
        options = {"sparse": name} if "sparse" not in bad else {}
        with pytest.raises((ValueError, TypeError), match=next(iter(bad))):
            copy_file(file, place / "dst", **options, **bad)
    only(place)


# ---- holes --------------------------------------------------------------------------------------

D, H, Z = "data", "hole", "zeros"
LAYOUTS = {
    "no hole": [(D, 5 * KIB64)],
    "leading": [(H, MIB), (D, KIB64)],
    "middle": [(D, KIB64), (H, MIB), (D, KIB64)],
    "trailing": [(D, KIB64), (H, MIB)],
    "odd ends": [(H, MIB + 4097), (D, 5001), (H, MIB + 13), (D, 1), (H, 70_001)],
    "only hole": [(H, MIB)],
    "only hole, odd": [(H, MIB + 1)],
    "one byte": [(H, 10 * MIB), (D, 1)],
    "many small": [(D, 4096), (H, 12 << 10)] * 300,
    "one page holes": [(D, 4096), (H, 4096)] * 50,
}
ZEROED = {
    "only zeros": [(Z, MIB)],
    "zeros first": [(Z, MIB), (D, MIB)],
    "zeros last": [(D, MIB), (Z, MIB)],
    "between": [(D, MIB), (Z, 2 * MIB), (D, MIB), (H, MIB), (Z, MIB), (D, MIB)],
}


@cases(place=PLACES, other_place=PLACES, layout=LAYOUTS, reflink=REFLINKS).with_args(indirect=BOTH)
def test_holes_stay_holes(place, other_place, layout, reflink):
    """sparse="auto": the same bytes, the same holes, and each is counted."""
    src, dst = lay(place / "src", *LAYOUTS[layout]), other_place / "dst"
    expected, size = holes(src), os.stat(src).st_size
    result = audit(copy_file(src, dst, reflink=reflink), size)
    assert same(src, dst)
    assert result.holes == holes(dst) == expected
    assert allocated(dst) <= size - expected + KIB64


@cases(place=PLACES, other_place=PLACES, layout={**LAYOUTS, **ZEROED}).with_args(indirect=BOTH)
def test_never_fills_holes(place, other_place, layout):
    """sparse="never": every byte is written, and has its block."""
    src, dst = lay(place / "src", *{**LAYOUTS, **ZEROED}[layout]), other_place / "dst"
    size = os.stat(src).st_size
    result = audit(copy_file(src, dst, sparse="never"), size)
    assert same(src, dst)
    assert result.holes == 0
    assert holes(dst) == 0
    assert allocated(dst) >= size


@cases(place=PLACES, other_place=PLACES, layout=ZEROED, reflink=REFLINKS).with_args(indirect=BOTH)
def test_always_makes_holes_of_zeros(place, other_place, layout, reflink):
    """sparse="always": blocks of zeros have no block on the disk, and the content is the same."""
    segments = ZEROED[layout]
    src, dst = lay(place / "src", *segments), other_place / "dst"
    data = sum(length for kind, length in segments if kind == D)
    result = audit(copy_file(src, dst, sparse="always", reflink=reflink), os.stat(src).st_size)
    assert same(src, dst)
    assert result.moved == data
    assert allocated(dst) <= data + KIB64


@cases(place=PLACES, other_place=PLACES, layout=LAYOUTS).with_args(indirect=BOTH)
def test_always_keeps_holes_too(place, other_place, layout):
    """What auto leaves out, always leaves out as well."""
    src, dst = lay(place / "src", *LAYOUTS[layout]), other_place / "dst"
    expected = holes(src)
    result = audit(copy_file(src, dst, sparse="always"), os.stat(src).st_size)
    assert same(src, dst)
    assert result.holes >= expected
    assert allocated(dst) <= os.stat(src).st_size - expected + KIB64


def test_auto_writes_zeros_as_they_are(place, other_place):
    """Zeros that have blocks keep blocks, unless asked otherwise."""
    src, dst = lay(place / "src", (D, MIB), (Z, MIB)), other_place / "dst"
    result = audit(copy_file(src, dst), 2 * MIB)
    assert result.holes == 0
    assert allocated(dst) >= 2 * MIB


@pytest.mark.parametrize("data", [0, 1, 5])
def test_a_terabyte_of_hole(place, other_place, data):
    """A file of one TiB with next to nothing in it is copied as fast as that is read."""
    src, dst = place / "src", other_place / "dst"
    with open(src, "wb") as writer:
        for number in range(data):
            writer.seek(number * (1 << 37))
            writer.write(b"here" * 2000)
        writer.truncate(1 << 40)
    expected = holes(src)
    result = audit(copy_file(src, dst), 1 << 40)
    assert result.holes == expected
    assert same(src, dst)
    assert allocated(dst) < MIB


@pytest.mark.parametrize("err", ["EINVAL", "EOPNOTSUPP", "ENOSYS"])
@pytest.mark.parametrize("sparse", SPARSE)
def test_a_filesystem_without_seek_hole(place, monkeypatch, err, sparse):
    """Everything is data then: the content is the same, no error is made of it."""
    src = lay(place / "src", (D, KIB64), (H, MIB), (D, 100))
    seam = Seam(fail("seek", getattr(errno, err), times=2**31 - 1))
    with seam.everywhere(monkeypatch):
        result = audit(copy_file(src, place / "dst", sparse=sparse), KIB64 + MIB + 100)
    assert same(src, place / "dst")
    assert result.holes == (MIB if sparse == "always" else 0)


@cases(place=PLACES, layout={**LAYOUTS, **ZEROED}, sparse=SPARSE).with_args(indirect=["place"])
def test_as_cp_does_it(place, layout, sparse):
    """`cp --sparse`: the same content, and no more blocks than cp gives (never: no fewer)."""
    if sparse == "auto" and layout in ZEROED:
        sparse = "always"  # cp looks for zeros by itself in a file that has holes
    cp = need("cp")
    if b"--sparse" not in subprocess.run([cp, "--help"], capture_output=True, check=False).stdout:
        pytest.skip("this cp has no --sparse")
    src = lay(place / "src", *{**LAYOUTS, **ZEROED}[layout])
    ours, theirs = place / "ours", place / "theirs"
    copy_file(src, ours, sparse=sparse)
    subprocess.run([cp, f"--sparse={sparse}", "--reflink=never", src, theirs], check=True)
    assert filecmp.cmp(ours, theirs, shallow=False)
    if sparse == "never":
        assert allocated(ours) >= os.stat(src).st_size
    else:
        assert allocated(ours) <= allocated(theirs) + KIB64


KINDS = st.sampled_from([D, H, Z])
LENGTHS = st.one_of(
    st.sampled_from([1, 511, 4095, 4096, 4097, 12288, KIB64 - 1, KIB64, KIB64 + 1, 3 * KIB64]),
    st.integers(1, 200_000),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    segments=st.lists(st.tuples(KINDS, LENGTHS), max_size=12),
    sparse=st.sampled_from(SPARSE),
    reflink=st.sampled_from(REFLINKS),
    pair=st.sampled_from([("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]),
    target=st.sampled_from(["new", "old", "open", "open inside", "appending"]),
)
def test_any_layout_any_options(segments, sparse, reflink, pair, target):
    """Against the plain model: the bytes are those of the source, where they were asked for."""
    with contextlib.ExitStack() as stack:
        where = {
            name: Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent)))
            for name, parent in (("a", None), ("b", "/dev/shm"))
        }
        src = lay(where[pair[0]] / "src", *segments)
        content = src.read_bytes()
        dst, old = where[pair[1]] / "dst", payload(100_000, seed=99)
        before, after = b"", b""
        if target != "new":
            dst.write_bytes(old)
        given_dst = dst
        if target.startswith(("open", "app")):
            given_dst = stack.enter_context(open(dst, "ab" if target == "appending" else "r+b"))
            at = {"open": 0, "open inside": 12_345, "appending": len(old)}[target]
            given_dst.seek(at)
            before, after = old[:at], old[at + len(content) :]
        result = audit(copy_file(src, given_dst, sparse=sparse, reflink=reflink), len(content))
        if given_dst is not dst:
            assert given_dst.tell() == len(before) + len(content)
            given_dst.flush()
            assert result.holes == 0
        assert dst.read_bytes() == before + content + after
        if sparse == "never":
            assert result.holes == 0
        elif sparse == "auto" and given_dst is dst:
            assert result.holes == holes(src)
        only(dst.parent, *{"dst", *(["src"] if pair[0] == pair[1] else [])})


# ---- files that the kernel makes up -------------------------------------------------------------

MADE_UP = [
    "/proc/version",
    "/proc/cmdline",
    "/proc/filesystems",
    "/proc/devices",
    "/proc/kallsyms",
    "/proc/self/cmdline",
    "/proc/self/environ",
    "/proc/self/limits",
    "/proc/self/cgroup",
    "/proc/self/comm",
    "/proc/self/personality",
    "/proc/self/auxv",
    "/proc/self/mountinfo",
    "/proc/self/mounts",
    "/proc/self/uid_map",
    "/proc/self/loginuid",
    "/proc/self/oom_score_adj",
    "/proc/net/psched",
    "/proc/sys/kernel/ostype",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/version",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/fs/pipe-max-size",
    "/proc/sys/net/ipv4/tcp_rmem",
    "/sys/kernel/fscaps",
    "/sys/kernel/notes",
    "/sys/kernel/vmcoreinfo",
    "/sys/kernel/btf/vmlinux",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/devices/system/cpu/online",
    "/sys/class/net/lo/address",
    "/sys/class/net/lo/mtu",
]


@cases(
    place=PLACES, path=MADE_UP, options=[{}, {"reflink": "never"}, {"sparse": "always"}]
).with_args(indirect=["place"])
def test_a_file_of_proc_or_sys_is_copied_in_full(place, path, options):
    """Their sizes are 0 or made up; what a read gives is what the copy has."""
    try:
        expected = Path(path).read_bytes()
    except OSError as error:
        pytest.skip(f"{path}: {error.strerror}")
    result = copy_file(path, place / "dst", **options)
    assert (place / "dst").read_bytes() == expected
    audit(result, len(expected))
    only(place, "dst")


def test_a_file_of_proc_that_cannot_be_read(place):
    """/proc/self/mem has nothing at 0: the error of read(), and nothing is left."""
    with pytest.raises(OSError, match="input/output error") as caught:
        copy_file("/proc/self/mem", place / "dst")
    assert caught.value.errno == errno.EIO
    only(place)


def test_a_file_of_proc_is_written_in_place(tmp_path):
    """No file can be made beside it, nor renamed onto it."""
    comm = Path("/proc/self/comm")
    old = comm.read_bytes()
    (tmp_path / "src").write_bytes(b"copied")
    try:
        copy_file(tmp_path / "src", comm)
        assert comm.read_bytes() == b"copied\n"
    finally:
        comm.write_bytes(old)


# ---- the same file ------------------------------------------------------------------------------


def by_hard_link(src):
    os.link(src, src.with_name("other"))
    return src.with_name("other")


def by_symlink(src):
    src.with_name("other").symlink_to("src")
    return src.with_name("other")


def by_two_symlinks(src):
    src.with_name("second").symlink_to(by_symlink(src))
    return src.with_name("second")


SAME = {
    "itself": lambda src: src,
    "relative": lambda src: os.path.relpath(src),
    "roundabout": lambda src: src.parent / ".." / src.parent.name / "." / "src",
    "bytes": os.fsencode,
    "hard link": by_hard_link,
    "symlink": by_symlink,
    "two symlinks": by_two_symlinks,
}


@pytest.mark.parametrize("way", SAME)
@pytest.mark.parametrize("back", [False, True])
def test_a_file_is_not_copied_onto_itself(file, way, back):
    """SameFileError whichever name it has; the file is untouched."""
    inode = os.stat(file).st_ino
    pair = (file, SAME[way](file))
    before = names(file.parent)
    with pytest.raises(shutil.SameFileError):
        copy_file(*(reversed(pair) if back else pair))
    assert file.read_bytes() == DATA
    assert os.stat(file).st_ino == inode
    only(file.parent, *before)


@pytest.mark.parametrize("mode", ["r+b", "ab"])
@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("number", [False, True], ids=["object", "int"])
def test_a_file_is_not_copied_onto_itself_while_open(file, mode, buffering, number):
    """The same for a destination that is open."""
    with open(file, mode, buffering=buffering) as dst, pytest.raises(shutil.SameFileError):
        copy_file(file, dst.fileno() if number else dst)
    assert file.read_bytes() == DATA


def python(script, *args, wrapper=(), **options):
    """Run a script in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
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


def test_the_same_file_by_a_bind_mount(file):
    """Another path, another mount, and the same file."""
    script = """
        import os, shutil, subprocess, sys
        from spliceio import copy_file
        here = os.path.dirname(sys.argv[1])
        there = here + "-bound"
        os.mkdir(there)
        subprocess.run(["mount", "--bind", here, there], check=True)
        try:
            copy_file(sys.argv[1], there + "/src")
        except shutil.SameFileError:
            print("refused", end="")
    """
    assert python(script, file, wrapper=mounting()) == "refused"
    assert file.read_bytes() == DATA


# ---- other things than files --------------------------------------------------------------------


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(path))


NO_FILES = {
    "directory": (lambda path: path.mkdir(), IsADirectoryError),
    "fifo": (os.mkfifo, shutil.SpecialFileError),
    "socket": (a_socket, shutil.SpecialFileError),
    "missing": (lambda path: None, FileNotFoundError),
    "/dev/null": (lambda path: path.symlink_to("/dev/null"), shutil.SpecialFileError),
    "/dev/zero": (lambda path: path.symlink_to("/dev/zero"), shutil.SpecialFileError),
    "dangling": (lambda path: path.symlink_to("nothing"), FileNotFoundError),
    "loop": (lambda path: path.symlink_to(path.name), OSError),
    "link to a directory": (lambda path: path.symlink_to("."), IsADirectoryError),
}


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_source_that_is_no_file(tmp_path, monkeypatch, kind, old):
    """Refused by its kind, without waiting for anybody; the destination is what it was."""
    make, error = NO_FILES[kind]
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "src")
    (tmp_path / "there").mkdir()
    dst = tmp_path / "there" / "dst"
    if old is not None:
        dst.write_bytes(old)
    with pytest.raises(error) as caught:
        copy_file("src", dst)
    if kind == "loop":
        assert caught.value.errno == errno.ELOOP
    assert "src" in str(caught.value)
    only(dst.parent, *([] if old is None else ["dst"]))
    assert old is None or dst.read_bytes() == old


def test_a_source_behind_a_symlink_is_the_file(place, file):
    """The content is copied, not the link."""
    (place / "link").symlink_to(file)
    copy_file(place / "link", place / "dst")
    assert (place / "dst").read_bytes() == DATA
    assert not (place / "dst").is_symlink()


@pytest.mark.parametrize("bad", [None, 1.5, [], object], ids=repr)
def test_what_is_no_path(tmp_path, file, bad):
    """TypeError for either side."""
    with pytest.raises(TypeError):
        copy_file(bad, tmp_path / "dst")
    with pytest.raises(TypeError):
        copy_file(file, bad)
    only(tmp_path, "source")


def test_a_source_that_is_open(tmp_path, file):
    """TypeError: only a path is a source, copy() takes the rest."""
    with open(file, "rb") as opened:
        for bad in (opened, opened.fileno()):
            with pytest.raises(TypeError):
                copy_file(bad, tmp_path / "dst")
        assert opened.tell() == 0
    only(tmp_path, "source")


def test_preserve_takes_any_iterable(place, file):
    """A set, a generator; nothing at all is nothing."""
    file.chmod(0o640)
    for given_names in ({"mode"}, iter(["mode"]), ["mode", "mode"]):
        copy_file(file, place / "dst", preserve=given_names)
        assert mode(place / "dst") == 0o640
        (place / "dst").unlink()
    os.utime(file, ns=(1, 1))
    copy_file(file, place / "dst", preserve=iter(()))
    assert os.stat(place / "dst").st_mtime_ns > 1


def test_a_path_with_a_nul(tmp_path, file):
    """ValueError, as of open()."""
    with pytest.raises(ValueError, match="null"):
        copy_file(file, f"{tmp_path}/a\0b")
    with pytest.raises(ValueError, match="null"):
        copy_file(f"{tmp_path}/a\0b", tmp_path / "dst")


@pytest.mark.parametrize("path", ["", "gone/dst", "source/src/dst", "new/", "source"])
def test_a_destination_that_cannot_be(tmp_path, monkeypatch, file, path):
    """No name, no parent, a parent that is a file, a name of a directory: an OSError that says."""
    monkeypatch.chdir(tmp_path)
    expected = {
        "": FileNotFoundError,
        "gone/dst": FileNotFoundError,
        "source/src/dst": NotADirectoryError,
        "new/": (IsADirectoryError, FileNotFoundError, NotADirectoryError),
        "source": IsADirectoryError,
    }[path]
    with pytest.raises(expected):
        copy_file(file, path)
    only(tmp_path, "source")
    only(tmp_path / "source", "src")


def test_a_symlink_to_a_directory_is_a_directory(tmp_path, file):
    """IsADirectoryError; neither the link nor the directory is touched."""
    (tmp_path / "link").symlink_to("source")
    with pytest.raises(IsADirectoryError):
        copy_file(file, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    only(tmp_path / "source", "src")


@pytest.mark.parametrize("target", ["old", "new"])
@pytest.mark.parametrize("links", [1, 2])
def test_the_target_of_a_symlink_is_replaced_and_the_link_stays(place, file, target, links):
    """Relative links are followed from where they are; a dangling one gets its target."""
    (place / "far").mkdir()
    (place / "links").mkdir()
    (place / "links" / "link").symlink_to("../far/dst")
    dst = place / "links" / "link"
    if links == 2:
        (place / "second").symlink_to("links/link")
        dst = place / "second"
    if target == "old":
        (place / "far" / "dst").write_bytes(b"old")
    copy_file(file, dst)
    assert os.readlink(place / "links" / "link") == "../far/dst"
    assert dst.is_symlink()
    assert not (place / "far" / "dst").is_symlink()
    assert (place / "far" / "dst").read_bytes() == DATA
    only(place / "far", "dst")
    only(place / "links", "link")


def test_a_loop_of_symlinks(tmp_path, file):
    """ELOOP, and the links stay."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "a"))) as caught:
        copy_file(file, tmp_path / "a")
    assert caught.value.errno == errno.ELOOP
    only(tmp_path, "a", "b", "source")


def test_a_fifo_is_written_in_place(tmp_path, file):
    """The reader gets the bytes; the FIFO stays one."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = Worker(fifo.read_bytes)
    copy_file(file, fifo)
    assert reader.result() == DATA
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    only(tmp_path, "fifo", "source")


def test_a_fifo_gets_the_holes_as_zeros(tmp_path):
    """A pipe has no positions: every byte goes through it."""
    src = lay(tmp_path / "src", (H, 100_000), (D, 10), (H, 50_000))
    os.mkfifo(tmp_path / "fifo")
    for sparse in SPARSE:
        reader = Worker((tmp_path / "fifo").read_bytes)
        result = audit(copy_file(src, tmp_path / "fifo", sparse=sparse), 150_010)
        assert reader.result() == src.read_bytes()
        assert result.holes == 0


def test_devices_are_written_in_place(file):
    """/dev/null takes all, /dev/full nothing; both stay what they are."""
    audit(copy_file(file, "/dev/null"), len(DATA))
    with pytest.raises(OSError, match="full") as caught:
        copy_file(file, "/dev/full")
    assert caught.value.errno == errno.ENOSPC
    for device in ("/dev/null", "/dev/full"):
        assert stat.S_ISCHR(os.stat(device).st_mode)
    assert not [name for name in os.listdir("/dev") if name.endswith(".part")]


def test_a_socket_is_no_destination(tmp_path, monkeypatch, file):
    """OSError, and it stays."""
    monkeypatch.chdir(tmp_path)
    a_socket(tmp_path / "sock")
    with pytest.raises(OSError, match="sock"):
        copy_file(file, tmp_path / "sock")
    assert stat.S_ISSOCK((tmp_path / "sock").stat().st_mode)


# ---- names --------------------------------------------------------------------------------------

NAMES = {
    "255 bytes": b"n" * 255,
    "255 bytes of text": "ä".encode() * 127 + b"x",
    "250 bytes": b"n" * 250,
    "240 bytes": b"n" * 240,
    "not UTF-8": b"\xff\xfe\x80",
    "dash": b"-",
    "option": b"--help",
    "newline": b"a\nb",
    "spaces": b"  ",
    "percent": b"%s%n",
    "dots": b"...",
    "hidden": b".hidden",
    "part": b".dst.01234567.part",
    "wildcard": b"*?[a]",
}


@cases(place=PLACES, name=NAMES, old=[False, True]).with_args(indirect=["place"])
def test_any_name_of_a_destination(place, monkeypatch, name, old):
    """As long as a name can be, of any bytes; the part's name is none longer than 255."""
    path = os.fsencode(place) + b"/" + NAMES[name]
    if old:
        with open(path, "wb") as writer:
            writer.write(b"old")
    with tempfile.TemporaryDirectory() as away:
        src = os.path.join(os.fsencode(away), NAMES[name])
        with open(src, "wb") as writer:
            writer.write(DATA)
        copy_file(src, path)
        with open(path, "rb") as reader:
            assert reader.read() == DATA
        assert os.listdir(os.fsencode(place)) == [NAMES[name]]
        monkeypatch.chdir(place)
        copy_file(src, NAMES[name])
        copy_file(Path(os.fsdecode(src)), os.fsdecode(NAMES[name]))
    assert os.listdir(os.fsencode(place)) == [NAMES[name]]


def test_a_name_that_is_too_long(place, file):
    """ENAMETOOLONG, as of open()."""
    with pytest.raises(OSError, match="name too long") as caught:
        copy_file(file, place / ("n" * 256))
    assert caught.value.errno == errno.ENAMETOOLONG
    only(place)


class Named:
    """Something with __fspath__."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize("of", [str, os.fsencode, Path, lambda path: Named(str(path))])
def test_any_type_of_path(place, file, of):
    """Str, bytes, Path, and what has __fspath__."""
    copy_file(of(file), of(place / "dst"))
    assert (place / "dst").read_bytes() == DATA


# ---- a destination that is open -----------------------------------------------------------------

OLD = payload(1000, seed=5)


@pytest.mark.parametrize("at", [0, 1, 100, 1000, 5000])
@pytest.mark.parametrize("how", ["int", "FileIO", "BufferedRandom"])
def test_an_open_file_is_written_at_its_position(place, at, how):
    """In place: what is before and after stays, and the position is behind the copy."""
    src, dst = place / "src", place / "dst"
    src.write_bytes(DATA[:333])
    dst.write_bytes(OLD)
    inode = dst.stat().st_ino
    with open(dst, "r+b", buffering=-1 if how == "BufferedRandom" else 0) as opened:
        opened.seek(at)
        audit(copy_file(src, opened.fileno() if how == "int" else opened), 333)
        assert opened.tell() == at + 333
        opened.write(b"!")
    expected = bytearray(OLD.ljust(at, b"\0"))
    expected[at : at + 334] = DATA[:333] + b"!"
    assert dst.read_bytes() == expected
    assert dst.stat().st_ino == inode
    only(place, "dst", "src")


def test_an_open_file_that_has_read_ahead(place, file):
    """Its own position counts, and not the descriptor's."""
    (place / "dst").write_bytes(OLD)
    with open(place / "dst", "r+b") as opened:
        assert opened.read(10) == OLD[:10]
        copy_file(file, opened)
        assert opened.tell() == 10 + len(DATA)
    assert (place / "dst").read_bytes() == OLD[:10] + DATA


def test_the_directory_is_the_one_of_the_call(place, file, monkeypatch):
    """Whoever changes the working directory meanwhile changes nothing."""
    (place / "here").mkdir()
    (place / "there").mkdir()
    monkeypatch.chdir(place / "here")
    copy_file(file, "dst", progress=lambda _: os.chdir(place / "there"))
    assert (place / "here" / "dst").read_bytes() == DATA
    only(place / "here", "dst")
    only(place / "there")


def test_a_buffered_writer_is_flushed_first(place, file):
    """What was written before goes before."""
    with open(place / "dst", "wb") as opened:
        opened.write(b"before ")
        copy_file(file, opened)
        assert opened.tell() == 7 + len(DATA)
        opened.write(b" after")
    assert (place / "dst").read_bytes() == b"before " + DATA + b" after"


@cases(
    place=PLACES,
    how=["int", "FileIO", "BufferedWriter"],
    layout=["no hole", "odd ends", "only hole"],
    sparse=SPARSE,
).with_args(indirect=["place"])
def test_a_file_open_for_appending(place, how, layout, sparse):
    """At the end, holes as zeros."""
    src, dst = lay(place / "src", *LAYOUTS[layout]), place / "dst"
    dst.write_bytes(OLD)
    with open(dst, "ab", buffering=-1 if how == "BufferedWriter" else 0) as opened:
        given_dst = opened.fileno() if how == "int" else opened
        result = audit(copy_file(src, given_dst, sparse=sparse), src.stat().st_size)
    assert result.holes == 0
    assert dst.read_bytes() == OLD + src.read_bytes()


@pytest.mark.parametrize("layout", ["leading", "middle", "trailing", "odd ends", "only hole"])
@pytest.mark.parametrize("sparse", SPARSE)
def test_holes_over_old_data_are_zeros(place, layout, sparse):
    """Where a file has old data, a hole of the source must hide it."""
    src, dst = lay(place / "src", *LAYOUTS[layout]), place / "dst"
    size = src.stat().st_size
    old = payload(size + 5000, seed=6)
    dst.write_bytes(old)
    with open(dst, "r+b", buffering=0) as opened:
        opened.seek(1000)
        audit(copy_file(src, opened, sparse=sparse), size)
        assert opened.tell() == 1000 + size
    assert dst.read_bytes() == old[:1000] + src.read_bytes() + old[1000 + size :]


@pytest.mark.parametrize("layout", ["leading", "middle", "trailing", "odd ends", "only hole"])
@pytest.mark.parametrize("at", [0, 4096, 5000])
def test_holes_beyond_the_end_of_an_open_file_stay_holes(place, layout, at):
    """Nothing is there to be hidden; the file ends where the source does, the position too."""
    src, dst = lay(place / "src", *LAYOUTS[layout]), place / "dst"
    size = src.stat().st_size
    dst.write_bytes(OLD)
    with open(dst, "r+b", buffering=0) as opened:
        opened.truncate(at)
        opened.seek(at)
        result = audit(copy_file(src, opened), size)
        assert opened.tell() == at + size
    assert dst.read_bytes() == OLD[:at].ljust(at, b"\0") + src.read_bytes()
    assert result.holes == holes(src)
    assert allocated(dst) <= size - result.holes + 2 * KIB64


def test_an_open_file_that_cannot_be_written(place, file):
    """What copy() says of it."""
    (place / "dst").write_bytes(OLD)
    with open(place / "dst", "rb") as opened:
        with pytest.raises(OSError, match="writing") as caught:
            copy_file(file, opened)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(OSError, match="writing"):
            copy_file(file, opened.fileno())
    with pytest.raises(ValueError, match="closed"):
        copy_file(file, opened)
    with open(place / "dst", "r+") as text, pytest.raises(TypeError, match="text"):
        copy_file(file, text)
    with pytest.raises(OSError, match="not open"):
        copy_file(file, 10_000)
    assert (place / "dst").read_bytes() == OLD


# ---- attributes ---------------------------------------------------------------------------------


@pytest.fixture
def umask():
    """Set the umask for one test."""
    before = os.umask(0o022)
    try:
        yield os.umask
    finally:
        os.umask(before)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@cases(
    place=PLACES,
    mask=[0, 0o022, 0o027, 0o777],
    bits=[0o644, 0o600, 0o755, 0o777, 0o400, 0o4755, 0o6777, 0o1644],
).with_args(indirect=["place"])
def test_the_mode_of_a_new_file(place, file, umask, mask, bits):
    """The source's permissions less the umask, as cp gives it; never setuid."""
    file.chmod(bits)
    umask(mask)
    copy_file(file, place / "dst")
    assert mode(place / "dst") == bits & 0o777 & ~mask


@pytest.mark.parametrize("bits", [0o644, 0o600, 0o755, 0o4755, 0o2755])
@pytest.mark.parametrize("own", [0o600, 0o664, 0o711])
def test_an_old_file_keeps_its_mode(place, file, umask, bits, own):
    """Whatever the source's is."""
    (place / "dst").write_bytes(b"old")
    (place / "dst").chmod(own)
    file.chmod(bits)
    umask(0o077)
    copy_file(file, place / "dst")
    assert mode(place / "dst") == own


@cases(
    place=PLACES,
    bits=[0o644, 0o600, 0o000, 0o777, 0o4755, 0o2755, 0o1777, 0o6711],
    old=[False, True],
    preserve=["mode", ("mode",), "all"],
).with_args(indirect=["place"])
def test_preserve_mode(place, file, umask, bits, old, preserve):
    """Every bit of it, whatever the umask and the old file's."""
    if old:
        (place / "dst").write_bytes(b"old")
        (place / "dst").chmod(0o640)
    file.chmod(bits)
    umask(0o077)
    copy_file(file, place / "dst", preserve=preserve)
    assert mode(place / "dst") == bits


@pytest.mark.parametrize("old", [None, 0o600])
def test_a_part_is_never_more_open_than_what_it_becomes(place, file, umask, monkeypatch, old):
    """A secret is no secret if it can be read while it is copied."""
    umask(0)
    file.chmod(0o600 if old is None else 0o644)
    if old is not None:
        (place / "dst").write_bytes(b"old")
        (place / "dst").chmod(old)
    seen = []

    def progress(_moved):
        seen.extend(mode(part) for part in place.glob(".dst.*.part"))

    with Seam(*pausing()).everywhere(monkeypatch):
        copy_file(file, place / "dst", progress=progress)
    assert seen
    assert all(bits & 0o077 == 0 for bits in seen)
    assert mode(place / "dst") == 0o600


def as_root():
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")


@pytest.mark.parametrize("preserve", ["ownership", ("ownership", "mode"), "all"], ids=str)
@pytest.mark.parametrize("old", [False, True])
def test_preserve_ownership(place, file, preserve, old):
    """Owner and group; with the mode, setuid survives the change of owner."""
    as_root()
    if old:
        (place / "dst").write_bytes(b"old")
    os.chown(file, 1234, 4321)
    file.chmod(0o6755)
    copy_file(file, place / "dst", preserve=preserve)
    status = (place / "dst").stat()
    assert (status.st_uid, status.st_gid) == (1234, 4321)
    if preserve != "ownership":
        assert mode(place / "dst") == 0o6755
    else:
        assert not mode(place / "dst") & 0o6000


@pytest.mark.parametrize("own", [0o640, 0o664, 0o4755, 0o2711])
def test_an_old_file_keeps_its_owner(place, file, own):
    """Of root it stays that of whom it was, with the mode it had."""
    as_root()
    dst = place / "dst"
    dst.write_bytes(b"old")
    os.chown(dst, 1234, 4321)
    dst.chmod(own)
    copy_file(file, dst)
    status = dst.stat()
    assert (status.st_uid, status.st_gid) == (1234, 4321)
    assert mode(dst) & 0o777 == own & 0o777
    assert dst.read_bytes() == DATA


def test_without_preserve_a_new_file_is_the_callers(place, file):
    """Owner, times and attributes are those of any new file."""
    as_root()
    os.chown(file, 1234, 4321)
    os.setxattr(file, "user.note", b"x")
    os.utime(file, ns=(1, 1))
    copy_file(file, place / "dst")
    status = (place / "dst").stat()
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    assert os.listxattr(place / "dst") == []
    assert status.st_mtime_ns > 1


NOW = 1_700_000_000_123_456_789


@cases(
    place=PLACES,
    modified=[NOW, 1, 0, -1_000_000_001, (1 << 33) * 10**9 + 7],
    preserve=["timestamps", ["timestamps", "xattr", "mode"], "all"],
).with_args(indirect=["place"])
def test_preserve_timestamps(place, file, preserve, modified):
    """Both, to the nanosecond, also before 1970 and after 2106."""
    os.setxattr(file, "user.note", b"x")
    os.utime(file, ns=(modified + 5, modified))
    src = os.stat(file)
    accessed = max(src.st_atime_ns, modified + 5)
    copy_file(file, place / "dst", preserve=preserve)
    dst = os.stat(place / "dst")
    assert dst.st_mtime_ns == src.st_mtime_ns == modified
    # Reading may have renewed the source's; either is its access time.
    assert dst.st_atime_ns in (accessed, os.stat(file).st_atime_ns)


ACL = "system.posix_acl_access"


def acl(*entries):
    """Pack (tag, permissions, id) as the kernel takes it."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY_READS = acl(
    (1, 6, 0xFFFFFFFF), (2, 4, 65534), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)
)


@pytest.mark.parametrize("preserve", ["xattr", ("xattr", "mode"), "all"], ids=str)
@pytest.mark.parametrize("old", [False, True])
def test_preserve_xattr(place, other_place, preserve, old):
    """Every user attribute, of any bytes, the empty one too."""
    src, dst = place / "src", other_place / "dst"
    src.write_bytes(DATA)
    values = {"user.note": b"\0\xff bytes", "user.empty": b"", "user.big": b"x" * 2000}
    try:
        for name, value in values.items():
            os.setxattr(src, name, value)
    except OSError as error:
        pytest.skip(f"no user attributes here: {error.strerror}")
    if old:
        dst.write_bytes(b"old")
    copy_file(src, dst, preserve=preserve)
    assert {name: os.getxattr(dst, name) for name in os.listxattr(dst)} == values
    assert dst.read_bytes() == DATA


@pytest.mark.parametrize("preserve", [("xattr", "mode"), "all"], ids=str)
def test_preserve_an_access_control_list(place, file, preserve):
    """An ACL is an attribute that is also part of the mode."""
    src = place / "src"
    src.write_bytes(DATA)
    try:
        os.setxattr(src, ACL, NOBODY_READS)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error.strerror}")
    copy_file(src, place / "dst", preserve=preserve)
    assert os.getxattr(place / "dst", ACL) == NOBODY_READS
    assert mode(place / "dst") == mode(src)
    copy_file(src, place / "plain")
    assert ACL not in os.listxattr(place / "plain")


def test_preserve_a_file_capability(place):
    """It survives the data and the change of owner, which both take it away."""
    as_root()
    src = place / "src"
    src.write_bytes(DATA)
    os.chown(src, 1234, 4321)
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    try:
        os.setxattr(src, "security.capability", capability)
    except OSError as error:
        pytest.skip(f"no file capabilities here: {error.strerror}")
    copy_file(src, place / "dst", preserve="all")
    assert os.getxattr(place / "dst", "security.capability") == capability
    assert (place / "dst").stat().st_uid == 1234


@pytest.mark.parametrize("how", ["int", "FileIO", "BufferedWriter"])
def test_preserve_on_an_open_destination(place, file, how):
    """It applies to an open file as to a path."""
    file.chmod(0o640)
    os.utime(file, ns=(NOW + 5, NOW))
    os.setxattr(file, "user.note", b"kept")
    with open(place / "dst", "wb", buffering=-1 if how == "BufferedWriter" else 0) as opened:
        given_dst = opened.fileno() if how == "int" else opened
        copy_file(file, given_dst, preserve=("mode", "timestamps", "xattr"))
    assert mode(place / "dst") == 0o640
    assert os.stat(place / "dst").st_mtime_ns == NOW
    assert os.getxattr(place / "dst", "user.note") == b"kept"


UNPRIVILEGED = """
    import errno, os, sys
    import spliceio
    from spliceio import copy_file

    where = sys.argv[1]
    os.chdir(where)
    # Whatever is loaded on first use is loaded while its directory can be read.
    os.mkdir("warm")
    open("warm/src", "wb").write(bytes(10))
    copy_file("warm/src", "warm/dst", preserve="all")
    for bad in (lambda: copy_file("warm/gone", "x"), lambda: copy_file("warm/src", "warm/src")):
        try:
            bad()
        except OSError:
            pass
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)

    def raises(kind, *args, **options):
        try:
            copy_file(*args, **options)
        except kind as error:
            return error
        raise SystemExit(f"{args} {options}: no {kind.__name__}")
"""


def unprivileged(script, where):
    """Run a script as nobody, in a directory of root's."""
    as_root()
    script = textwrap.dedent(UNPRIVILEGED) + textwrap.dedent(script)
    assert python(script, where) == "done\n"


@pytest.fixture(params=["/var/tmp", "/dev/shm"])
def where(request):
    """A directory in which anybody may make files, and to which anybody gets."""
    with tempfile.TemporaryDirectory(dir=request.param) as made:
        os.chmod(made, 0o777)
        yield Path(made)


def test_nobody_cannot_preserve_the_owner(where):
    """Named, it raises and nothing is left; with "all" it is passed over, and the rest is kept."""
    (where / "src").write_bytes(DATA)
    (where / "src").chmod(0o644)
    os.chown(where / "src", 1234, 4321)
    os.utime(where / "src", ns=(NOW + 5, NOW))
    unprivileged(
        """
        raises(PermissionError, "src", "dst", preserve="ownership")
        assert sorted(os.listdir(".")) == ["src", "warm"], os.listdir(".")
        open("dst", "wb").write(b"old")
        raises(PermissionError, "src", "dst", preserve=("mode", "ownership"))
        assert open("dst", "rb").read() == b"old"
        copy_file("src", "dst", preserve="all")
        assert open("dst", "rb").read() == open("src", "rb").read()
        status = os.stat("dst")
        assert status.st_uid == 65534
        assert status.st_mode & 0o7777 == 0o644
        assert status.st_mtime_ns == os.stat("src").st_mtime_ns
        assert sorted(os.listdir(".")) == ["dst", "src", "warm"], os.listdir(".")
        print("done")
        """,
        where,
    )


def test_nobody_gets_no_setuid_of_another(where):
    """A setuid bit without the owner it was meant for is a hole: "all" does not make one."""
    (where / "src").write_bytes(DATA)
    os.chown(where / "src", 1234, 4321)
    (where / "src").chmod(0o6755)
    unprivileged(
        """
        copy_file("src", "dst", preserve="all")
        assert os.stat("dst").st_uid == 65534
        assert os.stat("dst").st_mode & 0o7777 == 0o755, oct(os.stat("dst").st_mode)
        print("done")
        """,
        where,
    )


def test_what_nobody_may_not_read_or_write(where):
    """PermissionError for each, and everything is as it was."""
    (where / "src").write_bytes(DATA)
    (where / "src").chmod(0o644)
    (where / "secret").write_bytes(DATA)
    (where / "secret").chmod(0o600)
    (where / "closed").mkdir(mode=0o755)
    (where / "closed" / "old").write_bytes(b"old")
    unprivileged(
        """
        raises(PermissionError, "secret", "dst")
        raises(PermissionError, "src", "closed/new")
        raises(PermissionError, "src", "closed/old")
        assert os.listdir("closed") == ["old"]
        assert open("closed/old", "rb").read() == b"old"
        assert sorted(os.listdir(".")) == ["closed", "secret", "src", "warm"]
        print("done")
        """,
        where,
    )


def test_a_read_only_file_of_ones_own_is_not_replaced(where):
    """PermissionError as of open() and cp, although its directory would allow a rename."""
    (where / "src").write_bytes(DATA)
    (where / "src").chmod(0o644)
    unprivileged(
        """
        open("dst", "wb").write(b"old")
        os.chmod("dst", 0o444)
        raises(PermissionError, "src", "dst")
        assert open("dst", "rb").read() == b"old"
        assert sorted(os.listdir(".")) == ["dst", "src", "warm"]
        print("done")
        """,
        where,
    )


def test_a_relative_path_needs_no_way_to_its_directory(where):
    """Who stands in a directory may copy in it, whoever may not search the ones above."""
    where.chmod(0o700)
    here = where / "here"
    here.mkdir()
    here.chmod(0o777)
    (here / "src").write_bytes(DATA)
    (here / "src").chmod(0o644)
    (here / "link").symlink_to("target")
    unprivileged(
        """
        for name in ("dst", "dst", "link", "link"):
            copy_file("src", name)
            assert open(name, "rb").read() == open("src", "rb").read()
        assert sorted(os.listdir(".")) == ["dst", "link", "src", "target", "warm"]
        print("done")
        """,
        here,
    )


# ---- not overwriting ----------------------------------------------------------------------------


def test_without_overwrite_a_new_file_is_made(place, file):
    """One name, nothing beside it."""
    audit(copy_file(file, place / "dst", overwrite=False), len(DATA))
    assert (place / "dst").read_bytes() == DATA
    assert (place / "dst").stat().st_nlink == 1
    only(place, "dst")


@pytest.mark.parametrize("kind", ["file", "empty", "link", "directory", "fifo", "/dev/null"])
def test_without_overwrite_what_exists_stays(place, file, kind):
    """FileExistsError, whatever it is, and without waiting for a reader."""
    dst = place / "dst"
    if kind == "directory":
        dst.mkdir()
    elif kind == "fifo":
        os.mkfifo(dst)
    elif kind == "/dev/null":
        dst = Path("/dev/null")
    elif kind == "link":
        (place / "old").write_bytes(b"old")
        dst.symlink_to("old")
    else:
        dst.write_bytes(b"old" if kind == "file" else b"")
    before = names(place)
    with pytest.raises(
        (FileExistsError, IsADirectoryError) if kind == "directory" else FileExistsError
    ):
        copy_file(file, dst, overwrite=False)
    only(place, *before)
    if kind in ("file", "link"):
        assert dst.read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_without_overwrite_what_appears_meanwhile_stays(place, file, kind):
    """Another one was faster: FileExistsError, and the other's is untouched."""
    dst = place / "dst"

    def progress(_moved):
        if os.path.lexists(dst):
            return
        if kind == "file":
            dst.write_bytes(b"the other's")
        elif kind == "directory":
            dst.mkdir()
        else:
            dst.symlink_to("nowhere")

    with pytest.raises(FileExistsError):
        copy_file(file, dst, overwrite=False, progress=progress)
    only(place, "dst")
    if kind == "file":
        assert dst.read_bytes() == b"the other's"


# ---- whole or not at all ------------------------------------------------------------------------


def test_the_old_file_is_there_until_the_new_one_is_whole(place, file, monkeypatch):
    """While it is copied, the new one is a part beside it, by its own name."""
    dst = place / "dst"
    dst.write_bytes(b"old")
    seen = []

    def progress(_moved):
        [part] = set(names(place)) - {"dst"}
        seen.append((part, dst.read_bytes()))

    with Seam(*pausing(3)).everywhere(monkeypatch):
        copy_file(file, dst, progress=progress)
    assert len(seen) >= 3
    for part, content in seen:
        assert re.fullmatch(r"\.dst\..{8}\.part", part)
        assert content == b"old"
    assert dst.read_bytes() == DATA
    only(place, "dst")


def test_a_reader_sees_the_old_or_the_new(place):
    """However often it looks while copies are made."""
    sources = []
    for number in range(2):
        sources.append(place / f"src{number}")
        sources[-1].write_bytes(bytes([number + 1]) * (2 * MIB + number))
    dst = place / "dst"
    copy_file(sources[0], dst)
    over = []

    def read():
        looks = 0
        while not over or not looks:
            content = dst.read_bytes()
            kind = content[0]
            assert content == bytes([kind]) * (2 * MIB + kind - 1)
            looks += 1
        return looks

    reader = Worker(read)
    for turn in range(30):
        copy_file(sources[turn % 2], dst)
        if reader.error:
            break
    over.append(True)
    assert reader.result()
    only(place, "dst", "src0", "src1")


def test_a_reader_of_the_old_file_keeps_it(place, file):
    """Who has it open reads the old content to its end; hard links keep it too."""
    dst = place / "dst"
    dst.write_bytes(b"the old content")
    os.link(dst, place / "link")
    with open(dst, "rb") as reader:
        assert reader.read(3) == b"the"
        copy_file(file, dst)
        assert reader.read() == b" old content"
    assert (place / "link").read_bytes() == b"the old content"
    assert dst.stat().st_nlink == (place / "link").stat().st_nlink == 1


def test_copies_onto_one_destination_at_once(place):
    """The last one wins; it is whole, and no other left anything."""
    contents = [payload(MIB + number, seed=number) for number in range(6)]
    for number, content in enumerate(contents):
        (place / f"src{number}").write_bytes(content)
    workers = [
        Worker(lambda number=number: copy_file(place / f"src{number}", place / "dst"))
        for number in range(6)
    ]
    for number, worker in enumerate(workers):
        audit(worker.result(), MIB + number)
    assert (place / "dst").read_bytes() in contents
    only(place, "dst", *(f"src{number}" for number in range(6)))


def test_copies_of_new_files_without_overwrite_at_once(place):
    """Exactly one makes it."""
    for number in range(6):
        (place / f"src{number}").write_bytes(payload(MIB, seed=number))
    workers = [
        Worker(lambda n=n: copy_file(place / f"src{n}", place / "dst", overwrite=False))
        for n in range(6)
    ]
    won = []
    for number, worker in enumerate(workers):
        worker.join()
        if worker.error is None:
            won.append(number)
        else:
            assert isinstance(worker.error, FileExistsError)
    [winner] = won
    assert (place / "dst").read_bytes() == payload(MIB, seed=winner)
    only(place, "dst", *(f"src{number}" for number in range(6)))


# ---- which calls run ----------------------------------------------------------------------------


def test_reflink_never_shares_no_block(place, other_place, monkeypatch):
    """Neither FICLONE nor copy_file_range is called, which may share blocks."""
    src = lay(place / "src", (D, MIB), (H, MIB), (D, 5000))
    with Seam().everywhere(monkeypatch) as seam:
        result = copy_file(src, other_place / "dst", reflink="never")
    assert seam.count
    assert seam.calls("clone") == seam.calls("copy_file_range") == []
    assert set(result.by_method) <= {"sendfile", "splice", "read_write"}
    assert same(src, other_place / "dst")


def test_reflink_auto_says_why_it_was_refused(place, other_place, file):
    """The refusal is the first of the fallbacks."""
    src = place / "src"
    src.write_bytes(DATA)
    result = copy_file(src, other_place / "dst")
    refused = result.fallbacks[0]
    assert refused.method == "reflink"
    assert refused.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY)
    assert refused.why
    assert result.method != "reflink"


@pytest.mark.parametrize("old", [None, b"old"])
def test_reflink_always_raises_where_it_cannot_be(place, other_place, old):
    """OSError that says why; nothing is copied another way, and nothing is left."""
    src, dst = place / "src", other_place / "dst"
    src.write_bytes(DATA)
    if old:
        dst.write_bytes(old)
    with pytest.raises(OSError, match="reflink") as caught:
        copy_file(src, dst, reflink="always")
    assert caught.value.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY)
    assert old is None or dst.read_bytes() == old
    left = {"src"} if place == other_place else set()
    only(other_place, *left, *(["dst"] if old else []))


def test_room_reserved_in_the_source_hides_no_hole(ext4):
    """Blocks beyond the end make a file look full; its holes are holes all the same."""
    src = lay(ext4 / "src", (D, KIB64), (H, 4 * MIB), (D, KIB64))
    fallocate = need("fallocate")
    subprocess.run([fallocate, "-n", "-o", str(5 * MIB), "-l", str(8 * MIB), src], check=True)
    size = os.stat(src).st_size
    assert allocated(src) > size
    result = audit(copy_file(src, ext4 / "dst"), size)
    assert same(src, ext4 / "dst")
    assert result.holes == holes(src) == 4 * MIB


def test_the_calls_that_strace_sees(ext4):
    """Made anew, filled, renamed; with "never" without any call that shares blocks."""
    strace = need("strace")
    data = DATA * 4  # more than one call into C takes, which gives it no second name
    (ext4 / "src").write_bytes(data)
    script = "import sys, spliceio; spliceio.copy_file('src', 'dst', reflink=sys.argv[1])"
    logs = {}
    for reflink in ("auto", "never"):
        subprocess.run(
            [strace, "-f", "-o", "log", sys.executable, "-c", script, reflink],
            cwd=ext4,
            check=True,
            capture_output=True,
            timeout=60,
        )
        log = (ext4 / "log").read_text()
        logs[reflink] = log[log.index(".part") - 100 :]
        assert re.search(r"open(at)?\(.*\.dst\..{8}\.part\", .*O_EXCL", log)
        assert re.search(r"rename.*\.dst\..{8}\.part\".*\"dst\"|rename.*\.part.*dst", log)
        assert (ext4 / "dst").read_bytes() == data
    sharing = re.compile(r"FICLONE|copy_file_range")
    assert sharing.search(logs["auto"])
    assert not sharing.search(logs["never"])


MOUNTED = """
    import filecmp, os, subprocess, sys
    from spliceio import copy_file
    make, kind, image, where = sys.argv[1:]
    os.mkdir(where)
    with open(image, "wb") as file:
        file.truncate(320 << 20)
    subprocess.run([make, "-q", image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", "-t", kind, image, where], check=True)
    data = os.urandom(8 << 20)
    SIZE = 20 << 20

    def begin(name):
        global before, content
        os.mkdir(where + "/" + name)
        os.chdir(where + "/" + name)
        with open("src", "wb") as file:
            file.write(data)
            file.seek(4 << 20, 1)
            file.write(data[:5001])
            file.truncate(SIZE)
            os.fsync(file.fileno())
        with open("src", "rb") as file:
            content = file.read()
        before = used()

    def end():
        assert not [name for name in os.listdir(".") if name.endswith(".part")]
        for name in os.listdir("."):
            os.unlink(name)

    def used():
        os.sync()
        status = os.statvfs(".")
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def done():
        os.chdir("/")
        subprocess.run(["umount", where], check=True)
        print("done", end="")
"""

SHARING = {
    "a path": """
        for number, options in enumerate([{}, {"reflink": "always"}, {"preserve": "all"}]):
            result = copy_file("src", f"dst{number}", **options)
            assert result.method == "reflink", result
            assert result.by_method == {"reflink": result.moved}, result
            assert result.moved + result.holes == SIZE, result
            assert result.fallbacks == (), result
            assert filecmp.cmp("src", f"dst{number}", shallow=False)
        assert used() - before < 2 << 20, "blocks were not shared"
        with open("dst0", "r+b") as file:
            file.write(b"changed")
        with open("src", "rb") as file:
            assert file.read() == content
    """,
    "never": """
        for sparse in ("auto", "always", "never"):
            before = used()
            result = copy_file("src", sparse, reflink="never", sparse=sparse)
            assert result.method != "reflink"
            assert filecmp.cmp("src", sparse, shallow=False)
            assert used() - before > 7 << 20, ("blocks were shared", sparse)
    """,
    "sparse never": """
        result = copy_file("src", "dst", sparse="never")
        assert filecmp.cmp("src", "dst", shallow=False)
        assert (result.moved, result.holes) == (SIZE, 0), result
        assert os.stat("dst").st_blocks * 512 >= SIZE, os.stat("dst").st_blocks
    """,
    "sparse always": """
        with open("zeros", "wb") as file:
            file.write(data[:1 << 20] + bytes(4 << 20) + data[:1 << 20])
            os.fsync(file.fileno())
        result = copy_file("zeros", "dst", sparse="always")
        assert filecmp.cmp("zeros", "dst", shallow=False)
        assert (result.moved, result.holes) == (2 << 20, 4 << 20), result
        assert os.stat("dst").st_blocks * 512 < 3 << 20, os.stat("dst").st_blocks
    """,
    "an open file": """
        for reflink in ("auto", "always"):
            with open("open", "wb") as file:
                result = copy_file("src", file, reflink=reflink)
                assert result.moved + result.holes == SIZE, result
                assert file.tell() == SIZE
                file.write(b"!")
            with open("open", "rb") as file:
                assert file.read() == content + b"!"
    """,
    "an open file, not at its beginning": """
        for head in (b"head", bytes(range(256)) * 16):
            with open("open", "wb") as file:
                file.write(head)
                copy_file("src", file)
                assert file.tell() == len(head) + SIZE, file.tell()
            with open("open", "rb") as file:
                assert file.read() == head + content, len(head)
    """,
    "an open file that is longer": """
        old = os.urandom(24 << 20)
        for at in (0, 5, 4096):
            with open("open", "wb") as file:
                file.write(old)
            with open("open", "r+b") as file:
                file.seek(at)
                copy_file("src", file)
                assert file.tell() == at + SIZE, file.tell()
            with open("open", "rb") as file:
                assert file.read() == old[:at] + content + old[at + SIZE:], at
    """,
    "always, where it cannot be": """
        for mode in ("r+b", "ab"):
            with open("open", "wb") as file:
                file.write(b"head")
            with open("open", mode) as file:
                file.seek(4)
                try:
                    copy_file("src", file, reflink="always")
                except OSError as error:
                    assert "reflink" in str(error), error
                else:
                    raise SystemExit("shared behind four bytes")
            with open("open", "rb") as file:
                assert file.read() == b"head"
    """,
}


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_blocks_are_shared_where_the_filesystem_can(ext4, kind):
    """A real reflink: no new blocks, the same content, independent after, and only where asked."""
    make = need(f"mkfs.{kind}")
    as_root()
    wrapper = mounting()
    if kind not in Path("/proc/filesystems").read_text() or not os.path.exists("/dev/loop-control"):
        pytest.skip(f"this kernel mounts no {kind} from a file")
    script = textwrap.dedent(MOUNTED)
    for name, code in SHARING.items():
        script += f"\nbegin({name!r})\n{textwrap.dedent(code)}\nend()\n"
    said = python(script + "done()\n", make, kind, ext4 / "image", ext4 / "there", wrapper=wrapper)
    assert said == "done"
