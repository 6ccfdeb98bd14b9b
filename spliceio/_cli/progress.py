"""Standard error: messages, and a progress bar by rich."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator

__all__ = ["MissingExtra", "bar", "require_rich", "say"]


class MissingExtra(Exception):
    """An optional package is not installed; the text says how to get it."""


def require_rich(option: str = "--progress") -> None:
    """Raise MissingExtra without rich."""
    if importlib.util.find_spec("rich") is None:
        raise MissingExtra(f"{option} needs rich: pip install 'spliceio[cli]'")


@contextlib.contextmanager
def bar(wanted: bool, label: str, total: int | None) -> Iterator[Callable[[int], object] | None]:
    """Give a function that takes the total moved so far, or None when no bar is wanted.

    rich must be there (`require_rich`).
    """
    if not wanted:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task(label, total=total)
        yield lambda moved: progress.update(task, completed=moved)


def say(text: str) -> None:
    """Print a line to standard error; errors of that are ignored, as the data matters more."""
    if sys.stderr is not None:  # it is None when closed, and print() would take standard output
        with contextlib.suppress(OSError):
            # In one write: a line of another thread may come behind it, and not within it.
            print(f"{text}\n", end="", file=sys.stderr, flush=True)
