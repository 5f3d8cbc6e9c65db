from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg
import polars as pl

from dagster_feature_store import feature_store_definitions
from tests.orders import orders

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


def test_each_landed_day_is_reported_once(ticks, defs, domain):
    assert partitions(ticks, defs) == DAYS
    assert partitions(ticks, defs, 3) == []
    domain.source.landed = date(2024, 3, 10)
    assert partitions(ticks, defs, 3) == ["2024-03-10"]


def test_a_restart_reports_nothing_twice(ticks, defs, instance, domain, resources):
    partitions(ticks, defs)
    restarted = feature_store_definitions(domain, resources=resources)
    assert partitions(type(ticks)(instance), restarted, 3) == []
    add(domain, 4)
    assert partitions(type(ticks)(instance), restarted, 2) == ["2024-03-04"]


def test_daily_and_hourly_groups_load_together(defs):
    """A code server resolves every job and sensor target; a sensor over both partitionings would not load."""
    dg.Definitions.validate_loadable(defs)
    defs.get_repository_def().load_all_definitions()


def test_the_last_day_of_a_report_tells_the_columns_and_all_tell_the_latest_day(ticks, defs, domain):
    partitions(ticks, defs)
    assert {event.metadata["latest_day"].value for event in ticks.events} == {"2024-03-09"}
    schema = ticks.events[-1].metadata["dagster/column_schema"].schema
    assert {column.name: column.type for column in schema.columns} == {
        "customer": "string",
        "event_timestamp": "timestamp",
        "amount": "int64",
    }
    assert not any("dagster/column_schema" in event.metadata for event in ticks.events[:-1])
    add(domain, 4)
    partitions(ticks, defs)
    (late,) = ticks.events
    assert late.metadata["latest_day"].value == "2024-03-09"
    assert "dagster/column_schema" in late.metadata


def test_a_day_that_cannot_be_read_is_reported_all_the_same(ticks, defs, domain, monkeypatch):
    def unreadable(_window):
        raise OSError("no such file")

    monkeypatch.setattr(domain.source, "scan", unreadable)
    assert partitions(ticks, defs) == DAYS
    assert not any("dagster/column_schema" in event.metadata for event in ticks.events)
