from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg
import polars as pl

from dagster_feature_store.sensors.landing import MOST_TICKS_WAITED
from tests.orders import orders

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}
DAYS = [f"2024-03-0{day}" for day in range(1, 10)]


def partitions(ticks, defs, count=1):
    """What the sensor reports in some ticks."""
    found = []
    for _ in range(count):
        assert ticks.requests(defs, "feature_store_landing_sensor") == []
        found += [event.partition for event in ticks.events]
    return found


def add(domain, day):
    late = orders(("c1", datetime(2024, 3, day, 15, tzinfo=UTC), 7))
    domain.source.events = pl.concat([domain.source.events, late])


def test_each_landed_day_is_reported_once_when_no_more_land(ticks, defs, domain):
    assert partitions(ticks, defs) == []
    assert "waiting whether more do" in ticks.message
    assert partitions(ticks, defs) == DAYS
    assert partitions(ticks, defs, 3) == []
    domain.source.landed = date(2024, 3, 10)
    assert partitions(ticks, defs, 3) == ["2024-03-10"]


def test_a_restart_reports_nothing_twice(ticks, defs, instance, domain):
    partitions(ticks, defs, 2)
    assert partitions(type(ticks)(instance), defs, 3) == []
    add(domain, 4)
    assert partitions(ticks, defs) == []
    assert partitions(type(ticks)(instance), defs, 2) == ["2024-03-04"]


def test_a_storm_of_files_is_reported_at_once(ticks, defs, domain):
    partitions(ticks, defs, 2)
    for day in range(1, 7):
        add(domain, day)
        assert partitions(ticks, defs) == []
    assert partitions(ticks, defs) == DAYS[:6]


def test_a_source_that_never_comes_to_rest_is_reported_in_the_end(ticks, defs, domain):
    partitions(ticks, defs, 2)
    for _ in range(MOST_TICKS_WAITED):
        add(domain, 4)
        assert partitions(ticks, defs) == []
    add(domain, 4)
    assert partitions(ticks, defs) == ["2024-03-04"]


def test_late_data_recomputes_exactly_the_partitions_that_its_lookback_reaches(ticks, defs, domain, instance):
    partitions(ticks, defs, 2)
    assert defs.resolve_job_def("feature_store_features").execute_in_process(instance=instance, tags=RANGE).success
    with_time = datetime(2024, 3, 10, 1, tzinfo=UTC)
    selection = dg.AssetSelection.assets("spending")
    before = dg.evaluate_automation_conditions(defs, instance, selection, evaluation_time=with_time)
    add(domain, 4)
    assert partitions(ticks, defs, 2) == ["2024-03-04"]
    after = dg.evaluate_automation_conditions(
        defs, instance, selection, cursor=before.cursor, evaluation_time=with_time.replace(hour=2)
    )
    requested = after.get_requested_partitions(dg.AssetKey("spending"))
    assert sorted(requested) == ["2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07"]
    once_more = dg.evaluate_automation_conditions(
        defs, instance, selection, cursor=after.cursor, evaluation_time=with_time.replace(hour=3)
    )
    assert once_more.total_requested == 0


def test_daily_and_hourly_groups_load_together(defs):
    """A code server resolves every job and sensor target; a sensor over both partitionings would not load."""
    dg.Definitions.validate_loadable(defs)
    defs.get_repository_def().load_all_definitions()


def test_the_last_day_of_a_report_tells_the_columns_and_all_tell_the_latest_day(ticks, defs, domain):
    partitions(ticks, defs, 2)
    assert {event.metadata["latest_day"].value for event in ticks.events} == {"2024-03-09"}
    schema = ticks.events[-1].metadata["dagster/column_schema"].schema
    assert {column.name: column.type for column in schema.columns} == {
        "customer": "string",
        "event_timestamp": "timestamp",
        "amount": "int64",
    }
    assert not any("dagster/column_schema" in event.metadata for event in ticks.events[:-1])
    add(domain, 4)
    partitions(ticks, defs, 2)
    (late,) = ticks.events
    assert late.metadata["latest_day"].value == "2024-03-09"
    assert "dagster/column_schema" in late.metadata


def test_a_day_that_cannot_be_read_is_reported_all_the_same(ticks, defs, domain, monkeypatch):
    def unreadable(_window):
        raise OSError("no such file")

    monkeypatch.setattr(domain.source, "scan", unreadable)
    assert partitions(ticks, defs, 2) == DAYS
    assert not any("dagster/column_schema" in event.metadata for event in ticks.events)
