"""Cases of a test: every pair of values by default, the full product under SPLICEIO_TEST_FULL.

Rule 1: each two values of different axes meet in at least one case.
Rule 2: what is chosen depends on the axes alone, so that every worker collects the same cases.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence

import pytest

FULL = os.environ.get("SPLICEIO_TEST_FULL", "") not in ("", "0")
"""Whether the full products are asked for, as `make test-full` does."""


def pairwise(axes: Sequence[Sequence[object]]) -> list[tuple[object, ...]]:
    """Return rows with one value of each axis, in which every pair of values is found.

    Greedy: a row begins with a pair that is missing, and each other axis takes the value with
    which most missing pairs are met, the first one of equals.
    """
    spans = [range(len(axis)) for axis in axes]
    if len(axes) < 2:
        return list(itertools.product(*axes))
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(range(len(axes)), 2)
        for i in spans[a]
        for j in spans[b]
    }
    rows = []
    for first in sorted(missing):
        if first not in missing:
            continue
        row = dict(first)
        for axis in range(len(axes)):
            if axis not in row:
                row[axis] = max(
                    spans[axis],
                    key=lambda i: sum(
                        tuple(sorted(((axis, i), other))) in missing for other in row.items()
                    ),
                )
        missing -= set(itertools.combinations(sorted(row.items()), 2))
        rows.append(tuple(axes[axis][row[axis]] for axis in range(len(axes))))
    return rows


def cases(
    *, keep: Callable[..., bool] | None = None, **axes: Iterable[object]
) -> pytest.MarkDecorator:
    """Parametrize over the axes: every pair of values, or all of them (see FULL).

    `keep` says which combinations have a meaning, by their values in the order of the axes; a row
    of the cover that has none is replaced by the first rows of the product that have its pairs.
    """
    values = [list(axis) for axis in axes.values()]
    rows = list(itertools.product(*values)) if FULL else pairwise(values)
    if keep is not None:
        rows = [row for row in rows if keep(*row)] if FULL else _kept(values, rows, keep)
    ids = ["-".join(_name(value) for value in row) for row in rows]
    return pytest.mark.parametrize(tuple(axes), rows, ids=ids)


def _kept(values, rows, keep) -> list[tuple[object, ...]]:
    """Return the rows with a meaning, and of the product those that have the others' pairs."""

    def pairs(row):
        return set(itertools.combinations([(i, id(value)) for i, value in enumerate(row)], 2))

    kept = [row for row in rows if keep(*row)]
    met = set().union(*map(pairs, kept))
    for row in itertools.product(*values):
        if keep(*row) and not pairs(row) <= met:
            kept.append(row)
            met |= pairs(row)
    return kept


def _name(value: object) -> str:
    if isinstance(value, str):
        return value
    return getattr(value, "__name__", None) or repr(value).partition(" at 0x")[0]
