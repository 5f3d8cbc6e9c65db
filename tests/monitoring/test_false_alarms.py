"""How often checks are wrong: days of one distribution, drawn as the benchmark draws them; and what they find."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.drift import TRAINED_ROWS, false_alarms, faults, power

ALWAYS_FOUND = [
    ("mean + half a deviation", "normal"),
    ("mean + half a deviation", "skewed"),
    ("nulls + 8 points", "normal"),
    ("nulls + 8 points", "with_infinities"),
    ("all null", "normal"),
    ("all null", "constant"),
    ("one value in 100 infinite", "normal"),
    ("constant has another value", "constant"),
    ("two of four categories swapped", "few"),
]
"""At 1,000 rows, with either kind of baseline."""


def calm(rows: int, days: int, trained_rows: int | None, seed: int) -> None:
    failed, texts = false_alarms(np.random.default_rng(seed), rows, days, trained_rows)
    assert not failed, texts


@pytest.mark.parametrize("trained_rows", TRAINED_ROWS)
@pytest.mark.parametrize(("rows", "days"), [(20, 40), (1_000, 10)])
def test_days_of_one_distribution_are_calm(rows, days, trained_rows):
    calm(rows, days, trained_rows, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("trained_rows", TRAINED_ROWS)
@pytest.mark.parametrize(("rows", "days"), [(20, 1_000), (50, 400), (1_000, 800), (100_000, 10)])
@pytest.mark.timeout(600)
def test_many_days_of_one_distribution_are_calm(rows, days, trained_rows):
    calm(rows, days, trained_rows, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("trained_rows", TRAINED_ROWS)
@pytest.mark.timeout(600)
def test_faults_that_matter_are_found(trained_rows):
    found = power(np.random.default_rng(3), 1_000, 25, trained_rows)
    assert {(name, column): found[name][column] for name, column in ALWAYS_FOUND} == dict.fromkeys(ALWAYS_FOUND, 25)
    assert set(ALWAYS_FOUND) <= {(name, column) for name, replaced in faults().items() for column in replaced}
