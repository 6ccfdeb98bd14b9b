"""Shared blocks, on filesystems that have them.

`SPLICEIO_TEST_DIRS` names directories on such filesystems, with colons. Without it root makes btrfs
and XFS in files and mounts them. Whether blocks are shared is asked of the filesystem itself (ioctl
FS_IOC_FIEMAP).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from spliceio import copy_file
from tests.support.programs import need

FS_IOC_FIEMAP = 0xC020660B
FIEMAP_FLAG_SYNC = 1
FIEMAP_EXTENT_SHARED = 0x2000
MIB = 1 << 20
GIVEN = [name for name in os.environ.get("SPLICEIO_TEST_DIRS", "").split(":") if name]
MADE = {"btrfs": ["mkfs.btrfs", "-q"], "xfs": ["mkfs.xfs", "-q"]}


@pytest.fixture(scope="module", params=GIVEN or MADE)
def filesystem(request, tmp_path_factory):
    """Give each filesystem in turn, as a directory on it."""
    if request.param not in MADE:
        yield request.param
        return
    if os.geteuid() != 0:
        pytest.skip("only root can mount; name a directory in SPLICEIO_TEST_DIRS")
    program, *options = MADE[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    image, where = folder / "image", folder / "mounted"
    where.mkdir()
    with open(image, "wb") as file:
        file.truncate(400 * MIB)
    subprocess.run([need(program), *options, image], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, where], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"{request.param} cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield str(where)
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.fixture
def folder(filesystem):
    """Make a new directory on each of the filesystems."""
    with tempfile.TemporaryDirectory(dir=filesystem) as name:
        yield Path(name)


def extents(path):
    """Return (logical offset, length, shared) of each extent of a file."""
    head = struct.pack("=QQIIII", 0, 2**64 - 1, FIEMAP_FLAG_SYNC, 0, 64, 0)
    raw = bytearray(head + bytes(56 * 64))
    with open(path, "rb") as file:
        fcntl.ioctl(file, FS_IOC_FIEMAP, raw)
    found = []
    for i in range(struct.unpack_from("=I", raw, 20)[0]):
        logical, _, length = struct.unpack_from("=QQQ", raw, 32 + 56 * i)
        flags = struct.unpack_from("=I", raw, 32 + 56 * i + 40)[0]
        found.append((logical, length, bool(flags & FIEMAP_EXTENT_SHARED)))
    assert found
    return found


def made(path, size=8 * MIB):
    data = os.urandom(size)
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("reflink", ["auto", "always"])
def test_blocks_are_shared_until_one_is_written(folder, reflink):
    """The copy costs no blocks, and each file keeps its own content afterwards."""
    src, dst = folder / "src", folder / "dst"
    data = made(src)
    result = copy_file(src, dst, reflink=reflink)
    assert (result.method, result.moved, result.holes) == ("reflink", len(data), 0)
    assert result.by_method == {"reflink": len(data)}
    assert result.fallbacks == ()
    assert dst.read_bytes() == data
    assert all(shared for _, _, shared in extents(dst))
    with open(dst, "r+b") as file:
        file.write(b"changed")
    assert src.read_bytes() == data


def test_never_shares_nothing(folder):
    """Not even through copy_file_range, which would."""
    src, dst = folder / "src", folder / "dst"
    data = made(src)
    result = copy_file(src, dst, reflink="never")
    assert result.method == "splice"
    assert dst.read_bytes() == data
    assert not any(shared for _, _, shared in extents(dst))


def test_holes_are_shared_as_holes(folder):
    """A sparse file stays as sparse as it was."""
    src, dst = folder / "src", folder / "dst"
    with open(src, "wb") as file:
        file.seek(4 * MIB)
        file.write(b"x" * 65536)
        file.truncate(16 * MIB)
        os.fsync(file.fileno())
    result = copy_file(src, dst)
    assert (result.method, result.moved) == ("reflink", 16 * MIB)
    assert dst.read_bytes() == src.read_bytes()
    assert dst.stat().st_blocks == src.stat().st_blocks


def test_a_new_file_replaces_an_old_one(folder):
    """By the same beside-and-rename as any other copy."""
    src, dst = folder / "src", folder / "dst"
    data = made(src, MIB)
    dst.write_bytes(b"old" * MIB)
    dst.chmod(0o640)
    old = dst.open("rb")
    with old:
        assert copy_file(src, dst).method == "reflink"
        assert old.read(6) == b"oldold"
    assert dst.read_bytes() == data
    assert dst.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(folder)) == ["dst", "src"]


def test_between_filesystems_always_is_refused(folder, tmp_path):
    """EXDEV, said in words, and nothing is left; auto copies."""
    src, dst = folder / "src", tmp_path / "dst"
    data = made(src, MIB)
    with pytest.raises(OSError, match="different filesystems") as caught:
        copy_file(src, dst, reflink="always")
    assert caught.value.errno == errno.EXDEV
    assert os.listdir(tmp_path) == []
    result = copy_file(src, dst)
    assert result.fallbacks[0].method == "reflink"
    assert result.fallbacks[0].errno == errno.EXDEV
    assert dst.read_bytes() == data


def test_an_empty_file_and_one_that_ends_in_a_block(folder):
    """Sizes that are no multiple of the block."""
    for size in (0, 1, 4095, 4097, MIB + 1):
        src, dst = folder / f"src{size}", folder / f"dst{size}"
        data = made(src, size)
        result = copy_file(src, dst)
        assert (result.moved, dst.read_bytes()) == (size, data)
        assert result.method == ("reflink" if size else "read_write")
