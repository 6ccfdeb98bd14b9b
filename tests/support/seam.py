"""The Python face of the C test seam: script what each system call answers, read what was asked.

Rules are taken in order: the first one that matches a call, and has turns left, decides it. So a
sequence is written down as it shall happen: `cap("splice", 16384, times=3), fail("splice", ENOMEM)`
lets three calls pass with at most 16384 bytes each, and the fourth fails. A capped call is a real
one; only failures and zeros are invented.

Rule 1: the memory of a Seam lives as long as the Seam does; keep it while the transfer is run.
Rule 2: a log that overflowed is an error, never a short list.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, NamedTuple

from spliceio._cffi import ffi, lib
from spliceio._fanout import act as _fan_act
from spliceio._files import act as _file_act
from spliceio._relay import act as _relay_act
from spliceio._transfer import act as _act
from spliceio._transfer import flow as _flow

CALLS = {
    "splice": lib.SIO_CALL_SPLICE,
    "tee": lib.SIO_CALL_TEE,
    "vmsplice": lib.SIO_CALL_VMSPLICE,
    "sendfile": lib.SIO_CALL_SENDFILE,
    "copy_file_range": lib.SIO_CALL_COPY_FILE_RANGE,
    "read": lib.SIO_CALL_READ,
    "write": lib.SIO_CALL_WRITE,
    "poll": lib.SIO_CALL_POLL,
    "pipe": lib.SIO_CALL_PIPE,
    "shutdown": lib.SIO_CALL_SHUTDOWN,
    "unread": lib.SIO_CALL_UNREAD,
    "clone": lib.SIO_CALL_CLONE,
    "fallocate": lib.SIO_CALL_FALLOCATE,
    "seek": lib.SIO_CALL_SEEK,
    "truncate": lib.SIO_CALL_TRUNCATE,
    "accept": lib.SIO_CALL_ACCEPT,
    "socket": lib.SIO_CALL_SOCKET,
    "connect": lib.SIO_CALL_CONNECT,
    "peek": lib.SIO_CALL_PEEK,
    "unsent": lib.SIO_CALL_UNSENT,
    "tls_head": lib.SIO_CALL_TLS_HEAD,
    "epoll_ctl": lib.SIO_CALL_EPOLL_CTL,
    "epoll_wait": lib.SIO_CALL_EPOLL_WAIT,
    "stat": lib.SIO_CALL_STAT,
    "open": lib.SIO_CALL_OPEN,
    "access": lib.SIO_CALL_ACCESS,
    "statfs": lib.SIO_CALL_STATFS,
    "xattr": lib.SIO_CALL_XATTR,
    "chmod": lib.SIO_CALL_CHMOD,
    "link": lib.SIO_CALL_LINK,
    "rename": lib.SIO_CALL_RENAME,
    "utimes": lib.SIO_CALL_UTIMES,
    "random": lib.SIO_CALL_RANDOM,
}
SITES = {
    "any": lib.SIO_PHASE_ANY,
    "direct": lib.SIO_PHASE_DIRECT,
    "fill": lib.SIO_PHASE_FILL,
    "drain": lib.SIO_PHASE_DRAIN,
    "memory": lib.SIO_PHASE_MEMORY,
    "stage": lib.SIO_PHASE_STAGE,
    "drop": lib.SIO_PHASE_DROP,
}
_CALL_NAMES = {number: name for name, number in CALLS.items()}
_SITE_NAMES = {number: name for name, number in SITES.items()}
ALWAYS = 2**31 - 1
MOVES = ("splice", "sendfile", "copy_file_range", "read", "write")


class Rule(NamedTuple):
    """One line of a script."""

    call: str
    site: str
    skip: int
    times: int
    action: int
    value: int


def fail(call: str, err: int, *, site: str = "any", skip: int = 0, times: int = 1) -> Rule:
    """Answer -err without doing anything."""
    return Rule(call, site, skip, times, lib.SIO_FAIL, err)


def zero(call: str, *, site: str = "any", skip: int = 0, times: int = 1) -> Rule:
    """Answer 0 without doing anything."""
    return Rule(call, site, skip, times, lib.SIO_ZERO, 0)


def cap(call: str, most: int, *, site: str = "any", skip: int = 0, times: int = ALWAYS) -> Rule:
    """Do the call, with at most so many bytes."""
    return Rule(call, site, skip, times, lib.SIO_CAP, most)


def swap(call: str, number: int, other: int, *, skip: int = 0) -> Rule:
    """Let a number be a duplicate of another just before a call, as another thread can."""
    return Rule(call, "any", skip, 1, lib.SIO_SWAP, other << 32 | number)


class Row(NamedTuple):
    """One call as it was made."""

    call: str
    site: str
    src: int
    dst: int
    flags: int
    len: int
    result: int


class Seam:
    """Rules and a log, for one flow or several."""

    def __init__(self, *rules: Rule, log_size: int = 100_000) -> None:
        self.c = ffi.new("struct sio_faults *")
        self._rules = ffi.new("struct sio_rule[]", max(1, len(rules)))
        self._log = ffi.new("struct sio_log_row[]", log_size)
        for slot, rule in zip(self._rules, rules, strict=False):
            slot.call, slot.phase = CALLS[rule.call], SITES[rule.site]
            slot.skip, slot.times = rule.skip, rule.times
            slot.action, slot.value = rule.action, rule.value
        self.c.rules, self.c.rule_count = self._rules, len(rules)
        self.c.log, self.c.log_size = self._log, log_size

    def under(self, flow: Any) -> None:
        """Put the seam under a flow that has not begun."""
        lib.sio_test_transfer(flow.c, self.c)

    def lift(self) -> None:
        """Let every later call pass as it is, those of a transfer that runs too."""
        for rule in self._rules:
            rule.times = 0

    def attach(self, transfer: Any) -> Any:
        """Put the seam under a Transfer that has not begun; return the Transfer."""
        self.under(transfer._flow)
        return transfer

    @contextmanager
    def everywhere(self, monkeypatch):
        """Put the seam under every flow that is made meanwhile (`copy`, `discard`, `chunks`)."""
        begin = _flow.Flow.__init__

        def made(flow, *args, **kwargs):
            begin(flow, *args, **kwargs)
            self.under(flow)

        def acting(act):
            def call(c, *args):
                c.faults = self.c
                try:
                    return act(c, *args)
                finally:
                    c.faults = ffi.NULL

            return call

        with monkeypatch.context() as patch:
            patch.setattr(_flow.Flow, "__init__", made)
            for act in ("_copy", "_send", "_copy_rest", "_send_rest"):
                patch.setattr(_act, act, acting(getattr(_act, act)))
            patch.setattr(_file_act, "_copy", acting(_file_act._copy))
            patch.setattr(_fan_act, "_fanout", acting(_fan_act._fanout))
            patch.setattr(_relay_act, "_act", acting(_relay_act._act))
            yield self

    @property
    def count(self) -> int:
        """How many calls were made."""
        return int(self.c.log_count)

    @property
    def log(self) -> list[Row]:
        """Every call, in order."""
        if self.c.log_count > self.c.log_size:
            raise AssertionError(f"the log overflowed: {self.c.log_count} calls")
        return [
            Row(
                _CALL_NAMES[row.call],
                _SITE_NAMES[row.phase],
                row.__getattribute__("in"),
                row.out,
                row.flags,
                row.len,
                row.result,
            )
            for row in self._log[0 : self.c.log_count]
        ]

    def calls(self, call: str, site: str = "any") -> list[Row]:
        """Return the rows of one call."""
        return [row for row in self.log if row.call == call and site in ("any", row.site)]

    def unused(self) -> list[int]:
        """Return the turns that failures and zeros still have: all 0 when a script was played."""
        rules = self._rules[0 : self.c.rule_count]
        return [int(rule.times) for rule in rules if rule.action != lib.SIO_CAP]


def laws(log: list[Row]) -> None:
    """Assert what must be true of every log, whatever the kernel answered.

    MORE is never set and NONBLOCK always is; a drain asks for no more than what is held; nothing
    is taken while something is held; no call exceeds what the kernel takes.
    """
    pipe_r = next((row.src for row in log if row.call == "splice" and row.site == "drain"), None)
    in_pipe = in_buffer = 0
    for row in log:
        where = f"in {row}"
        if row.call in MOVES:
            assert 0 < row.len <= lib.SIO_MAX_COUNT, where
            assert row.result <= row.len, where
        if row.call == "splice":
            assert row.flags & 2, f"NONBLOCK is missing {where}"
            assert not row.flags & 4, f"MORE is set {where}"
        got = max(row.result, 0)
        if row.call == "splice" and row.site == "drain":
            assert row.len <= in_pipe, f"more than the {in_pipe} bytes held is asked for {where}"
            in_pipe -= got
        elif row.call == "write" and row.site == "memory":
            assert not in_pipe, f"overtakes the {in_pipe} bytes in the pipe {where}"
            assert not in_buffer, f"overtakes the {in_buffer} bytes in the buffer {where}"
        elif row.call == "write":
            assert row.len <= in_buffer, f"more than the {in_buffer} bytes read {where}"
            in_buffer -= got
        elif row.call == "read" and row.src == pipe_r:
            assert not in_buffer, where
            in_pipe -= got
            in_buffer += got
        elif row.call in ("splice", "sendfile", "copy_file_range", "read"):
            assert not in_pipe, f"taken while {in_pipe} bytes are in the pipe {where}"
            assert not in_buffer, f"taken while {in_buffer} bytes are in the buffer {where}"
            if row.call == "read":
                in_buffer += got
            elif row.site == "fill":
                in_pipe += got
