"""Files of several owners, modes, ACLs and attributes; and somebody else to copy them.

Rule 1: what is compared of a file is all that a copy may change, but for its inode and its times.
Rule 2: only root gives files away: without it, and without ACLs, the tests are skipped.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import tempfile
import traceback
from pathlib import Path

import pytest

from spliceio import copy_file
from tests.support.programs import need

ACL = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"
NOBODY, SOMEBODY, NAMED, GROUP = 65534, 1234, 1111, 4321
NEW, OLD = b"the new content", b"the content that was there before, which is longer"


def acl(*entries):
    """Pack (tag, permissions, id) as the kernel takes it."""
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, allowed, *(who or [0xFFFFFFFF])) for tag, allowed, *who in entries
    )


# The owning group may read, one user may write too: the mask, which is the mode's, says rw-.
GROUP_READS = acl((1, 6), (2, 6, NAMED), (4, 4), (16, 6), (32, 4))
NOBODY_WRITES = acl((1, 6), (2, 6, NOBODY), (4, 0), (16, 6), (32, 0))
OF_DIRECTORY = acl((1, 7), (2, 7, NAMED), (4, 7), (16, 7), (32, 5))
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def make(path, content, owner, mode, **attributes):
    path.write_bytes(content)
    os.chown(path, owner, owner)
    path.chmod(mode)
    for name, value in attributes.items():
        os.setxattr(path, {"acl": ACL, "note": "user.note"}.get(name, "security.capability"), value)


def in_child(user, function):
    """Call a function as somebody, and give what it returns, as JSON."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.umask(0o022)
            if user:
                os.setgroups([GROUP])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            with open(writer, "w") as out:
                json.dump(function(), out)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as answers:
        text = answers.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(text)


def state(path):
    """All of a file that a copy may change, but for its inode and its times."""
    if not path.exists():
        return None
    status = path.stat()
    names = sorted(set(os.listxattr(path)) - {"security.selinux"})
    return {
        "content": path.read_bytes(),
        "mode": oct(stat.S_IMODE(status.st_mode)),
        "owner": (status.st_uid, status.st_gid),
        **{name: os.getxattr(path, name) for name in names},
    }


def directory(parent):
    """A directory to which anybody gets, on a filesystem that has what is looked at."""
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    need("cp")
    with tempfile.TemporaryDirectory(dir=parent) as made:
        probe = Path(made) / "probe"
        try:
            make(probe, b"", 0, 0o644, acl=GROUP_READS, note=b"x")
            copy_file(probe, Path(made) / "warm", preserve="all")  # what loads late is loaded
        except OSError as error:
            pytest.skip(f"no ACLs or user attributes in {parent}: {error.strerror}")
        os.chmod(made, 0o755)
        yield Path(made)
