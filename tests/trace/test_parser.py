"""What strace prints, read back: its own lines, and lines that nobody would print."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spliceio._trace.parser import CALLS, Call, Lines, TraceEnd, parse_end, unescaped
from spliceio._trace.strace import find, options
from tests.support.programs import need

SOCKET = TraceEnd("socket", "a TCP socket")
USER = TraceEnd("memory", "user memory")


def read(*texts: str) -> tuple[list[Call], Lines]:
    """Read lines; return the calls and what read them."""
    lines = Lines()
    return [call for text in texts if (call := lines.read(text)) is not None], lines


def one(text: str) -> Call:
    """Read one line that is one call."""
    calls, lines = read(text)
    assert lines.unparsed == 0
    assert len(calls) == 1, text
    return calls[0]


@pytest.mark.parametrize(
    ("text", "name", "src", "dst", "moved"),
    [
        (
            "12 sendfile(3<TCP:[127.0.0.1:80->127.0.0.1:4797]>, 5</a>, [5] => [15], 10) = 10",
            "sendfile", TraceEnd("file", "/a"), SOCKET, 10,
        ),
        (
            "12 sendfile64(3<TCP:[127.0.0.1:80->127.0.0.1:4797]>, 5</a>, NULL, 99) = 10",
            "sendfile", TraceEnd("file", "/a"), SOCKET, 10,
        ),
        (
            "12<nginx> writev(3<TCPv6:[[::1]:5->[::1]:6]>, [...], 2) = 4",
            "writev", USER, TraceEnd("socket", "a TCPv6 socket"), 4,
        ),
        (
            "12<x> splice(5</a b>, [0], 16<pipe:[61]>, NULL, 4096, 0) = 4096",
            "splice", TraceEnd("file", "/a b"), TraceEnd("pipe", "pipe:[61]"), 4096,
        ),
        (
            "12<x> splice(15<pipe:[61]>, NULL, "
            "8<UNIX-STREAM:[1->2,\"a>, 5\\\",x\"]>, NULL, 9, 0) = 9",
            "splice", TraceEnd("pipe", "pipe:[61]"), TraceEnd("socket", "a UNIX-STREAM socket"), 9,
        ),
        (
            "12<x> copy_file_range(5</a>, [0] => [7], 6</b>, [4] => [11], 9, 0) = 7",
            "copy_file_range", TraceEnd("file", "/a"), TraceEnd("file", "/b"), 7,
        ),
        (
            "12<x> tee(1<pipe:[1]>, 2<pipe:[2]>, 5, SPLICE_F_NONBLOCK) = 5",
            "tee", TraceEnd("pipe", "pipe:[1]"), TraceEnd("pipe", "pipe:[2]"), 5,
        ),
        (
            "12<x> vmsplice(16<pipe:[6]>, [...], 2, 0) = 11",
            "vmsplice", USER, TraceEnd("pipe", "pipe:[6]"), 11,
        ),
        (
            "12<x> write(1</dev/null<char 1:3>>, \"\"..., 3) = 3",
            "write", USER, TraceEnd("device", "/dev/null"), 3,
        ),
        (
            "12<x> write(1</dev/pts/0<char 136:0>>, \"\"..., 3)       = 3",
            "write", USER, TraceEnd("terminal", "/dev/pts/0"), 3,
        ),
        (
            "12<x> write(1</dev/sda<block 8:0>>, \"\"..., 3) = 3",
            "write", USER, TraceEnd("device", "/dev/sda"), 3,
        ),
        (
            "12<x> write(7</memfd:mem x>(deleted), \"\"..., 3) = 3",
            "write", USER, TraceEnd("memory", "memfd:mem x"), 3,
        ),
        (
            "12<x> write(7</memfd:mem x (deleted)>, \"\"..., 3) = 3",
            "write", USER, TraceEnd("memory", "memfd:mem x"), 3,
        ),
        (
            "12<x> write(8<anon_inode:[eventfd]>, \"\"..., 8) = 8",
            "write", USER, TraceEnd("other", "eventfd"), 8,
        ),
        (
            '12<x> write(6</t/a b\\76\\"x\\\\ \\303\\251(deleted)\\74c>(deleted), ""..., 2) = 2',
            "write", USER, TraceEnd("file", '/t/a b>"x\\ é(deleted)<c (deleted)'), 2,
        ),
        (
            "12<x> write(6</t/a = 5) = 9>, \"\"..., 2) = 2",
            "write", USER, TraceEnd("file", "/t/a = 5) = 9"), 2,
        ),
        (
            "12<x> sendto(4<UDP:[127.0.0.1:3->127.0.0.1:9]>, \"\"..., 1, 0, NULL, 0) = 1",
            "sendto", USER, TraceEnd("socket", "a UDP socket"), 1,
        ),
        (
            "12<x> sendto(4<socket:[6161]>, \"\"..., 1, 0, NULL, 0) = 1",
            "sendto", USER, TraceEnd("socket", "a socket"), 1,
        ),
        (
            "12<x> recvmsg(3<TCP:[1.2.3.4:5->6.7.8.9:1]>, {msg_name=0x7f, msg_namelen=28 => 0, "
            "msg_iov=[...], msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 3",
            "recvmsg", SOCKET, USER, 3,
        ),
        ("12 read(0, \"\"..., 8192) = 2", "read", TraceEnd("unknown", "descriptor 0"), USER, 2),
        (
            "12<x> sendmmsg(8<TCP:[1.1.1.1:1->2.2.2.2:2]>, [{msg_hdr={msg_iov=[{iov_base=\"\"..., "
            "iov_len=1}], msg_flags=0}, msg_len=4}, {msg_hdr={}, msg_len=5}], 3, 0) = 2",
            "sendmmsg", USER, SOCKET, 9,
        ),
    ],
)  # fmt: skip
def test_a_line_is_a_call(text, name, src, dst, moved):
    """Its name, both its ends and its bytes."""
    call = one(text)
    assert (call.pid, call.name, call.moved, call.error) == (12, name, moved, None)
    assert (call.src, call.dst) == (src, dst)
    assert not call.cut


def test_the_name_of_the_program_is_read():
    """With -Y; its escapes undone."""
    assert one('7<a\\76 re(x> read(3</a>, ""..., 2) = 2').comm == "a> re(x"
    assert one('7 read(3</a>, ""..., 2) = 2').comm is None


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ("-1 EAGAIN (Resource temporarily unavailable)", "EAGAIN"),
        ("-1 EPIPE (Broken pipe)", "EPIPE"),
        ("-1 EINVAL (Invalid argument) (INJECTED)", "EINVAL"),
        ("-1 (errno 531)", "errno"),
    ],
)
def test_an_error_is_a_call_without_bytes(result, error):
    """And is named."""
    call = one(f'7<x> write(3<pipe:[1]>, ""..., 2) = {result}')
    assert (call.moved, call.error) == (0, error)


def test_messages_that_are_not_shown_are_owned_up_to():
    """An array that strace cut short."""
    call = one("7<x> sendmmsg(3<UDP:[1.1.1.1:1]>, [{msg_hdr={}, msg_len=4}, ...], 5, 0) = 5")
    assert (call.moved, call.cut) == (4, True)


def test_a_call_that_is_restarted_counts_once():
    """The kernel starts it again, and strace prints it again."""
    calls, lines = read(
        "7<x> read(3<pipe:[1]>, 0x7f, 10) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)",
        "7<x> --- SIGALRM {si_signo=SIGALRM, si_code=SI_KERNEL} ---",
        '7<x> read(3<pipe:[1]>, ""..., 10) = 4',
    )
    assert [call.moved for call in calls] == [4]
    assert lines.unparsed == 0


def test_halves_are_joined_by_thread():
    """Two threads, interleaved, and a call whose second descriptor is only in its second half."""
    calls, lines = read(
        "7<x> read(3<pipe:[1]>,  <unfinished ...>",
        "8<x> splice(5</a>, [0] <unfinished ...>",
        '9<x> write(1</dev/null<char 1:3>>, ""..., 3 <unfinished ...>',
        '7<x> <... read resumed>""..., 10) = 4',
        "8<x> <... splice resumed> => [10], 6<pipe:[2]>, NULL, 10, 0) = 10",
        "9<x> <... write resumed> ) = 3",
    )
    assert [(call.pid, call.name, call.moved) for call in calls] == [
        (7, "read", 4),
        (8, "splice", 10),
        (9, "write", 3),
    ]
    assert calls[1].dst == TraceEnd("pipe", "pipe:[2]")
    assert lines.unparsed == 0


@pytest.mark.parametrize(
    "texts",
    [
        ['7<x> <... read resumed>""..., 10) = 4'],
        ["7<x> write(3</a>,  <unfinished ...>", '7<x> <... read resumed>""..., 10) = 4'],
        ['7<x> openat(AT_FDCWD, "/x", O_RDONLY) = 3'],
        ["7<x> write("],
        ['7<x> write(3</a>, ""..., 2) = two'],
        ["7<x> splice(3</a>, 4</b>) = 2"],
        ["no number"],
        [""],
        ['7<x> write(3</a>, ""..., 2'],
    ],
)
def test_what_cannot_be_read_is_counted(texts):
    """One line of each, the last."""
    calls, lines = read(*texts)
    assert (calls, lines.unparsed, lines.lines) == ([], 1, len(texts))


@pytest.mark.parametrize(
    "text",
    [
        "7<x> +++ exited with 0 +++",
        "7<x> +++ killed by SIGKILL (core dumped) +++",
        "7<x> --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=8} ---",
        "7<x> --- stopped by SIGSTOP ---",
        "7<x> [ Process PID=7 runs in 32 bit mode. ]",
        "7<x> read(3</a>,  <detached ...>",
        '7<x> write(3</a>, ""..., 10) = ?',
        '7<x> write(3</a>, ""..., 10) = ? <unavailable>',
        "7<x> ???( <unfinished ...>",
    ],
)
def test_what_is_no_call_is_known(text):
    """Signals, ends and calls that never returned are neither calls nor unreadable."""
    calls, lines = read(text)
    assert (calls, lines.unparsed) == ([], 0)


def test_who_lives_is_known():
    """Threads come with their first line and go with their end, also by execve() of another."""
    _, lines = read("7 --- SIGHUP {} ---", "8 --- SIGHUP {} ---", "9 --- SIGHUP {} ---")
    assert lines.live == {7, 8, 9}
    assert lines.read("7 +++ superseded by execve in pid 8 +++") is None
    assert lines.live == {9}
    lines.read("9 +++ killed by SIGTERM +++")
    assert lines.live == set()


def test_a_half_of_a_dead_thread_is_forgotten():
    """Its number may be given to another."""
    lines = Lines()
    lines.read("7<x> read(3</a>,  <unfinished ...>")
    lines.read("7<x> +++ killed by SIGKILL +++")
    assert lines.read('7<x> <... read resumed>""..., 10) = 4') is None
    assert lines.unparsed == 1


def test_a_named_pipe_is_no_file(tmp_path):
    """Though strace prints it as one."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert parse_end("3", str(path)) == TraceEnd("pipe", str(path))
    assert parse_end("3", str(tmp_path / "gone")) == TraceEnd("file", str(tmp_path / "gone"))


def test_devices_are_told_without_yy():
    """Strace before 4.22 has no "<char 1:3>" beside a device."""
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert parse_end("3", "/dev/null") == TraceEnd("device", "/dev/null")
    assert parse_end("3", "/dev/tty").kind == "terminal"


# -- anything at all -------------------------------------------------------------------------------

GOOD = (
    "12<x> sendfile(3<TCP:[127.0.0.1:80->127.0.0.1:4797]>, 5</a>, [5] => [15], 10) = 10",
    "12<x> splice(5</a b>, [0], 16<pipe:[61]>, NULL, 4096, 0) = 4096",
    "12<x> sendmmsg(8<TCP:[1.1.1.1:1->2.2.2.2:2]>, [{msg_hdr={}, msg_len=5}], 3, 0) = 1",
    "7<x> read(3<pipe:[1]>,  <unfinished ...>",
    '7<x> <... read resumed>""..., 10) = 4',
    "7 +++ superseded by execve in pid 8 +++",
    '12<x> write(6</t/a\\76\\"x\\303\\251<char 1:3>>(deleted), ""..., 2) = -1 EIO (x)',
)
ALPHABET = st.sampled_from([*"<>()[]{}\\\"',= ?+-.0123456789abxEN/:\n\0é\udcff", "= ", "> ", ">, "])
PIECES = st.lists(st.one_of(ALPHABET, st.sampled_from(CALLS)), max_size=20).map("".join)


@st.composite
def damaged(draw):
    """A good line in which a stretch was replaced by another."""
    line = draw(st.sampled_from(GOOD))
    start, stop = sorted(draw(st.tuples(*[st.integers(0, len(line))] * 2)))
    return line[:start] + draw(PIECES) + line[stop:]


@given(st.lists(st.one_of(st.text(), PIECES, damaged(), st.sampled_from(GOOD)), max_size=8))
@example(["9" * 5000 + " read(" + "9" * 5000 + ") = " + "9" * 5000])
@example(["1 sendmmsg(3, msg_len=" + "9" * 5000 + "}) = " + "9" * 5000])
@example(["1 write(3</dev/x<char " + "9" * 5000 + ":1>>, 3) = 1"])
@example(["1 +++ superseded by execve in pid " + "9" * 5000])
def test_no_line_raises(texts):
    """Each is counted once, and is a call, or known to be none, or unreadable."""
    calls, lines = read(*texts)
    assert lines.lines == len(texts)
    assert 0 <= lines.unparsed <= len(texts)
    assert len(calls) + lines.unparsed <= len(texts)
    assert all(call.moved >= 0 for call in calls)


@given(st.text(alphabet='abcdefgh ()<>="', min_size=1))
def test_garbage_is_counted(text):
    """Nothing without a number in front is dropped in silence."""
    _, lines = read(text)
    assert lines.unparsed == 1


def escaped(path: bytes) -> str:
    """Write a path as strace does between < and >."""
    known = {b"\n": "\\n", b"\t": "\\t", b'"': '\\"', b"\\": "\\\\"}
    out = []
    for place, code in enumerate(path):
        byte = bytes([code])
        following = path[place + 1 : place + 2]
        if byte in known:
            out.append(known[byte])
        elif code < 32 or code > 126 or byte in b"<>":
            # As few digits as do, unless a digit follows.
            out.append(f"\\{code:03o}" if following.isdigit() else f"\\{code:o}")
        else:
            out.append(chr(code))
    return "".join(out)


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_any_path_comes_back(name):
    """Whatever bytes it has, at either end of a call."""
    path = b"/no/such/" + name
    assert os.fsencode(unescaped(escaped(path))) == path
    call = one(
        f"7<x> copy_file_range(3<{escaped(path)}>, NULL, 4<{escaped(path)}>, NULL, 5, 0) = 5"
    )
    assert os.fsencode(call.src.label) == os.fsencode(call.dst.label) == path


# -- the program -----------------------------------------------------------------------------------


def test_options_of_this_strace():
    """Names of programs, sockets in full, the cheap filter; the traced calls are checked by it."""
    need("strace")
    chosen = options(find(), attach=False)
    assert {"-f", "-q"} < set(chosen)
    assert "--seccomp-bpf" not in options(find(), attach=True)


def test_options_of_an_old_strace(tmp_path):
    """What its help does not name is not asked for."""
    old = tmp_path / "strace"
    old.write_text("#!/bin/sh\necho '  -y             print paths associated with descriptors'\n")
    old.chmod(0o755)
    chosen = options(str(old), attach=False)
    assert "-y" in chosen
    assert not {"-yy", "-Y", "--seccomp-bpf"} & set(chosen)
    old.write_text("#!/bin/sh\necho '  -yy            print ip:port pairs'\n")
    assert "-yy" in options(str(old), attach=False)


def test_strace_that_is_missing_says_how_to_get_it(monkeypatch, tmp_path):
    """The command for three distributions."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"apt install strace.*dnf install.*apk add"):
        find()
