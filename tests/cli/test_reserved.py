"""Files that a command writes once somebody has come, or a program has ended: recv, trace -o.

What is wrong with one is said at once; until there is something to write it stays as it is.
"""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.support.commands import HANG, listening, run, run_program, said, started
from tests.support.programs import need


def test_recv_touches_its_file_when_somebody_has_come(tmp_path):
    """Until then an old one has its bytes; a port that is refused or Ctrl-C leave no new one."""
    (tmp_path / "old").write_bytes(b"old")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        for name in ("old", "new"):
            done = run("recv", address, name, cwd=tmp_path)
            assert said(done) == f"spliceio: recv: {address}: Address already in use"
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"
    for name in ("old", "new"):
        with started("recv", "127.0.0.1:0", name, cwd=tmp_path) as process:
            listening(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(HANG) == 130
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no/f", "No such file or directory"), ("d", "Is a directory"), ("d/", "Is a directory")],
)
def test_recv_says_what_is_wrong_with_its_file_before_it_listens(name, reason, tmp_path):
    """Nobody connects in vain."""
    (tmp_path / "d").mkdir()
    done = run("recv", "unix:sock", name, cwd=tmp_path)
    assert said(done) == f"spliceio: recv: {name}: {reason}"
    assert done.returncode == 1
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("kind", ["dangling", "link", "fifo", "append"])
def test_recv_into_what_is_no_plain_file(kind, tmp_path):
    """A link is followed, and the reader of a FIFO may come after the peer."""
    target = tmp_path / "f"
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "append":
        target.write_bytes(b"longer than what comes")
    else:
        target.symlink_to("real")
        if kind == "link":
            (tmp_path / "real").write_bytes(b"longer than what comes")
    with started("recv", "127.0.0.1:0", "f", cwd=tmp_path) as process:
        host, _, port = listening(process).rpartition(":")
        with socket.create_connection((host, int(port))) as peer:
            peer.sendall(b"came")
        got = target.read_bytes() if kind == "fifo" else b""
        assert process.wait(HANG) == 0
    assert (got or target.read_bytes()) == b"came"
    assert target.is_symlink() is (kind in ("dangling", "link"))


def test_trace_touches_its_report_when_there_is_one(tmp_path):
    """Not for a command or a process that is not there; what is wrong with it is said at once."""
    need("strace")
    (tmp_path / "old").write_text("old")
    for name in ("old", "new"):
        assert (
            run_program("trace", "-o", name, "--", "no-such-command", cwd=tmp_path).returncode
            == 127
        )
        assert run_program("trace", "-o", name, "-p", "999999999", cwd=tmp_path).returncode == 1
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"
    done = run_program("trace", "-o", "no/f", "--", "touch", "made", cwd=tmp_path)
    assert (done.returncode, said(done)) == (1, "spliceio: trace: no/f: No such file or directory")
    assert os.listdir(tmp_path) == ["old"]
    assert run_program("trace", "-o", "-", "--", "true", cwd=tmp_path).stdout == b""
    assert b"sent nothing: true." in (tmp_path / "-").read_bytes()
