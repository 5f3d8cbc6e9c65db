"""The nightly monitor and freshness, night after night under a clock that is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from feature_store.definitions.entity import Entity
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.errors import DefinitionError
from tests.orders import START, Orders, orders, some_orders, spending

pytestmark = pytest.mark.slow

USERS = 60


class Scores(FeatureSchema):
    score: float = feature("Changes daily.")
    visits: int = feature("Changes daily.")


def scores():
    @feature_group(
        entity=Entity("user", {"user": str}),
        source=Orders(orders()),
        schema=Scores,
        owner="team@example.com",
        ttl=timedelta(days=3),
        freshness=timedelta(hours=30),
    )
    def scores(events: pl.LazyFrame) -> pl.LazyFrame:
        """Daily scores."""
        return events

    return scores


def night(store, group, clock, day, rng, *, stuck=None, nulls=0):
    moment = datetime(2024, 3, 1, 12, tzinfo=UTC) + timedelta(days=day)
    score = rng.normal(10, 2, USERS) if stuck is None else stuck
    rows = pl.DataFrame(
        {
            "user": [f"u{number}" for number in range(USERS)],
            "event_timestamp": [moment] * USERS,
            "score": [None if number < nulls else float(value) for number, value in enumerate(score)],
            "visits": rng.integers(0, 50, USERS),
        }
    )
    clock.set(moment + timedelta(hours=10))
    store.ingest(group, rows)
    return store.run_monitor(group)


@pytest.fixture
def after_weeks(store, clock):
    group = scores()
    store.apply([group])
    rng = np.random.default_rng(11)
    reports = [night(store, group, clock, day, rng) for day in range(24)]
    return store, group, rng, reports


def test_ordinary_nights_are_calm_and_recorded(after_weeks):
    store, group, _, reports = after_weeks
    assert all(report.result.passed for report in reports), [report.result.summary for report in reports]
    score, _ = store.registered(group).features
    records = store.registry.monitors(score.id)
    assert len(records) == 24
    latest = records[0]
    assert (latest.n, latest.null_rate) == (USERS, 0)
    assert latest.mean == pytest.approx(10, abs=1.5)
    assert latest.stddev == pytest.approx(2, abs=1)
    assert latest.details["updated"] == USERS
    assert latest.details["changed"] == 1.0


def test_a_feature_that_stopped_updating_is_found(after_weeks, clock):
    store, group, rng, reports = after_weeks
    assert reports
    stuck = [state["score"] for state in store.get_online_features_batch([f"u{n}" for n in range(USERS)], ["score"])]
    report = night(store, group, clock, 24, rng, stuck=stuck)
    assert [(finding.kind, finding.feature) for finding in report.result.findings] == [("online", "score")]
    assert "stopped updating" in report.result.summary


def test_a_spike_of_nulls_is_found(after_weeks, clock):
    store, group, rng, _ = after_weeks
    report = night(store, group, clock, 24, rng, nulls=30)
    assert [finding.feature for finding in report.result.findings] == ["score"]
    assert "50.0% of the values online are null" in report.result.summary


def test_freshness_is_what_the_group_promises(after_weeks, clock):
    store, group, _, _ = after_weeks
    assert store.monitor.check_freshness(group).passed
    clock.set(clock.now() + timedelta(days=2))
    result = store.monitor.check_freshness(group)
    assert not result.passed
    assert [finding.kind for finding in result.findings] == ["freshness"]
    assert "older than the 1d 6h promised" in result.summary
    assert result.numbers["age_hours"] == 58


def test_a_promise_is_kept_in_the_registry_and_may_change(store):
    source = Orders(some_orders())
    store.apply([spending(source, freshness=timedelta(hours=26))])
    assert store.catalog().group("spending").freshness_seconds == 26 * 3600
    report = store.apply([spending(source)])
    assert "spending" in report.updated
    assert store.catalog().group("spending").freshness_seconds is None
    with pytest.raises(DefinitionError, match="freshness"):
        spending(source, freshness=timedelta(0))


def test_freshness_tells_whether_the_partition_that_is_due_is_there(store, clock):
    group = spending(Orders(some_orders()), freshness=timedelta(days=2))
    store.apply([group])
    assert "there is no event" in store.monitor.check_freshness(group).summary
    store.materialize(group, "2024-03-01", "2024-03-08")
    clock.set(START + timedelta(days=9))
    result = store.monitor.check_freshness(group)
    assert result.passed
    assert "partition 2024-03-09 is missing" in result.summary
    assert result.numbers["partition_is_present"] == 0
