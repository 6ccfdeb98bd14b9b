"""What the tests of small files share: a source, and what its directory has afterwards."""

from __future__ import annotations

from spliceio._cffi import lib
from tests.support.wires import payload

MOST, BUF, RESERVE = lib.SIO_FILE_MOST, lib.SIO_FILE_BUF, lib.SIO_FILE_RESERVE
SIZES = [0, 1, 511, 512, 513, 4096, 16384, RESERVE - 1, RESERVE]
SIZES += [BUF - 1, BUF, BUF + 1, 2 * BUF, MOST - 1, MOST]
OLD = b"the old content"
DATA = payload(16384)
PLACES = {"disk": "/var/tmp", "memory": "/dev/shm"}


def holds(folder, **files):
    """Assert what a directory has beside the source."""
    there = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "src"}
    assert there.keys() == files.keys()
    assert there == files
