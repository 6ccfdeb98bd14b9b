"""`spliceio trace`: by which system calls a program moves its bytes, and whether by sendfile.

Rule 1: with a command it behaves as the command does: standard input, output and error, signals
        and exit status are the command's; the report goes to standard error.
Rule 2: with PIDs it ends by Ctrl-C, by --seconds or when they have ended; the report goes to
        standard output. The traced programs go on, none of them stopped.
Rule 3: whatever was seen is reported, also when strace dies.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TextIO

from .commands import open_deferred
from .progress import say

if TYPE_CHECKING:
    from .._trace.parser import Lines
    from .._trace.stats import Stats
    from .._trace.strace import Command

__all__ = ["run"]

FAILURE, NOT_EXECUTABLE, NOT_FOUND = 1, 126, 127
LONGEST_LINE = 1 << 20
_TOO_EARLY = "strace ended too early (status {}); this is what it saw until then"


def pids(text: str) -> list[int]:
    """Parse PIDs, separated by commas or spaces as pgrep and pidof print them."""
    parts = text.replace(",", " ").split()
    if not parts or not all(re.fullmatch("0*[1-9][0-9]{0,8}", part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no PID; write 1234 or 1234,1235")
    return [int(part) for part in parts]


def run(args: argparse.Namespace) -> None:
    """Trace, report, and exit with the status of the command."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    wanted = [pid for some in args.pid or [] for pid in some]
    if bool(command) == bool(wanted):
        args.usage_error("give either -p PID or a command")
    if args.seconds is not None and command:
        args.usage_error("--seconds is for -p only")
    with contextlib.ExitStack() as stack:
        begin = None
        if args.output is not None:
            # A file called - is a file.
            begin = stack.enter_context(open_deferred("./-" if args.output == "-" else args.output))

        def to() -> TextIO:
            if begin is not None:
                return stack.enter_context(_text(begin()))
            return sys.stderr if command else sys.stdout

        status = _command(command, args, to) if command else _attach(wanted, args, to)
    if status:
        raise SystemExit(status)


def _command(command: list[str], args: argparse.Namespace, to: Callable[[], TextIO]) -> int:
    from .._trace.parser import Lines
    from .._trace.strace import Command

    tracer = Command(command)
    if status := _missing(command[0]):
        return status
    lines = Lines()
    counted = _counted(tracer.chunks(), lines)
    if not lines.lines:
        raise OSError(
            errno.EPERM,
            f"strace could not trace {command[0]} (status {tracer.returncode}); where ptrace is "
            "refused, be root or set kernel.yama.ptrace_scope=0, and in a container add the "
            "capability SYS_PTRACE",
        )
    died = _died(tracer, lines)
    _print(counted, lines, args, to)
    if died:
        return FAILURE
    return 128 - tracer.returncode if tracer.returncode < 0 else tracer.returncode


def _missing(program: str) -> int:
    """Look for a command as execvp() does; print what a shell prints if there is none."""
    for folder in [""] if "/" in program else os.get_exec_path():
        path = os.path.join(folder, program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return 0
    if "/" in program and os.path.exists(program):
        reason = "Is a directory" if os.path.isdir(program) else "Permission denied"
        say(f"spliceio: trace: {program}: {reason}")
        return NOT_EXECUTABLE
    reason = "No such file or directory" if "/" in program else "command not found"
    say(f"spliceio: trace: {program}: {reason}")
    return NOT_FOUND


def _died(tracer: Command, lines: Lines) -> bool:
    """Return whether strace ended before the command, so that processes are left untraced."""
    left = {pid for pid in lines.live if os.path.exists(f"/proc/{pid}")}
    if not left:
        return False
    text = _TOO_EARLY.format(tracer.returncode)
    if tracer.filtered:
        # strace's filter stays with them: without a tracer, the filtered calls give ENOSYS.
        text += ", and the command was killed, as its I/O would fail now"
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    say(f"spliceio: trace: {text}")
    return True


def _attach(wanted: list[int], args: argparse.Namespace, to: Callable[[], TextIO]) -> int:
    from .._trace.parser import Lines
    from .._trace.processes import descendants, refusal, threads
    from .._trace.strace import Attached

    for pid in wanted:
        if not os.path.exists(f"/proc/{pid}"):
            raise ProcessLookupError(errno.ESRCH, f"no process has the PID {pid}")
    # A shell that is asked about itself has us among its children: reading what strace says about
    # our reading what strace says would never end.
    targets = [pid for pid in descendants(wanted) if pid != os.getpid()]
    if not targets:
        raise ValueError("it cannot trace itself")
    tracer, lines, known = Attached(targets), Lines(), threads(targets)

    def ready() -> None:
        many = "1 process" if tracer.attached == 1 else f"{tracer.attached} processes"
        say(f"tracing {many}; Ctrl-C ends it")

    counted = _counted(tracer.chunks(args.seconds, ready), lines, known)
    refused = [
        refusal(pid) for pid in tracer.refused if pid in wanted or os.path.exists(f"/proc/{pid}")
    ]
    if not tracer.attached:
        nothing = "strace did not start"
        if tracer.stopped:
            nothing = "it was ended before strace had attached to anything"
        raise OSError(errno.EPERM, "; ".join(refused or tracer.complaints) or nothing)
    said = [*refused, *tracer.complaints]
    died = tracer.returncode != 0 and not tracer.stopped
    if died:
        said.append(_TOO_EARLY.format(tracer.returncode))
    for text in said:
        say(f"spliceio: trace: {text}")
    _print(counted, lines, args, to)
    return FAILURE if died else 0


def _counted(
    chunks: Iterable[bytes], lines: Lines, known: Mapping[int, str] | None = None
) -> Stats:
    """Parse and count what strace prints, line by line, while it prints it."""
    from .._trace.processes import program_of
    from .._trace.stats import Stats

    counted = Stats(lambda pid, comm: program_of(pid, comm, known or {}))
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            call = lines.read(line.decode(errors="surrogateescape"))
            if call is not None:
                counted.add(call)
        if len(rest) > LONGEST_LINE:
            lines.lines, lines.unparsed, rest = lines.lines + 1, lines.unparsed + 1, b""
    if rest:  # cut off when strace died
        lines.lines, lines.unparsed = lines.lines + 1, lines.unparsed + 1
    return counted


def _text(fd: int) -> TextIO:
    return open(fd, "w", encoding="utf-8", errors="replace", closefd=False)


def _print(
    counted: Stats, lines: Lines, args: argparse.Namespace, to: Callable[[], TextIO]
) -> None:
    import json

    from .._trace import report, stats

    if args.json:
        programs = sorted(counted.programs.values(), key=lambda one: (-one.total, one.name))
        text = json.dumps(
            {
                "programs": [
                    {
                        "summary": report.summary(program),
                        "verdict": report.verdict(program),
                        **stats.data(program),
                    }
                    for program in programs
                ],
                "lines": lines.lines,
                "unparsed": lines.unparsed,
                "notes": report.notes(counted, lines.unparsed),
            }
        )
    else:
        text = report.report(counted, lines.unparsed).rstrip("\n")
    file = to()
    encoding = file.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)
