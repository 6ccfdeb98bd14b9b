"""Fixtures of the tests of whole files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from spliceio._files import place as _place
from tests.support import rights
from tests.support.small_files import DATA, PLACES


@pytest.fixture(params=["/var/tmp", "/dev/shm"])
def base(request):
    """A directory to which anybody gets, on a filesystem that has what is looked at."""
    yield from rights.directory(request.param)


@pytest.fixture(params=PLACES)
def folder(request):
    """A directory with a source, on a disk and in memory in turn."""
    with tempfile.TemporaryDirectory(dir=PLACES[request.param]) as made:
        (Path(made) / "src").write_bytes(DATA)
        yield Path(made)


@pytest.fixture
def long_way(monkeypatch):
    """How many copies took the long way to a path."""
    took, find = [], _place.Place.find

    def counted(place):
        took.append(place.path)
        find(place)

    monkeypatch.setattr(_place.Place, "find", counted)
    return took
