"""What the kernel does, asked by doing it; and what happens where a sandbox says no.

The sandbox is a seccomp filter in a process of its own: the call is refused with the errno that
real ones give (EPERM from container profiles, ENOSYS from gVisor).
"""

from __future__ import annotations

import errno
import inspect
import itertools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import spliceio
from spliceio import Features, features
from tests.support.programs import need
from tests.support.sandbox import refuse
from tests.support.states import descriptors, no_more_descriptors

HANG = 60
CALLS = ("splice", "tee", "vmsplice", "sendfile", "copy_file_range")
NUMBERS = {
    "x86_64": {
        "splice": 275,
        "tee": 276,
        "vmsplice": 278,
        "sendfile": 40,
        "copy_file_range": 326,
        "memfd_create": 319,
        "pipe2": 293,
    },
    "aarch64": {
        "splice": 76,
        "tee": 77,
        "vmsplice": 75,
        "sendfile": 71,
        "copy_file_range": 285,
        "memfd_create": 279,
        "pipe2": 59,
    },
}.get(platform.machine(), {})
sandbox = pytest.mark.skipif(not NUMBERS, reason=f"no call numbers for {platform.machine()}")

SANDBOX = """
import ctypes, errno, json, os, socket, struct, sys, threading
import spliceio
from spliceio import Pipe, copy, features, relay

"""
SANDBOX += f"""
{inspect.getsource(refuse)}
refuse(json.loads(sys.argv[1]))
"""


def run(rules: dict[str, str], code: str, *args: str) -> object:
    """Run code where the calls are refused; return what it prints as JSON."""
    numbers = [[NUMBERS[call], getattr(errno, err)] for call, err in rules.items()]
    done = subprocess.run(
        [sys.executable, "-c", SANDBOX + code, json.dumps(numbers), *args],
        capture_output=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


PROBE = """
f = features()
print(json.dumps({name: [getattr(f, name).status, getattr(f, name).errno, getattr(f, name).note]
                  for name in ("splice", "tee", "vmsplice", "sendfile", "copy_file_range")}))
"""


# -- what it says ----------------------------------------------------------------------------------


def test_each_call_has_a_status_that_fits_its_errno():
    """Works and copies come without an errno, blocked and missing with one."""
    found = features()
    assert isinstance(found, Features)
    for name in CALLS:
        probe = getattr(found, name)
        assert probe.status in ("works", "copies", "blocked", "missing")
        assert (probe.errno == 0) == (probe.status in ("works", "copies"))
        assert (probe.status == "missing") == (probe.errno == errno.ENOSYS)
        assert probe.note
    assert found.kernel == platform.release()


def test_the_status_is_what_the_standard_library_sees():
    """os.splice and os.sendfile agree with the probe."""
    found = features()
    src, dst = os.memfd_create("src"), os.memfd_create("dst")
    reader, writer = os.pipe()
    try:
        os.write(src, b"data")
        for name, call in (
            ("splice", lambda: _splice(src, writer)),
            ("sendfile", lambda: os.sendfile(writer, src, 0, 4)),
            ("copy_file_range", lambda: os.copy_file_range(src, dst, 4, 0, 0)),
        ):
            try:
                assert call() == 4
                err = 0
            except OSError as error:
                err = error.errno
            assert getattr(found, name).errno == err
    finally:
        for fd in (src, dst, reader, writer):
            os.close(fd)


def _splice(src: int, writer: int) -> int:
    return spliceio.splice(src, writer, 4, offset_src=0)


def test_the_limits_are_those_of_the_kernel():
    """Pipe sizes as /proc has them and as a pipe really gets them."""
    found = features()
    assert found.pipe_max_size == int(Path("/proc/sys/fs/pipe-max-size").read_text())
    assert found.pipe_quota_pages == int(Path("/proc/sys/fs/pipe-user-pages-soft").read_text())
    with spliceio.Pipe() as one, spliceio.Pipe(1 << 20) as two:
        assert found.pipe_default == one.capacity
        assert found.pipe_granted == two.capacity


def test_the_table_is_for_people():
    """A line a call with its status, the kernel first, the sizes with units."""
    found = features()
    lines = str(found).splitlines()
    assert lines[0] == f"Linux {platform.release()}"
    for line, name in zip(lines[1:], CALLS, strict=False):
        assert line.split()[:2] == [name, getattr(found, name).status]
    assert "64 KiB" in str(found)
    assert all(line == line.rstrip() for line in lines)


def test_probing_leaves_nothing_behind_and_is_not_done_at_import():
    """No descriptor stays, and `import spliceio` makes none of the calls."""
    before = descriptors()
    features()
    assert descriptors() == before
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, spliceio; print('spliceio._kernel.features' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=True,
    )
    assert done.stdout == "False\n"


def test_without_descriptors_it_says_so():
    """That is no finding about the kernel, and no exception either: messages point here."""
    with no_more_descriptors():
        found = features()
    for name in ("pipe", *CALLS):
        assert (getattr(found, name).status, getattr(found, name).errno) == (
            "untried",
            errno.EMFILE,
        )
    assert (found.pipe_default, found.pipe_granted) == (0, 0)
    assert "pipe             untried (EMFILE)" in str(found)


@pytest.mark.parametrize("free", range(8))
def test_with_few_descriptors_it_says_what_it_could_try(free):
    """However many are left, nothing is raised and nothing is called refused."""
    before = descriptors()
    kept = [os.dup(0) for _ in range(free)]
    with no_more_descriptors():
        for fd in kept:
            os.close(fd)
        found = features()
    assert {getattr(found, name).status for name in ("pipe", *CALLS)} <= {
        "works",
        "copies",
        "untried",
    }
    assert descriptors() == before


# -- where a sandbox says no -----------------------------------------------------------------------


@sandbox
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("err", "status"), [("EPERM", "blocked"), ("ENOSYS", "missing"), ("EOPNOTSUPP", "blocked")]
)
def test_a_refused_call_is_told_and_the_others_still_work(call, err, status):
    """Blocked or missing, with the errno; nothing else changes."""
    here = {name: getattr(features(), name).status for name in CALLS}
    found = run({call: err}, PROBE)
    assert found[call][:2] == [status, getattr(errno, err)]
    assert {n: v[0] for n, v in found.items() if n != call} == {
        n: v for n, v in here.items() if n != call
    }


@sandbox
@pytest.mark.parametrize(("err", "status"), [("EPERM", "blocked"), ("ENOSYS", "missing")])
def test_where_no_pipe_can_be_made_that_is_told(err, status):
    """The calls that need one are untried; the one that does not is probed all the same."""
    code = PROBE.replace('("splice"', '("pipe", "splice"')
    found = run({"pipe2": err}, code)
    assert found["pipe"][:2] == [status, getattr(errno, err)]
    for name in ("splice", "tee", "vmsplice", "sendfile"):
        assert found[name][:2] == ["untried", getattr(errno, err)]
    assert found["copy_file_range"][0] == features().copy_file_range.status
    text = run({"pipe2": err}, "print(json.dumps(str(features())))")
    assert f"pipe             {status} ({err})" in text


@sandbox
def test_the_table_names_the_errno():
    """`blocked (EPERM)` is in the table of the command."""
    text = run({"vmsplice": "EPERM"}, "print(json.dumps(str(features())))")
    assert "vmsplice         blocked (EPERM)" in text


@sandbox
def test_without_memfd_the_probes_use_a_file():
    """A sandbox without memfd_create is probed all the same."""
    found = run({"memfd_create": "ENOSYS"}, PROBE)
    assert {value[0] for value in found.values()} <= {"works", "copies"}


COPY_FILE = """
data = os.urandom(3_000_000)
src, dst = (os.open(sys.argv[2], os.O_TMPFILE | os.O_RDWR) for _ in range(2))
os.write(src, data)
os.lseek(src, 0, os.SEEK_SET)
r = copy(src, dst)
assert os.pread(dst, 4_000_000, 0) == data
print(json.dumps([r.moved, r.method, [[f.method, f.errno, f.why] for f in r.fallbacks]]))
"""


@sandbox
@pytest.mark.parametrize(
    "rules",
    [
        {"copy_file_range": "ENOSYS"},
        {"copy_file_range": "EPERM"},
        {"copy_file_range": "ENOSYS", "sendfile": "EPERM"},
        {"copy_file_range": "ENOSYS", "sendfile": "EPERM", "splice": "ENOSYS"},
    ],
)
def test_a_file_is_copied_whatever_is_refused(rules, tmp_path):
    """The next method takes over, and each refusal is in the result with its errno."""
    with open(tmp_path / "a", "wb") as one, open(tmp_path / "b", "w+b") as two:
        order = spliceio.explain(two, one).order  # another on tmpfs
    refused = list(itertools.takewhile(lambda name: name in rules, order))
    moved, ran, fallbacks = run(rules, COPY_FILE, str(tmp_path))
    assert (moved, ran) == (3_000_000, order[len(refused)])
    told = [[name, err] for name, err, _ in fallbacks]
    assert told == [[name, getattr(errno, rules[name])] for name in refused]
    assert all(why for _, _, why in fallbacks)


RELAY = """
a, near = socket.socketpair()
far, b = socket.socketpair()
data, back = os.urandom(3_000_000), os.urandom(2_000_000)
def feed(sock, data):
    sock.sendall(data); sock.shutdown(socket.SHUT_WR)
def take(sock, got):
    while part := sock.recv(1 << 20):
        got.append(part)
there, here = [], []
threads = [threading.Thread(target=f, args=args) for f, args in (
    (feed, (a, data)), (feed, (b, back)), (take, (b, there)), (take, (a, here)))]
[t.start() for t in threads]
WORK
[t.join() for t in threads]
assert b"".join(there) == data
"""


@sandbox
@pytest.mark.parametrize(
    ("rules", "methods"),
    [
        ({"splice": "ENOSYS"}, {"read_write"}),
        ({"splice": "EPERM"}, {"read_write"}),
        ({"pipe2": "EPERM"}, {"read_write"}),
        ({"vmsplice": "ENOSYS", "tee": "ENOSYS", "sendfile": "ENOSYS"}, {"splice", "read_write"}),
    ],
)
def test_a_relay_is_exact_whatever_is_refused(rules, methods):
    """Both ways, and the methods say how."""
    work = "r = relay(near, far)"
    after = "print(json.dumps([r.a_to_b, r.b_to_a, r.reason, r.methods]))"
    code = RELAY.replace("WORK", work) + 'assert b"".join(here) == back\n' + after
    ab, ba, reason, ran = run(rules, code)
    assert (ab, ba, reason) == (3_000_000, 2_000_000, "eof")
    assert set(ran) <= methods
    assert sum(ran.values()) == 5_000_000


@sandbox
def test_a_socket_is_copied_without_splice_and_the_fallback_is_recorded():
    """One way, socket to socket."""
    work = (
        "r = copy(near, far); far.shutdown(socket.SHUT_WR)\n"
        "t = copy(far, near); near.shutdown(socket.SHUT_WR)"
    )
    after = "print(json.dumps([r.moved, r.method, [list(f) for f in r.fallbacks]]))"
    moved, method, fallbacks = run({"splice": "EPERM"}, RELAY.replace("WORK", work) + after)
    assert (moved, method) == (3_000_000, "read_write")
    assert [row[:2] for row in fallbacks] == [["splice", errno.EPERM]]
    assert "sandbox" in fallbacks[0][2]


@sandbox
def test_a_named_method_does_not_fall_back():
    """method="splice" where splice is blocked raises, and says why."""
    code = """
a, b = socket.socketpair()
a.sendall(b"x"); a.shutdown(socket.SHUT_WR)
try:
    copy(b, os.open("/dev/null", os.O_WRONLY), method="splice")
except OSError as error:
    print(json.dumps([error.errno, str(error)]))
"""
    err, text = run({"splice": "EPERM"}, code)
    assert err == errno.EPERM
    assert "features()" in text


def test_the_same_under_strace():
    """Injected by strace, as a person would try it."""
    code = "import json; from spliceio import features" + PROBE
    inject = ["-e", "trace=vmsplice", "-e", "inject=vmsplice:error=EPERM"]
    done = subprocess.run(
        [need("strace"), "-f", "-qq", "-o", os.devnull, *inject, sys.executable, "-c", code],
        capture_output=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["vmsplice"][:2] == ["blocked", errno.EPERM]
