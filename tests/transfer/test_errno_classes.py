"""What class each errno is of, all of them: other tests take one or two of a class for all.

Rule 1: what passes is asked again; a refusal falls to the next method; a connection that has gone
        stays so; all else is an error that is told once, after which the transfer can go on.
Rule 2: of what is read without read(), no error is a verdict on the file but those named here.
"""

from __future__ import annotations

import errno

import pytest

from spliceio import Transfer
from tests.support.seam import Seam, fail
from tests.support.wires import payload

DATA = payload(50_000)
CLASSES = {
    "passes": {errno.EINTR, errno.EAGAIN},
    "refusal": {
        *(errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EBADF),
        *(errno.EACCES, errno.ENOTTY, errno.ETXTBSY),
    },
    "gone": {
        *(errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED),
        *(errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH),
    },
}
VERDICTS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMSGSIZE),
    *(errno.ENOMEM, errno.ENOBUFS, errno.ENOTCONN),
}
"""Errors that are the destination's, or a shortage, also of a call that reads a file."""


def class_of(number, src):
    for name, numbers in CLASSES.items():
        if number in numbers:
            return name
    return "refusal" if src == "file" and number not in VERDICTS else "error"


def seen(wires, src, dst, rule):
    """Let the first call fail once; return what class of errno the transfer took it for."""
    source, sink, seam, said = wires.source(src, DATA), wires.sink(dst), Seam(rule), []
    with seam.attach(Transfer(source.end, sink.end)) as transfer:
        for _ in range(3):
            try:
                transfer.run()
                break
            except OSError as error:
                said.append(error.errno)
        fallbacks = [fallback.errno for fallback in transfer.fallbacks]
    if said == [rule.value] * 3:
        assert sink.received() == b""
        return "gone"
    assert sink.received() == DATA
    if said:
        assert (said, fallbacks) == ([rule.value], [])
        return "error"
    assert fallbacks in ([], [rule.value])
    return "refusal" if fallbacks else "passes"


@pytest.mark.parametrize(
    ("src", "dst", "call", "site"),
    [
        ("unix", "file", "splice", "fill"),
        ("pipe", "unix", "splice", "direct"),
        ("file", "unix", "sendfile", "direct"),
    ],
)
def test_the_class_of_every_errno(wires, src, dst, call, site):
    """At the first call of a loop, whose source is a stream or a file."""
    found = {}
    for number in errno.errorcode:
        found[errno.errorcode[number]] = seen(wires, src, dst, fail(call, number, site=site))
        wires.ends.close()
    assert found == {errno.errorcode[number]: class_of(number, src) for number in errno.errorcode}
