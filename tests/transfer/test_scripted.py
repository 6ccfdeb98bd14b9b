"""Every answer of the kernel, at every call of every loop, scripted through the C seam.

Rule 1: what has moved, what is held and what is still in the source make up the whole, always.
Rule 2: a method is left for a refusal alone, and only before it has moved a byte.
Rule 3: a transfer that stopped can be run again and ends with the exact content, unless the
        connection is gone, which stays so.
"""

from __future__ import annotations

import errno
import itertools
import os

import pytest

import spliceio
from spliceio import Transfer
from spliceio._cffi import lib
from tests.support.cases import FULL, cases
from tests.support.seam import Seam, cap, fail, laws, zero
from tests.support.wires import payload

CHUNK = 16 << 10
"""A call's worth of bytes: large enough that sockets are not taken for chatty ones."""
SIZE = 5 * CHUNK + 100
DATA = payload(SIZE)

# What class each errno is of, test_errno_classes.py holds; here one or two stand for their class.
REFUSALS = ("EINVAL", "EPERM", "ENOSYS", "EOPNOTSUPP", "EXDEV", "EBADF")[: None if FULL else 2]
FAILURES = ("ENOMEM", "ENOSPC", "EIO", "EFBIG", "EMSGSIZE", "ENOBUFS", "EDQUOT")[
    : None if FULL else 3
]
GONE = ("EPIPE", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED")[: None if FULL else 2]
PASSING = ("EINTR", "EAGAIN")

# src, dst, method: the loop; call, site: which of its calls is scripted
LOOPS = {
    "copy_file_range": ("file", "file", "copy_file_range", "copy_file_range", "direct"),
    "sendfile to file": ("tmpfs", "tmpfs", "sendfile", "sendfile", "direct"),
    "sendfile to socket": ("file", "unix", "sendfile", "sendfile", "direct"),
    "splice file to pipe": ("file", "pipe", "splice", "splice", "direct"),
    "splice pipe to file": ("pipe", "file", "splice", "splice", "direct"),
    "splice pipe to socket": ("pipe", "unix", "splice", "splice", "direct"),
    "splice socket to pipe": ("unix", "pipe", "splice", "splice", "direct"),
    "fill from socket": ("unix", "unix", "splice", "splice", "fill"),
    "fill from tcp": ("tcp4", "file", "splice", "splice", "fill"),
    "fill from file": ("file", "file", "splice", "splice", "fill"),
    "drain to socket": ("unix", "unix", "splice", "splice", "drain"),
    "drain to file": ("unix", "file", "splice", "splice", "drain"),
    "read file": ("file", "file", "read_write", "read", "fill"),
    "read socket": ("unix", "unix", "read_write", "read", "fill"),
    "read pipe": ("pipe", "pipe", "read_write", "read", "fill"),
    "write file": ("file", "file", "read_write", "write", "drain"),
    "write socket": ("unix", "unix", "read_write", "write", "drain"),
    "write pipe": ("pipe", "pipe", "read_write", "write", "drain"),
}
loops = pytest.mark.parametrize("loop", LOOPS)
# How many calls of CHUNK bytes pass before the scripted answer comes.
POSITIONS = {"first": 0, "middle": 2, "last": 5}
positions = pytest.mark.parametrize("position", POSITIONS)


def script(call, site, passed, *answers, chunk=CHUNK):
    """Let `passed` calls of a chunk each through, then give the answers, then go on in chunks."""
    before = [cap(call, chunk, site=site, times=passed)] if passed else []
    return [*before, *answers, cap(call, chunk, site=site)]


def limit_other_side(loop):
    """The other half of a two-call loop must not hand over everything in one go."""
    _, _, _, call, site = LOOPS[loop]
    if site == "fill" or (call, site) == ("splice", "direct"):
        return []
    if call == "write":
        return [cap("read", CHUNK, site="fill")]
    return [cap("splice", CHUNK, site="fill")] if site == "drain" else []


class Run:
    """One scripted transfer between two transports."""

    def __init__(self, wires, loop, rules, *, method=None, nonblocking=False):
        src, dst, named, _, _ = LOOPS[loop]
        self.named = named
        self.source = wires.source(src, DATA, nonblocking=nonblocking)
        self.sink = wires.sink(dst, nonblocking=nonblocking)
        self.seam = Seam(*rules)
        self.transfer = Transfer(self.source.end, self.sink.end, method=method or named)
        wires.ends.callback(self.transfer.close)
        self.seam.attach(self.transfer)

    def account(self):
        """Nothing lost, nothing repeated; reads both ends empty."""
        transfer = self.transfer
        moved = transfer.moved
        held = transfer.take_held()
        transfer.close()
        arrived = self.sink.received()
        left = self.source.left()
        assert len(arrived) == moved
        assert sum(transfer.by_method.values()) == moved
        assert arrived + held + left == DATA
        laws(self.seam.log)

    def complete(self):
        """Everything arrived."""
        assert self.transfer.moved == SIZE
        assert self.transfer.held == 0
        assert self.transfer.done
        self.account()


@loops
@pytest.mark.parametrize("size", [1, 4097, 4095, 4096, 9973][: None if FULL else 2])
def test_short_counts_lose_nothing(wires, loop, size):
    """However few bytes a call moves, the content is whole and the counts are right."""
    call, site = LOOPS[loop][3:]
    chunk = 997 if size == 1 else size  # single bytes: for a while, then larger pieces
    first = [cap(call, 1, site=site, times=200)] if size == 1 else []
    run = Run(wires, loop, [*first, cap(call, chunk, site=site)])
    result = run.transfer.run()
    assert result.by_method == {run.named: SIZE}
    assert result.fallbacks == ()
    # A blocking pipe is written to by PIPE_BUF, which is what POLLOUT promises.
    piece = min(size, 4096) if loop == "write pipe" else size
    assert any(row.result == piece for row in run.seam.calls(call))
    run.complete()


@cases(
    loop=LOOPS,
    answer=list(itertools.product(PASSING, ["blocking", "nonblocking"])),
    position=POSITIONS,
)
def test_an_interrupted_or_unready_call_is_made_again(wires, loop, answer, position):
    """EINTR and EAGAIN end nothing, record nothing and lose nothing."""
    err, mode = answer
    call, site = LOOPS[loop][3:]
    rules = script(call, site, POSITIONS[position], fail(call, getattr(errno, err), site=site))
    run = Run(wires, loop, limit_other_side(loop) + rules, nonblocking=mode == "nonblocking")
    result = run.transfer.run()
    assert run.seam.unused() == [0]
    assert result.fallbacks == ()
    run.complete()


@cases(loop=LOOPS, position=POSITIONS, err=FAILURES)
def test_a_failure_is_raised_and_the_transfer_can_go_on(wires, loop, position, err):
    """An error that may pass is raised with true counts; run again, it ends with all bytes."""
    call, site = LOOPS[loop][3:]
    number = getattr(errno, err)
    rules = script(call, site, POSITIONS[position], fail(call, number, site=site))
    run = Run(wires, loop, limit_other_side(loop) + rules)
    with pytest.raises(OSError, match=call) as caught:
        run.transfer.run()
    assert caught.value.errno == number
    assert run.transfer.fallbacks == ()
    taken = run.transfer.moved + run.transfer.held
    assert taken <= SIZE
    if site == "drain":
        assert run.transfer.held > 0
    run.transfer.run()
    run.complete()


@cases(loop=LOOPS, position=POSITIONS, err=FAILURES[:2])
def test_after_a_failure_every_byte_is_accounted_for(wires, loop, position, err):
    """Given up after an error: arrived + held + left is the whole, in order."""
    call, site = LOOPS[loop][3:]
    rules = script(call, site, POSITIONS[position], fail(call, getattr(errno, err), site=site))
    run = Run(wires, loop, limit_other_side(loop) + rules)
    with pytest.raises(OSError, match=call):
        run.transfer.run()
    run.account()


@cases(loop=LOOPS, position=POSITIONS, err=GONE)
def test_a_connection_that_is_gone_stays_gone(wires, loop, position, err):
    """The kernel tells a reset once; the transfer tells it as often as it is asked."""
    call, site = LOOPS[loop][3:]
    number = getattr(errno, err)
    rules = script(call, site, POSITIONS[position], fail(call, number, site=site))
    run = Run(wires, loop, limit_other_side(loop) + rules)
    for _ in range(3):
        with pytest.raises(OSError, match=call) as caught:
            run.transfer.run()
        assert caught.value.errno == number
        assert type(caught.value) is type(OSError(number, ""))
    with pytest.raises(OSError, match=call):
        run.transfer.step()
    run.account()


@cases(loop=LOOPS, position=POSITIONS, err=REFUSALS)
def test_a_named_method_never_falls_back(wires, loop, position, err):
    """Asked for by name, a refusal is raised, whenever it comes; and nothing is recorded."""
    call, site = LOOPS[loop][3:]
    number = getattr(errno, err)
    rules = script(call, site, POSITIONS[position], fail(call, number, site=site))
    run = Run(wires, loop, limit_other_side(loop) + rules)
    with pytest.raises(OSError, match=call) as caught:
        run.transfer.run()
    assert caught.value.errno == number
    assert run.transfer.fallbacks == ()
    run.transfer.run()
    assert run.transfer.by_method == {run.named: SIZE}
    run.complete()


AUTO = [
    name for name, loop in LOOPS.items() if loop[2] != "read_write" and name != "fill from file"
]


@pytest.mark.parametrize("loop", AUTO)
@pytest.mark.parametrize("err", REFUSALS)
def test_a_refusal_at_the_first_call_falls_to_the_next_method(wires, loop, err):
    """It is recorded with its errno and a reason, and the refused method moved nothing."""
    _, _, method, call, site = LOOPS[loop]
    number = getattr(errno, err)
    run = Run(wires, loop, [fail(call, number, site=site, times=2**31 - 1)], method="auto")
    result = run.transfer.run()
    assert [(f.method, f.errno) for f in result.fallbacks] == [(method, number)]
    assert result.fallbacks[0].why
    assert method not in result.by_method
    assert result.method != method
    run.complete()


@cases(loop=AUTO, err=REFUSALS, position=["middle", "last"])
def test_a_refusal_after_bytes_were_moved_is_raised(wires, loop, err, position):
    """With bytes moved by the method, its refusal is an error and no fallback."""
    _, _, method, call, site = LOOPS[loop]
    number = getattr(errno, err)
    rules = script(call, site, POSITIONS[position], fail(call, number, site=site))
    run = Run(wires, loop, limit_other_side(loop) + rules, method="auto")
    with pytest.raises(OSError, match=call) as caught:
        run.transfer.run()
    assert caught.value.errno == number
    assert run.transfer.fallbacks == ()
    assert run.transfer.by_method[method] > 0
    run.transfer.run()
    run.complete()


def test_every_method_of_a_pair_of_files_can_be_refused_in_turn(wires):
    """copy_file_range, sendfile and both splices refused: read and write do it, all recorded."""
    run = Run(
        wires,
        "copy_file_range",
        [
            fail("copy_file_range", errno.EXDEV, times=99),
            fail("sendfile", errno.EINVAL, times=99),
            fail("splice", errno.EPERM, site="drain", times=99),
        ],
        method="auto",
    )
    result = run.transfer.run()
    assert [(f.method, f.errno) for f in result.fallbacks] == [
        ("copy_file_range", errno.EXDEV),
        ("sendfile", errno.EINVAL),
        ("splice", errno.EPERM),
    ]
    assert result.by_method == {"read_write": SIZE}
    run.complete()


def test_a_refused_last_method_is_raised(wires):
    """When nothing is left to try, the last refusal is the error."""
    run = Run(
        wires,
        "copy_file_range",
        [
            fail(call, errno.EINVAL, times=99)
            for call in ("copy_file_range", "sendfile", "splice", "read")
        ],
        method="auto",
    )
    with pytest.raises(OSError, match="read") as caught:
        run.transfer.run()
    assert caught.value.errno == errno.EINVAL
    assert len(run.transfer.fallbacks) == 3
    run.account()


def test_a_refusal_is_not_remembered_for_other_transfers(wires):
    """The next transfer of the same kind begins with its best method again."""
    run = Run(wires, "copy_file_range", [fail("copy_file_range", errno.EXDEV)], method="auto")
    assert run.transfer.run().method == "sendfile"
    again = Run(wires, "copy_file_range", [], method="auto")
    assert again.transfer.run().method == "copy_file_range"


NO_VERDICTS = ("EIO", "ENOENT", "ENODATA", "EINVAL", "ESTALE", "EREMOTEIO")
OF_FILES = [name for name in AUTO if LOOPS[name][0] in ("file", "tmpfs")]


@pytest.mark.parametrize("loop", OF_FILES)
@pytest.mark.parametrize("err", NO_VERDICTS)
def test_the_first_error_of_a_zero_copy_call_is_no_verdict_on_the_file(wires, loop, err):
    """Network filesystems have answered these where read() works: the next method is asked."""
    _, _, method, call, site = LOOPS[loop]
    number = getattr(errno, err)
    run = Run(wires, loop, [fail(call, number, site=site, times=2**31 - 1)], method="auto")
    result = run.transfer.run()
    assert [(f.method, f.errno) for f in result.fallbacks] == [(method, number)]
    assert method not in result.by_method
    run.complete()


@pytest.mark.parametrize("loop", OF_FILES)
def test_an_error_of_the_disk_comes_back_from_read(wires, loop):
    """Every way of reading fails: read() has the last word, and nothing was moved."""
    rules = [fail(c, errno.EIO, times=2**31 - 1) for c in ("copy_file_range", "sendfile", "splice")]
    run = Run(wires, loop, [*rules, fail("read", errno.EIO)], method="auto")
    with pytest.raises(OSError, match="read") as caught:
        run.transfer.run()
    assert caught.value.errno == errno.EIO
    assert (run.transfer.moved, run.transfer.held, run.transfer.failed_at) == (0, 0, "src")


@pytest.mark.parametrize("loop", OF_FILES)
@pytest.mark.parametrize("err", ["ENOSPC", "EFBIG", "EDQUOT", "ENOMEM"])
def test_an_error_of_the_destination_is_a_verdict(wires, loop, err):
    """A full disk is full for every method: it is told at once, with nothing taken."""
    _, _, _, call, site = LOOPS[loop]
    run = Run(wires, loop, [fail(call, getattr(errno, err), site=site)], method="auto")
    with pytest.raises(OSError, match=call) as caught:
        run.transfer.run()
    assert caught.value.errno == getattr(errno, err)
    assert run.transfer.fallbacks == ()
    run.transfer.run()
    run.complete()


def test_copy_file_range_is_never_asked_for_more_than_the_file_has(wires):
    """A CIFS server answers EIO to that; the end is confirmed by a read."""
    run = Run(wires, "copy_file_range", [], method="auto")
    run.transfer.run()
    assert [row.len for row in run.seam.calls("copy_file_range")] == [SIZE]
    assert [row.result for row in run.seam.calls("read")] == [0]
    run.complete()


# ---- zero ---------------------------------------------------------------------------------------


@cases(
    loop=[name for name, loop in LOOPS.items() if loop[2] != "read_write"],
    position=["middle", "last"],
    times=[1, 2, 3],
)
def test_a_zero_that_is_no_end_of_file_loses_nothing(wires, loop, position, times):
    """A zero-copy call that says 0 is doubted; the data goes on by copying, then by itself."""
    _, _, method, call, site = LOOPS[loop]
    rules = script(call, site, POSITIONS[position], zero(call, site=site, times=times))
    run = Run(wires, loop, limit_other_side(loop) + rules)
    result = run.transfer.run()
    assert result.fallbacks == ()
    assert result.by_method[method] > 0
    run.complete()


@pytest.mark.parametrize("loop", [name for name in AUTO if LOOPS[name][4] != "drain"])
def test_a_zero_at_the_first_call_is_doubted(wires, loop):
    """Nothing is lost; for a file it is a refusal with errno 0, for a stream a passing mood."""
    src, _, method, call, site = LOOPS[loop]
    run = Run(wires, loop, [zero(call, site=site)], method="auto")
    result = run.transfer.run()
    if src in ("file", "tmpfs"):
        assert [(f.method, f.errno) for f in result.fallbacks] == [(method, 0)]
        assert "end of a file" in result.fallbacks[0].why
    else:
        assert result.fallbacks == ()
    run.complete()


@pytest.mark.parametrize("call", ["copy_file_range", "sendfile"])
def test_a_named_method_that_says_zero_at_once_is_an_error(wires, call):
    """A file with data that the named method cannot read is no empty file."""
    loop = "copy_file_range" if call == "copy_file_range" else "sendfile to file"
    run = Run(wires, loop, [zero(call, times=99)])
    with pytest.raises(OSError, match=call) as caught:
        run.transfer.run()
    assert caught.value.errno == errno.EINVAL
    run.account()


def test_a_write_that_takes_nothing_is_an_error(wires):
    """0 from write() is reported, never spun on."""
    run = Run(wires, "write file", [zero("write")])
    with pytest.raises(OSError, match="write") as caught:
        run.transfer.run()
    assert caught.value.errno == errno.EIO
    run.transfer.run()
    run.complete()


@pytest.mark.parametrize("loop", ["read file", "read socket", "read pipe"])
@positions
def test_zero_from_read_is_the_end(wires, loop, position):
    """read() and recv() are believed: the transfer is done, and what it left is in the source."""
    rules = script("read", "fill", POSITIONS[position], zero("read"))
    run = Run(wires, loop, rules)
    result = run.transfer.run()
    assert run.transfer.done
    assert result.moved == min(SIZE, POSITIONS[position] * CHUNK)
    run.account()


# ---- the other calls ----------------------------------------------------------------------------


@pytest.mark.parametrize("err", ["EMFILE", "ENFILE", "ENOMEM"])
def test_without_a_pipe_auto_copies(wires, err):
    """No pipe to be had: recorded, and the bytes go through memory."""
    run = Run(wires, "fill from socket", [fail("pipe", getattr(errno, err))], method="auto")
    result = run.transfer.run()
    assert [(f.method, f.errno) for f in result.fallbacks] == [("splice", getattr(errno, err))]
    assert result.by_method == {"read_write": SIZE}
    run.complete()


@pytest.mark.parametrize("err", ["EMFILE", "ENFILE", "ENOMEM"])
def test_without_a_pipe_a_named_splice_fails_and_can_go_on(wires, err):
    """Named, it is an error; once there is a pipe again, all bytes are moved."""
    run = Run(wires, "fill from socket", [fail("pipe", getattr(errno, err))])
    with pytest.raises(OSError, match="pipe") as caught:
        run.transfer.run()
    assert caught.value.errno == getattr(errno, err)
    assert (run.transfer.moved, run.transfer.held) == (0, 0)
    run.transfer.run()
    run.complete()


def test_the_private_pipe_is_made_when_it_is_needed_and_only_once(wires):
    """No pipe before the first byte, one for the whole transfer."""
    run = Run(wires, "fill from socket", [cap("splice", CHUNK)])
    assert lib.sio_test_pipe_writer(run.transfer._flow.c) == -1
    run.transfer.run()
    assert len(run.seam.calls("pipe")) == 1
    run.complete()


@pytest.mark.parametrize("err", ["EINTR", "ENOMEM"])
@pytest.mark.parametrize("loop", ["fill from socket", "drain to socket", "read socket"])
def test_a_failing_poll_loses_nothing(wires, loop, err):
    """Whether it fails before the first byte or while waiting: an error or nothing, never loss."""
    call, site = LOOPS[loop][3:]
    rules = [
        *script(call, site, 2, fail(call, errno.EAGAIN, site=site)),
        fail("poll", getattr(errno, err), skip=3),
    ]
    run = Run(wires, loop, limit_other_side(loop) + rules)
    told = []
    for _ in range(3):
        try:
            run.transfer.run()
            break
        except OSError as error:  # a look before a call may fail unseen, a wait may not
            told.append((error.errno, str(error).partition("] ")[2][:5]))
    assert set(told) <= {(getattr(errno, err), "poll:")}
    run.complete()


def test_a_poll_that_fails_while_waiting_is_raised(wires):
    """ENOMEM from the driver's own poll names poll; run again, all arrives."""
    near, far = wires.sockets("unix")
    near.setblocking(False)
    sink = wires.sink("file")
    seam = Seam(fail("poll", errno.ENOMEM))
    with Transfer(near, sink.end) as transfer:
        seam.attach(transfer)
        with pytest.raises(OSError, match="poll") as caught:
            transfer.run()
        assert caught.value.errno == errno.ENOMEM
        far.sendall(DATA[:100])
        far.close()
        assert transfer.run().moved == 100
    assert sink.received() == DATA[:100]


# ---- laws of the log ----------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", ["named", "auto"])
def test_the_log_of_an_undisturbed_run_keeps_the_rules(wires, loop, method):
    """No MORE, NONBLOCK always, no drain above what is held, nothing taken while holding."""
    run = Run(wires, loop, [], method=None if method == "named" else "auto")
    result = run.transfer.run()
    assert result.moved == SIZE
    if method == "named":
        assert result.by_method == {run.named: SIZE}
    run.complete()


@pytest.mark.parametrize("site", ["fill", "drain"])
@pytest.mark.parametrize("src", ["unix", "tcp4"])
def test_a_blocking_socket_is_asked_only_after_poll_said_yes(wires, src, site):
    """Each splice from or to a blocking socket follows a poll, or a look at what is there."""
    source = wires.source(src, DATA)
    sink = wires.sink("unix")
    seam = Seam(cap("splice", CHUNK))
    with seam.attach(Transfer(source.end, sink.end, method="splice")) as transfer:
        transfer.run()
    ready = False
    for row in seam.log:
        if row.call in ("poll", "unread") and row.result > 0:
            ready = True
        elif row.call == "splice" and row.site == "fill":
            assert ready, row
            ready = False
    if site == "drain":
        assert all(row.len <= CHUNK for row in seam.calls("splice", "drain"))
    assert sink.received() == DATA


def test_chatty_sockets_are_copied_and_bulk_is_spliced(wires):
    """After a short read auto goes by recv; after a full buffer it splices again."""
    near, far = wires.sockets("unix")
    sink = wires.sink("file")
    seam = Seam()
    with seam.attach(Transfer(near, sink.end)) as transfer:
        for _ in range(5):
            far.sendall(DATA[:100])
            transfer.step()
        assert transfer.by_method == {"splice": 100, "read_write": 400}
        far.sendall(DATA)
        transfer.step()
        assert transfer.moved == 500 + SIZE
        assert transfer.by_method["splice"] >= 100 + SIZE - (32 << 10) - CHUNK
    assert sink.received() == DATA[:100] * 5 + DATA
    laws(seam.log)


@pytest.mark.parametrize("dst", ["unix", "tcp4"])
def test_a_full_pipe_of_fragments_is_drained_by_its_exact_length(wires, dst):
    """Sixteen slots and a length above what is there would hold TCP back with MSG_MORE."""
    near, far = wires.sockets("unix")
    sink = wires.sink(dst)
    seam = Seam()
    with seam.attach(Transfer(near, sink.end, method="splice")) as transfer:
        for begin in range(0, 600, 100):
            for i in range(begin, begin + 100):  # one skb each: a slot each
                far.send(bytes([i % 256]) * 100)
            transfer.step()
        far.close()
        transfer.run()
        assert transfer.moved == 60_000
    held = 0
    for row in seam.log:
        if row.call == "splice" and row.result > 0:
            if row.site == "fill":
                held += row.result
            else:
                assert row.len <= held
                held -= row.result
    assert held == 0
    laws(seam.log)
    assert sink.received() == b"".join(bytes([i % 256]) * 100 for i in range(600))


# ---- discard and chunks -------------------------------------------------------------------------


@pytest.mark.parametrize("src", ["unix", "pipe", "file", "tcp4"])
@pytest.mark.parametrize("err", ["EINTR", "EAGAIN"])
def test_chunks_survive_passing_errors(wires, monkeypatch, src, err):
    """EINTR and EAGAIN at the first, a middle and the last read: the content is exact."""
    source = wires.source(src, DATA)
    number = getattr(errno, err)
    rules = [fail("read", number), *script("read", "any", 2, fail("read", number, times=3))]
    with Seam(*rules).everywhere(monkeypatch) as seam:
        assert b"".join(spliceio.chunks(source.end, 10_000)) == DATA
    assert seam.unused() == [0, 0]


@pytest.mark.parametrize("src", ["unix", "file"])
def test_chunks_raise_what_the_kernel_says(wires, monkeypatch, src):
    """An error in the middle is raised; what was yielded and what is left make up the whole."""
    source = wires.source(src, DATA)
    with Seam(*script("read", "any", 2, fail("read", errno.EIO))).everywhere(monkeypatch):
        pieces = spliceio.chunks(source.end, CHUNK)
        got = bytes(next(pieces)) + bytes(next(pieces))
        with pytest.raises(OSError, match="read") as caught:
            next(pieces)
    assert caught.value.errno == errno.EIO
    assert got + source.left() == DATA


@pytest.mark.parametrize("src", ["unix", "pipe", "file"])
def test_discard_counts_whatever_the_kernel_says(wires, monkeypatch, src):
    """Short counts, EAGAIN and a refusal: every byte is counted once."""
    source = wires.source(src, DATA)
    rules = [
        fail("sendfile", errno.EINVAL),
        fail("splice", errno.EAGAIN),
        cap("splice", 1, times=20),
        cap("splice", 5000),
        cap("read", 5000),
    ]
    with Seam(*rules).everywhere(monkeypatch) as seam:
        assert spliceio.discard(source.end) == SIZE
    laws(seam.log)


@pytest.mark.parametrize("loop", ["drain to socket", "drain to file", "write socket"])
def test_copy_hands_over_what_it_held(wires, monkeypatch, loop):
    """The exception of copy() has the result so far, and the bytes that would be lost."""
    src, dst, method, call, site = LOOPS[loop]
    source = wires.source(src, DATA)
    sink = wires.sink(dst)
    rules = [*limit_other_side(loop), *script(call, site, 2, fail(call, errno.ENOSPC, site=site))]
    with Seam(*rules).everywhere(monkeypatch), pytest.raises(OSError, match=call) as caught:
        spliceio.copy(source.end, sink.end, method=method)
    error = caught.value
    assert error.result.moved == 2 * CHUNK
    assert error.result.by_method == {method: 2 * CHUNK}
    assert len(error.held) == CHUNK
    assert sink.received() + error.held + source.left() == DATA


@pytest.mark.parametrize("offset", [None, 0])
def test_copy_puts_the_position_of_a_file_back(wires, monkeypatch, offset):
    """Held bytes of a file go back to it: `held` is empty and the position is where it ended."""
    source = wires.source("file", DATA)
    sink = wires.sink("file")
    rules = script("splice", "drain", 2, fail("splice", errno.ENOSPC, site="drain"))
    rules = [cap("splice", CHUNK, site="fill"), *rules]
    with Seam(*rules).everywhere(monkeypatch), pytest.raises(OSError, match="splice") as caught:
        spliceio.copy(source.end, sink.end, method="splice", offset_src=offset)
    error = caught.value
    assert error.held == b""
    assert error.result.moved == 2 * CHUNK
    assert os.lseek(source.fd, 0, os.SEEK_CUR) == (2 * CHUNK if offset is None else 0)
    assert sink.received() == DATA[: 2 * CHUNK]
