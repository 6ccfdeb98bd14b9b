"""Parser of strace's output: one line in, one finished system call out.

Rule 1: no line raises. One that cannot be read is counted in `unparsed`, never dropped in silence.
Rule 2: memory is bounded by the number of threads alive, not by the length of the trace.
Rule 3: a call that the kernel starts again (ERESTARTSYS) is not a call yet: it is printed again.

Only this module knows strace's notation. Lines are expected from `strace -f -yy -Y -s 0 -o`, and
are understood without -Y and with -y as well.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from typing import NamedTuple

__all__ = ["CALLS", "MEMORY", "SENDS", "TAKES", "ZERO_COPY", "Call", "Lines", "TraceEnd"]

TAKES = ("read", "pread64", "readv", "preadv", "preadv2", "recv", "recvfrom", "recvmsg", "recvmmsg")
SENDS = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "send", "sendto", "sendmsg",
         "sendmmsg")  # fmt: skip
ZERO_COPY = ("sendfile", "splice", "vmsplice", "tee", "copy_file_range")
_ALIASES = {"sendfile64": "sendfile", "pread": "pread64", "pwrite": "pwrite64"}
CALLS = (*TAKES, *SENDS, *ZERO_COPY, *_ALIASES, "io_uring_enter")

MOST_PIPES_AND_PATHS = 4096


class TraceEnd(NamedTuple):
    """Source or destination of a traced call; `label` is a path, or what a person calls it."""

    kind: str
    label: str


class Call(NamedTuple):
    """A system call that has returned; `error` is the name of its errno."""

    pid: int
    comm: str | None
    name: str
    src: TraceEnd
    dst: TraceEnd
    moved: int
    error: str | None
    cut: bool = False  # strace did not print all of its msg_len


MEMORY = TraceEnd("memory", "user memory")

_HEAD = re.compile(r"(\d{1,9})(?:<([^<>]*)>)? +(.*)", re.S)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)", re.S)
_SUPERSEDED = re.compile(r"\+\+\+ superseded by execve in pid (\d{1,9})")
_NAME = re.compile(r"(\w+)\(")
# An address in <> may hold "->", a device "<char 1:3>", and a unix socket's path any quoted text:
# what ends it is the first > that a comma or the closing parenthesis follows.
_FD = re.compile(r'(-?\d+)(?:<((?:\\.|"(?:\\.|[^"\\])*"|[^"\\])*?)>(\(deleted\))?)?(?=[,)])', re.S)
_OFFSET = re.compile(r", (?:NULL|0x[0-9a-f]+|\[[^\]]*\](?: *=> *\[[^\]]*\])?), ")
_COMMA = re.compile(", ")
_RESULT = re.compile(r"(-?\d{1,19}|\?)(?: (E[A-Z0-9_]+))?")
_MSG_LEN = re.compile(r"\bmsg_len=(\d{1,19})\}")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{2}|.)", re.S)
_DEVICE = re.compile(r"(.*)<(char|block) (\d{1,9}):\d+>", re.S)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"f": b"\f", b"v": b"\v", b"a": b"\a"}
# Linux' Documentation/admin-guide/devices.txt: consoles, /dev/tty, pseudo terminals, serial lines.
_TERMINALS = {4, 5, 204, *range(128, 144), 188, 229}


class Lines:
    """Parses lines; joins calls that strace cut in two, thread by thread."""

    def __init__(self) -> None:
        self.lines = self.unparsed = 0
        self.live: set[int] = set()
        self._unfinished: dict[int, str] = {}

    def read(self, line: str) -> Call | None:
        """Parse one line; return the call that it finishes, or None."""
        self.lines += 1
        head = _HEAD.fullmatch(line.rstrip("\n"))
        if head is None:
            self.unparsed += 1
            return None
        pid, comm, text = int(head[1]), head[2], head[3]
        self.live.add(pid)
        if text.startswith("+++ "):
            self._gone(pid, text)
            return None
        if text.startswith(("--- ", "[ Process PID=")):  # a signal; "runs in 32 bit mode"
            return None
        if resumed := _RESUMED.fullmatch(text):
            begun = self._unfinished.pop(pid, "")
            text = begun + resumed[2] if begun.startswith(resumed[1] + "(") else text
        if text.endswith("<unfinished ...>"):
            self._unfinished[pid] = text.removesuffix("<unfinished ...>")
            return None
        if text.endswith(("= ?", "<detached ...>", "<unavailable>")) or text.startswith("???"):
            return None  # the process ended, or was detached, inside the call
        call = _call(pid, None if comm is None else unescaped(comm), text)
        if call is None:
            self.unparsed += 1
        elif call.error is not None and call.error.startswith("ERESTART"):
            return None
        return call

    def _gone(self, pid: int, text: str) -> None:
        """Drop a thread that has ended; one that calls execve() takes over its process's number."""
        ended = {pid}
        if superseded := _SUPERSEDED.match(text):
            ended.add(int(superseded[1]))
        self.live -= ended
        for one in ended:
            self._unfinished.pop(one, None)


def _call(pid: int, comm: str | None, text: str) -> Call | None:
    head, _, tail = text.rpartition(" = ")
    name, result = _NAME.match(head), _RESULT.match(tail)
    if name is None or result is None or not head.rstrip().endswith(")"):
        return None
    called = _ALIASES.get(name[1], name[1])
    ends = _parse_ends(called, head, name.end())
    if ends is None:
        return None
    error, moved, cut = result[2], int(result[1]) if result[1] != "?" else 0, False
    if moved < 0:
        error, moved = error or "errno", 0
    elif called in ("sendmmsg", "recvmmsg"):  # these return a number of messages
        counts = [int(count) for count in _MSG_LEN.findall(head)]
        cut = len(counts) < moved
        moved = sum(counts[:moved])
    elif called == "io_uring_enter":
        moved = 0
    return Call(pid, comm, called, *ends, moved, error, cut)


def _parse_ends(name: str, text: str, at: int) -> tuple[TraceEnd, TraceEnd] | None:
    """Return source and destination of a call, from its arguments."""
    if name not in CALLS:
        return None
    one = _FD.match(text, at)
    if one is None:
        return None
    first = parse_end(*one.groups())
    if name in TAKES:
        return first, MEMORY
    if name in SENDS or name == "vmsplice":
        return MEMORY, first
    if name == "io_uring_enter":
        return MEMORY, MEMORY
    between = _OFFSET if name in ("splice", "copy_file_range") else _COMMA
    gap = between.match(text, one.end())
    two = _FD.match(text, gap.end()) if gap else None
    if two is None:
        return None
    second = parse_end(*two.groups())
    return (second, first) if name == "sendfile" else (first, second)


@functools.lru_cache(MOST_PIPES_AND_PATHS)
def parse_end(number: str, text: str | None, deleted: str | None = None) -> TraceEnd:
    """Return the kind of a descriptor, from what strace printed beside its number."""
    if text is None:
        return TraceEnd("unknown", f"descriptor {number}")
    if text.startswith("pipe:"):
        return TraceEnd("pipe", text)
    if text.startswith("anon_inode:"):
        return TraceEnd("other", unescaped(text.removeprefix("anon_inode:").strip("[]")))
    if re.match(r"[A-Za-z][\w-]*:\[", text):
        protocol = text.partition(":")[0]
        return TraceEnd("socket", "a socket" if protocol == "socket" else f"a {protocol} socket")
    if text.startswith("/memfd:"):
        return TraceEnd("memory", unescaped(text).removesuffix(" (deleted)").removeprefix("/"))
    if device := _DEVICE.fullmatch(text):
        terminal = device[2] == "char" and int(device[3]) in _TERMINALS
        return TraceEnd("terminal" if terminal else "device", unescaped(device[1]))
    path = unescaped(text)
    if not path.startswith("/"):
        return TraceEnd("other", path)
    return TraceEnd("file", path + " (deleted)") if deleted else TraceEnd(_kind(path), path)


def _kind(path: str) -> str:
    """Stat a path: strace prints a named pipe as any file, and -y has no devices."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return "file"
    if stat.S_ISFIFO(status.st_mode):
        return "pipe"
    if stat.S_ISCHR(status.st_mode):
        return "terminal" if os.major(status.st_rdev) in _TERMINALS else "device"
    return "device" if stat.S_ISBLK(status.st_mode) else "file"


def unescaped(text: str) -> str:
    """Undo strace's backslashes; bytes that are no text come back as os.fsdecode() has them."""

    def byte(found: re.Match[bytes]) -> bytes:
        code = found[1]
        if code[:1].isdigit() and code[:1] < b"8":
            return bytes([int(code, 8) & 255])
        if code[:1] == b"x" and len(code) == 3:
            return bytes([int(code[1:], 16)])
        return _LETTERS.get(code, code)

    return os.fsdecode(_ESCAPE.sub(byte, text.encode("utf-8", "surrogateescape")))
