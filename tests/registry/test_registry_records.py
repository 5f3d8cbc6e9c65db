"""Training sets and measurements, and instants that go in and out of the database."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.clock import to_utc
from feature_store.definitions.names import FeatureRef
from feature_store.errors import DefinitionError, InvalidRequestError, RegistryConflictError, UnknownFeatureError
from feature_store.registry.records import MonitorRecord, TrainingSetRecord
from tests.registry.groups import NOW, group

CLICKS = FeatureRef("clicks_7d", 1)


def training_set(**changes):
    record = TrainingSetRecord(
        name="churn",
        version=1,
        label_fingerprint="9f2c",
        features=(CLICKS, FeatureRef("late_share", 3)),
        source_files=("user_clicks/date=2013-01-01/batch.parquet",),
        row_count=5_000_000_000,
        baseline={"clicks_7d:v1": {"mean": 0.1, "edges": [1.0, 2.5], "psi": None}},
        path="training/churn/v1.parquet",
        created_at=NOW,
    )
    return dataclasses.replace(record, **changes)


def test_training_sets_come_back_in_order_of_version(registry):
    registry.migrate()
    sets = [training_set(version=version) for version in (10, 2, 1)]
    for record in sets:
        registry.record_training_set(record)
    registry.record_training_set(training_set(name="other"))
    assert registry.training_sets("churn") == sets[::-1]
    assert registry.training_sets("unknown") == []


def test_a_recorded_training_set_never_changes(registry):
    registry.migrate()
    registry.record_training_set(training_set())
    registry.record_training_set(training_set(created_at=NOW + timedelta(days=1)))
    assert registry.training_sets("churn") == [training_set()]
    with pytest.raises(
        RegistryConflictError, match=r"'churn' version 1 is recorded with another label_fingerprint, row"
    ):
        registry.record_training_set(training_set(label_fingerprint="other", row_count=1))
    assert registry.training_sets("churn") == [training_set()]


def test_where_a_training_set_lies_may_change(registry):
    registry.migrate()
    registry.record_training_set(training_set(path="/old/place/churn/v1"))
    registry.record_training_set(training_set())
    assert registry.training_sets("churn") == [training_set()]


def test_malformed_training_sets_are_refused(registry):
    registry.migrate()
    with pytest.raises(DefinitionError, match="cannot name a training set"):
        registry.record_training_set(training_set(name="../churn"))
    with pytest.raises(InvalidRequestError, match="begin at 1"):
        registry.record_training_set(training_set(version=0))
    with pytest.raises(InvalidRequestError, match="cannot be stored as JSON"):
        registry.record_training_set(training_set(baseline={"x": object()}))
    assert registry.training_sets("churn") == []


def test_not_a_number_is_stored_as_null(registry):
    registry.apply([group()])
    number = registry.catalog().features[CLICKS].id
    nan = float("nan")
    registry.record_monitor([MonitorRecord(number, 0, NOW, mean=nan, stddev=nan, details={"x": nan})])
    assert registry.monitors(number) == [MonitorRecord(number, 0, NOW, details={"x": None})]
    registry.record_training_set(training_set(baseline={"x": nan}))
    registry.record_training_set(training_set(baseline={"x": nan}))
    assert registry.training_sets("churn") == [training_set(baseline={"x": None})]


def test_measurements_come_back_newest_first(registry):
    registry.apply([group()])
    number = registry.catalog().features[CLICKS].id
    rows = [
        MonitorRecord(
            feature_id=number,
            n=2**40 + hour,
            computed_at=NOW + timedelta(hours=hour),
            mean=0.1 + 0.2,
            stddev=1e-300,
            null_rate=0.25,
            minimum=float("-inf"),
            maximum=1.7976931348623157e308,
            psi=0.05,
            details={"partition": "2013-06-01", "deciles": [0.1, 0.2]},
        )
        for hour in range(5)
    ]
    registry.record_monitor(rows[:3])
    registry.record_monitor(rows[3:])
    registry.record_monitor([])
    assert registry.monitors(number) == rows[::-1]
    assert registry.monitors(number, limit=2) == [rows[4], rows[3]]
    assert registry.monitors(number + 1) == []
    with pytest.raises(InvalidRequestError, match="limit=0"):
        registry.monitors(number, limit=0)


def test_a_measurement_of_an_unknown_feature_refuses_them_all(registry):
    registry.apply([group()])
    number = registry.catalog().features[CLICKS].id
    with pytest.raises(UnknownFeatureError, match="999"):
        registry.record_monitor([MonitorRecord(number, 1, NOW), MonitorRecord(999, 1, NOW)])
    assert registry.monitors(number) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    naive=st.datetimes(datetime(1902, 1, 1), datetime(2200, 1, 1)),
    offset=st.none() | st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_every_instant_comes_back_as_utc_to_the_microsecond(registry, naive, offset):
    moment = naive if offset is None else naive.replace(tzinfo=timezone(timedelta(minutes=offset)))
    registry.apply([group()])
    number = registry.catalog().features[CLICKS].id
    details = {"moment": repr(moment)}
    registry.record_monitor([MonitorRecord(number, 1, moment, details=details)])
    found = next(row for row in registry.monitors(number, limit=1000) if row.details == details)
    assert found.computed_at == to_utc(moment)
    assert found.computed_at.tzinfo is UTC
