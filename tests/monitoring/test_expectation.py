from __future__ import annotations

import numpy as np
import pytest

from feature_store.monitoring.expectation import LEAST, NEW_NORMAL, Series


def fed(values, season=7):
    series = Series(season)
    for value in values:
        series.push(value)
    return series


def test_too_little_is_no_forecast():
    assert fed([]).forecast() is None
    assert fed([1.0] * LEAST).forecast() is None
    assert fed([1.0] * (LEAST + 1)).forecast() is not None


def test_what_moves_slowly_is_foretold_by_its_last_value():
    walk = np.cumsum(np.random.default_rng(1).normal(0, 1, 200)) + 100
    forecast = fed(walk).forecast()
    assert forecast.by == "last"
    assert forecast.value == walk[-1]
    assert forecast.spread == pytest.approx(1, abs=0.4)


def test_what_repeats_weekly_is_foretold_by_the_week_before():
    rng = np.random.default_rng(2)
    weekly = [(100 if day % 7 < 5 else 20) + rng.normal(0, 1) for day in range(70)]
    forecast = fed(weekly).forecast()
    assert forecast.by == "season"
    assert forecast.value == weekly[-7]
    assert forecast.spread < 4


def test_noise_is_foretold_by_its_mean():
    noise = np.random.default_rng(3).normal(5, 1, 100)
    forecast = fed(noise).forecast()
    assert forecast.by == "mean"
    assert forecast.value == pytest.approx(noise[-28:].mean())


def test_gaps_and_failures_teach_nothing():
    noise = list(np.random.default_rng(4).normal(5, 1, 60))
    series = fed(noise)
    before = series.forecast()
    series.push(None)
    series.push(900.0, failed=True)
    after = series.forecast()
    assert after.value == pytest.approx(before.value, abs=0.3)
    assert after.spread == pytest.approx(before.spread, rel=0.2)
    assert 900.0 not in series.recent()


def test_what_lasts_three_weeks_is_the_new_normal():
    series = fed([5.0, 6.0] * 30)
    for _ in range(NEW_NORMAL - 1):
        series.push(50.0, failed=True)
    assert 50.0 not in series.recent()
    for _ in range(3):
        series.push(50.0, failed=True)
    assert 50.0 in series.recent()
