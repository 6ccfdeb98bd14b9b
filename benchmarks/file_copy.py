"""Row 5: files that are in the page cache, copied within a filesystem and across.

One process runs all contestants one after the other; cp is started by it, and pays for that.

Two things were seen to drown every difference here, and are kept out. Memory that a virtual machine
has handed back to its host is nine times slower to fill: so each contestant makes and removes its
targets once before it is timed. And ext4 does not hand out an inode again within seconds of its
removal, but looks at each of these whenever it makes a file, which took up to fifty times as long:
so each run gets a folder in another part of the disk.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.processes import finish, python, started

GB = 1e9
KIB = 1024
MIB = 1024 * KIB

OURS = "spliceio.copy_file"
BEST = "best of the others"
METHODS = (OURS, "cp", "shutil.copyfile", "os.copy_file_range loop", "os.sendfile loop")
PAIRS = (("ext4", "ext4"), ("tmpfs", "tmpfs"), ("ext4", "tmpfs"), ("tmpfs", "ext4"))

# From the kernel's fs.h.
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_TOPDIR_FL = 0x00020000

Brought = dict[str, dict[str, dict[str, float]]]


@dataclass
class Best(Contestant):
    """Whichever of `others` has the best median: its figures, shown again under this name."""

    others: Sequence[Contestant] = field(default_factory=list)
    metric: str = ""

    def winner(self) -> Contestant:
        return max(self.others, key=lambda one: one.median(self.metric))

    def median(self, metric: str) -> float:
        return self.winner().median(metric)

    def spread(self, metric: str) -> tuple[float, float]:
        return self.winner().spread(metric)


def filesystem(path: Path) -> str | None:
    """Return the type of the filesystem that a folder is on, by its mount."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return None


def folders(options: Options, room: int) -> dict[str, Path]:
    """Find one folder on each kind of filesystem: writable, and with `room` bytes to spare."""
    found: dict[str, Path] = {}
    usual = [Path(name) for name in ("/var/tmp", "/dev/shm", "/run", "/")]
    for path in (options.workdir, Path.cwd(), Path.home(), *usual):
        if not path.is_dir() or not os.access(path, os.W_OK):
            continue
        space = os.statvfs(path)
        kind = filesystem(path)
        if kind is not None and space.f_bavail * space.f_frsize >= room:
            found.setdefault(kind, path)
    return found


def spread_out(path: Path) -> None:
    """Ask that folders made in this one go to different parts of the disk, as chattr +T does."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            now = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4)))[0]
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", now | FS_TOPDIR_FL))
    finally:
        os.close(fd)


def prepared(under: Path, files: int, size: int) -> tuple[Path, Path]:
    """Make a folder of random files, with nothing left to write back, and one for the targets.

    They lie on filesystems that are not the run's own folder, and go when the run ends.
    """
    whole = tempfile.TemporaryDirectory(prefix="spliceio-bench-", dir=under)
    atexit.register(whole.cleanup)
    sources, targets = Path(whole.name, "sources"), Path(whole.name, "targets")
    sources.mkdir()
    targets.mkdir()
    spread_out(targets)
    for number in range(files):
        with open(sources / f"{number:04}", "wb") as file:
            for begin in range(0, size, MIB):
                file.write(os.urandom(min(size - begin, MIB)))
            file.flush()
            os.fsync(file.fileno())
    return sources, targets


def all_of(pairs: dict[str, tuple[Path, Path]], methods: Sequence[str]) -> Brought:
    folder = {name: [str(source), str(target)] for name, (source, target) in pairs.items()}
    command = python("copy_files.py", json.dumps({"pairs": folder, "methods": methods}))
    with started(command, stdout=subprocess.PIPE) as process:
        brought: Brought = json.loads(finish(process)[0])
    return brought


def in_turns(pairs: dict[str, tuple[Path, Path]]) -> Callable[[str, str], dict[str, float]]:
    """Return what gives one method's figures of this round.

    The first who asks makes everybody run, each round with another one to begin with.
    """
    turn = count()
    unread: Brought = {}

    def figures(pair: str, method: str) -> dict[str, float]:
        if method not in unread.get(pair, {}):
            first = next(turn) % len(METHODS)
            unread.update(all_of(pairs, METHODS[first:] + METHODS[:first]))
        return unread[pair].pop(method)

    return figures


def table(
    options: Options,
    files: int,
    size: int,
    sample: Callable[[dict[str, float]], Sample],
    metric: str,
) -> tuple[list[Contestant], list[Target], dict[str, str]]:
    """Set up all pairs that this machine has: who runs, what is judged, and what is missing."""
    found = folders(options, 4 * files * size + 64 * MIB)
    kinds = [kind for kind in ("ext4", "tmpfs") if kind in found]
    made: dict[str, tuple[Path, Path]] = {
        kind: prepared(found[kind], files, size) for kind in kinds
    }
    missing: dict[str, str] = {}
    pairs: dict[str, tuple[Path, Path]] = {}
    for source, target in PAIRS:
        name = f"{source} -> {target}"
        absent = [kind for kind in {source, target} if kind not in made]
        if absent:
            missing[name] = f"no folder with enough room on {' or '.join(absent)}"
        else:
            pairs[name] = made[source][0], made[target][1]
    figures = in_turns(pairs)

    def runs(pair: str, method: str) -> Callable[[], Sample]:
        return lambda: sample(figures(pair, method))

    tried = all_of(pairs, METHODS)
    contestants: list[Contestant] = []
    targets: list[Target] = []
    for pair in pairs:
        able = []
        for method in METHODS:
            if refused := tried[pair][method].get("refused"):
                missing[f"{method}, {pair}"] = f"refused ({refused})"
                continue
            # Every run of the script compares all that was copied.
            able.append(Contestant(f"{method}, {pair}", runs(pair, method), lambda: None))
        best = Best(f"{BEST}, {pair}", dict, lambda: None, others=able[1:], metric=metric)
        contestants += [*able, best]
        targets.append(Target(f"{OURS}, {pair}", best.name, metric, (">=", 0.95)))
    return contestants, targets, missing


NOTES = [
    "The sources are in the page cache, the targets absent; before each run os.sync(), "
    "and one untimed run of the same contestant.",
    "All contestants take turns in one process, from which cp is started as a process of its own; "
    "the turns begin with another one each round. Everything copied is compared, outside the "
    "clock.",
    "Judged against whichever of the others has the best median on that pair.",
]


def row(options: Options, peers: Peers) -> Row:
    size = (4 if options.smoke else 256) * MIB

    def sample(got: dict[str, float]) -> Sample:
        gb = got["bytes"] / GB
        return {
            "gb_per_s": gb / got["seconds"],
            "cpu_per_gb": got["cpu"] / gb,
            "bytes": got["bytes"],
        }

    contestants, targets, missing = table(options, 1, size, sample, "gb_per_s")
    return Row(
        name="file_copy",
        title="file -> file, page-cached",
        metrics=[Metric("gb_per_s", "GB/s"), Metric("cpu_per_gb", "cpu s/GB", 4)],
        contestants=contestants,
        targets=targets,
        missing=missing,
        notes=[f"One file of {size // MIB} MiB.", *NOTES],
    )


def small(options: Options, peers: Peers) -> Row:
    files, size = 20 if options.smoke else 1000, 16 * KIB

    def sample(got: dict[str, float]) -> Sample:
        return {
            "files_per_s": files / got["seconds"],
            "cpu_us": got["cpu"] / files * 1e6,
            "bytes": got["bytes"],
        }

    contestants, targets, missing = table(options, files, size, sample, "files_per_s")
    return Row(
        name="file_copy_small",
        title="many small files -> files, page-cached",
        metrics=[Metric("files_per_s", "files/s", 0), Metric("cpu_us", "cpu us/file", 1)],
        contestants=contestants,
        targets=targets,
        missing=missing,
        notes=[
            f"{files} files of {size // KIB} KiB; one cp copies all of them.",
            "spliceio.copy_file gives the target its name when it is whole: either the whole file "
            "is there or none. The others write in place.",
            *NOTES,
        ],
    )
