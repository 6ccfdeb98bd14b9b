"""strace as a subprocess: found, started and ended; its output comes in chunks meanwhile.

Rule 1: the output goes through a pipe that strace opens by /proc: the traced program inherits no
        descriptor of it, and its standard error carries nothing of ours.
Rule 2: a program that is attached to is detached unharmed and at once, whatever ends the trace: the
        kernel does it, for all of them together, when strace is killed. By SIGINT,
        strace stops one thread after the other to detach it. One that cannot stop holds up all: a
        parent in vfork(2) that waits for a child that strace has stopped waits for ever. And a
        signal that comes meanwhile is lost more often than when strace is killed.
Rule 3: a command gets the signals it would get without us, each once: one that a terminal sends
        reaches its whole process group by itself, any other is passed on.

The lines are parsed in `parser`.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from .parser import CALLS
from .processes import children, traced_by

__all__ = ["Attached", "Command", "Strace", "find"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
SI_KERNEL = 0x80  # sigaction(2): sent by the kernel, as by a terminal for Ctrl-C
Mask = set[int | signal.Signals]
TICK = 0.1  # seconds between two looks for a signal or the end of strace
CHUNK = 1 << 20
MOST_COMPLAINTS = 20
_SETTLED = re.compile(r"strace: (?:Process \d+ (attached)|attach: )")
_REFUSED = re.compile(r"strace: attach: ptrace\(\w+, (\d{1,9})\)")
# The last is said of a call that had begun when strace came, and is no loss.
_CHATTER = re.compile(
    r"strace: (?:Process \d+ (?:attached|detached)|\[ Process PID=|"
    r"pid \d+: (?:entering|exiting), ptrace_syscall_info)"
)


def find() -> str:
    """Return the path of strace; FileNotFoundError says how to install it."""
    path = shutil.which("strace")
    if path is None:
        raise FileNotFoundError(
            errno.ENOENT,
            "strace is not installed; get it with `apt install strace`, `dnf install strace` "
            "or `apk add strace`",
        )
    return path


def options(strace: str, *, attach: bool) -> list[str]:
    """Return the options that this version of strace has."""
    done = subprocess.run([strace, "--help"], capture_output=True, text=True, check=False)
    help_text = done.stdout
    options_used = ["-f", "-yy" if re.search(r"^ +-yy\b", help_text, re.M) else "-y"]
    if "--decode-pids=comm" in help_text:
        options_used.append("-Y")
    if not attach:
        # Attaching says on standard error when it is done. -qq would hide the exits, too, by which
        # a thread is forgotten, and by which the death of strace can be told from the command's.
        options_used.append("-q")
        if "--seccomp-bpf" in help_text:
            options_used.append("--seccomp-bpf")
    # A string limit of 0 keeps data out of the lines, but hides the array that has the lengths.
    options_used += ["-s", "0", "-e", "abbrev=!sendmmsg,recvmmsg", "-e", "signal=none"]
    return [*options_used, "-e", "trace=" + ",".join("?" + name for name in CALLS)]


class Strace:
    """A running strace: iterate over chunks(), then read `returncode`."""

    attach = False

    def __init__(self, target: Sequence[str]) -> None:
        self.strace = find()
        self.options_used = options(self.strace, attach=self.attach)
        self._target = target
        self.returncode = 0

    def chunks(
        self, seconds: float | None = None, ready: Callable[[], None] = lambda: None
    ) -> Iterator[bytes]:
        """Run it to its end; yield its output as it comes."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        self._ready = ready
        try:
            with contextlib.ExitStack() as stack:
                self._begin(stack, mask)
                yield from self._follow(deadline)
        finally:
            while signal.sigtimedwait(SIGNALS, 0) is not None:
                pass
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _begin(self, stack: contextlib.ExitStack, mask: Mask) -> None:
        """Start it, with a pipe for its output, and a poll object."""
        self._reader, writer = os.pipe()
        stack.callback(os.close, self._reader)
        self._writer = stack.enter_context(os.fdopen(writer, "wb", buffering=0))
        output = f"/proc/{os.getpid()}/fd/{writer}"
        self._process = self._start(
            ["strace", *self.options_used, "-o", output, *self._target], mask
        )
        stack.callback(self._reap)
        self._poll = select.poll()
        for fd in (self._reader, self._stderr()):
            if fd is not None:
                os.set_blocking(fd, False)
                self._poll.register(fd, select.POLLIN)
        # Without (before Linux 5.3), its end is seen at the next tick.
        with contextlib.suppress(OSError, AttributeError):
            pidfd = os.pidfd_open(self._process.pid)
            stack.callback(os.close, pidfd)
            self._poll.register(pidfd, select.POLLIN)

    def _follow(self, deadline: float) -> Iterator[bytes]:
        ended = False
        while not ended:
            ended = self._process.poll() is not None  # asked first: then all is in the pipe
            pause = 0 if ended else min(TICK, max(0, deadline - time.monotonic()))
            for fd, _ in self._poll.poll(math.ceil(pause * 1000)):
                said = _available(fd) if fd in (self._reader, self._stderr()) else b""
                if fd == self._reader:
                    self._writer.close()  # strace has its own by now, whose end is the pipe's
                    yield said or b""
                elif said:
                    self._read_stderr(said)
                if said == b"":
                    self._poll.unregister(fd)
            if (caught := signal.sigtimedwait(SIGNALS, 0)) is not None and not ended:
                self._signalled(caught)
            if time.monotonic() >= deadline and not ended:
                deadline = math.inf
                self._stop()
        while chunk := _available(self._reader):
            yield chunk
        self.returncode = self._process.returncode

    def _stderr(self) -> int | None:
        return None if self._process.stderr is None else self._process.stderr.fileno()

    def _start(self, command: list[str], mask: Mask) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _signalled(self, caught: signal.struct_siginfo) -> None:
        raise NotImplementedError

    def _stop(self) -> None:
        raise NotImplementedError

    def _read_stderr(self, said: bytes) -> None:
        """Handle what it prints on standard error, where that is ours."""

    def _reap(self) -> None:
        """Kill strace and wait for it, when the reader of the chunks gave up."""
        if self._process.poll() is None:
            self._process.kill()  # it blocks anything less while it runs a command
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()


class Command(Strace):
    """A command that runs under strace."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(["--", *command])

    @property
    def filtered(self) -> bool:
        """Whether the calls of the command fail (ENOSYS) once strace is gone."""
        return "--seccomp-bpf" in self.options_used

    def _start(self, command: list[str], mask: Mask) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, executable=self.strace, preexec_fn=_masking(mask))

    def _signalled(self, caught: signal.struct_siginfo) -> None:
        if caught.si_code == SI_KERNEL:
            return
        # A command that has ended may have left processes behind, which strace still follows.
        strace = self._process.pid
        for pid in children(strace) or traced_by(strace):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, caught.si_signo)


class Attached(Strace):
    """Running processes that strace attaches to, and detaches from afterwards.

    `refused` has those that could not be attached to, `complaints` what else strace said.
    """

    attach = True

    def __init__(self, pids: Sequence[int]) -> None:
        super().__init__([part for pid in pids for part in ("-p", str(pid))])
        self.wanted, self.attached, self.stopped = len(pids), 0, False
        self.refused: list[int] = []
        self.complaints: list[str] = []
        self._settled, self._said = 0, b""

    def _start(self, command: list[str], mask: Mask) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C is for us, and strace is killed by us.
        return subprocess.Popen(
            command,
            executable=self.strace,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_masking(mask),
        )

    def _signalled(self, caught: signal.struct_siginfo) -> None:
        self._stop()

    def _stop(self) -> None:
        """Make the kernel detach strace."""
        self._process.kill()
        self.stopped = True

    def _read_stderr(self, said: bytes) -> None:
        *lines, self._said = (self._said + said).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if settled := _SETTLED.match(text):
                self._settled += 1
                self.attached += settled[1] is not None
                if self._settled == self.wanted and self.attached:
                    self._ready()
            if refused := _REFUSED.match(text):
                self.refused.append(int(refused[1]))
            elif not _CHATTER.match(text) and len(self.complaints) < MOST_COMPLAINTS:
                self.complaints.append(text)


def _masking(mask: Mask) -> Callable[[], None]:
    """Return a function for a child that unblocks the signals that we have blocked."""

    def restore() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return restore


def _available(fd: int) -> bytes | None:
    """Read what is there now; b"" at the end, None when that is nothing."""
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return None
