"""The model of the leakage example: what it computes, on numbers whose answer is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_assets.flights.leakage import Outcome, auc, fit, judge, plot, roc


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_auc_counts_pairs(rows):
    target = np.array([late for late, _ in rows])
    scores = np.array([float(score) for _, score in rows])
    pairs = [(one > other) + 0.5 * (one == other) for one in scores[target] for other in scores[~target]]
    if pairs:
        assert auc(target, scores) == pytest.approx(np.mean(pairs))


def test_the_fit_is_the_maximum_of_the_penalized_likelihood():
    random = np.random.default_rng(5)
    features = np.hstack([np.ones((500, 1)), random.normal(size=(500, 2))])
    target = (random.random(500) < 1 / (1 + np.exp(-(features @ [0.3, 1.0, -2.0])))).astype(float)
    weights = fit(features, target)

    def likelihood(at):
        scores = features @ at
        return float((target * scores - np.logaddexp(0, scores)).sum() - (at[1:] ** 2).sum() / 2)

    nearby = [weights + step for step in random.normal(scale=0.01, size=(50, 3))]
    assert all(likelihood(weights) > likelihood(other) for other in nearby)
    assert weights == pytest.approx([0.3, 1.0, -2.0], abs=0.5)


def test_a_feature_that_tells_all_gives_a_perfect_model_nulls_and_constants_included():
    target = pl.Series([True, False] * 50)
    features = pl.DataFrame({"tells": target.cast(pl.Int64), "constant": [1] * 100, "none": [None, 1.0] * 50})
    outcome = judge(features.select("tells", "constant"), target, features.select("tells", "constant"), target)
    assert outcome.auc == 1
    assert judge(features, target, features, target).auc == 1


def test_curves_go_from_corner_to_corner_and_are_drawn():
    curve = roc(np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert (curve[0], curve[50], curve[-1]) == (0.5, 1.0, 1.0)
    svg = plot({"one": Outcome(1, 1, 0.75, curve), "two": Outcome(1, 1, 0.5, curve)})
    assert svg.count("<polyline") == 2
    assert "AUC 0.750" in svg
