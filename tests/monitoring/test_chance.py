"""What chance does: the bound against exact sums, and its promise against simulation."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feature_store.monitoring.chance import differs, excess_chance


def exact(hits, rows, baseline_hits, baseline_rows):
    marked, total = hits + baseline_hits, rows + baseline_rows
    ways = sum(comb(marked, k) * comb(total - marked, rows - k) for k in range(hits, min(marked, rows) + 1))
    return float(Fraction(ways, comb(total, rows)))


@given(st.integers(1, 60), st.integers(1, 300), st.data())
def test_the_bound_is_never_below_the_exact_chance_and_close_to_it_where_that_is_small(rows, baseline_rows, data):
    hits, before = data.draw(st.integers(0, rows)), data.draw(st.integers(0, baseline_rows))
    bound, chance = excess_chance(hits, rows, before, baseline_rows), exact(hits, rows, before, baseline_rows)
    assert chance <= bound * (1 + 1e-9)
    assert bound <= 1
    if chance < 1e-4:
        assert bound < 1.6 * chance


def test_fractions_are_rounded_to_the_side_of_less_evidence():
    assert excess_chance(5.7, 20, 1, 100) == excess_chance(5, 20, 1, 100)
    assert excess_chance(5, 20, 0.2, 100) == excess_chance(5, 20, 1, 100)
    assert excess_chance(5, 20, 3, 100.9) == excess_chance(5, 20, 3, 100)


def test_nothing_is_no_evidence():
    assert excess_chance(0, 0, 1, 10) == excess_chance(5, 5, 0, 0) == excess_chance(0, 100, 50, 100) == 1
    assert not differs([3.0], [5.0], 0.05, ordered=True)


def test_samples_of_one_distribution_differ_as_seldom_as_said():
    rng = np.random.default_rng(7)
    for bins in (2, 10, 300):
        for rows in (20, 500):
            wrong = 0
            for _ in range(300):
                current, baseline = rng.multinomial(rows, [1 / bins] * bins), rng.multinomial(2000, [1 / bins] * bins)
                wrong += differs(current.tolist(), baseline.tolist(), 0.01, ordered=bins == 10)
            assert wrong <= 9, (bins, rows)  # 3 expected, at most


def test_other_distributions_differ():
    assert differs([200, 100, 100], [1000, 1000, 1000], 1e-6, ordered=False)
    assert differs([200, 100, 100], [1000, 1000, 1000], 1e-6, ordered=True)
    assert differs([0, 20], [2000, 0], 1e-6, ordered=False)
