"""Random scripts, transports and sizes, against a plain model of reading and writing.

The model is short: whatever is injected, bytes are in exactly one place, in order. A transfer is
run again after each error until it is done, or the connection is gone.
"""

from __future__ import annotations

import errno
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spliceio import Transfer
from tests.support.seam import Seam, cap, fail, laws, zero
from tests.support.wires import FILES, Wires, payload

PASSING = [errno.EINTR, errno.EAGAIN]
TRANSIENT = [errno.ENOMEM, errno.ENOSPC, errno.EIO, errno.EFBIG]
REFUSED = [errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EBADF]
GONE = [errno.EPIPE, errno.ECONNRESET]
CALLS = ["splice", "sendfile", "copy_file_range", "read", "write"]
SITES = ["any", "direct", "fill", "drain"]

numbers = st.sampled_from
turns = st.integers(0, 4)
caps = st.builds(
    cap,
    numbers(CALLS),
    st.one_of(numbers([1, 4095, 4096, 16384]), st.integers(1, 70_000)),
    site=numbers(SITES),
    skip=turns,
    times=st.integers(1, 40),
)
failures = st.builds(
    fail,
    numbers(CALLS),
    numbers(PASSING + TRANSIENT + REFUSED),
    site=numbers(SITES),
    skip=turns,
    times=st.integers(1, 3),
)
zeros = st.builds(
    zero,
    numbers(["splice", "sendfile", "copy_file_range"]),
    site=numbers(SITES),
    skip=turns,
    times=st.integers(1, 3),
)
ends = st.builds(fail, numbers(CALLS), numbers(GONE), site=numbers(SITES), skip=turns)
scripts = st.lists(st.one_of(caps, failures, zeros), max_size=6)
sizes = st.one_of(numbers([0, 1, 4095, 4096, 4097, 65535, 65536, 65537]), st.integers(0, 300_000))
sources = numbers(["file", "tmpfs", "pipe", "fifo", "unix", "tcp4"])
sinks = numbers(["file", "tmpfs", "pipe", "fifo", "unix", "tcp4"])
methods = numbers(["auto", "auto", "splice", "read_write"])
usual = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def play(src, dst, size, script, method, nonblocking, count=None, give_up=99):
    """Run to the end, or `give_up` errors; return (moved, arrived, held, left, data)."""
    data = payload(size)
    with TemporaryDirectory() as directory:
        wires = Wires(Path(directory))
        try:
            source = wires.source(src, data, nonblocking=nonblocking)
            sink = wires.sink(dst, nonblocking=nonblocking)
            seam = Seam(*script)
            with Transfer(source.end, sink.end, count, method=method) as transfer:
                seam.attach(transfer)
                errors = []
                for _ in range(give_up):
                    try:
                        transfer.run()
                        break
                    except OSError as error:
                        errors.append(error.errno)
                held = transfer.take_held()
                moved, by_method = transfer.moved, transfer.by_method
                fallbacks, done = transfer.fallbacks, transfer.done
            laws(seam.log)
            arrived, left = sink.received(), source.left()
        finally:
            wires.close()
    assert all(errors)
    assert sum(by_method.values()) == moved
    assert len(arrived) == moved
    for fallback in fallbacks:
        # What is said of a file without read() is no verdict on it; read() has the last word.
        assert fallback.errno in (*REFUSED, 0) or (fallback.errno == errno.EIO and src in FILES)
        assert fallback.why
    return moved, arrived, held, left, data, done


@usual
@given(sources, sinks, sizes, scripts, methods, st.booleans())
def test_whatever_the_kernel_answers_everything_arrives(
    src, dst, size, script, method, nonblocking
):
    """Errors pass, and the transfer is run again: all bytes, once, in order."""
    # copy_file_range and sendfile are refused for good where a script says 0 to a named method.
    moved, arrived, held, left, data, done = play(src, dst, size, script, method, nonblocking)
    assert arrived + held + left == data
    assert done
    assert moved == size


@usual
@given(sources, sinks, sizes, scripts, ends, methods, st.integers(1, 4))
def test_whenever_it_is_given_up_every_byte_is_in_one_place(
    src, dst, size, script, end, method, give_up
):
    """Arrived, held and left make up the whole, in order."""
    _, arrived, held, left, data, _ = play(
        src, dst, size, [*script, end], method, False, give_up=give_up
    )
    assert arrived + held + left == data


@usual
@given(sources, sinks, sizes, scripts, methods, st.integers(0, 200_000))
def test_a_count_is_kept_whatever_the_kernel_answers(src, dst, size, script, method, count):
    """Never one byte more than asked for."""
    moved, arrived, held, left, data, _ = play(src, dst, size, script, method, False, count)
    assert moved == min(count, size)
    assert arrived == data[:count]
    assert arrived + held + left == data
