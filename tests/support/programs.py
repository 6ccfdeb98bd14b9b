"""Programs that nobody here wrote, as the tests need them."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str, *aliases: str) -> str:
    """Return a program's path; where it is missing, skip by its name, and fail where CI is set."""
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    found = (shutil.which(name, path=places) for name in (program, *aliases))
    path = next(filter(None, found), None)
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{program} is not installed, and this is CI: install it there")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path
