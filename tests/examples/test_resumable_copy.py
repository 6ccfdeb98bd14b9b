"""examples/resumable_copy.py: stopped in any way, it goes on where it was, or begins anew.

Where a run has begun is what it says itself; that nothing before was written again is seen in the
part, which is marked in its middle.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.wires import payload

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "resumable_copy.py"
SIZE = (5 << 20) + 123
DATA = payload(SIZE)
SOME = (3 << 20) + 7

# A real signal, once exactly so many bytes have been moved.
STOPPED = """
    import os, runpy, signal, sys
    import spliceio

    some, number = int(sys.argv.pop(1)), int(sys.argv.pop(1))
    example = sys.argv.pop(1)

    class Stopped(spliceio.Transfer):
        def __init__(self, src, dst, **offsets):
            super().__init__(src, dst, some, **offsets)

        def __iter__(self):
            yield from super().__iter__()
            os.kill(os.getpid(), number)

    spliceio.Transfer = Stopped
    sys.argv[0] = example
    runpy.run_path(example, run_name="__main__")
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "src").write_bytes(DATA)
    return tmp_path


def run(place, *, before=(), **options):
    command = [sys.executable, *before, EXAMPLE, "src", "dst"]
    return subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=False, timeout=60, **options
    )


def stop(place, number=2, some=SOME):
    """Let it be stopped by a signal after so many bytes; return the part."""
    before = ["-c", textwrap.dedent(STOPPED), str(some), str(number)]
    done = run(place, before=before)
    assert done.returncode == (1 if number == 2 else -number)
    if number == 2:
        assert "stopped: run it again" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "dst").exists()
    return part_of(place)


def part_of(place):
    [part] = place.glob("dst.*.part")
    return part


def finish(place, begun, data=DATA):
    """Run it to its end; it must have begun there."""
    done = run(place)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"{begun} of {len(data)} bytes are there\n" in done.stderr
    assert (place / "dst").read_bytes() == data
    assert sorted(path.name for path in place.iterdir()) == ["dst", "src"]
    return done


def test_it_is_short():
    """An example to read: under 60 lines."""
    assert len(EXAMPLE.read_text().splitlines()) < 60


@pytest.mark.parametrize("size", [0, 1, 1 << 20, SIZE])
def test_in_one_go(place, size):
    """Without being stopped it is a copy, of an empty file too."""
    (place / "src").write_bytes(DATA[:size])
    finish(place, 0, DATA[:size])


def test_an_old_destination_stays_until_the_new_one_is_whole(place):
    """Replaced at the end, and not before."""
    (place / "dst").write_bytes(b"old")
    before = ["-c", textwrap.dedent(STOPPED), str(SOME), "2"]
    assert run(place, before=before).returncode == 1
    assert (place / "dst").read_bytes() == b"old"
    finish(place, SOME)


@pytest.mark.parametrize("number", [2, 9], ids=["SIGINT", "SIGKILL"])
def test_a_second_run_goes_on_where_the_first_one_stopped(place, number):
    """Only what was missing is copied: a mark in the part done is still there after."""
    part = stop(place, number)
    assert part.read_bytes() == DATA[:SOME]
    with open(part, "r+b") as file:
        file.write(b"mark")
    marked = b"mark" + DATA[4:]
    done = run(place)
    assert done.returncode == 0, done.stderr
    assert f"{SOME} of {SIZE} bytes are there\n" in done.stderr
    assert (place / "dst").read_bytes() == marked


def test_it_may_be_stopped_many_times(place):
    """Each run goes on from the one before, also when it had just begun or had just ended."""
    at = 0
    for some in (0, 1, 4095, 1 << 20, 3 << 20, 0):
        at += some
        assert stop(place, some=some).stat().st_size == at
    finish(place, at)


def test_a_full_disk_is_a_stop_too(place):
    """A limit of the file size stands for it: an error, and the next run goes on."""
    limit = (SOME, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    done = run(place, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert done.returncode == 1
    assert "OSError: [Errno 27]" in done.stderr
    finish(place, SOME)


@pytest.mark.parametrize("change", ["size", "mtime"])
def test_a_changed_source_begins_anew(place, change):
    """Another size or another mtime: the old part is dropped, and it says so."""
    stop(place)
    data = DATA
    if change == "size":
        data = payload(SIZE - 1, seed=2)
        status = (place / "src").stat()
        (place / "src").write_bytes(data)
        os.utime(place / "src", ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        status = (place / "src").stat()
        os.utime(place / "src", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert "src has changed since" in finish(place, 0, data).stderr


@pytest.mark.parametrize("where", [SOME - 1, SOME - (1 << 20)])
def test_a_damaged_part_begins_anew(place, where):
    """The last MiB of the part is not that of the source: none of it is trusted."""
    with open(stop(place), "r+b") as part:
        part.seek(where)
        part.write(bytes([DATA[where] ^ 1]))
    finish(place, 0)


def test_a_part_that_is_too_long_begins_anew(place):
    """More than the source has cannot be of it."""
    with open(stop(place), "ab") as part:
        part.write(bytes(SIZE))
    finish(place, 0)


@pytest.mark.parametrize("change", ["grows", "shrinks", "is touched"])
def test_a_source_that_changes_meanwhile_is_not_passed_off(place, change):
    """It says so, and makes no destination."""
    script = """
        import os, runpy, sys
        import spliceio

        example, change = sys.argv[2], sys.argv.pop(1)

        class Changing(spliceio.Transfer):
            def __iter__(self):
                if change == "grows":
                    with open("src", "ab") as file:
                        file.write(b"more")
                elif change == "shrinks":
                    os.truncate("src", 1000)
                else:
                    os.utime("src", ns=(0, 1))
                yield from super().__iter__()

        spliceio.Transfer = Changing
        sys.argv.pop(0)
        runpy.run_path(example, run_name="__main__")
    """
    done = run(place, before=["-c", textwrap.dedent(script), change])
    assert done.returncode == 1
    assert "src changed while it was copied: run it again" in done.stderr
    assert not (place / "dst").exists()
    data = (place / "src").read_bytes()
    done = run(place)
    assert done.returncode == 0, done.stderr
    assert (place / "dst").read_bytes() == data


def test_other_peoples_files_are_left_alone(place):
    """Only parts of this very destination are dropped, even if its name has wildcards."""
    names = ["dst.part", "other.1-2.part", "dst2.1-2.part", "dst.1.part", "dst.my-own.part"]
    for name in names:
        (place / name).write_bytes(b"mine")
    done = run(place)
    assert done.returncode == 0, done.stderr
    assert all((place / name).read_bytes() == b"mine" for name in names)
    command = [sys.executable, EXAMPLE, "src", "*"]
    subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=60)
    assert all((place / name).read_bytes() == b"mine" for name in names)
    assert (place / "*").read_bytes() == DATA
