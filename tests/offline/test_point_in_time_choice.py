"""The choice between the engines, as a function of a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feature_store.engines import engine_named
from feature_store.errors import SettingsError
from feature_store.offline.point_in_time.choice import ReadPlan, choose_engine

MB, GB = 2**20, 2**30
USUAL = ReadPlan(
    labels=1_000_000,
    history_bytes=3 * GB,
    largest_date_bytes=8 * MB,
    dates=365,
    threads=8,
    memory_bytes=16 * GB,
)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (USUAL, "sweep"),
        (replace(USUAL, labels=1_000_000_000), "sweep"),
        (replace(USUAL, labels=1, history_bytes=MB, largest_date_bytes=MB), "sweep"),
        (replace(USUAL, labels=1), "duckdb"),
        (replace(USUAL, labels=100), "sweep"),
        (replace(USUAL, largest_date_bytes=GB), "duckdb"),
        (replace(USUAL, largest_date_bytes=GB, history_bytes=GB, dates=1), "sweep"),
        (replace(USUAL, memory_bytes=256 * MB), "duckdb"),
    ],
    ids=[
        "a training set",
        "any number of labels",
        "a lookup in a small history",
        "a lookup in a large history",
        "more than a lookup",
        "dates that do not fit in memory side by side",
        "a large date that fits alone",
        "a small machine",
    ],
)
def test_a_plan_decides_which_engine_reads(plan, expected):
    assert choose_engine(plan) == expected


def test_engines_go_by_name():
    assert [engine_named(name).name for name in ("sweep", "duckdb", "auto")] == ["sweep", "duckdb", "auto"]
    with pytest.raises(SettingsError, match=r"FEATURE_STORE_ENGINE='spork' is no engine .* Use sweep, duckdb or spark"):
        engine_named("spork")
