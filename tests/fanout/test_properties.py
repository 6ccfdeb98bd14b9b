"""Random sinks, speeds, failures and scripts, against a plain model of one source and many readers.

The model is short: each sink gets a prefix of the source; one that is done gets all of it, one that
was stopped has the rest held, and what nobody got is unread or still in the source.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spliceio._fanout import fanout as _fanout
from spliceio._transfer import flow as _flow
from tests.support.seam import ALWAYS, Seam, cap, fail, zero
from tests.support.states import Worker
from tests.support.wires import Wires, payload, write_all

NEVER = 1 << 60
FAULTS = [errno.ENOMEM, errno.ENOSPC, errno.EIO, errno.EPIPE]
REFUSED = [errno.EINVAL, errno.ENOSYS, errno.EPERM]
SITES = ["any", "direct", "fill", "drain", "stage"]

numbers = st.sampled_from
sizes = st.one_of(numbers([0, 1, 4096, 65535, 65537]), st.integers(0, 400_000))
turns = st.integers(0, 6)


class Member(NamedTuple):
    """One sink of a topology: what it is, how it reads, and after how many bytes it goes."""

    kind: str
    capacity: int
    chunk: int
    leaves: int
    nonblocking: bool


members = st.builds(
    Member,
    numbers(["pipe", "pipe", "unix", "tcp4", "file", "append", "object", "hash"]),
    numbers([0, 4096, 8192, 1 << 20]),
    st.one_of(numbers([1 << 20, 65536]), st.integers(500, 20_000)),
    st.one_of(st.just(NEVER), st.just(NEVER), st.integers(0, 300_000)),
    st.booleans(),
)
groups = st.lists(members, min_size=1, max_size=6)
sources = numbers(["pipe", "small pipe", "unix", "tcp4", "file"])
methods = numbers(["auto", "auto", "read_write"])
pieces = st.lists(st.integers(1, 100_000), min_size=1, max_size=8)
passing = st.one_of(
    st.builds(
        cap,
        numbers(["tee", "splice", "read", "write"]),
        st.integers(500, 70_000),
        site=numbers(SITES),
        skip=turns,
        times=st.integers(1, 40),
    ),
    st.builds(
        fail,
        numbers(["tee", "splice", "write"]),
        numbers([errno.EINTR, errno.EAGAIN]),
        site=numbers(SITES),
        skip=turns,
        times=st.integers(1, 3),
    ),
    st.builds(fail, numbers(["read", "poll"]), st.just(errno.EINTR), skip=turns),
    st.builds(zero, numbers(["tee"]), site=numbers(SITES), skip=turns, times=st.integers(1, 3)),
    st.builds(
        fail,
        st.just("tee"),
        numbers(REFUSED),
        site=numbers(SITES),
        skip=turns,
        times=st.just(ALWAYS),
    ),
    st.builds(fail, st.just("pipe"), st.just(errno.EMFILE), skip=turns, times=st.just(99)),
)
faults = st.builds(
    fail,
    numbers(["tee", "splice", "write"]),
    numbers(FAULTS),
    site=numbers(SITES),
    skip=turns,
    times=st.integers(1, 2),
)
usual = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))


class Leaver:
    """An object that takes `chunk` bytes at a time and raises after `leaves`."""

    def __init__(self, member):
        self.member, self.got = member, b""

    def write(self, part):
        if len(self.got) >= self.member.leaves:
            raise ValueError("enough")
        part = part[: self.member.chunk][: self.member.leaves - len(self.got)]
        self.got += part
        return len(part)


class Hash(Leaver):
    """The same, with all or nothing."""

    def update(self, part):
        if len(self.got) >= self.member.leaves:
            raise ValueError("enough")
        self.got += part

    write = None


class End:
    """One sink: what is handed over, and what came out of it."""

    def __init__(self, wires, member):
        self.member, self.reader = member, None
        if member.kind in ("object", "hash"):
            self.given = Hash(member) if member.kind == "hash" else Leaver(member)
        elif member.kind == "file":
            self.given = wires.file()
        elif member.kind == "append":
            self.given = wires.file(flags=os.O_RDWR | os.O_APPEND)
        else:
            if member.kind == "pipe":
                reader, self.given = wires.pipe(member.capacity)
                fd = os.dup(reader)
                os.close(reader)
            else:
                self.given, far = wires.sockets(member.kind)
                fd = os.dup(far.fileno())
                far.close()
            number = self.given if isinstance(self.given, int) else self.given.fileno()
            os.set_blocking(number, not member.nonblocking)
            self.reader = Worker(lambda: self._read(fd))

    def _read(self, fd):
        got = b""
        try:
            while len(got) < self.member.leaves and (part := os.read(fd, self.member.chunk)):
                got += part
        finally:
            os.close(fd)
        return got

    def received(self):
        if self.reader is None:
            if not isinstance(self.given, int):
                return self.given.got
            return os.pread(self.given, os.fstat(self.given).st_size, 0)
        if isinstance(self.given, int):
            os.close(self.given)
        else:
            self.given.close()
        return self.reader.result()


def feed(wires, kind, data, cuts):
    """Make the source, fed piece by piece; return it and the thread."""
    if kind == "file":
        return wires.file(data), None
    if "pipe" in kind:
        source, out = wires.pipe(4096 if kind == "small pipe" else 0)
        out_fd = os.dup(out)
        os.close(out)
    else:
        source, far = wires.sockets(kind)
        out_fd = os.dup(far.fileno())
        far.close()

    def run():
        at = 0
        try:
            for number in range(len(data)):
                if at >= len(data):
                    break
                size = cuts[number % len(cuts)]
                write_all(out_fd, data[at : at + size])
                at += size
            if "pipe" not in kind:
                with socket.socket(fileno=os.dup(out_fd)) as sock:
                    sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # nobody was left to read for
        finally:
            os.close(out_fd)

    return source, Worker(run)


def rest_of(source):
    """Read what is left to the end, whether anybody feeds it still or not."""
    parts = []
    fd = source if isinstance(source, int) else source.fileno()
    os.set_blocking(fd, True)
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def play(src, size, group, cuts, rules, method, count):
    """Run one topology; return what the model is about."""
    data = payload(size)
    with TemporaryDirectory() as directory:
        wires = Wires(Path(directory))
        begin = _flow.Flow.__init__
        seam = Seam(*rules, log_size=1)

        def made(flow, *args, **kwargs):
            begin(flow, *args, **kwargs)
            seam.under(flow)

        try:
            source, feeder = feed(wires, src, data, cuts)
            sinks = [End(wires, member) for member in group]
            _flow.Flow.__init__ = made
            try:
                fan = _fanout.Fanout(source, [end.given for end in sinks], count, method=method)
            finally:
                _flow.Flow.__init__ = begin
            error = None
            try:
                result = fan.run()
            except OSError as raised:
                error, result = raised, raised.result
            got = [end.received() for end in sinks]
            left = rest_of(source)
            if feeder is not None:
                feeder.result()
        finally:
            wires.close()
    return data, result, got, left, error


def judge(group, data, result, got, left, count, *, plain):
    """Hold what came out to the model; `plain`: nothing made anybody copy."""
    wanted = len(data) if count is None else min(count, len(data))
    assert data[: result.moved] + left == data
    assert result.moved <= wanted
    for member, one, bytes_ in zip(group, result.sinks, got, strict=True):
        assert data.startswith(bytes_)
        assert sum(one.by_method.values()) == one.moved <= result.moved
        # What a reader leaves behind in its pipe or socket was moved and not read.
        assert len(bytes_) <= one.moved if member.leaves < NEVER else len(bytes_) == one.moved
        if one.fate == "stopped":
            assert data[: one.moved] + one.held == data[: result.moved]
        elif one.fate == "done":
            assert one.moved == result.moved
        else:
            assert one.fate == "failed"
            assert one.error is not None
        if member.kind == "pipe" and plain:
            assert set(one.by_method) <= {"tee", "splice"}
    begin = result.moved - len(result.unread)
    assert result.unread == data[begin : result.moved]
    if result.reason == "no sinks":
        assert begin <= max(one.moved for one in result.sinks)
    elif result.reason in ("eof", "count"):
        assert result.moved == wanted
        assert result.unread == b""
        assert any(one.fate == "done" for one in result.sinks)


@usual
@given(
    sources,
    sizes,
    groups,
    pieces,
    st.lists(passing, max_size=5),
    methods,
)
def test_every_sink_gets_a_prefix_and_those_that_stay_get_all(
    src, size, group, cuts, rules, method
):
    """Whatever passes in the kernel, and whoever leaves: nothing lost, nothing repeated."""
    data, result, got, left, error = play(src, size, group, cuts, rules, method, None)
    assert error is None
    judge(group, data, result, got, left, None, plain=method == "auto" and not rules)
    for member, one in zip(group, result.sinks, strict=True):
        if member.leaves == NEVER:
            assert (one.fate, one.error) == ("done", None)


@usual
@given(
    sources,
    sizes,
    groups,
    pieces,
    st.lists(st.one_of(passing, faults), min_size=1, max_size=6),
    methods,
)
def test_whatever_fails_every_byte_is_accounted_for(src, size, group, cuts, rules, method):
    """Errors at any call: of a sink, or of the source, which is raised."""
    data, result, got, left, error = play(src, size, group, cuts, rules, method, None)
    judge(group, data, result, got, left, None, plain=method == "auto" and not rules)
    assert (error is not None) == (result.reason == "stopped")


@usual
@given(
    sources,
    sizes,
    groups,
    pieces,
    st.lists(passing, max_size=4),
    methods,
    st.integers(0, 300_000),
)
def test_a_count_is_kept(src, size, group, cuts, rules, method, count):
    """Never a byte more than asked for leaves the source."""
    data, result, got, left, error = play(src, size, group, cuts, rules, method, count)
    assert error is None
    judge(group, data, result, got, left, count, plain=method == "auto" and not rules)
