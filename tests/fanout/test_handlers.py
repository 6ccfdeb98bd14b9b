"""What a signal handler raises while a fan-out runs is nobody's failure: it ends the fan-out.

Rule 1: only what a sink's own method raised ends that sink alone.
Rule 2: an interrupted call of a method is counted or not counted, as it was made or not: feeding
        `held` to a hash or a file makes it right.
"""

from __future__ import annotations

import functools
import gc
import gzip
import hashlib
import hmac
import io
import os
import random
import signal
import sys

import pytest

from spliceio import fanout
from tests.support.cases import FULL
from tests.support.interrupts import Interrupted, Stepper
from tests.support.wires import payload

DATA = payload(300_000)


class Late(Exception):
    """What the handlers here raise: an Exception, as TimeoutError is."""


def function(signum, frame):
    raise Late


def by_another(signum, frame):
    function(None, None)


def loses_its_arguments(signum, frame):
    del signum, frame
    raise Late


def restores(signum, frame):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    raise Late


class Object:
    """Handlers that are methods and objects."""

    def method(self, signum, frame):
        raise Late

    def __call__(self, *args):
        raise Late

    @staticmethod
    def extra(what, signum, frame):
        raise what


def wrapping(handler):
    @functools.wraps(handler)
    def wrapped(*args, **kwargs):
        return handler(*args, **kwargs)

    return wrapped


HANDLERS = {
    "function": function,
    "anything": lambda *_: function(None, None),
    "by another": by_another,
    "loses its arguments": loses_its_arguments,
    "restores": restores,
    "method": Object().method,
    "object": Object(),
    "partial": functools.partial(Object.extra, Late),
    "partial of a method": functools.partial(Object().method),
    "wrapped": wrapping(function),
    "wrapped twice": wrapping(functools.partial(wrapping(function))),
}


@pytest.fixture
def alarm():
    """Install handlers for SIGALRM; the old one is back afterwards.

    What they raise in a callback of the collector, as hypothesis has one, would be lost: it rests.
    """
    before = signal.getsignal(signal.SIGALRM)
    gc.disable()
    try:
        yield lambda handler: signal.signal(signal.SIGALRM, handler)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


class Kills:
    """A sink that gets a signal in the middle of its method."""

    got = b""

    def write(self, data):
        self.go()
        self.got += data

    def go(self):
        signal.raise_signal(signal.SIGALRM)


@pytest.mark.parametrize("name", HANDLERS)
def test_what_a_handler_raises_passes_through(wires, alarm, name):
    """Whatever kind of handler it is; the result comes along."""
    alarm(HANDLERS[name])
    memory = io.BytesIO()
    with pytest.raises(Late) as caught:
        fanout(wires.source("file", DATA).end, [Kills(), memory])
    result = caught.value.result
    assert [one.fate for one in result.sinks] == ["stopped", "stopped"]
    assert [one.error for one in result.sinks] == [None, None]
    for one, got in zip(result.sinks, [b"", memory.getvalue()], strict=True):
        assert (one.moved, got + one.held) == (len(got), DATA[: result.moved])


@pytest.mark.parametrize("name", ["function", "anything", "method", "wrapped"])
def test_a_sink_that_calls_the_handler_itself_has_failed(wires, alarm, name):
    """The same function, and no signal: it is the sink's own."""
    handler = HANDLERS[name]
    alarm(handler)

    class Calls:
        def write(self, data):
            handler(signal.SIGALRM, None)

    memory = io.BytesIO()
    result = fanout(wires.source("file", DATA).end, [Calls(), memory])
    assert [one.fate for one in result.sinks] == ["failed", "done"]
    assert isinstance(result.sinks[0].error, Late)
    assert memory.getvalue() == DATA


def test_what_a_sink_makes_of_a_handlers_exception_is_its_own(wires, alarm):
    """It caught it, and raised another."""
    alarm(function)

    class Turns(Kills):
        def go(self):
            try:
                super().go()
            except Late:
                raise OSError(5, "late") from None

    result = fanout(wires.source("file", DATA).end, [Turns(), io.BytesIO()])
    assert [one.fate for one in result.sinks] == ["failed", "done"]


# ---- counted or not -----------------------------------------------------------------------------


class Hash:
    """A hash in Python, with what hashlib's have, made of one in C."""

    def __init__(self):
        self._inner = hashlib.sha256()

    def update(self, data):
        self._inner.update(data)

    def copy(self):
        other = Hash()
        other._inner = self._inner.copy()
        return other

    def digest(self):
        return self._inner.digest()


class Raw(io.RawIOBase):
    """A raw file that takes a part of what it is given."""

    def __init__(self, most=70_000):
        super().__init__()
        self.got, self.most = b"", most

    def writable(self):
        return True

    def tell(self):
        return len(self.got)

    def write(self, data):
        taken = bytes(data[: self.most])
        self.got += taken
        return len(taken)


def objects():
    """Sinks of Python, each with how its content is told and how the rest is given to it."""
    memory, raw = io.BytesIO(), Raw(15_000)
    packed = io.BytesIO()
    zipped = gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1)
    return [
        hashlib.sha256(),
        hmac.new(b"key", digestmod="md5"),
        Hash(),
        memory,
        raw,
        zipped,
    ], (memory, raw, packed, zipped)


def check(result, sinks):
    """Each got what `moved` says, and with `held` all that was taken."""
    taken = DATA[: result.moved]
    memory, raw, packed, zipped = sinks[1]
    for one in result.sinks:
        assert one.fate in ("stopped", "done")
        assert taken[one.moved :] == one.held
        if hasattr(one.sink, "digest"):
            one.sink.update(one.held)
        else:
            view = memoryview(one.held)
            while view:
                view = view[one.sink.write(view) :]
    assert sinks[0][0].digest() == hashlib.sha256(taken).digest()
    assert sinks[0][1].digest() == hmac.new(b"key", taken, "md5").digest()
    assert sinks[0][2].digest() == hashlib.sha256(taken).digest()
    assert memory.getvalue() == taken
    assert raw.got == taken
    zipped.close()
    assert gzip.decompress(packed.getvalue()) == taken


@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_after_an_alarm_at_any_time_held_makes_it_right(wires, alarm, method):
    """Alarms at random moments: none is swallowed, and every hash and file can be made whole."""
    alarm(function)
    random_, came = random.Random(5), 0
    source = wires.file(DATA)
    for _ in range(200):
        os.lseek(source, 0, os.SEEK_SET)
        sinks = hashlib.sha256(), hmac.new(b"key", digestmod="md5"), io.BytesIO(), Raw()
        result = None
        try:
            signal.setitimer(signal.ITIMER_REAL, random_.uniform(0.0001, 0.003))
            result = fanout(source, sinks, method=method)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Late as error:
            result = getattr(error, "result", result)
            came += result is not None and result.reason == "stopped"
        signal.setitimer(signal.ITIMER_REAL, 0)
        if result is None:
            continue
        taken = DATA[: result.moved]
        assert [one.error for one in result.sinks] == [None] * 4
        for one in result.sinks:
            assert taken[one.moved :] == one.held
        assert sinks[2].getvalue() == taken[: result.sinks[2].moved]
        assert sinks[3].got == taken[: result.sinks[3].moved]
        for one, whole in zip(
            sinks[:2], (hashlib.sha256(taken), hmac.new(b"key", taken, "md5")), strict=True
        ):
            one.update(result.sinks[sinks.index(one)].held)
            assert one.digest() == whole.digest()
    assert came > 20


INTERRUPTED = (
    "write_due",
    "settle_interrupted",
    "_count",
    "_ask_position",
    "_accepted",
    "_slice",
)


class InSinks(Stepper):
    """Steps in the package and in the sinks of this file alone."""

    def __call__(self, frame, event, arg):
        if frame.f_code.co_filename == __file__:
            if frame.f_code.co_name not in ("write", "update"):
                return None
            frame.f_trace_opcodes = True
            return self._step
        if frame.f_code.co_name not in INTERRUPTED:
            return None
        return super().__call__(frame, event, arg)


@pytest.mark.parametrize("method", ["auto", "read_write"])
def test_an_interruption_at_any_step_is_counted_right(wires, method):
    """At each opcode of the package that calls the sinks; in a sink's own, but for its last."""
    # The two ways make the same steps: here one has the odd ones, the other the even ones.
    n, stride = (0, 1) if FULL else (-1 if method == "auto" else 0, 2)
    source = wires.file(DATA)
    while True:
        n += stride
        os.lseek(source, 0, os.SEEK_SET)
        made = objects()
        stepper, result = InSinks(n), None
        before = sys.gettrace()
        sys.settrace(stepper)
        try:
            fanout(source, made[0], 40_000, method=method)
        except Interrupted as error:
            result = error.result
        finally:
            sys.settrace(before)
        if stepper.at is None:
            made[1][-1].close()  # else it would be written to by the collector
            break
        check(result, made)
    assert n > 100
