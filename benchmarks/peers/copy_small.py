"""Copy many small files by several contestants in turn; says what each took.

usage: copy_small.py JSON
That is {"work": WORK, "folders": {NAME: FOLDER}, "files": N, "contestants": [...]}.

WORK is "new" (the targets are absent), "replaced" (they have other content), "tree" (a tree of
files of several sizes) or "threads" (as "new", by one thread and by two).
Prints JSON: for each folder and contestant the seconds and the cpu seconds. Each runs twice, the
first time to warm up. What was copied is compared, outside the clock.
"""

import fcntl
import filecmp
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from spliceio import copy_file

KIB = 1024
# From the kernel's fs.h.
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_TOPDIR_FL = 0x80086601, 0x40086602, 0x00020000
SIZE = 16 * KIB
# For so many seconds an ext4 does not hand out an inode again, but looks at each of these whenever
# it makes a file; nothing is removed between two turns, and the last round's is forgotten.
FORGETTING = 6
# As in a tree of sources, pages and pictures: most are small, most bytes are in the large ones.
TREE_SIZES = [
    0,
    300,
    *[2 * KIB] * 6,
    *[6 * KIB] * 5,
    *[20 * KIB] * 4,
    60 * KIB,
    200 * KIB,
    900 * KIB,
]
IN_A_FOLDER = len(TREE_SIZES)

Turn = Callable[[], None]
Copy = Callable[[str, str], Any]
Work = list[tuple[str, str]]


def each(copy: Copy) -> Callable[[Path, Path], Turn]:
    """Copy file by file, from folder to folder."""

    def ready(sources: Path, targets: Path) -> Turn:
        work = pairs(sources, targets)
        return lambda: one_by_one(copy, work)

    return ready


def one_by_one(copy: Copy, work: Work) -> None:
    for src, dst in work:
        copy(src, dst)


def by_threads(copy: Copy, count: int) -> Callable[[Path, Path], Turn]:
    """Copy file by file, each thread its share, to a folder of its own."""

    def ready(sources: Path, targets: Path) -> Turn:
        shares: list[Work] = []
        for number in range(count):
            (targets / str(number)).mkdir()
            shares.append(pairs(sources, targets / str(number))[number::count])

        def run() -> None:
            threads = [threading.Thread(target=one_by_one, args=(copy, work)) for work in shares]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return run

    return ready


def tree(copy: Copy) -> Callable[[Path, Path], Turn]:
    def ready(sources: Path, targets: Path) -> Turn:
        return lambda: (
            shutil.copytree(sources, targets, copy_function=copy, dirs_exist_ok=True) and None
        )

    return ready


def cp(sources: Path, targets: Path) -> Turn:
    return lambda: subprocess.run(["cp", "-r", f"{sources}/.", targets], check=True) and None


CONTESTANTS: dict[str, dict[str, Callable[[Path, Path], Turn]]] = {
    "new": {
        "spliceio.copy_file": each(copy_file),
        "shutil.copyfile": each(shutil.copyfile),
        "cp": cp,
    },
    "tree": {
        "copytree with spliceio.copy_file": tree(copy_file),
        "copytree with copy_file, preserve='all'": tree(partial(copy_file, preserve="all")),
        "copytree as it is (copy2)": tree(shutil.copy2),
        "copytree with shutil.copyfile": tree(shutil.copyfile),
        "cp -r": cp,
    },
    "threads": {
        "spliceio.copy_file, 1 thread": by_threads(copy_file, 1),
        "spliceio.copy_file, 2 threads": by_threads(copy_file, 2),
        "shutil.copyfile, 1 thread": by_threads(shutil.copyfile, 1),
        "shutil.copyfile, 2 threads": by_threads(shutil.copyfile, 2),
    },
}
CONTESTANTS["replaced"] = CONTESTANTS["new"]


def pairs(sources: Path, targets: Path) -> Work:
    return [(entry.path, f"{targets}/{entry.name}") for entry in os.scandir(sources)]


def lay(sources: Path, files: int, sizes: Sequence[int]) -> None:
    """Make files of these sizes in turn; in folders of their own where there are several sizes."""
    for number in range(files):
        size = sizes[number % len(sizes)]
        folder = sources if len(sizes) == 1 else sources / f"{number // len(sizes):03}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number:04}").write_bytes(os.urandom(size))


def spread_out(path: Path) -> None:
    """Ask that folders made in this one go to different parts of the disk, as chattr +T does."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            flags = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4)))[0]
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", flags | FS_TOPDIR_FL))
    finally:
        os.close(fd)


def cpu() -> float:
    """Return the seconds of this process and of the children it has waited for."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def compare(sources: Path, targets: Path) -> None:
    """See that each source is there, under its path or in the folder of a thread."""
    copies = {path.name: path for path in targets.rglob("*") if path.is_file()}
    for src in sources.rglob("*"):
        if src.is_file() and not filecmp.cmp(src, copies[src.name], shallow=False):
            sys.exit(f"{copies[src.name]} is not its source")


def timed(
    ready: Callable[[Path, Path], Turn], work: str, sources: Path, under: Path
) -> dict[str, float]:
    found: dict[str, float] = {}
    for _ in range(2):
        targets = Path(tempfile.mkdtemp(dir=under))
        if work == "replaced":
            for _, dst in pairs(sources, targets):
                Path(dst).write_bytes(bytes(SIZE))
        turn = ready(sources, targets)
        os.sync()  # What others have left to write back is not this one's.
        used, began = cpu(), time.perf_counter()
        turn()
        found = {"seconds": time.perf_counter() - began, "cpu": cpu() - used}
        compare(sources, targets)
    return found


def main() -> None:
    wanted = json.loads(sys.argv[1])
    work, said = wanted["work"], {}
    for name, folder in wanted["folders"].items():
        if name == "ext4":
            time.sleep(FORGETTING)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            under, sources = Path(made), Path(made, "sources")
            spread_out(under)
            sources.mkdir()
            lay(sources, wanted["files"], TREE_SIZES if work == "tree" else [SIZE])
            said[name] = {
                one: timed(CONTESTANTS[work][one], work, sources, under)
                for one in wanted["contestants"]
            }
    print(json.dumps(said))


main()
