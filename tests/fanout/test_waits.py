"""Who waits in a fan-out, sleeps, and scarce pipes and descriptors change nothing.

Rule 1: whoever waits, waits in poll(): the number of calls is bounded, whatever the others do.
Rule 2: small pipes, or none at all, cost speed and no byte.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import resource
from pathlib import Path

import pytest

from spliceio import fanout
from spliceio._fanout import fanout as _fanout
from tests.support.cases import cases
from tests.support.fans import account, complete, ends, python, scripted, stuck_sink
from tests.support.programs import need
from tests.support.states import Worker, no_more_descriptors, until
from tests.support.wires import MIB, payload, read_all, write_all

SLICES = 12
"""More slices than a test here waits for: its timeouts are below a second."""


def counted(monkeypatch, src, sinks, **options):
    """Run until the timeout; return the result and the log of all calls."""
    fan, seam = scripted(monkeypatch, src, sinks, timeout=0.1, **options)
    with pytest.raises(TimeoutError) as caught:
        fan.run()
    return caught.value.result, seam.log


@cases(count=[1, 2, 100], kind=["pipe", "unix", "tcp4"], method=["auto", "read_write"])
def test_an_idle_source_costs_nothing(wires, monkeypatch, count, kind, method):
    """Nothing comes: a few calls a slice, whatever the number of sinks."""
    source, _ = wires.pipe() if kind == "pipe" else wires.sockets(kind)
    sinks = [wires.sink("pipe") for _ in range(count)]
    result, log = counted(monkeypatch, source, [*ends(sinks), hashlib.md5()], method=method)
    assert result.moved == 0
    assert len(log) < SLICES * 10


@cases(
    method=["auto", "read_write"],
    src=["pipe", "unix", "tcp4", "file"],
    stuck=["pipe", "unix", "tcp4", "tty"],
    mode=["blocking", "nonblocking"],
)
def test_a_stalled_sink_costs_nothing(wires, monkeypatch, src, stuck, method, mode):
    """Once the fast ones have what can be had, all sleep, the source being full of data."""
    data = payload(4 * MIB)
    source = wires.source(src, data)
    sinks = [wires.sink("pipe"), stuck_sink(wires, stuck, nonblocking=mode != "blocking")]
    result, log = counted(monkeypatch, source.end, [*ends(sinks), hashlib.md5()], method=method)
    moves = sum(1 for row in log if row.result > 0 and row.call not in ("poll", "unread"))
    assert len(log) < 10 * moves + SLICES * 30
    idle = [row for row in log[-SLICES * 30 :] if row.call == "poll" and row.result == 0]
    assert idle
    account(result, data, [*(sink.received() for sink in sinks), data[: result.sinks[2].moved]])


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("src", ["pipe", "unix", "tcp4", "file"])
def test_a_source_that_has_ended_costs_nothing(wires, monkeypatch, src, method):
    """One sink is stuck with the last bytes: the end of the source wakes nobody any more."""
    data = payload(150_000)
    source, (_, stuck) = wires.source(src, data), wires.clogged()
    sinks = [wires.sink("pipe"), wires.sink("file")]
    result, log = counted(
        monkeypatch, source.end, [stuck, *ends(sinks), hashlib.md5()], method=method
    )
    assert sum(row.call in ("poll", "unread") for row in log) < SLICES * 30
    assert [one.moved for one in result.sinks] == [0, *[result.moved] * 3]
    assert result.moved == len(data) or method == "read_write"  # which has one buffer for all
    got = [b"", *(sink.received() for sink in sinks), data[: result.moved]]
    account(result, data, got)


@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_a_hundred_stuck_sinks(wires, monkeypatch, method):
    """Every one is asked now and then, none all the time."""
    data = payload(200_000)
    source = wires.source("pipe", data)
    writers = [wires.clogged()[1] for _ in range(100)]
    result, log = counted(monkeypatch, source.end, writers, method=method)
    account(result, data, [b""] * 100, source.left())
    assert len(log) < SLICES * 100 * 4


@pytest.mark.parametrize("method", ["auto", "read_write"])
@pytest.mark.parametrize("src", ["pipe", "unix"])
def test_a_hundred_sinks(wires, src, method):
    """All kinds, all exact."""
    data = payload(400_000)
    kinds = ["pipe", "unix", "file", "tcp4", "fifo"] * 20
    source, sinks = wires.source(src, data), [wires.sink(kind) for kind in kinds]
    complete(fanout(source.end, ends(sinks), method=method), len(data))
    expected = hashlib.sha256(data).digest()
    for sink in sinks:
        assert hashlib.sha256(sink.received()).digest() == expected


@cases(src=["pipe", "unix"], method=["auto", "read_write"], kind=["unix", "tcp4"])
def test_a_full_blocking_socket_holds_nobody_up(wires, src, method, kind):
    """Neither the call beyond its timeout, nor the source pipe's lock, nor the other sinks."""
    data = payload(20_000)
    source, feed = wires.pipe() if src == "pipe" else wires.sockets("unix")
    feed_fd = feed if src == "pipe" else feed.fileno()
    sink, memory, stuffed = wires.sink("pipe"), io.BytesIO(), wires.stuffed(kind)
    running = Worker(
        lambda: fanout(source, [stuffed[0], sink.end, memory], timeout=0.3, method=method)
    )
    write_all(feed_fd, data)
    until(running.asleep)
    if src == "pipe":  # these would wait for a lock that is held
        assert fcntl.fcntl(feed_fd, 1032) > 0
    until(lambda: memory.getvalue() == data or not running.is_alive())
    with pytest.raises(TimeoutError) as caught:
        running.result()
    result = caught.value.result
    assert [one.moved + len(one.held) for one in result.sinks] == [len(data)] * 3
    assert sink.received() == memory.getvalue() == data


def test_a_fast_sink_is_not_starved_by_a_stuck_one(wires):
    """Up to about 1 MiB ahead: the fast one gets that without waiting for the slow one."""
    data = payload(3 * MIB)
    source = wires.source("unix", data)
    memory, stuck = io.BytesIO(), stuck_sink(wires, "pipe")
    sink = wires.sink("pipe")
    with pytest.raises(TimeoutError) as caught:
        fanout(source.end, [stuck.end, sink.end, memory], timeout=0.1)
    assert min(one.moved for one in caught.value.result.sinks[1:]) >= MIB


# ---- small pipes --------------------------------------------------------------------------------


@pytest.mark.parametrize("granted", [4096, 8192])
@pytest.mark.parametrize("src", ["pipe", "unix", "file"])
def test_pipes_of_one_or_two_slots(wires, monkeypatch, src, granted):
    """As beyond the quota: source, sinks and private pipes all as small as can be."""
    data = payload(300_001)
    kinds = ["pipe", "unix", "pipe", "tcp4", "file"]
    if src == "pipe":
        source, feed = wires.pipe(granted)
        feeding = Worker(lambda: (write_all(feed, data), os.close(feed)))
    else:
        source = wires.source(src, data).end
    pairs = [wires.pipe(granted) for kind in kinds if kind == "pipe"]
    readers = [Worker(lambda fd=reader: read_all(fd)) for reader, _ in pairs]
    others = [wires.sink(kind) for kind in kinds if kind != "pipe"]
    result = fanout(source, [*(w for _, w in pairs), *ends(others), digest := hashlib.sha256()])
    complete(result, len(data))
    for _, writer in pairs:
        os.close(writer)
    assert all(reader.result() == data for reader in readers)
    assert all(sink.received() == data for sink in others)
    assert digest.digest() == hashlib.sha256(data).digest()
    if src == "pipe":
        feeding.result()


QUOTA = """
    import fcntl, hashlib, os, socket, sys, threading, spliceio
    spliceio.fanout, spliceio.Pipe
    if os.geteuid() == 0:
        os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
    taken = [spliceio.Pipe(1 << 20) for _ in range(80)] + [spliceio.Pipe() for _ in range(40)]
    print(taken[-1].capacity)
    data = os.urandom(3 << 20)

    def collect(read, got):
        while part := read(1 << 16):
            got.append(part)

    for src in ("pipe", "unix"):
        got, threads, closing, sinks = [], [], [], []
        for kind in ("pipe", "unix", "pipe", "unix"):
            r, w = os.pipe() if kind == "pipe" else socket.socketpair()
            got.append([])
            read = (lambda n, r=r: os.read(r, n)) if kind == "pipe" else r.recv
            threads.append(threading.Thread(target=collect, args=(read, got[-1]), daemon=True))
            sinks.append(w)
            closing.append((lambda w=w: os.close(w)) if kind == "pipe" else w.close)
        if src == "pipe":
            source, feed = os.pipe()
            feeder = open(feed, "wb")
        else:
            source, near = socket.socketpair()
            feeder = near.makefile("wb")
            near.close()
        feeding = lambda: (feeder.write(data), feeder.close())
        threads.append(threading.Thread(target=feeding, daemon=True))
        for thread in threads:
            thread.start()
        digest = hashlib.sha256()
        result = spliceio.fanout(source, [*sinks, digest])
        for close in closing:
            close()
        for thread in threads:
            thread.join()
        assert result.moved == len(data), result
        assert all(b"".join(one) == data for one in got)
        assert digest.digest() == hashlib.sha256(data).digest()
        assert result.fallbacks == (), result.fallbacks
        assert set(result.sinks[0].by_method) <= {"tee", "splice"}, result.sinks[0]
"""


def test_a_used_up_pipe_quota_changes_nothing():
    """An unprivileged user with no pages left gets pipes of two slots; bytes and methods hold."""
    soft = int(Path("/proc/sys/fs/pipe-user-pages-soft").read_text())
    assert int(python(QUOTA)) == 8192 or not soft


def test_no_descriptor_for_pipes_means_copying(wires):
    """EMFILE at the private pipes: copied instead, and the result says why."""
    data = payload(500_000)
    source = wires.source("pipe", data)
    sinks = [wires.sink(kind) for kind in ("unix", "tcp4", "pipe", "file")]
    digest = hashlib.sha256()
    fan = _fanout.Fanout(source.end, [*ends(sinks), digest])
    with no_more_descriptors():
        result = fan.run()
    complete(result, len(data))
    assert all(sink.received() == data for sink in sinks)
    assert digest.digest() == hashlib.sha256(data).digest()
    [fallback] = result.fallbacks
    assert fallback.errno == errno.EMFILE
    assert fallback.why


@pytest.mark.parametrize("spare", range(12))
def test_running_out_of_descriptors_leaks_none(wires, spare):
    """With so many left: it works, or says so before a byte moves."""
    data = payload(10_000)
    source = wires.source("unix", data)
    sinks = [wires.sink("pipe"), wires.sink("unix"), wires.sink("unix")]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + spare, hard))
    result, failure = None, 0
    try:
        result = fanout(source.end, ends(sinks))
    except OSError as error:
        failure = error.errno
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    got = [sink.received() for sink in sinks]
    if result is None:
        assert failure == errno.EMFILE
        assert got == [b""] * 3
        assert source.left() == data
    else:
        complete(result, len(data))
        assert got == [data] * 3


def test_nothing_is_called_without_end(tmp_path):
    """As strace counts it: five waiting sinks and a source with data make few calls."""
    script = """
        import os, spliceio
        r, w = os.pipe()
        os.write(w, bytes(60_000))
        sinks = [os.pipe() for _ in range(5)]
        for _, sink in sinks[1:]:
            os.write(sink, bytes(65536))
        try:
            spliceio.fanout(r, [sink for _, sink in sinks], timeout=0.4)
        except TimeoutError as error:
            assert error.result.sinks[0].moved == 60_000
            print("stopped", end="")
    """
    trace = tmp_path / "trace"
    calls = "trace=tee,splice,poll,ppoll,read,write,ioctl,sched_yield"
    assert python(script, wrapper=[need("strace"), "-f", "-qq", "-o", trace, "-e", calls])
    lines = trace.read_text().splitlines()
    assert sum("tee(" in line for line in lines) >= 5
    assert sum(" poll(" in line or "tee(" in line for line in lines) < SLICES * 30
