"""Validators, preconditions and ranges: RFC 9110, sections 8.8, 13 and 14, case by case."""

from __future__ import annotations

import os
from email.message import Message
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spliceio._http.conditional import (
    MOST_RANGES,
    Validators,
    http_date,
    parse_date,
    precondition,
    range_holds,
    ranges,
    validators,
)

AT = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of the RFC
NOW = Validators('"abc-10"', AT)
BEFORE, SAME, AFTER = (formatdate(AT + d, usegmt=True) for d in (-1, 0, 1))


def fields(**values: str | list[str]) -> Message:
    """A header, with _ for - in the names."""
    made = Message()
    for name, value in values.items():
        for one in [value] if isinstance(value, str) else value:
            made[name.replace("_", "-")] = one
    return made


def asks(**values: str | list[str]) -> dict[str, str | list[str]]:
    """Name the fields of a request."""
    return values


# -- dates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_the_three_formats_of_a_date(text):
    """IMF-fixdate, RFC 850 and asctime mean the same second."""
    assert parse_date(text) == AT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +0200",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "784111777",
        "x" * 100_000,
        "Sun, 06 Nov 1994 08:49:37 GMT" + " " * 64,
    ],
)
def test_what_is_no_date(text):
    """None, and no exception."""
    assert parse_date(text) is None


def test_a_leap_second_is_a_date():
    """A second 60 counts as 59."""
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == parse_date(
        "Sat, 31 Dec 2016 23:59:59 GMT"
    )


@given(st.integers(0, 253402300799))
def test_a_date_that_was_written_is_read(second):
    """Every second up to the year 9999."""
    text = http_date(second)
    assert text is not None
    assert len(text) == 29
    # The two digits of RFC 850 do not matter here: the year has four.
    assert parse_date(text) == second


@pytest.mark.parametrize("second", [-1, 253402300800, 2**62])
def test_a_year_without_four_digits_has_no_date(second):
    """Nothing is written for it."""
    assert http_date(second) is None


@given(st.text(max_size=80))
def test_no_text_is_too_odd_for_a_date(text):
    """None or a number, whatever comes."""
    assert parse_date(text) is None or isinstance(parse_date(text), int)


# -- validators ------------------------------------------------------------------------------------


def test_a_tag_tells_versions_apart(tmp_path):
    """Another size, or another time by a nanosecond, is another tag; the same file has the same."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, AT * 10**9))
    first = validators(os.stat(path))
    assert first == validators(os.stat(path))
    assert first.modified == AT
    assert first.etag.startswith('"')
    os.utime(path, ns=(1, AT * 10**9 + 1))
    second = validators(os.stat(path))
    path.write_bytes(b"four")
    os.utime(path, ns=(1, AT * 10**9 + 1))
    third = validators(os.stat(path))
    assert len({first.etag, second.etag, third.etag}) == 3
    assert {first.modified, second.modified, third.modified} == {AT}


@pytest.mark.parametrize("second", [-5, 10**13])
def test_a_time_that_no_header_holds_still_makes_a_tag(second):
    """A time before 1970, or after 9999 as tmpfs keeps it, does not stop it from being served."""
    path = Path("/dev/shm") / f"spliceio-{os.getpid()}"
    path.touch()
    try:
        os.utime(path, (second, second))
        made = validators(os.stat(path))
        assert made.modified == second
        assert made.etag.strip('"').replace("-", "").isalnum()
        assert http_date(made.modified) is None
    finally:
        path.unlink()


# -- preconditions, in the order of 13.2.2 ---------------------------------------------------------

TAG = NOW.etag
CASES = [
    (asks(), None),
    # If-Match: strong comparison
    (asks(If_Match="*"), None),
    (asks(If_Match=TAG), None),
    (asks(If_Match=f'"x", {TAG}'), None),
    (asks(If_Match=['"x"', TAG]), None),
    (asks(If_Match='"x"'), 412),
    (asks(If_Match=f"W/{TAG}"), 412),
    (asks(If_Match=""), 412),
    (asks(If_Match="abc-10"), 412),
    # it is decided before If-Unmodified-Since, which then does not count
    (asks(If_Match=TAG, If_Unmodified_Since=BEFORE), None),
    (asks(If_Match='"x"', If_Unmodified_Since=AFTER), 412),
    (asks(If_Unmodified_Since=BEFORE), 412),
    (asks(If_Unmodified_Since=SAME), None),
    (asks(If_Unmodified_Since=AFTER), None),
    (asks(If_Unmodified_Since="soon"), None),
    # If-None-Match: weak comparison
    (asks(If_None_Match="*"), 304),
    (asks(If_None_Match=TAG), 304),
    (asks(If_None_Match=f"W/{TAG}"), 304),
    (asks(If_None_Match=f'"a,b" ,\t W/"c",,{TAG}'), 304),
    (asks(If_None_Match=['"a"', TAG]), 304),
    (asks(If_None_Match='"x"'), None),
    (asks(If_None_Match=""), None),
    (asks(If_None_Match="abc-10"), None),
    (asks(If_None_Match=f'"a" "b" {TAG}'), None),
    # it is decided before If-Modified-Since, which then does not count
    (asks(If_None_Match='"x"', If_Modified_Since=AFTER), None),
    (asks(If_None_Match=TAG, If_Modified_Since=BEFORE), 304),
    (asks(If_Modified_Since=BEFORE), None),
    (asks(If_Modified_Since=SAME), 304),
    (asks(If_Modified_Since=AFTER), 304),
    (asks(If_Modified_Since="Sunday, 06-Nov-94 08:49:37 GMT"), 304),
    (asks(If_Modified_Since="Sun Nov  6 08:49:37 1994"), 304),
    (asks(If_Modified_Since="tomorrow"), None),
    (asks(If_Modified_Since=[AFTER, AFTER]), None),
    # the first two are decided before the last two
    (asks(If_Match='"x"', If_None_Match=TAG), 412),
    (asks(If_Unmodified_Since=BEFORE, If_Modified_Since=AFTER), 412),
    (asks(If_Match=TAG, If_None_Match=TAG), 304),
    (asks(If_Unmodified_Since=AFTER, If_Modified_Since=AFTER), 304),
]


@pytest.mark.parametrize(("given_fields", "status"), CASES, ids=lambda v: str(v))
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions(method, given_fields, status):
    """What a client asked for when it last saw the file decides whether it gets it again."""
    assert precondition(method, fields(**given_fields), NOW) == status


@pytest.mark.parametrize(
    ("given_fields", "status"),
    [(asks(If_None_Match=TAG), 412), (asks(If_Modified_Since=AFTER), None)],
)
def test_a_method_that_changes_something_is_never_304(given_fields, status):
    """If-None-Match gives 412, and If-Modified-Since does not count."""
    assert precondition("PUT", fields(**given_fields), NOW) == status


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (None, True),
        (TAG, True),
        (f" {TAG} ", True),
        (f"W/{TAG}", False),
        ('"x"', False),
        ("*", False),
        (SAME, True),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        (BEFORE, False),
        (AFTER, False),
        ("", False),
        ([TAG, TAG], False),
    ],
)
def test_if_range(value, holds):
    """Only the same strong tag, or exactly the same date, lets a part be sent."""
    assert range_holds(fields() if value is None else fields(If_Range=value), NOW) is holds


# -- ranges ----------------------------------------------------------------------------------------


def first_bytes(count: int) -> str:
    """Ask for so many bytes from the beginning, each as a range of its own."""
    return "bytes=" + ",".join(f"{n}-{n}" for n in range(count))


@pytest.mark.parametrize(
    ("text", "size", "wanted"),
    [
        ("bytes=0-0", 10, [(0, 1)]),
        ("bytes=0-", 10, [(0, 10)]),
        ("bytes=9-", 10, [(9, 1)]),
        ("bytes=2-5", 10, [(2, 4)]),
        ("bytes=2-50", 10, [(2, 8)]),
        ("bytes=-3", 10, [(7, 3)]),
        ("bytes=-30", 10, [(0, 10)]),
        ("BYTES=0-1", 10, [(0, 2)]),
        ("bytes = 0-1", 10, [(0, 2)]),
        ("bytes=0-1, 4-5 ,\t-1", 10, [(0, 2), (4, 2), (9, 1)]),
        ("bytes=,0-1,,", 10, [(0, 2)]),
        ("bytes=8-9,0-1", 10, [(8, 2), (0, 2)]),
        ("bytes=0-4,2-5", 10, [(0, 5), (2, 4)]),
        ("bytes=0-1,20-30", 10, [(0, 2)]),
        (f"bytes={'0' * 30}1-2", 10, [(1, 2)]),
        # nothing of it is in the file
        ("bytes=10-", 10, []),
        ("bytes=10-20", 10, []),
        ("bytes=-0", 10, []),
        ("bytes=99999999999999999999999999-", 10, []),
        ("bytes=10-,20-,-0", 10, []),
        # the whole file
        ("bytes=5-2", 10, None),
        ("bytes=0-1,5-2", 10, None),
        ("bytes=-", 10, None),
        ("bytes=", 10, None),
        ("bytes=,", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=1-2x", 10, None),
        ("bytes=+1-2", 10, None),
        ("bytes=1--2", 10, None),
        ("bytes=\u0661-\u0662", 10, None),
        ("bytes=0x0-0x1", 10, None),
        ("lines=0-1", 10, None),
        ("0-1", 10, None),
        ("", 10, None),
        (f"bytes={'9' * 5000}-", 10, None),
        ("bytes=0-9,0-0", 10, None),
        ("bytes=0-,0-", 10, None),
        ("bytes=0-", 0, None),
        ("bytes=-1", 0, None),
        (first_bytes(MOST_RANGES), 99, [(n, 1) for n in range(16)]),
        (first_bytes(MOST_RANGES + 1), 99, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_ranges(text, size, wanted):
    """First and last are inclusive, a suffix counts from the end; nonsense is the whole file."""
    assert ranges(fields(Range=text), size) == wanted


def test_no_range_and_two_range_fields_are_the_whole_file():
    """A field that must not be repeated means nothing when it is."""
    assert ranges(fields(), 10) is None
    assert ranges(fields(Range=["bytes=0-1", "bytes=0-1"]), 10) is None


def model(specs: list[tuple[int | None, int | None]], data: bytes) -> list[bytes] | None:
    """What the RFC says, by slicing: None for the whole."""
    found = []
    for first, last in specs:
        if first is not None and last is not None and last < first:
            return None
        if first is None:
            part = data[-last:] if last else b""
        else:
            part = data[first:] if last is None else data[first : last + 1]
        if part:
            found.append(part)
    too_much = len(specs) > MOST_RANGES or sum(map(len, found)) > len(data)
    return None if too_much or not data else found


numbers = st.integers(0, 40)
specs = st.one_of(st.tuples(numbers, st.one_of(st.none(), numbers)), st.tuples(st.none(), numbers))


@given(st.lists(specs, min_size=1, max_size=20), st.integers(0, 30))
def test_ranges_are_the_slices_of_a_model(wanted, size):
    """For any list of ranges and any size, what would be served is what slicing gives."""
    data = bytes(range(size))
    text = ", ".join(
        f"{'' if first is None else first}-{'' if last is None else last}" for first, last in wanted
    )
    got = ranges(fields(Range=f"bytes={text}"), size)
    served = None if got is None else [data[offset : offset + count] for offset, count in got]
    assert served == model(wanted, data)
    assert got is None or sum(count for _, count in got) <= size


@given(st.text(alphabet='bytes=0123456789-,; \t"Wx', max_size=60), st.integers(0, 1000))
def test_no_range_is_too_odd(text, size):
    """Whatever comes, what is served lies in the file and is no more than it."""
    got = ranges(fields(Range=text), size) or []
    assert all(offset >= 0 and count > 0 and offset + count <= size for offset, count in got)
    assert sum(count for _, count in got) <= size


@given(st.text(alphabet='"W/abc-10,* \t\\é', max_size=60))
def test_no_tag_is_too_odd(text):
    """A list of tags, broken or not, is decided without an exception."""
    assert precondition("GET", fields(If_Match=text), NOW) in (None, 412)
    assert precondition("GET", fields(If_None_Match=text), NOW) in (None, 304)
