from __future__ import annotations

from math import inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import InvalidRequestError
from feature_store.monitoring.drift import (
    chi_square_quantile_999,
    detect_drift,
    null_term,
    psi,
    sampling_psi,
    two_proportion_z,
)

COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=12)


@given(COUNTS, st.data())
def test_psi_is_its_formula(current, data):
    baseline = data.draw(st.lists(st.integers(0, 1000), min_size=len(current), max_size=len(current)))
    p = [count or 0.5 for count in current]
    q = [count or 0.5 for count in baseline]
    expected = sum((a / sum(p) - b / sum(q)) * log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    assert psi(current, baseline) == pytest.approx(expected, abs=1e-12)
    assert psi(current, baseline) == pytest.approx(psi(baseline, current), abs=1e-12)
    assert psi(current, current) == 0


def test_nulls_are_a_bin_of_their_own():
    assert null_term(10, 100, 10, 100) == 0
    assert null_term(0, 0, 10, 100) == 0
    assert null_term(100, 1000, 0, 1000) > 0.1


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 10.828), (2, 13.816), (3, 16.266), (5, 20.515), (9, 27.877), (10, 29.588), (20, 45.315), (50, 86.661)],
)
def test_the_chi_square_quantile_is_that_of_the_tables(degrees, quantile):
    assert chi_square_quantile_999(degrees) == pytest.approx(quantile, rel=0.02)


def test_equal_distributions_stay_below_what_sampling_gives():
    rng = np.random.default_rng(7)
    beyond = 0
    for _ in range(4000):
        current, baseline = rng.multinomial(500, [0.1] * 10), rng.multinomial(20_000, [0.1] * 10)
        beyond += psi(current, baseline) > sampling_psi(10, 500, 20_000)
    assert beyond / 4000 < 0.004
    assert sampling_psi(10, 0, 100) == inf


def test_two_proportions():
    assert two_proportion_z(100, 1000, 0, 20_000) > 30
    assert two_proportion_z(0, 0, 1, 2) == 0
    assert two_proportion_z(1, 10, 10, 100) == 0
    assert two_proportion_z(0, 100, 50, 100) < -5


def test_a_mean_that_moved_is_drift():
    rng = np.random.default_rng(1)
    calm = detect_drift(7, rng.normal(10, 2, 10_000), 10, 2)
    assert not calm
    assert (calm.feature_id, calm.drifted) == (7, False)
    moved = detect_drift(7, [*rng.normal(10.2, 2, 10_000), None, float("nan")], 10, 2)
    assert moved
    assert moved.z == pytest.approx(10, abs=3)
    assert moved.shift == pytest.approx(0.1, abs=0.03)
    assert moved.mean == pytest.approx(10.2, abs=0.1)


def test_drift_at_the_borders():
    assert not detect_drift(1, [], 0, 1)
    assert not detect_drift(1, [5, 5], 5, 0)
    assert detect_drift(1, [5, 6], 5, 0)
    with pytest.raises(InvalidRequestError, match="Feature 3"):
        detect_drift(3, [1.0], 0.0, -1.0)
    with pytest.raises(InvalidRequestError, match="nan"):
        detect_drift(3, [1.0], float("nan"), 1.0)
