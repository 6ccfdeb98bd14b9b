"""What chooses the cases of the other tests: every pair of values is met, with few rows."""

from __future__ import annotations

import itertools

import pytest

from tests.support.cases import cases, pairwise


@pytest.mark.parametrize(
    ("sizes", "most"), [((4,), 4), ((3, 3), 9), ((3, 3, 3, 3), 13), ((9, 2, 5, 2, 3), 47)]
)
def test_every_pair_of_values_is_met(sizes, most):
    """Each two values of different axes stand together in a row, and the rows are few."""
    axes = [[f"{name}{i}" for i in range(size)] for name, size in zip("abcde", sizes, strict=False)]
    rows = pairwise(axes)
    assert len(rows) <= most
    for a, b in itertools.combinations(range(len(axes)), 2):
        assert {(row[a], row[b]) for row in rows} == set(itertools.product(axes[a], axes[b]))
    assert {row[0] for row in rows} == set(axes[0])


def test_what_has_no_meaning_is_left_out_and_its_pairs_are_met_elsewhere():
    """Of the pairs that stand in any row with a meaning, none is lost."""
    axes = {"a": [0, 1, 2], "b": [3, 4, 5], "c": [6, 7]}

    def keep(a, b, c):
        return a + b != 4 and b + c != 11

    rows = cases(keep=keep, **axes).args[1]
    meant = [row for row in itertools.product(*axes.values()) if keep(*row)]
    assert set(rows) <= set(meant)
    for one, other in itertools.combinations(range(3), 2):
        assert {(row[one], row[other]) for row in rows} == {(row[one], row[other]) for row in meant}
