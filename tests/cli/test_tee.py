"""`spliceio tee`, side by side with the tee(1) of coreutils: status, output, files and messages.

Each script runs twice, in a directory of its own, with `T` as one tee and then as the other. What
coreutils has no word for (digests, slow outputs, progress) and how bytes travel is tested alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import HANG, SPLICEIO, run, started
from tests.support.programs import need
from tests.support.states import Worker, process_state, until
from tests.support.wires import MIB, payload, read_all, write_all

OURS = shlex.join([*SPLICEIO, "tee"])
MODES = ("warn", "warn-nopipe", "exit", "exit-nopipe")


@functools.cache
def coreutils() -> str:
    """Return the path of the tee of coreutils; one of busybox or uutils is no measure."""
    tee = need("tee")
    version = subprocess.run([tee, "--version"], capture_output=True, timeout=HANG).stdout
    if b"GNU coreutils" not in version:
        pytest.fail(f"{tee} is not of GNU coreutils")
    return tee


def told_by(stderr: bytes) -> list[str]:
    """Return the lines without who says them."""
    return re.sub(r"(?m)^(spliceio: |/\S*/)?tee: ", "", stderr.decode()).splitlines()


def scripted(script: str, where: Path, command: str, **options) -> tuple:
    """Run a script of bash; return status, output, message lines, and what the files hold."""
    where.mkdir()
    define = f'T() {{ {command} "$@"; }}\n'
    done = subprocess.run(
        [need("bash"), "-c", define + script],
        cwd=where,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=HANG,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        **options,
    )
    files = {
        str(path.relative_to(where)): path.read_bytes()
        for path in sorted(where.rglob("*"))
        if path.is_file()
    }
    return done.returncode, done.stdout, told_by(done.stderr), files


def both(script: str, tmp_path: Path) -> tuple[tuple, tuple]:
    """Run a script with the tee of coreutils and with ours."""
    theirs = scripted(script, tmp_path / "theirs", coreutils())
    return theirs, scripted(script, tmp_path / "ours", OURS)


def collected(fd: int) -> Worker:
    """Read a descriptor to its end, in a thread."""
    return Worker(lambda: read_all(fd))


# -- the same as coreutils -------------------------------------------------------------------------

STATUS = "echo status ${PIPESTATUS[@]} >&2"
# Whether printf is done when a tee that reads nothing ends is a race.
LAST = "echo status ${PIPESTATUS[-1]} >&2"
# More than all the pipes on the way can hold, so that a reader that has gone is always noticed.
MEGABYTES = "yes | head -c 8000000"
SAME = {
    "no-file": f"printf hello | T; {LAST}",
    "one-file": "printf hello | T f",
    "no-directory": f"printf hello | T no/f f; {LAST}",
    "no-input": "T f </dev/null",
    "keeps-the-mode-of-a-file": "umask 027; echo old >f; umask 0; "
    "printf hello | T f new; stat -c %a f new",
    "umask": "umask 027; printf hello | T f; stat -c %a f",
    "follows-a-link": "ln -s real f; printf hello | T f; readlink f",
    "last-mode-counts": f"printf hello | T -p --output-error=exit f /dev/full >g; {LAST}",
    "full-standard-output": f"printf hello | T f >/dev/full; {LAST}",
    "full-and-no-input": f"T f /dev/full </dev/null; {STATUS}",
    "too-large": f"ulimit -f 1; trap '' XFSZ; {MEGABYTES} | T f | wc -c; {STATUS}",
    "standard-output-closed": f"printf hello | T f >&-; {LAST}",
    "only-standard-output-and-closed": f"printf hello | T >&-; {LAST}",
    "standard-output-closed-p": f"printf hello | T -p f >&-; {LAST}",
    "stdout-not-writable": f"printf hello | T f 1</dev/null; {LAST}",
    "standard-output-appended": "echo old >o; printf hello | T f >>o",
    "all-append": "echo old >o; echo old >f; printf hello | T -a f >>o",
    "from-file": "seq 100000 >i; T f <i",
    "from-the-middle-of-a-file": "seq 9 >i; { read line; T f; } <i",
    "from-proc": "T f </proc/version",
    "from-proc-without-splice": "T f </proc/self/limits",
    "from-a-file-that-is-the-output": f"seq 9 >i; T i <i; {STATUS}",
    "from-here": "T f <<<hello",
    "from-process-substitution": "T f < <(printf hello)",
    "dev-fd": "{ printf hello | T /dev/fd/3; } 3>x",
    "dev-fd-standard-output": "printf hello | T /dev/fd/1 | cat",
    "dev-stdout-and-a-file": "printf hello | T /dev/stdout f | cat",
    "no-terminal": f"printf hello | setsid {{T}} /dev/tty; {LAST}",
    "to-substitutions": "{ printf hello | T >(md5sum >&3) >(md5sum >&3) >f; } 3>&1 | cat",
    "to-fifos": "mkfifo p q; cat p >1 & cat q >2 & seq 100000 | T p q >3; wait",
    "from-fifo": "mkfifo q; seq 100000 >q & T f <q; wait",
    "head": f"yes | T | head -1; {STATUS}",
    "head-p": f"yes | T -p | head -1; {STATUS}",
    "head-p-and-a-file": f"{MEGABYTES} | T -p f | head -1; {STATUS}",
    "head-and-null": f"yes | T /dev/null | head -1; {STATUS}",
    "half-of-a-substitution": f"{MEGABYTES} | T -p f >(head -c 5 >/dev/null) | wc -c; {STATUS}",
    "no-substitution-left": f"yes | T -p >(true) >(true) | true; {STATUS}",
    "tail": "seq 100000 >i; tail -n +1 i | T f | tail -1",
    "itself": "printf hello | T a | T b | T c",
}
SAME |= {
    f"{mode}-{name}": script.replace("T ", f"T --output-error={mode} ", 1)
    for mode in ("warn", "warn-nopipe")
    for name, script in {
        "full-standard-output": f"printf hello | T f g >/dev/full; {LAST}",
        "closed-standard-output": f"printf hello | T f g >&-; {LAST}",
        "broken-standard-output": f"{MEGABYTES} | T f | true; {STATUS}",
        "broken-fifo": f"mkfifo p; : <p & {MEGABYTES} | T f p >g; {STATUS}; wait",
    }.items()
}


# What takes no shell, and so no process of ours: words and files that are there.
WORDS = {
    "several-files": ["f", "g", "h"],
    "one-file-twice": ["f", "f"],
    "overwrites": ["old"],
    "append": ["-a", "old", "new"],
    "append-long": ["--append", "old"],
    "append-abbreviated": ["--app", "old"],
    "ignore-interrupts": ["-i", "f"],
    "ignore-interrupts-abbreviated": ["--ignore", "f"],
    "pipe-errors": ["-p", "f"],
    "ai": ["-ai", "old"],
    "ap": ["-ap", "old"],
    "pia": ["-pia", "old"],
    "options-repeated": ["-a", "-a", "-i", "-i", "-p", "-p", "old"],
    "option-after-the-file": ["old", "-a"],
    "options-between-files": ["old", "-a", "g", "-i", "h"],
    "options-between-files-dashes": ["-", "-a", "--", "-b"],
    "a-file-called-dash": ["-"],
    "dash-between": ["a", "-", "b"],
    "after-dashes": ["--", "-a", "--output-error", "-p"],
    "dashes-twice": ["-a", "--", "--", "x"],
    "odd-names": ["a b", "c\nd", "it's", os.fsdecode(b"\xff"), "é", "*", "$x"],
    "empty-name": ["", "f"],
    "output-error-bare": ["--output-error", "f"],
    "output-error-abbreviated": ["--output=warn", "f"],
    "output-error-abbreviated-bare": ["--output", "f"],
    "mode-abbreviated-warn": ["--output-error=warn-n", "f"],
    "mode-abbreviated-exit": ["--output-error=exit-n", "f"],
    "directory": ["d", "f"],
    "no-directory": ["no/f", "f"],
    "not-a-directory": ["old/f", "f"],
    "unwritable": ["/proc/version", "f"],
    "unwritable-directory": ["/sys/x", "f"],
    "link": ["link", "g"],
    "link-to-itself": ["loop", "g"],
    "name-too-long": ["n" * 256, "f"],
    "nowhere-but-errors": ["no/f", "no/g"],
    "full": ["f", "/dev/full", "g"],
    "dev-null": ["/dev/null"],
    "dev-fd-that-is-not-open": ["/dev/fd/999", "f"],
}
WORDS |= {
    f"{mode}-{name}": [f"--output-error={mode}", *words]
    for mode in MODES
    for name, words in {
        "fine": ["f", "g"],
        "directory": ["f", "d", "g"],
        "no-directory": ["f", "no/x", "g"],
        "unwritable-directory": ["f", "/sys/x", "g"],
    }.items()
}
WORDS |= {
    f"{mode}-{name}": [f"--output-error={mode}", *words]
    for mode in ("warn", "warn-nopipe")
    for name, words in {
        "full": ["f", "/dev/full", "g"],
        "unwritable": ["f", "/proc/version", "g"],
    }.items()
}


def files_in(where: Path) -> dict:
    """Return the names in a directory, and what each holds."""
    return {path.name: path.is_file() and path.read_bytes() for path in where.iterdir()}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_words_mean_what_they_mean_to_coreutils(words, tmp_path):
    """Status, output, messages and files."""
    came = []
    for name in ("theirs", "ours"):
        where = tmp_path / name
        (where / "d").mkdir(parents=True)
        (where / "old").write_bytes(b"old and longer")
        (where / "link").symlink_to("real")
        (where / "loop").symlink_to("loop")
        if name == "ours":
            done = run("tee", *words, input=b"hello", cwd=where)
        else:
            env = {**os.environ, "LC_ALL": "C.UTF-8"}
            options = {"input": b"hello", "capture_output": True, "timeout": HANG}
            done = subprocess.run([coreutils(), *words], cwd=where, env=env, **options)
        came.append((done.returncode, done.stdout, told_by(done.stderr), files_in(where)))
    assert came[1] == came[0]


@pytest.mark.parametrize("script", SAME.values(), ids=SAME)
def test_same_as_coreutils(script, tmp_path):
    """Status of every command of the pipeline, output, messages and files."""
    theirs = scripted(script.replace("{T}", coreutils()), tmp_path / "theirs", coreutils())
    ours = scripted(script.replace("{T}", OURS), tmp_path / "ours", OURS)
    assert ours == theirs


@pytest.mark.parametrize("mode", ["exit", "exit-nopipe"])
@pytest.mark.parametrize(
    "script",
    [
        f"printf hello | T f /dev/full g; {LAST}",
        f"printf hello | T f /proc/version g; {LAST}",
        f"printf hello | T f g >/dev/full; {LAST}",
        f"printf hello | T f g >&-; {LAST}",
        "yes | T f | true; echo ${PIPESTATUS[1]}; rm -f f",
        f"mkfifo p; : <p & {MEGABYTES} | T p >/dev/null; echo ${{PIPESTATUS[2]}}; wait",
    ],
    ids=[
        "full",
        "unwritable",
        "full-standard-output",
        "closed",
        "broken-standard-output",
        "broken-fifo",
    ],
)
def test_an_error_that_ends_it(mode, script, tmp_path):
    """The same status and message; who was served before the error is a matter of order."""
    script = script.replace("T ", f"T --output-error={mode} ", 1)
    if mode == "exit-nopipe":
        script = script.replace("yes", "head -c 8000000 /dev/zero")
    theirs, ours = both(script, tmp_path)
    assert ours[:3] == theirs[:3]
    for name, data in ours[3].items():
        assert b"hello".startswith(data), name


@pytest.mark.parametrize("mode", [None, *MODES])
def test_a_reader_that_goes_away_does_to_the_file_what_it_does_in_coreutils(mode, tmp_path):
    """In nopipe modes and with warn, the file gets everything; otherwise a beginning."""
    option = f"--output-error={mode}" if mode else ""
    theirs, ours = both(f"{MEGABYTES} | T {option} f | true; echo ${{PIPESTATUS[2]}}", tmp_path)
    assert ours[:3] == theirs[:3]
    everything = b"y\n" * 4_000_000
    assert everything.startswith(ours[3]["f"])
    if mode not in (None, "exit"):
        assert ours[3]["f"] == everything


# -- what differs from coreutils by intent ---------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [["-z"], ["--bogus"], ["--output-error=bogus"], ["--output-error=w"], ["--output-error="]],
    ids=" ".join,
)
def test_usage_error(args, tmp_path):
    """Status 2 and the usage of tee, nothing written; coreutils gives 1."""
    done = run("tee", *args, "f", input=b"hello", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"usage: spliceio tee ")
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b/x", "'a b/x'"),
        ("no/x", "no/x"),
        ("", "''"),
        ("$a/x", "'$a/x'"),
        ("it's/x", """'it'"'"'s/x'"""),
    ],
)
def test_names_in_messages_can_be_pasted_into_a_shell(name, shown, tmp_path):
    """They are quoted as shlex does it."""
    done = run("tee", name, input=b"hello", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"hello")
    assert done.stderr.decode() == f"spliceio: tee: {shown}: No such file or directory\n"


def test_append_to_the_input_is_refused(tmp_path):
    """Coreutils fills the disk."""
    (tmp_path / "f").write_bytes(b"hello")
    with open(tmp_path / "f", "rb") as f:
        done = run("tee", "-a", "f", stdin=f, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"spliceio: tee: f: ")
    assert (tmp_path / "f").read_bytes() == b"hello"


def test_help():
    """Every option has its line."""
    done = run("tee", "-h")
    assert (done.returncode, done.stderr) == (0, b"")
    for option in ("-a, --append", "-i, --ignore-interrupts", "-p ", "--output-error MODE"):
        assert f"\n  {option}".encode() in done.stdout
    for option in ("--on-slow", "--stall-timeout", "--hash NAME", "--progress"):
        assert f"\n  {option}".encode() in done.stdout


# -- standard descriptors that are closed, or of no use --------------------------------------------


@pytest.mark.parametrize("more", ["", ">&-"], ids=["", "output-too"])
def test_closed_standard_input(more, tmp_path):
    """A failure, with one line, and no file is touched that would have got its number."""
    script = f"echo old >f; T f <&- {more}; echo $? >&2"
    status, out, said, files = scripted(script, tmp_path / "ours", OURS)
    assert (status, out, files) == (0, b"", {"f": b"old\n"})
    assert said == ["standard input: Bad file descriptor", "1"]


def test_input_that_is_not_open_for_reading(tmp_path):
    """The message is about standard input, in the words of the system."""
    status, _, said, _ = scripted("T f 0>x; echo $? >&2", tmp_path / "ours", OURS)
    assert (status, said[-1]) == (0, "1")
    assert "standard input" in said[0]
    assert "fanout" not in said[0]


@pytest.mark.parametrize("command", ["T f no/x", "T --hash sha256 f", "T --progress no/x f"])
def test_closed_standard_error(command, tmp_path):
    """What would be said is lost; nothing of it gets into the data."""
    if "--progress" in command and importlib.util.find_spec("rich") is None:
        command = command.replace("--progress", "")
    _, out, _, files = scripted(f"printf hello | {command} 2>&- | cat", tmp_path / "ours", OURS)
    assert out == b"hello"
    assert files["f"].startswith(b"hello")


def test_everything_closed(tmp_path):
    """A failure, and quiet."""
    script = "T f no/x <&- >&- 2>&-; echo $?"
    theirs, ours = both(script, tmp_path)
    assert ours[:3] == theirs[:3]


def test_full_standard_error(tmp_path):
    """Messages that cannot be written do not stop the data."""
    theirs, ours = both(f"printf hello | T no/x f 2>/dev/full; {LAST}", tmp_path)
    assert ours == theirs


# -- signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", [False, True], ids=["coreutils", "spliceio"])
def test_interrupt_ignored(ours, tmp_path):
    """With -i it goes on to the end of its input."""
    command = [*SPLICEIO, "tee"] if ours else [coreutils()]
    with subprocess.Popen(
        [*command, "-i", "f"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    ) as process:
        os.write(process.stdin.fileno(), b"one")
        until(lambda: (tmp_path / "f").exists() and (tmp_path / "f").read_bytes() == b"one")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(b"two", timeout=HANG)
    assert (process.returncode, out) == (0, b"onetwo")
    assert (tmp_path / "f").read_bytes() == b"onetwo"


def test_interrupt_without_i(tmp_path):
    """Status 130, quiet, and what was delivered stays."""
    with started("tee", "f", cwd=tmp_path) as process:
        os.write(process.stdin.fileno(), b"hello")
        until(lambda: (tmp_path / "f").exists() and (tmp_path / "f").read_bytes() == b"hello")
        until(lambda: process_state(process.pid) == "S")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANG)
    assert (process.returncode, out, err) == (130, b"hello", b"")
    assert (tmp_path / "f").read_bytes() == b"hello"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it(number, tmp_path):
    """As they end every program, -i or not."""
    before = signal.signal(number, signal.SIG_DFL)  # nohup ignores one, and children inherit that
    try:
        with started("tee", "-i", "f", cwd=tmp_path) as process:
            os.write(process.stdin.fileno(), b"hello")
            assert process.stdout.read(5) == b"hello"
            process.send_signal(number)
            assert process.wait(HANG) == -number
    finally:
        signal.signal(number, before)


def test_stopped_and_continued(tmp_path):
    """Job control loses nothing."""
    data = payload(MIB)
    with started("tee", "f", cwd=tmp_path) as process:
        feeder = Worker(lambda: (write_all(process.stdin.fileno(), data), process.stdin.close()))
        got = process.stdout.read(1)
        process.send_signal(signal.SIGSTOP)
        until(lambda: process_state(process.pid) == "T")
        process.send_signal(signal.SIGCONT)
        got += read_all(process.stdout.fileno())
        feeder.result()
        assert process.wait(HANG) == 0
    assert got == data
    assert (tmp_path / "f").read_bytes() == data


# -- readers that go away while nothing comes ------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        ([], 141, b""),
        (["-p"], 0, b""),
        (["--output-error=exit-nopipe"], 0, b""),
        (["--output-error=warn"], 1, b"spliceio: tee: 'standard output': Broken pipe\n"),
        (["--output-error=exit"], 1, b"spliceio: tee: 'standard output': Broken pipe\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_idle_source_whose_only_reader_goes_away(args, status, said):
    """It ends without any more input, as `tail -f log | tee | head` should."""
    with started("tee", *args) as process:
        os.write(process.stdin.fileno(), b"hello")
        assert process.stdout.read(5) == b"hello"
        process.stdout.close()
        assert process.wait(HANG) == status
        assert process.stderr.read() == said


@pytest.mark.parametrize("args", [["-p"], ["--output-error=exit-nopipe"]], ids=" ".join)
def test_idle_source_one_of_whose_readers_goes_away(args, tmp_path):
    """The rest get what comes later."""
    with started("tee", *args, "f", cwd=tmp_path) as process:
        os.write(process.stdin.fileno(), b"one")
        assert process.stdout.read(3) == b"one"
        process.stdout.close()
        os.write(process.stdin.fileno(), b"two")
        process.stdin.close()
        assert process.wait(HANG) == 0
        assert process.stderr.read() == b""
    assert (tmp_path / "f").read_bytes() == b"onetwo"


def test_a_source_that_follows_a_file(tmp_path):
    """`tail -f | spliceio tee -p | head -1` ends while the file does not grow."""
    (tmp_path / "log").write_bytes(b"first\nsecond\n")
    tail = subprocess.Popen([need("tail"), "-f", tmp_path / "log"], stdout=subprocess.PIPE)
    with tail:
        try:
            script = f"{OURS} -p | head -1; echo ${{PIPESTATUS[0]}}"
            done = subprocess.run(
                [need("bash"), "-c", script], stdin=tail.stdout, capture_output=True, timeout=HANG
            )
        finally:
            tail.kill()
    assert (done.stdout, done.stderr) == (b"first\n0\n", b"")


# -- terminals and sockets -------------------------------------------------------------------------


def line_terminal(wires):
    """Return (keyboard, terminal) of one that hands over lines, where Ctrl-D is the end."""
    return [wires.ends.fd(end) for end in os.openpty()]


@pytest.mark.parametrize("command", [["pipe"], ["tee"], ["tee", "f"]], ids=" ".join)
def test_end_of_file_at_a_terminal(command, wires, tmp_path):
    """Ctrl-D ends it, once; the terminal is left as it was."""
    keyboard, terminal = line_terminal(wires)
    os.set_blocking(terminal, True)
    before = os.get_blocking(terminal)
    with started(*command, stdin=terminal, cwd=tmp_path) as process:
        write_all(keyboard, b"one\ntwo\n")
        got = b""
        while len(got) < 8:  # a line at a time
            got += process.stdout.read(8)
        assert got == b"one\ntwo\n"
        until(lambda: process_state(process.pid) == "S")
        write_all(keyboard, b"\x04")
        assert process.stdout.read() == b""
        assert process.wait(HANG) == 0
    assert os.get_blocking(terminal) == before
    assert all(path.read_bytes() == b"one\ntwo\n" for path in tmp_path.iterdir())


@pytest.mark.parametrize("line", [b"", b"no newline\x04"], ids=["at-once", "after-half-a-line"])
def test_end_of_file_at_a_terminal_when_it_starts(line, wires, tmp_path):
    """Ctrl-D after nothing; and twice after half a line."""
    keyboard, terminal = line_terminal(wires)
    write_all(keyboard, line + b"\x04")
    done = run("tee", "f", stdin=terminal, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, line.rstrip(b"\x04"))


def test_terminal_as_standard_output(wires, tmp_path):
    """Everything arrives at it, and at the file."""
    screen, terminal = wires.terminal()
    data = b"a line\n" * 20_000
    with started("tee", "f", stdout=terminal, cwd=tmp_path) as process:
        feeder = Worker(lambda: (write_all(process.stdin.fileno(), data), process.stdin.close()))
        got = b""
        while len(got.replace(b"\r\n", b"\n")) < len(data):
            got += os.read(screen, 65536)
        feeder.result()
        assert process.wait(HANG) == 0
    assert got.replace(b"\r\n", b"\n") == data
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
def test_sockets(kind, wires, tmp_path):
    """From one to another, and to a file."""
    data = payload(3 * MIB)
    feed, stdin = wires.sockets(kind)
    stdout, collect = wires.sockets(kind)
    process = subprocess.Popen([*SPLICEIO, "tee", "f"], stdin=stdin, stdout=stdout, cwd=tmp_path)
    stdin.close()
    stdout.close()
    with process:
        feeder = Worker(lambda: (feed.sendall(data), feed.shutdown(socket.SHUT_WR)))
        got = read_all(collect.fileno())
        feeder.result()
        assert process.wait(HANG) == 0
    assert got == data
    assert (tmp_path / "f").read_bytes() == data


def test_socat(tmp_path):
    """Between two that nobody here wrote."""
    socat = need("socat")
    data = payload(MIB)
    (tmp_path / "i").write_bytes(data)
    script = f"{socat} -u OPEN:i - | {OURS} f | {socat} -u - CREATE:o"
    done = subprocess.run([need("bash"), "-c", script], cwd=tmp_path, timeout=HANG)
    assert done.returncode == 0
    assert (tmp_path / "f").read_bytes() == (tmp_path / "o").read_bytes() == data


def test_datagram_standard_output(tmp_path):
    """Where it cannot be served, the files are all the same."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        done = run("tee", "f", input=b"hello", stdout=theirs, cwd=tmp_path)
    assert (tmp_path / "f").read_bytes() == b"hello"
    assert "fanout" not in done.stderr.decode()


@pytest.mark.parametrize("end", ["reader", "writer"])
def test_a_pipe_that_does_not_block(end, tmp_path):
    """It is waited for, where coreutils gives up."""
    data = payload(MIB)
    reader, writer = os.pipe()
    os.set_blocking(reader if end == "reader" else writer, False)
    if end == "reader":
        process = subprocess.Popen(
            [*SPLICEIO, "tee", "f"], stdin=reader, stdout=subprocess.PIPE, cwd=tmp_path
        )
        os.close(reader)
        feed, collect = writer, process.stdout.fileno()
    else:
        process = subprocess.Popen(
            [*SPLICEIO, "tee", "f"], stdin=subprocess.PIPE, stdout=writer, cwd=tmp_path
        )
        os.close(writer)
        feed, collect = os.dup(process.stdin.fileno()), reader
        process.stdin.close()
    with process:
        feeder = Worker(lambda: (write_all(feed, data), os.close(feed)))
        got = read_all(collect)
        feeder.result()
        assert process.wait(HANG) == 0
    if end == "writer":
        os.close(reader)
    assert got == data
    assert (tmp_path / "f").read_bytes() == data


# -- slow outputs ----------------------------------------------------------------------------------


def test_an_output_that_takes_nothing_is_dropped(wires, tmp_path):
    """The others get everything; the message names it and the status is 1."""
    data = payload(4 * MIB)
    _, writer = wires.pipe()
    name = f"/dev/fd/{writer}"
    done = run(
        "tee", "--on-slow", "drop", "--stall-timeout", "0.1", name, "f",
        input=data, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == data
    assert (tmp_path / "f").read_bytes() == data
    assert done.stderr.decode().startswith(f"spliceio: tee: {name}: dropped: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("mode", ["exit", "exit-nopipe"])
def test_a_dropped_output_ends_it_where_failures_do(mode, wires):
    """With --output-error=exit, the first one is the end."""
    _, writer = wires.pipe()
    done = run(
        "tee", f"--output-error={mode}", "--on-slow=drop", "--stall-timeout=0.1",
        f"/dev/fd/{writer}", input=payload(4 * MIB),
    )  # fmt: skip
    assert done.returncode == 1
    assert b"dropped" in done.stderr


def test_nothing_left_to_serve_after_a_drop(wires):
    """When the only reader stalls, it ends with 1 though the source goes on."""
    _, writer = wires.pipe()
    with started("tee", "--on-slow=drop", "--stall-timeout=0.1", stdout=writer) as process:
        with contextlib.suppress(BrokenPipeError):
            while True:
                os.write(process.stdin.fileno(), bytes(65536))
        assert process.wait(HANG) == 1
        assert process.stderr.read().startswith(b"spliceio: tee: 'standard output': dropped: ")


def test_an_idle_source_is_no_stall(tmp_path):
    """Outputs that are owed nothing are not dropped, however long it takes."""
    with started("tee", "--on-slow=drop", "--stall-timeout=0.001", "f", cwd=tmp_path) as process:
        for word in (b"one", b"two"):
            os.write(process.stdin.fileno(), word)
            assert process.stdout.read(3) == word
            until(lambda: process_state(process.pid) == "S")
        assert process.communicate(timeout=HANG) == (b"", b"")
        assert process.returncode == 0


@pytest.mark.parametrize("args", [[], ["--on-slow", "wait"]], ids=["by-default", "asked"])
def test_a_slow_reader_is_waited_for(args, tmp_path):
    """It begins after the others have had some, and gets everything."""
    data = payload(5 * MIB)
    slow, writer = os.pipe()
    with started(
        "tee", *args, f"/dev/fd/{writer}", "f", pass_fds=[writer], cwd=tmp_path
    ) as process:
        os.close(writer)
        feeder = Worker(lambda: (write_all(process.stdin.fileno(), data), process.stdin.close()))
        head = process.stdout.read(65536)
        late = collected(slow)
        got = head + read_all(process.stdout.fileno())
        feeder.result()
        assert process.wait(HANG) == 0
        assert late.result() == got == data
    os.close(slow)
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", ""])
def test_wrong_stall_timeouts(value):
    """A number of seconds above 0, or 2."""
    done = run("tee", "--on-slow=drop", f"--stall-timeout={value}", input=b"x")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--stall-timeout" in done.stderr.splitlines()[-1]


# -- digests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("md5", ["md5sum", "--tag"]),
        ("sha1", ["sha1sum", "--tag"]),
        ("sha224", ["sha224sum", "--tag"]),
        ("sha256", ["sha256sum", "--tag"]),
        ("sha384", ["sha384sum", "--tag"]),
        ("sha512", ["sha512sum", "--tag"]),
        ("blake2b", ["b2sum", "--tag"]),
        ("sha3_256", ["openssl", "dgst", "-sha3-256"]),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 1])
def test_a_digest_is_what_the_program_of_its_name_prints(name, program, size):
    """The same line, as `sha256sum --tag` and `openssl dgst` write it."""
    data = payload(size)
    done = run("tee", "--hash", name, input=data)
    theirs = subprocess.run(
        [need(program[0]), *program[1:]], input=data, capture_output=True, timeout=HANG
    )
    assert (done.returncode, done.stdout) == (0, data)
    if program[0] == "openssl":
        digest = theirs.stdout.decode().rpartition("= ")[2]
        assert done.stderr.decode() == f"SHA3-256 (-) = {digest}"
    else:
        assert done.stderr == theirs.stdout


@pytest.mark.parametrize("name", ["sha3_256", "sha3-256", "SHA3-256"])
def test_names_of_hashes_as_they_are_printed(name):
    """Capitals and dashes are taken too."""
    done = run("tee", f"--hash={name}", input=b"hello")
    digest = hashlib.sha3_256(b"hello").hexdigest()
    assert done.stderr.decode() == f"SHA3-256 (-) = {digest}\n"


def test_several_digests_in_the_order_asked(tmp_path):
    """One line each."""
    data = payload(MIB)
    done = run("tee", "--hash=sha512", "--hash=md5", "--hash", "sha512", "f", input=data,
               cwd=tmp_path)  # fmt: skip
    sha512, md5 = hashlib.sha512(data).hexdigest(), hashlib.md5(data).hexdigest()
    lines = [f"SHA512 (-) = {sha512}", f"MD5 (-) = {md5}", f"SHA512 (-) = {sha512}"]
    assert done.stderr.decode().splitlines() == lines
    assert (tmp_path / "f").read_bytes() == done.stdout == data


@pytest.mark.parametrize("name", ["nosuch", "shake_128", "SHAKE-256", "", "sha"])
def test_what_is_no_hash(name, tmp_path):
    """Refused with the names that are, before a file is touched."""
    done = run("tee", "--hash", name, "f", input=b"hello", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert "sha256" in done.stderr.decode().splitlines()[-1]
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_digest_is_of_what_passed_when_an_output_fails(redirection, tmp_path):
    """It covers all of the input, and the status is that of the failure."""
    script = f"seq 100000 | T --hash sha256 f /dev/full {redirection}; {STATUS}"
    status, _, said, files = scripted(script, tmp_path / "ours", OURS)
    data = "".join(f"{n}\n" for n in range(1, 100_001)).encode()
    assert (status, files["f"]) == (0, data)
    assert said[-2:] == [f"SHA256 (-) = {hashlib.sha256(data).hexdigest()}", "status 0 1"]


def test_a_digest_when_every_reader_has_gone(tmp_path):
    """With -p, the rest of the input is still read for it."""
    script = f"{MEGABYTES} | T -p --hash md5 | true; {STATUS}"
    _, _, said, _ = scripted(script, tmp_path / "ours", OURS)
    digest = hashlib.md5(b"y\n" * 4_000_000).hexdigest()
    assert said == [f"MD5 (-) = {digest}", "status 141 0 0 0"]


# -- progress --------------------------------------------------------------------------------------


def test_progress_with_rich(tmp_path):
    """A bar on standard error, and the same bytes."""
    if importlib.util.find_spec("rich") is None:
        if os.environ.get("CI"):
            pytest.fail("rich is not installed, and this is CI: install it there")
        pytest.skip("rich is not installed")
    data = payload(MIB)
    done = run("tee", "--progress", "f", "no/x", input=data, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, data)
    assert (tmp_path / "f").read_bytes() == data
    assert b"no/x: No such file or directory" in done.stderr
    assert "1.0" in done.stderr.decode()


def test_progress_without_rich(tmp_path):
    """One line with the command to type, and 2; no file is touched."""
    script = (
        "import sys; sys.modules['rich'] = None; from spliceio.__main__ import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "tee", "--progress", "f"],
        input=b"hello",
        capture_output=True,
        cwd=tmp_path,
        timeout=HANG,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"pip install 'spliceio[cli]'" in done.stderr
    assert not (tmp_path / "f").exists()


# -- many, and much --------------------------------------------------------------------------------


def test_many_files(tmp_path):
    """Two hundred, all the same."""
    data = payload(300_000)
    names = [f"f{n}" for n in range(200)]
    done = run("tee", *names, input=data, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    assert {(tmp_path / name).read_bytes() for name in names} == {data}


@pytest.mark.parametrize("count", [20, 60, 200])
def test_few_descriptors(count, tmp_path):
    """Standard output and every file that is open are served; those that are not are named."""
    script = f"ulimit -n 64; printf hello | T $(seq {count}); {LAST}"
    theirs, ours = both(script, tmp_path)
    assert ours[1] == theirs[1] == b"hello"
    served = [name for name, data in ours[3].items() if data == b"hello"]
    told = [line.partition(":")[0] for line in ours[2] if "Too many open files" in line]
    assert sorted(served + told) == sorted(str(n) for n in range(1, count + 1))
    assert ours[2][-1] == f"status {int(bool(told))}"


def test_fifty_megabytes_to_three_outputs(tmp_path):
    """Pipes, a substitution and a file: four equal hashes."""
    script = (
        "{ head -c 50000000 /dev/urandom | tee i | T >(sha256sum >&3) f | sha256sum >&3; } 3>&1"
        " | cat; sha256sum <i; sha256sum <f; rm i f"
    )
    bash = scripted(script.replace("tee i", f"{coreutils()} i"), tmp_path / "ours", OURS)
    lines = bash[1].split(b"\n")[:-1]
    assert bash[0::2] == (0, [])
    assert len(lines) == 4
    assert len(set(lines)) == 1


def test_every_byte_value_and_no_newline(tmp_path):
    """Nothing is text."""
    data = bytes(range(256)) * 257 + b"\r\n\x00\x1a\xff"
    done = run("tee", "f", input=data, cwd=tmp_path)
    assert done.stdout == (tmp_path / "f").read_bytes() == data


def test_pipes_that_cannot_be_raised(tmp_path):
    """100 MB through three, for a user who has had all the pages that pipes may have."""
    script = """
import fcntl, os, subprocess, sys
hold = []
def raised():
    hold.append(os.pipe())
    try:
        fcntl.fcntl(hold[-1][1], 1031, 1 << 20)
    except PermissionError:
        return False
    return len(hold) < 2000
while raised():
    pass
assert len(hold) < 2000, "there is no limit"
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""
    tee = (
        f"{{ head -c 100000000 /dev/zero | {OURS} >(sha256sum >&3) >(sha256sum >&3)"
        " | sha256sum >&3; } 3>&1 | cat; exit ${PIPESTATUS[0]}"
    )
    command = [sys.executable, "-c", script, need("bash"), "-c", "set -o pipefail; " + tee]
    if os.geteuid() == 0:
        able = "--inh-caps=+dac_override", "--ambient-caps=+dac_override"
        user = "--reuid=65534", "--regid=65534", "--clear-groups"
        command = [need("setpriv"), *user, *able, *command]
    done = subprocess.run(command, capture_output=True, timeout=HANG, cwd=tmp_path)
    digest = hashlib.sha256(bytes(100_000_000)).hexdigest()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().split() == [digest, "-"] * 3


def traced(trace: Path, call: str) -> list[tuple[str, int]]:
    """Return the arguments and the result of each call of that name that moved bytes."""
    found = re.findall(rf"(?m)^(?:\d+ +)?{call}\((.*)\) += (\d+)", trace.read_text())
    return [(args, int(result)) for args, result in found if int(result)]


def test_pipes_are_not_copied_through_user_space(wires, tmp_path):
    """From a pipe to two pipes: tee and splice alone, and each byte once."""
    data = payload(4 * MIB)
    reader, writer = wires.pipe()
    command = [
        need("strace"), "-y", "-o", tmp_path / "trace", "-e", "trace=read,write,splice,tee",
        *SPLICEIO, "tee", f"/dev/fd/{writer}",
    ]  # fmt: skip
    with subprocess.Popen(
        [need("sh"), "-c", 'exec "$@"', "sh", *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[writer],
    ) as process:  # fmt: skip
        feeder = Worker(lambda: (write_all(process.stdin.fileno(), data), process.stdin.close()))
        got = bytearray()
        other = Worker(lambda: exactly(reader, len(data)))
        while piece := os.read(process.stdout.fileno(), 65536):
            got += piece
        feeder.result()
        assert process.wait(HANG) == 0
        assert other.result() == bytes(got) == data
    trace = tmp_path / "trace"
    for call in ("read", "write"):
        assert not [one for one in traced(trace, call) if "<pipe:" in one[0].split(",")[0]]
    spliced = sum(n for _, n in traced(trace, "splice"))
    teed = sum(n for _, n in traced(trace, "tee"))
    assert teed >= len(data)
    assert spliced >= len(data)


def exactly(fd: int, count: int) -> bytes:
    """Read so many bytes."""
    got = b""
    while len(got) < count:
        got += os.read(fd, count - len(got))
    return got


# -- programs that nobody here wrote ---------------------------------------------------------------


def test_backup_with_its_digest(tmp_path):
    """`tar | spliceio tee >(sha256sum) | gzip`: the archive unpacks, and the digest is its own."""
    for program in ("tar", "gzip", "sha256sum", "openssl"):
        need(program)
    (tmp_path / "in").mkdir()
    for n in range(20):
        (tmp_path / "in" / str(n)).write_bytes(payload(50_000, n + 1))
    script = """
set -o pipefail
{ tar -C ../in -c . | T >(sha256sum >&3) >(openssl dgst -sha256 >&3) | gzip -1 >out.gz; } 3>&1 | cat
gzip -dc out.gz | sha256sum
mkdir out; gzip -dc out.gz | tar -C out -x
diff -r ../in out && rm -r out.gz out
"""
    status, out, said, _ = scripted(script, tmp_path / "ours", OURS)
    digests = re.findall(rb"[0-9a-f]{64}", out)
    assert (status, said) == (0, [])
    assert len(digests) == 3
    assert len(set(digests)) == 1
