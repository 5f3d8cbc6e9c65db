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
)

COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=12)


@given(COUNTS, st.data())
def test_psi_is_its_formula(current, data):
    baseline = data.draw(st.lists(st.integers(0, 1000), min_size=len(current), max_size=len(current)))
    filled = [place for place, counts in enumerate(zip(current, baseline, strict=True)) if any(counts)]
    p = [current[place] or 0.5 for place in filled]
    q = [baseline[place] or 0.5 for place in filled]
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


def test_a_constant_does_not_drift_from_itself_by_rounding():
    for value in (0.1, 1 / 3, 99.99, -1e12 / 7):
        for count in (1, 10, 399, 100_000):
            sample = [value] * count
            assert not detect_drift(1, sample, value, 0.0), (value, count)
            assert not detect_drift(1, sample, float(np.mean(sample)), float(np.std(sample))), (value, count)
    assert detect_drift(1, [0.1, 0.1 + 1e-9], 0.1, 0.0)


def test_a_sample_with_infinities_has_drifted():
    found = detect_drift(1, [1.0, inf], 1.0, 0.5)
    assert (found.drifted, found.mean, found.z) == (True, inf, inf)
    assert detect_drift(1, [-inf, inf], 0.0, 1.0).mean is None
    assert detect_drift(1, [-inf, inf], 0.0, 1.0)
