"""Copy files from folder to folder by several methods in turn; says what each took.

usage: copy_files.py JSON: {"pairs": {NAME: [SOURCE_FOLDER, TARGET_FOLDER]}, "methods": [...]}

Prints JSON: for each pair and method the seconds, the cpu seconds and the bytes, or why the kernel
refused. Every target is absent before, compared byte by byte after, and then removed.
"""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spliceio import copy_file

MIB = 1024 * 1024
AT_ONCE = 0x7FFFF000

Work = list[tuple[Path, Path]]


def with_spliceio(work: Work) -> None:
    for src, dst in work:
        copy_file(src, dst)


def with_cp(work: Work) -> None:
    sources = [src for src, _ in work]
    subprocess.run(["cp", "-t", work[0][1].parent, *sources], check=True)


def with_shutil(work: Work) -> None:
    for src, dst in work:
        shutil.copyfile(src, dst)


def with_copy_file_range(work: Work) -> None:
    for src, dst in work:
        with open(src, "rb", buffering=0) as a, open(dst, "xb", buffering=0) as b:
            while os.copy_file_range(a.fileno(), b.fileno(), AT_ONCE):
                pass


def with_sendfile(work: Work) -> None:
    for src, dst in work:
        with open(src, "rb", buffering=0) as a, open(dst, "xb", buffering=0) as b:
            while os.sendfile(b.fileno(), a.fileno(), None, AT_ONCE):
                pass


METHODS: dict[str, Callable[[Work], None]] = {
    "spliceio.copy_file": with_spliceio,
    "cp": with_cp,
    "shutil.copyfile": with_shutil,
    "os.copy_file_range loop": with_copy_file_range,
    "os.sendfile loop": with_sendfile,
}


def cpu() -> float:
    """Return the seconds of this process and of the children it has waited for."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def same(one: Path, other: Path, left: bytearray, right: bytearray) -> bool:
    """Compare two files through two buffers of one size."""
    with open(one, "rb", buffering=0) as a, open(other, "rb", buffering=0) as b:
        while True:
            got = a.readinto(left)
            if got != b.readinto(right) or left[:got] != right[:got]:
                return False
            if not got:
                return True


@contextmanager
def targets(sources: list[Path], under: Path) -> Iterator[Work]:
    """Give each source an absent target, in a folder of their own."""
    with tempfile.TemporaryDirectory(dir=under) as name:
        yield [(src, Path(name, src.name)) for src in sources]


def timed(method: str, sources: list[Path], under: Path) -> dict[str, object]:
    """Copy all of them twice; the first time warms up the interpreter and the memory.

    Each method its own: the larger its writes, the larger the pieces of memory that it is given.
    """
    for warm in (False, True):
        with targets(sources, under) as work:
            if warm:
                os.sync()  # What others have left to write back is not this one's.
            used, began = cpu(), time.perf_counter()
            try:
                METHODS[method](work)
            except OSError as why:
                if why.errno != errno.EXDEV:
                    raise
                return {"refused": errno.errorcode[why.errno]}
            took, used = time.perf_counter() - began, cpu() - used
            buffers = bytearray(MIB), bytearray(MIB)
            for src, dst in work:
                if not same(src, dst, *buffers):
                    sys.exit(f"{method}: {dst} is not its source")
    size = sum(src.stat().st_size for src in sources)
    return {"seconds": took, "cpu": used, "bytes": size}


def main() -> None:
    wanted = json.loads(sys.argv[1])
    methods = wanted["methods"]
    said: dict[str, dict[str, object]] = {}
    for pair, folders in wanted["pairs"].items():
        sources, under = sorted(Path(folders[0]).iterdir()), Path(folders[1])
        said[pair] = {method: timed(method, sources, under) for method in methods}
    print(json.dumps(said))


main()
