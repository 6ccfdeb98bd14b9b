"""Many small files: where opening, looking and naming take longer than copying the bytes.

As in `file_copy`: page-cached, in one process, the turns begin with another contestant each round,
and on ext4 each run has its own part of the disk.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

from benchmarks.file_copy import folders
from benchmarks.harness import Contestant, Metric, Options, Row, Sample, Target
from benchmarks.peers import Peers
from benchmarks.processes import finish, python, started

MIB = 1 << 20
KINDS = ("ext4", "tmpfs")
OURS, SHUTIL = "spliceio.copy_file", "shutil.copyfile"
TREE = "copytree with spliceio.copy_file"
Judged = list[tuple[str, str, float | None]]
"""Ours, a peer, and how many times its files a second ours should copy at least."""

Brought = dict[str, dict[str, dict[str, float]]]


def run_all(work: str, where: dict[str, Path], files: int, names: list[str]) -> Brought:
    wanted = {
        "work": work,
        "folders": {kind: str(path) for kind, path in where.items()},
        "files": files,
        "contestants": names,
    }
    with started(python("copy_small.py", json.dumps(wanted)), stdout=subprocess.PIPE) as process:
        brought: Brought = json.loads(finish(process)[0])
    return brought


def made(
    options: Options, name: str, title: str, work: str, names: list[str], judged: Judged, note: str
) -> Row:
    files = 20 if options.smoke else 1000
    where: dict[str, Path] = {}
    for kind, path in folders(options, 1024 * MIB).items():
        if kind in KINDS:
            whole = tempfile.TemporaryDirectory(prefix="spliceio-bench-", dir=path)
            atexit.register(whole.cleanup)
            where[kind] = Path(whole.name)
    turn = count()
    unread: Brought = {}

    def figures(kind: str, one: str) -> Sample:
        """The first who asks makes everybody run."""
        if one not in unread.get(kind, {}):
            first = next(turn) % len(names)
            unread.update(run_all(work, where, files, names[first:] + names[:first]))
        got = unread[kind].pop(one)
        return {"files_per_s": files / got["seconds"], "cpu_us": got["cpu"] / files * 1e6}

    def runs(kind: str, one: str) -> Callable[[], Sample]:
        return lambda: figures(kind, one)

    contestants, targets = [], []
    for kind in where:
        # The script compares every file, in every round.
        contestants += [
            Contestant(f"{one}, {kind}", runs(kind, one), lambda: None) for one in names
        ]
        targets += [
            Target(
                f"{ours}, {kind}",
                f"{peer}, {kind}",
                "files_per_s",
                None if least is None else (">=", least),
            )
            for ours, peer, least in judged
        ]
    return Row(
        name=name,
        title=title,
        metrics=[Metric("files_per_s", "files/s", 0), Metric("cpu_us", "cpu us/file", 1)],
        contestants=contestants,
        targets=targets,
        missing={kind: "no folder with enough room" for kind in KINDS if kind not in where},
        notes=[f"{files} files. {note}", "cp is a process of its own, for all of them."],
    )


def new(options: Options, peers: Peers) -> Row:
    return made(
        options,
        "small_files_new",
        "files of 16 KiB, to names that are free",
        "new",
        [OURS, SHUTIL, "cp"],
        [(OURS, SHUTIL, 1.0), (OURS, "cp", None)],
        "spliceio.copy_file gives a file its name when it is whole.",
    )


def replaced(options: Options, peers: Peers) -> Row:
    return made(
        options,
        "small_files_replaced",
        "files of 16 KiB, over others of that size",
        "replaced",
        [OURS, SHUTIL, "cp"],
        [(OURS, SHUTIL, 0.67), (OURS, "cp", None)],
        "spliceio.copy_file replaces each at one stroke, with its owner, mode and attributes; the "
        "others write in place.",
    )


def tree(options: Options, peers: Peers) -> Row:
    own, least = "copytree as it is (copy2)", "copytree with shutil.copyfile"
    preserving = "copytree with copy_file, preserve='all'"
    return made(
        options,
        "small_files_tree",
        "a tree of files from 0 B to 900 KiB, by shutil.copytree",
        "tree",
        [TREE, preserving, own, least, "cp -r"],
        [
            (TREE, own, 1.0),
            (TREE, least, 1.0),
            (preserving, own, 1.0),
            (TREE, "cp -r", None),
        ],
        "Half of them have no more than 6 KiB. copy2 takes times and attributes along too, "
        "copyfile takes the bytes alone.",
    )


def threads(options: Options, peers: Peers) -> Row:
    names = [f"{one}, {many}" for one in (OURS, SHUTIL) for many in ("1 thread", "2 threads")]
    return made(
        options,
        "small_files_threads",
        "files of 16 KiB, to names that are free, by one thread and by two",
        "threads",
        names,
        [(names[1], names[0], None), (names[3], names[2], None), (names[1], names[3], 1.0)],
        "Each thread has a folder of its own. Two threads are no faster than one where both "
        "processors have other work.",
    )
