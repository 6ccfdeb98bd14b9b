"""Which methods a file is copied by, and whether its blocks are allocated before: the order itself.

What each method then does is in tests/files/test_scripted.py and test_act.py; that both ways of
`copy_file` take what is said here, in test_both_ways.py.
"""

from __future__ import annotations

import pytest

from spliceio._cffi import ffi, lib
from spliceio._transfer.plan import NAMES

EXT4, TMPFS, BTRFS, XFS, OVERLAY = 0xEF53, 0x01021994, 0x9123683E, 0x58465342, 0x794C7630
HERE = [EXT4, TMPFS, BTRFS, XFS, OVERLAY]
NFS, CIFS, SMB2, FUSE, CEPH = 0x6969, 0xFF534D42, 0xFE534D42, 0x65735546, 0x00C36400
ELSEWHERE = [NFS, CIFS, SMB2, FUSE, CEPH]
ZFS = 0x2FC12FC1
KIB = 1024
SMALL = ["sendfile", "splice", "read_write"]
LARGE = ["splice", "sendfile", "read_write"]


def planned(size, src=EXT4, dst=EXT4, dst_kind=lib.SIO_KIND_FILE, **fields):
    """Return the methods by their names, but "pipe" for a splice that needs one."""
    fields = {"may_share": True, "sees_zeros": False, "in_one_call": False, **fields}
    pair, order = ffi.new("struct sio_file_pair *"), ffi.new("int32_t[]", 6)
    pair.src_filesystem, pair.dst_filesystem = src, dst
    pair.dst_kind, pair.size = dst_kind, size
    for name, value in fields.items():
        setattr(pair, name, value)
    numbers = list(order[0 : lib.sio_plan_file(pair, order)])
    assert (lib.SIO_SPLICE in numbers) == (dst_kind == lib.SIO_KIND_PIPE)
    return [NAMES[number] for number in numbers]


@pytest.mark.parametrize("src", [*HERE, ZFS, 0])
@pytest.mark.parametrize(
    ("size", "then"), [(1, SMALL), (512 * KIB, SMALL), (512 * KIB + 1, LARGE), (1 << 40, LARGE)]
)
def test_the_size_says_whether_a_pipe_is_worth_it(size, then, src):
    """On filesystems whose files are here; the blocks are shared first, where they may be."""
    assert planned(size, src, src) == ["reflink", *then]
    assert planned(size, src, src, may_share=False) == then


def test_what_has_no_size_has_no_blocks_to_share():
    assert planned(0) == planned(0, NFS, NFS) == LARGE


@pytest.mark.parametrize("there", ELSEWHERE)
def test_those_who_keep_the_files_are_asked_to_copy_them(there):
    """Of any size, between two files of one such filesystem; not where sharing is ruled out."""
    assert planned(1, there, there) == ["reflink", "copy_file_range", *SMALL]
    assert planned(1 << 40, there, there) == ["reflink", "copy_file_range", *LARGE]
    assert planned(1, there, there, may_share=False) == SMALL
    assert planned(1, there, EXT4) == planned(1, EXT4, there) == ["reflink", *SMALL]
    assert planned(1, there, CEPH if there != CEPH else NFS) == ["reflink", *SMALL]


@pytest.mark.parametrize("in_one_call", [True, False])
def test_zeros_are_seen_by_reading_alone(in_one_call):
    for size in (0, 1, 1 << 30):
        assert planned(size, NFS, NFS, sees_zeros=True, in_one_call=in_one_call) == ["read_write"]


@pytest.mark.parametrize("size", [0, 1, 1 << 30])
def test_a_pipe_needs_no_other(size):
    assert planned(size, dst_kind=lib.SIO_KIND_PIPE, may_share=False) == ["splice", "read_write"]


@pytest.mark.parametrize("src", [*HERE, 0])
@pytest.mark.parametrize("size", [1, 64 * KIB, 64 * KIB + 1, 1024 * KIB])
def test_one_call_shares_or_reads(size, src):
    """Of a disk, and of filesystems whose files are here."""
    assert planned(size, src, 0, in_one_call=True) == ["reflink", "read_write"]
    assert planned(0, src, 0, in_one_call=True) == ["read_write"]


@pytest.mark.parametrize("src", [*ELSEWHERE, ZFS, lib.SIO_ANY_FILESYSTEM])
def test_one_call_knows_when_others_might_copy(src):
    """From 64 KiB on, where the file may be kept elsewhere, or nobody has asked where it is."""
    assert planned(64 * KIB, src, 0, in_one_call=True) == ["reflink", "read_write"]
    assert planned(64 * KIB + 1, src, 0, in_one_call=True) == [
        "reflink",
        "copy_file_range",
        "read_write",
    ]


@pytest.mark.parametrize("filesystem", [*HERE, *ELSEWHERE, ZFS, 0, -1, lib.SIO_ANY_FILESYSTEM])
def test_blocks_are_allocated_before_on_ext4_alone(filesystem):
    """From 128 KiB on; it is worth asking which filesystem it is from there on too."""
    least = lib.SIO_FILE_RESERVE
    assert least == 128 * KIB
    does = filesystem in (EXT4, lib.SIO_ANY_FILESYSTEM)
    sizes = (0, least - 1, least, 1 << 40)
    assert [bool(lib.sio_plan_reserves(filesystem, size)) for size in sizes] == [
        False,
        False,
        does,
        does,
    ]
