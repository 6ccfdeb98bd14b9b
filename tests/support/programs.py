"""Programs that nobody here wrote, as the tests need them."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str) -> str:
    """Return a program's path; where it is missing, skip by its name, and fail where CI is set."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{program} is not installed, and this is CI: install it there")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path
