"""Fixtures of the tests of whole files."""

from __future__ import annotations

import pytest

from tests.support import rights


@pytest.fixture(params=["/var/tmp", "/dev/shm"])
def base(request):
    """A directory to which anybody gets, on a filesystem that has what is looked at."""
    yield from rights.directory(request.param)
