"""The command line, run as a person or a shell runs it: output, messages and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

import spliceio
from spliceio._cli import progress
from spliceio._cli import types as _words
from spliceio._proxy import address as _address
from tests.support.commands import (
    COMMANDS,
    HANG,
    SPLICEIO,
    listening,
    run,
    run_program,
    said,
    started,
    unused_port,
)
from tests.support.states import Worker, process_state, until
from tests.support.wires import MIB, payload

# -- usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help(command):
    """Every command explains itself, on standard output."""
    done = run(*filter(None, [command]), "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"usage: spliceio")
    if command is None:
        for name in COMMANDS:
            assert re.search(rf"^ +{name} +\w".encode(), done.stdout, re.M)


def test_version_and_the_installed_script():
    """`spliceio` is on the path of the installation and says its version."""
    script = Path(sysconfig.get_path("scripts"), "spliceio")
    done = subprocess.run([script, "--version"], capture_output=True, timeout=HANG)
    assert done.stdout.decode() == f"spliceio {spliceio.__version__}\n"
    assert done.returncode == 0


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["nosuch"],
        ["pipe", "extra"],
        ["connect", "unix:" + "x" * 200],
        ["send", "file", "a..b:80"],
        ["pipe", "-s"],
        ["pipe", "-s", "many"],
        ["pipe", "-s", "-1"],
        ["pipe", "--bogus"],
        ["cp", "one"],
        ["cp", "one", "two", "three"],
        ["send", "file"],
        ["send", "file", "host"],
        ["recv", "port", "file"],
        ["recv", "99999", "file"],
        ["connect"],
        ["connect", "::1:80"],
        ["connect", "unix:"],
        ["connect", ":1", "--idle-timeout", "soon"],
        ["proxy", ":0"],
        ["proxy", ":0", "host"],
        ["proxy", ":0", ":1", "--method", "magic"],
        ["explain", "one"],
        ["features", "more"],
    ],
)
def test_wrong_usage_is_2(args):
    """Usage and one line of reason on standard error, nothing on standard output."""
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, b"")
    text = done.stderr.decode()
    assert text.startswith("usage: spliceio")
    assert re.fullmatch(r"spliceio( \w+)?: error: .+", text.splitlines()[-1])


@pytest.mark.parametrize("command", [*COMMANDS, "tee"])
@pytest.mark.parametrize("word", ["--help", "--bogus"])
def test_the_program_says_what_a_call_of_main_says(command, word):
    """Of each command: status, output and messages, so that `run` stands for `run_program`."""
    call, program = run(command, word), run_program(command, word)
    assert call.returncode == program.returncode == (0 if word == "--help" else 2)
    assert (call.stdout, call.stderr) == (program.stdout, program.stderr)
    assert program.stdout or program.stderr


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("4096", 4096),
        ("4096B", 4096),
        ("64k", 65536),
        ("64K", 65536),
        ("64KB", 65536),
        ("64KiB", 65536),
        ("64Ki", 65536),
        ("10M", 10 << 20),
        ("1G", 1 << 30),
        ("1GiB", 1 << 30),
        ("2T", 2 << 40),
    ],
)
def test_sizes(text, size):
    """Powers of 1024, however they are spelt."""
    assert _words.size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "K", "B", "-1", "+1", "1.5K", "1X", "1 K", " 1", "\uff11", "1KK", "0x10", "1i", "1_0"],
)
def test_what_is_no_size(text):
    """Refused with the forms that are."""
    with pytest.raises(argparse.ArgumentTypeError, match="64K"):
        _words.size(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:80", ("localhost", 80, "")),
        ("127.0.0.1:0", ("127.0.0.1", 0, "")),
        ("[::1]:65535", ("::1", 65535, "")),
        ("[::]:1", ("::", 1, "")),
        (":8080", ("", 8080, "")),
        ("8080", ("", 8080, "")),
        ("unix:/run/app.sock", ("", 0, "/run/app.sock")),
        ("unix:relative:1", ("", 0, "relative:1")),
        ("db.example.org:05432", ("db.example.org", 5432, "")),
    ],
)
def test_addresses(text, address):
    """Every form that the help names; what is shown can be read again."""
    parsed = _address.parse(text)
    assert tuple(parsed) == address
    assert _address.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        "host:http",
        "host:-1",
        "host:+1",
        "host:65536",
        "host:99999999999999999999",
        "host:80x",
        "host: 80",
        "::1:80",
        "::1",
        "[::1]",
        "[::1:80",
        "::1]:80",
        "host]:80",
        "[]:80",
        "unix:",
        "host:\uff18\uff10",
        "host:8_0",
    ],
)
def test_what_is_no_address(text):
    """Refused, and the message shows what was given or which form is right."""
    with pytest.raises(ValueError, match=r"address|bracket|path|out of range"):
        _address.parse(text)


# -- pipe ------------------------------------------------------------------------------------------


def test_pipe_copies_standard_input(tmp_path):
    """From a file to a file, and through pipes."""
    data = payload(5 * MIB)
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as src, open(tmp_path / "out", "wb") as dst:
        done = run("pipe", stdin=src, stdout=dst)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == data
    done = run("pipe", input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data
    assert run("pipe").stdout == b""


@pytest.mark.parametrize(("size", "taken"), [("0", 0), ("5", 5), ("64K", 65536), ("1G", 100_000)])
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_pipe_takes_no_more_than_its_size(size, taken, kind, tmp_path):
    """What is beyond stays for the next command."""
    data = payload(100_000)
    (tmp_path / "in").write_bytes(data)
    feed = f"<{tmp_path}/in" if kind == "file" else ""
    before = "" if kind == "file" else f"cat {tmp_path}/in | "
    command = (
        f"{before}( '{sys.executable}' -m spliceio pipe -s {size} >{tmp_path}/head; cat ) {feed}"
    )
    done = subprocess.run(command, shell=True, capture_output=True, timeout=HANG)
    assert done.stderr == b""
    assert (tmp_path / "head").read_bytes() == data[:taken]
    assert done.stdout == data[taken:]


def test_a_reader_that_goes_away_ends_it_quietly():
    """`yes | spliceio pipe | head -1`: one line, no word, 141 as a shell shows SIGPIPE."""
    script = f"yes | '{sys.executable}' -m spliceio pipe | head -1; echo \"${{PIPESTATUS[@]}}\""
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=HANG)
    assert done.stderr == b""
    first, statuses = done.stdout.decode().splitlines()
    assert first == "y"
    assert statuses.split()[1:] == ["141", "0"]


@pytest.mark.parametrize(
    "args",
    [
        ["pipe"],
        ["features"],
        ["explain", "tcp", "tcp"],
        ["--help"],
        ["cp", "--help"],
        ["--version"],
    ],
)
def test_nobody_reads_the_output(args):
    """Quiet on EPIPE, whatever was to be printed."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_program(*args, input=b"text", stdout=writer)
    finally:
        os.close(writer)
    assert done.stderr == b""
    # argparse prints help and version by itself, and ignores who does not read them.
    assert done.returncode in ((141,) if args[-1][0] != "-" else (0, 141))


@pytest.mark.parametrize("args", [["pipe"], ["features"], ["explain", "tcp", "tcp"]])
def test_the_output_is_full(args):
    """/dev/full: one line that says so, and 1."""
    with open("/dev/full", "wb") as full:
        done = run_program(*args, input=b"text", stdout=full)
    assert said(done).startswith(f"spliceio: {args[0]}: ")
    assert "full" in said(done) or "No space" in said(done)
    assert done.returncode == 1


@pytest.mark.parametrize("redirect", ["<&-", ">&-", "<&- >&-"])
def test_pipe_with_standard_streams_that_are_not_usable(redirect):
    """Closed: a message and 1."""
    command = f"'{sys.executable}' -m spliceio pipe {redirect}"
    done = subprocess.run(command, shell=True, input=b"text", capture_output=True, timeout=HANG)
    assert re.fullmatch(r"spliceio: pipe: .+\n", done.stderr.decode())
    assert done.returncode == 1


# -- cp --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4097, 5 * MIB])
def test_cp(size, tmp_path):
    """A new file with the same bytes and permissions; an old one is overwritten."""
    data = payload(size)
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.write_bytes(data)
    src.chmod(0o750)
    for _ in range(2):
        done = run("cp", src, dst)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert dst.read_bytes() == data
        assert dst.stat().st_mode & 0o777 == 0o750
        dst.write_bytes(b"x" * (size + 10_000))


def test_cp_into_a_directory_from_a_pipe_and_from_proc(tmp_path):
    """As cp does: into a directory under its name; from what has no size."""
    src = tmp_path / "src"
    src.write_bytes(b"data")
    (tmp_path / "dir").mkdir()
    assert run("cp", src, tmp_path / "dir").returncode == 0
    assert (tmp_path / "dir" / "src").read_bytes() == b"data"
    assert run("cp", "-", tmp_path / "new", input=b"typed").returncode == 0
    assert (tmp_path / "new").read_bytes() == b"typed"
    assert run("cp", src, "-").stdout == b"data"
    done = run_program("cp", "/proc/self/environ", tmp_path / "env", env={"A": "b"})
    assert done.returncode == 0
    assert b"A=b\0" in (tmp_path / "env").read_bytes()


def test_cp_takes_the_options_of_cp(tmp_path):
    """Attributes, holes, reflinks, and a target that is there."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    with open(src, "wb") as file:
        file.seek(4 * MIB)
        file.write(b"end")
    os.utime(src, ns=(1, 10**18))
    assert run("cp", "-p", src, dst).returncode == 0
    assert dst.stat().st_mtime_ns == 10**18
    assert dst.stat().st_blocks * 512 < MIB
    done = run("cp", "-n", src, dst)
    assert (done.returncode, said(done)) == (1, f"spliceio: cp: {dst}: File exists")
    assert run("cp", "--sparse", "never", "--preserve", "mode,xattr", src, dst).returncode == 0
    assert dst.stat().st_blocks * 512 >= 4 * MIB
    assert dst.read_bytes() == src.read_bytes()
    done = run("cp", "--preserve", "size", src, dst)
    assert re.search(rb"argument --preserve: takes mode, .*not 'size'\n$", done.stderr)
    assert done.returncode == 2
    done = run("cp", "--reflink", "always", src, "/dev/shm/there")
    assert re.match(r"spliceio: cp: .*(share no blocks|cannot share)", said(done))
    assert not os.path.exists("/dev/shm/there")
    assert run("cp", "--sparse", "sometimes", src, dst).returncode == 2


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--preserve=mode", "--preserve=xattr"], (0o754, None, b"kept")),
        (["-p", "--preserve=xattr"], (0o754, 10**18, b"kept")),
        (["--preserve=xattr", "-p"], (0o754, 10**18, b"kept")),
        (["-p", "-p"], (0o754, 10**18, None)),
        (["--preserve=timestamps,xattr", "--preserve=timestamps"], (0o644, 10**18, b"kept")),
        (["--preserve=all"], (0o754, 10**18, b"kept")),
        ([], (0o644, None, None)),
    ],
)
def test_cp_adds_up_what_it_is_to_preserve(args, expected, tmp_path):
    """As cp does: each -p and --preserve has its part in it."""
    src = tmp_path / "src"
    src.write_bytes(b"data")
    src.chmod(0o754)
    os.setxattr(src, "user.note", b"kept")
    os.utime(src, ns=(1, 10**18))
    for command in ([*SPLICEIO, "cp"], ["cp"]):
        dst = tmp_path / "dst"
        dst.write_bytes(b"old")
        dst.chmod(0o644)
        subprocess.run([*command, *args, src, dst], check=True, timeout=HANG)
        status = dst.stat()
        note = os.getxattr(dst, "user.note") if os.listxattr(dst) else None
        modified = status.st_mtime_ns if status.st_mtime_ns == 10**18 else None
        assert (status.st_mode & 0o7777, modified, note) == expected
        dst.unlink()


@pytest.fixture
def of_another(tmp_path):
    """How to run a command as nobody, in a directory of everybody's with a file of another."""
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        os.chmod(made, 0o1777)
        src = Path(made) / "src"
        src.write_bytes(b"another's")
        src.chmod(0o644)
        os.chown(src, 1234, 1234)
        # The interpreter and the package may lie where only root gets: all is loaded before.
        main = f"""
import os, sys
import spliceio._files.copy_file, spliceio._cli.main as cli
spliceio.copy_file({str(src)!r}, {made + "/warm"!r}, preserve="all")
os.unlink({made + "/warm"!r})
cli.parser()
os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
sys.exit(cli.main())
"""
        yield (
            lambda *args: subprocess.run(
                [sys.executable, "-c", main, *args], cwd=made, capture_output=True, timeout=HANG
            ),
            Path(made),
        )


def test_cp_p_of_a_file_of_somebody_else(of_another):
    """-p leaves what is not allowed, and says so; asked for by name, it is an error."""
    nobody, where = of_another
    done = nobody("cp", "-p", "src", "dst")
    assert (done.returncode, done.stdout) == (0, b"")
    assert said(done) == "spliceio: cp: dst: not preserved: ownership: Operation not permitted"
    dst, src = (where / "dst").stat(), (where / "src").stat()
    assert (dst.st_uid, dst.st_mode, dst.st_mtime_ns) == (65534, src.st_mode, src.st_mtime_ns)
    for args in (["--preserve", "ownership"], ["-p", "--preserve", "ownership"]):
        done = nobody("cp", *args, "src", "new")
        assert re.fullmatch(r"spliceio: cp: .*ownership: Operation not permitted", said(done))
        assert done.returncode == 1
    assert sorted(os.listdir(where)) == ["dst", "src"]


def test_cp_in_a_sticky_directory(of_another):
    """A file of another that may be written is written, and stays his."""
    nobody, where = of_another
    (where / "dst").write_bytes(b"old, and longer than the new one")
    (where / "dst").chmod(0o666)
    inode = (where / "dst").stat().st_ino
    done = nobody("cp", "src", "dst")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (where / "dst").read_bytes() == b"another's"
    assert ((where / "dst").stat().st_ino, (where / "dst").stat().st_uid) == (inode, 0)
    done = nobody("cp", "-p", "src", "dst")
    assert done.returncode == 0
    lost = "; ".join(f"{n}: Operation not permitted" for n in ("ownership", "mode", "timestamps"))
    assert said(done) == f"spliceio: cp: dst: not preserved: {lost}"
    assert sorted(os.listdir(where)) == ["dst", "src"]


@pytest.mark.parametrize("sparse", ["never", "always"])
def test_a_reflink_goes_with_no_other_holes(sparse, tmp_path):
    """Blocks that are shared are shared with their holes: refused, as cp does."""
    (tmp_path / "src").write_bytes(b"data")
    for options in (["--reflink", "always", "--sparse", sparse], [f"--sparse={sparse}"]):
        done = run("cp", *options, "src", "dst", cwd=tmp_path)
        assert done.returncode == (2 if len(options) > 1 else 0)
        assert (b"--sparse auto" in done.stderr) == (len(options) > 1)
        assert (tmp_path / "dst").exists() == (len(options) == 1)
    theirs = ["cp", "--reflink=always", f"--sparse={sparse}", "src", "dst"]
    assert subprocess.run(theirs, cwd=tmp_path, capture_output=True).returncode == 1
    with pytest.raises(ValueError, match="reflink='always'"):
        spliceio.copy_file(tmp_path / "src", tmp_path / "new", reflink="always", sparse=sparse)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", [["-p"], ["--sparse", "always"], ["--reflink", "always"]])
def test_what_a_stream_does_not_have_is_not_promised(option, tmp_path):
    """Attributes, blocks, holes: options that would do nothing are wrong usage."""
    done = run("cp", *option, "-", tmp_path / "dst", input=b"data")
    assert done.returncode == 2
    assert b"- is no file" in done.stderr
    assert not (tmp_path / "dst").exists()
    assert run("cp", "--sparse", "never", "-", tmp_path / "dst", input=b"data").returncode == 0


def test_cp_to_standard_output_minds_its_options(tmp_path):
    """What cannot be done to it is said, and not passed over."""
    (tmp_path / "src").write_bytes(b"data")
    done = run("cp", "-p", "src", "-", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"data")
    assert said(done).startswith("spliceio: cp: -: not preserved: mode: dst is no regular file; ")
    done = run("cp", "--reflink", "always", "src", "-", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "reflink" in said(done)
    with open(tmp_path / "src", "ab") as own:
        done = run("cp", "src", "-", cwd=tmp_path, stdout=own)
    assert "are the same file" in said(done)
    assert (tmp_path / "src").read_bytes() == b"data"


@pytest.mark.parametrize("how", ["same", "hard", "symbolic", "dotted", "directory"])
def test_cp_onto_itself_is_refused_and_loses_nothing(how, tmp_path):
    """By whatever name; the file keeps its bytes."""
    src = tmp_path / "src"
    src.write_bytes(b"precious")
    dst = tmp_path / "dst"
    if how == "hard":
        dst.hardlink_to(src)
    elif how == "symbolic":
        dst.symlink_to(src)
    else:
        dst = {"same": src, "dotted": f"{tmp_path}/./src", "directory": tmp_path}[how]
    done = run("cp", src, dst)
    assert re.fullmatch(r"spliceio: cp: .* and .* are the same file", said(done))
    assert done.returncode == 1
    assert src.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing", "dst"], "missing: No such file or directory"),
        (["src", "no/dst"], "no/dst: No such file or directory"),
        (["src/x", "dst"], "src/x: Not a directory"),
        (["src", "src/x"], "src/x: Not a directory"),
        (["dir", "dst"], "dir: Is a directory"),
        (["src", "dir/dir2/"], "dir/dir2/: No such file or directory"),
        (["src", "src/"], "src/: Not a directory"),
        (["src", "gone/dir2/"], "gone/dir2/: No such file or directory"),
        (["src", "/dev/fd/99"], "/dev/fd/99: No such file or directory"),
        (["loop", "dst"], "loop: Too many levels of symbolic links"),
        (["", "dst"], ": No such file or directory"),
        (["src", "x" * 300], f"{'x' * 300}: File name too long"),
    ],
)
def test_cp_says_what_is_wrong(args, message, tmp_path):
    """One line, as Unix tools put it, and 1; no file is made or cut."""
    (tmp_path / "src").write_bytes(b"data")
    (tmp_path / "dir").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    done = run("cp", *args, cwd=tmp_path)
    assert said(done) == f"spliceio: cp: {message}"
    assert done.returncode == 1
    assert not (tmp_path / "dst").exists()
    assert (tmp_path / "src").read_bytes() == b"data"


def test_cp_to_a_full_device_and_beyond_the_size_limit(tmp_path):
    """The reason is said, and 1."""
    (tmp_path / "src").write_bytes(payload(MIB))
    done = run("cp", tmp_path / "src", "/dev/full")
    assert re.match(r"spliceio: cp: .*(full|No space left)", said(done))
    assert done.returncode == 1
    command = f"ulimit -f 8; exec '{sys.executable}' -m spliceio cp src dst"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=HANG)
    assert re.match(r"spliceio: cp: .*limit", said(done))
    assert done.returncode == 1


def test_a_name_that_is_no_text(tmp_path):
    """Bytes that are no UTF-8: a message, not a traceback."""
    done = run("cp", os.fsdecode(b"\xff\xfe"), "dst", cwd=tmp_path)
    assert said(done).endswith(": No such file or directory")
    assert done.returncode == 1


# -- send and recv ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["0", "127.0.0.1:0", "[::1]:0", ":0", "unix"])
@pytest.mark.parametrize("size", [0, 1, 5 * MIB])
def test_send_and_recv(where, size, tmp_path):
    """A file goes through a connection, over every kind of address."""
    data = payload(size)
    (tmp_path / "src").write_bytes(data)
    address = f"unix:{tmp_path}/sock" if where == "unix" else where
    with started("recv", address, tmp_path / "dst") as receiver:
        to = listening(receiver)
        done = run("send", tmp_path / "src", to)
        assert (done.returncode, done.stderr) == (0, b"")
        assert receiver.wait(HANG) == 0
        assert receiver.stderr.read() == b""
    assert (tmp_path / "dst").read_bytes() == data


def test_send_and_recv_through_standard_streams():
    """- is standard input or output."""
    with started("recv", "127.0.0.1:0", "-") as receiver:
        done = run("send", "-", listening(receiver), input=b"typed")
        assert (done.returncode, done.stderr) == (0, b"")
        assert receiver.stdout.read() == b"typed"
        assert receiver.wait(HANG) == 0


def test_a_line_is_written_at_once(monkeypatch):
    """With its newline: another thread that writes has no chance to get in between."""
    written = []

    class Stream:
        def write(self, text):
            written.append(text)

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stderr", Stream())
    progress.say("listening on x")
    assert [text for text in written if text] == ["listening on x\n"]


@pytest.mark.parametrize("command", ["send", "connect"])
def test_nobody_listens(command, tmp_path):
    """Refused, unknown, missing: the address and the reason."""
    (tmp_path / "file").write_bytes(b"data")
    file = ["file"] if command == "send" else []
    port = unused_port()
    for address, reason in (
        (f"127.0.0.1:{port}", "Connection refused"),
        (
            "nosuch.invalid:1",
            r"(Name or service not known|Temporary failure in name resolution|"
            r"No address associated with hostname|Name does not resolve)",
        ),
        ("unix:/nosuch/sock", "No such file or directory"),
    ):
        done = run(command, *file, address, cwd=tmp_path)
        assert re.fullmatch(f"spliceio: {command}: {re.escape(address)}: {reason}", said(done))
        assert done.returncode == 1


def test_send_says_what_is_wrong_with_the_file(tmp_path):
    """Before it connects to anybody."""
    done = run("send", tmp_path / "missing", f"127.0.0.1:{unused_port()}")
    assert said(done) == f"spliceio: send: {tmp_path}/missing: No such file or directory"
    assert done.returncode == 1
    done = run("send", tmp_path, f"127.0.0.1:{unused_port()}")
    assert said(done) == f"spliceio: send: {tmp_path}: Is a directory"
    assert done.returncode == 1


def test_send_to_a_peer_that_goes_away_is_no_success(tmp_path):
    """Reset or closed early: a message and 1, never quiet."""
    with open(tmp_path / "big", "wb") as file:
        file.truncate(64 * MIB)
    with server(lambda sock: sock.recv(10)) as to, started("send", tmp_path / "big", to) as sender:
        assert sender.wait(HANG) == 1
        assert re.fullmatch(rb"spliceio: send: .+\n", sender.stderr.read())


def test_recv_of_a_connection_that_breaks_is_no_success(tmp_path):
    """A reset: a message and 1."""
    with started("recv", "127.0.0.1:0", tmp_path / "dst") as receiver:
        host, _, port = listening(receiver).rpartition(":")
        peer = socket.create_connection((host, int(port)))
        peer.sendall(b"half")
        until(lambda: (tmp_path / "dst").exists() and (tmp_path / "dst").stat().st_size == 4)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert receiver.wait(HANG) == 1
        assert re.fullmatch(rb"spliceio: recv: .*reset.*\n", receiver.stderr.read())


def test_recv_where_somebody_listens_already(tmp_path):
    """The address and the reason; a file in the way of a unix socket is left alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = run("recv", address, tmp_path / "dst")
        assert said(done) == f"spliceio: recv: {address}: Address already in use"
        assert done.returncode == 1
    (tmp_path / "file").write_bytes(b"mine")
    done = run("recv", f"unix:{tmp_path}/file", tmp_path / "dst")
    there = "Address already in use: a regular file is there"
    assert said(done) == f"spliceio: recv: unix:{tmp_path}/file: {there}"
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert not (tmp_path / "dst").exists()


# -- connect ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(answer):
    """Serve one connection with a function, in a thread; give the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            sock, _ = listener.accept()
            with sock:
                answer(sock)

        worker = Worker(serve)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        worker.result()


def test_connect_sends_the_end_of_input_and_waits_for_the_answer():
    """As nc: the server answers only when it has seen the end, and the answer arrives."""
    data = payload(2 * MIB)

    def answer(sock):
        parts = []
        while part := sock.recv(MIB):
            parts.append(part)
        sock.sendall(hashlib.sha256(b"".join(parts)).hexdigest().encode())

    with server(answer) as address:
        done = run("connect", address, input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == hashlib.sha256(data).hexdigest()


def test_connect_is_interactive():
    """Each line is answered before the next is typed."""

    def answer(sock):
        while part := sock.recv(MIB):
            sock.sendall(part.upper())

    with server(answer) as address, started("connect", address) as client:
        for word in (b"one", b"two", b"three"):
            client.stdin.write(word)
            assert client.stdout.read(100) == word.upper()
        client.stdin.close()
        assert client.wait(HANG) == 0
        assert client.stderr.read() == b""


def test_connect_when_the_server_ends_first():
    """Its answer is printed; the next line that it would refuse ends the command."""
    with (
        server(lambda sock: sock.sendall(b"bye")) as address,
        started("connect", address) as client,
    ):
        assert client.stdout.read(100) == b"bye"
        client.stdin.close()
        assert client.wait(HANG) == 0
        assert client.stdout.read() == b""


def test_connect_to_a_server_that_resets():
    """A message and 1."""

    def answer(sock):
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with server(answer) as address, started("connect", address) as client:
        client.stdin.write(b"x")
        assert client.wait(HANG) == 1
        assert re.fullmatch(rb"spliceio: connect: .*reset.*\n", client.stderr.read())


def test_connect_with_a_reader_that_goes_away():
    """Quiet, 141."""

    def answer(sock):
        with contextlib.suppress(ConnectionError):
            while True:
                sock.sendall(bytes(65536))

    reader, writer = os.pipe()
    with server(answer) as address, started("connect", address, stdout=writer) as client:
        os.close(writer)
        os.read(reader, 10)
        os.close(reader)
        assert client.wait(HANG) == 141
        assert client.stderr.read() == b""


def test_connect_idle():
    """--idle-timeout ends it with a message and 1."""
    with (
        server(lambda sock: sock.recv(1)) as to,
        started("connect", to, "--idle-timeout", "0.05") as client,
    ):
        assert client.wait(HANG) == 1
        assert b"nothing came" in client.stderr.read()


# -- Ctrl-C ----------------------------------------------------------------------------------------


def _busy(command, stack, tmp_path):
    """Start a command and wait until it is at work and waits for more."""
    if command == "pipe":
        process = stack.enter_context(started("pipe"))
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"x"
    elif command == "cp":
        os.mkfifo(tmp_path / "fifo")
        process = stack.enter_context(started("cp", tmp_path / "fifo", tmp_path / "dst"))
        fifo = os.open(tmp_path / "fifo", os.O_WRONLY)
        stack.callback(os.close, fifo)
        os.write(fifo, b"x")
        until(lambda: (tmp_path / "dst").exists() and (tmp_path / "dst").stat().st_size)
    elif command in ("recv", "proxy"):
        args = ["127.0.0.1:0", tmp_path / "dst" if command == "recv" else "127.0.0.1:1"]
        process = stack.enter_context(started(command, *args))
        listening(process)
    else:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        with open(tmp_path / "big", "wb") as file:
            file.truncate(256 * MIB)
        args = [tmp_path / "big", to] if command == "send" else [to]
        process = stack.enter_context(started(command, *args))
        peer = stack.enter_context(listener.accept()[0])
        if command == "send":
            assert peer.recv(1)
        else:
            peer.sendall(b"x")
            assert process.stdout.read(1) == b"x"
    until(lambda: process_state(process.pid) == "S")
    return process


@pytest.mark.parametrize("command", ["pipe", "cp", "send", "recv", "connect", "proxy"])
def test_ctrl_c_is_130_and_silent(command, tmp_path):
    """Whatever it waits for; no traceback."""
    with contextlib.ExitStack() as stack:
        process = _busy(command, stack, tmp_path)
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG) == 130
        assert process.stderr.read() == b""


# -- explain and features --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("src", "dst", "method"),
    [
        ("file", "file2", "copy_file_range"),
        ("file", "new", "copy_file_range"),
        ("file", "tcp", "sendfile"),
        ("file", "unix", "sendfile"),
        ("file", "pipe", "splice"),
        ("pipe", "file2", "splice"),
        ("pipe", "pipe", "splice"),
        ("tcp", "file2", "splice"),
        ("tcp", "tcp", "splice"),
        ("tcp", "unix", "splice"),
        ("unix", "pipe", "splice"),
        ("tcp", "/dev/full", "read_write"),
        ("/dev/null", "file2", "read_write"),
        ("-", "tcp", "splice"),
        ("tcp", "-", "splice"),
    ],
)
def test_explain(src, dst, method, tmp_path):
    """The first word is the method; nothing is made, cut or read."""
    (tmp_path / "file").write_bytes(b"data" * 10_000)
    (tmp_path / "file2").write_bytes(b"kept")
    done = run("explain", src, dst, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().startswith(f"{method}: from ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file2"]
    assert (tmp_path / "file2").read_bytes() == b"kept"


def test_explain_is_what_the_library_says(tmp_path):
    """The same words as `str(spliceio.explain(...))`."""
    (tmp_path / "file").write_bytes(b"data")
    one, two = socket.socketpair()
    with one, two, open(tmp_path / "file", "rb") as file:
        plan = str(spliceio.explain(file, one))
    assert run("explain", tmp_path / "file", "unix").stdout.decode() == plan + "\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing", "tcp"], "missing: No such file or directory"),
        (["tcp", "no/file"], "no/file: No such file or directory|no: No such file or directory"),
        ([".", "tcp"], ".*directory.*"),
        (["tcp", "."], ".*[Dd]irectory.*"),
    ],
)
def test_explain_says_what_is_wrong(args, message, tmp_path):
    """One line and 1."""
    done = run("explain", *args, cwd=tmp_path)
    assert re.fullmatch(f"spliceio: explain: ({message})", said(done))
    assert done.returncode == 1


def test_features_prints_what_the_library_says():
    """The table of `features()`."""
    done = run("features")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == str(spliceio.features()) + "\n"


# -- progress --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["pipe", "cp", "send", "recv"])
def test_progress_without_rich_says_what_to_install(command, tmp_path):
    """One line with the command to type, and 2."""
    (tmp_path / "src").write_bytes(b"data")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        args = {
            "pipe": [],
            "cp": ["src", "dst"],
            "send": ["src", to],
            "recv": ["127.0.0.1:0", "dst"],
        }[command]
        script = (
            "import sys; sys.modules['rich'] = None; from spliceio.__main__ import main; "
            "sys.exit(main(sys.argv[1:]))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, command, "--progress", *args],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        with process:
            try:
                # Waiting for a peer first would be a bad time to find out.
                assert select.select([process.stderr], [], [], HANG)[0]
                text = process.stderr.readline().decode()
            finally:
                process.kill()
    assert text.startswith(f"spliceio: {command}: --progress needs rich"), text
    assert "pip install 'spliceio[cli]'" in text
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize("command", ["pipe", "cp"])
def test_progress_with_rich(command, tmp_path):
    """A bar on standard error, and the same bytes."""
    if importlib.util.find_spec("rich") is None:
        if os.environ.get("CI"):
            pytest.fail("rich is not installed, and this is CI: install it there")
        pytest.skip("rich is not installed")
    data = payload(MIB)
    (tmp_path / "src").write_bytes(data)
    if command == "pipe":
        done = run("pipe", "--progress", input=data)
        got = done.stdout
    else:
        done = run("cp", "--progress", tmp_path / "src", tmp_path / "dst")
        got = (tmp_path / "dst").read_bytes()
    assert done.returncode == 0
    assert got == data
    assert ("pipe" if command == "pipe" else "src") in done.stderr.decode()
    assert "MiB" in done.stderr.decode()
