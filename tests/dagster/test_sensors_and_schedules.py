from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg
import polars as pl

from tests.orders import orders

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}


def tick(defs, instance):
    sensor = defs.get_repository_def().get_sensor_def("landing_sensor")
    with dg.build_sensor_context(instance=instance) as context:
        result = sensor(context)
    if isinstance(result, dg.SkipReason):
        return []
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    return [event.partition for event in result.asset_events]


def test_the_landing_sensor_reports_each_landed_day_once(defs, domain, instance):
    assert tick(defs, instance) == [f"2024-03-0{day}" for day in range(1, 10)]
    assert tick(defs, instance) == []
    domain.source.landed = date(2024, 3, 10)
    assert tick(defs, instance) == ["2024-03-10"]


def test_late_data_recomputes_exactly_the_partitions_that_its_lookback_reaches(defs, domain, instance):
    tick(defs, instance)
    assert defs.resolve_job_def("features").execute_in_process(instance=instance, tags=RANGE).success
    with_time = datetime(2024, 3, 10, 1, tzinfo=UTC)
    selection = dg.AssetSelection.assets("spending")
    before = dg.evaluate_automation_conditions(defs, instance, selection, evaluation_time=with_time)
    late = orders(("c1", datetime(2024, 3, 4, 15, tzinfo=UTC), 7))
    domain.source.events = pl.concat([domain.source.events, late])
    assert tick(defs, instance) == ["2024-03-04"]
    after = dg.evaluate_automation_conditions(
        defs, instance, selection, cursor=before.cursor, evaluation_time=with_time.replace(hour=2)
    )
    requested = after.get_requested_partitions(dg.AssetKey("spending"))
    assert sorted(requested) == ["2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07"]


def test_the_daily_schedule_asks_for_the_day_that_has_ended(defs, instance):
    schedule = defs.get_repository_def().get_schedule_def("daily_features")
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime(2024, 3, 9, 0, 15, tzinfo=UTC),
        repository_def=defs.get_repository_def(),
    )
    (request,) = schedule.evaluate_tick(context).run_requests
    assert request.partition_key == "2024-03-08"
