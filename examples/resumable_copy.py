"""Copy a big file; a second run of `resumable_copy.py SRC DST` goes on where the first one stopped.

What is done is in a file beside DST, whose name has the size and the mtime of SRC: a part of a
source that has changed since is dropped. The last MiB of the part must still be that of SRC, or it
begins anew. Once all of it is there, and SRC is still what it was, the part becomes DST.
"""

from __future__ import annotations

import glob
import hashlib
import os
import sys
from pathlib import Path
from typing import BinaryIO

import spliceio

BLOCK = 1 << 20


def digest(file: BinaryIO, end: int) -> bytes:
    begin = max(0, end - BLOCK)
    return hashlib.blake2b(os.pread(file.fileno(), end - begin, begin)).digest()


def identity(file: BinaryIO) -> str:
    status = os.fstat(file.fileno())
    return f"{status.st_size}-{status.st_mtime_ns}"


def copy(source: Path, target: Path) -> None:
    with open(source, "rb", buffering=0) as src:
        was, size = identity(src), os.fstat(src.fileno()).st_size
        part = target.with_name(f"{target.name}.{was}.part")
        stale = f"{glob.escape(target.name)}.[0-9]*-[0-9]*.part"
        for old in set(target.parent.glob(stale)) - {part}:
            print(f"dropping {old.name}: {source} has changed since", file=sys.stderr)
            old.unlink()
        with open(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as dst:
            done = os.fstat(dst.fileno()).st_size
            if done > size or digest(src, done) != digest(dst, done):
                dst.truncate(done := 0)
            print(f"{done} of {size} bytes are there", file=sys.stderr)
            with spliceio.Transfer(src, dst, offset_src=done, offset_dst=done) as transfer:
                for moved in transfer:
                    done += moved
                    print(f"\r{done} of {size}", end="", file=sys.stderr, flush=True)
        if identity(src) != was or done != size:
            raise SystemExit(f"\n{source} changed while it was copied: run it again")
        part.replace(target)


if __name__ == "__main__":
    try:
        copy(Path(sys.argv[1]), Path(sys.argv[2]))
    except KeyboardInterrupt:
        raise SystemExit("\nstopped: run it again to go on from there") from None
