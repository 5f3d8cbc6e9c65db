"""What should be there and is not is requested, whatever was requested before; what is worked on or held is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store import feature_store_definitions
from dagster_feature_store.sensors import gap_look, gaps
from dagster_feature_store.sensors.outages import STORAGE
from feature_store.alerts.notifier import Alerts
from feature_store.clock import SystemClock
from tests.dagster.conftest import Domain, overriding, spans_of
from tests.orders import Orders, orders, some_orders

DAYS = [f"2024-03-0{day}" for day in range(1, 10)]
SENSOR = "feature_store_gap_sensor"
SPENDING = dg.AssetKey("spending")


@pytest.fixture
def domain() -> Domain:
    domain = Domain(Orders(some_orders()))
    domain.activity = None
    return domain


@pytest.fixture
def filled(store, domain, ticks, defs):
    """All nine days, without Dagster's knowledge: the files are what counts. The sensor has reported them."""
    group = domain.spending
    store.apply([group])
    store.materialize(group, DAYS[0], DAYS[-1])
    assert ticks.requests(defs, SENSOR) == []
    return store


def add(domain, *days, amount=7):
    late = [("c1", datetime(2024, 3, day, 15, tzinfo=UTC), amount) for day in days]
    domain.source.events = pl.concat([domain.source.events, orders(*late)])


def wait(monkeypatch, seconds):
    """Lets time pass for the sensor."""
    ahead = timedelta(seconds=seconds)
    for module in (gaps, gap_look):
        monkeypatch.setattr(module, "SystemClock", lambda: AheadClock(ahead))


class AheadClock:
    def __init__(self, ahead: timedelta) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead


def path(store, day):
    return store.offline.root / "spending" / f"date={day}" / "batch.parquet"


def present(store, domain):
    return [f"{window.start:%Y-%m-%d}" for window in store.offline.materialized(store.registered(domain.spending))]


def test_what_others_have_computed_is_reported_and_not_computed_again(ticks, defs, filled, instance):
    assert instance.get_materialized_partitions(SPENDING) == set(DAYS)
    assert ticks.requests(defs, SENSOR) == []
    assert ticks.events == []
    assert "No partition is missing" in ticks.message


def test_a_gap_is_requested_once_and_closed(ticks, defs, filled, domain, instance):
    for day in ("2024-03-03", "2024-03-04"):
        path(filled, day).unlink()
    requests = ticks.requests(defs, SENSOR)
    assert spans_of(requests) == [("spending", "2024-03-03", "2024-03-04")]
    assert requests[0].tags["feature_store/reason"].startswith("gap")
    assert {key.name for key in requests[0].asset_check_keys} == {"schema", "null_rate", "row_count", "drift"}
    assert ticks.requests(defs, SENSOR) == []
    (result,) = ticks.run(defs, requests)
    assert result.success
    assert {check.check_name for check in result.get_asset_check_evaluations()} == {
        "schema",
        "null_rate",
        "row_count",
        "drift",
    }
    assert present(filled, domain) == DAYS
    assert ticks.requests(defs, SENSOR) == []


def test_it_asks_by_the_same_key_after_a_restart(ticks, defs, filled, instance):
    path(filled, "2024-03-03").unlink()
    (request,) = ticks.requests(defs, SENSOR)
    (again,) = type(ticks)(instance).requests(defs, SENSOR)
    assert request.run_key == again.run_key


def test_a_damaged_file_is_a_gap_and_a_second_loss_is_another(ticks, defs, filled, domain, monkeypatch):
    path(filled, "2024-03-05").write_bytes(b"PAR1")
    requests = ticks.requests(defs, SENSOR)
    assert spans_of(requests) == [("spending", "2024-03-05", "2024-03-05")]
    ticks.run(defs, requests)
    assert ticks.requests(defs, SENSOR) == []
    path(filled, "2024-03-05").unlink()
    assert ticks.requests(defs, SENSOR) == []
    wait(monkeypatch, 60)
    assert len(ticks.requests(defs, SENSOR)) == 1


def test_many_gaps_are_one_run(ticks, defs, filled):
    for day in DAYS[1:-1:2]:
        path(filled, day).unlink()
    assert spans_of(ticks.requests(defs, SENSOR)) == [("spending", "2024-03-02", "2024-03-08")]


def test_all_that_has_landed_is_computed_the_newest_first(ticks, defs, store, domain, monkeypatch):
    monkeypatch.setattr(gap_look, "NEWEST_PARTITIONS", 4)
    requests = ticks.requests(defs, SENSOR)
    assert spans_of(requests) == [("spending", DAYS[5], DAYS[8]), ("spending", DAYS[0], DAYS[4])]
    assert [request.tags["dagster/priority"] for request in requests] == ["1", "0"]
    assert all(result.success for result in ticks.run(defs, requests))
    assert present(store, domain) == DAYS
    assert ticks.requests(defs, SENSOR) == []


def test_the_newest_day_is_asked_for_when_it_has_landed(ticks, defs, filled, domain):
    path(filled, DAYS[-1]).unlink()
    domain.source.landed = date(2024, 3, 8)
    assert ticks.requests(defs, SENSOR) == []
    domain.source.landed = date(2024, 3, 9)
    found = ticks.requests(defs, SENSOR) + ticks.requests(defs, SENSOR)
    assert spans_of(found) == [("spending", DAYS[-1], DAYS[-1])]


def test_what_has_not_landed_is_not_asked_for(ticks, defs, filled, domain):
    path(filled, "2024-03-03").unlink()
    domain.source.landed = date(2024, 3, 2)
    assert ticks.requests(defs, SENSOR) == []
    assert ticks.requests(defs, SENSOR) == []


def test_a_backfill_in_the_making_is_left_alone(ticks, defs, filled, instance):
    path(filled, "2024-03-03").unlink()
    run = instance.create_run_for_job(
        defs.resolve_job_def("feature_store_features"), status=dg.DagsterRunStatus.STARTED
    )
    assert ticks.requests(defs, SENSOR) == []
    instance.report_run_canceled(run)
    assert len(ticks.requests(defs, SENSOR)) == 1


def test_late_data_recompute_exactly_the_partitions_that_their_lookback_reaches(ticks, defs, filled, domain):
    add(domain, 4)
    assert ticks.requests(defs, SENSOR) == []
    assert "Waiting whether more" in ticks.message
    requests = ticks.requests(defs, SENSOR)
    assert spans_of(requests) == [("spending", "2024-03-04", "2024-03-07")]
    assert requests[0].tags["feature_store/reason"].startswith("late data")
    assert all(result.success for result in ticks.run(defs, requests))
    assert ticks.requests(defs, SENSOR) == []


def test_a_storm_of_files_is_one_run_when_it_is_over(ticks, defs, filled, domain):
    for day in range(1, 7):
        add(domain, day)
        assert ticks.requests(defs, SENSOR) == []
    assert spans_of(ticks.requests(defs, SENSOR)) == [("spending", "2024-03-01", "2024-03-09")]


def test_a_source_that_never_comes_to_rest_is_read_in_the_end(ticks, defs, filled, domain):
    for _ in range(gap_look.MOST_LOOKS_WAITED):
        add(domain, 4)
        assert ticks.requests(defs, SENSOR) == []
    add(domain, 4)
    assert spans_of(ticks.requests(defs, SENSOR)) == [("spending", "2024-03-04", "2024-03-07")]


def test_what_a_dead_run_has_not_done_is_requested_again_after_a_pause(ticks, defs, filled, instance, monkeypatch):
    path(filled, "2024-03-03").unlink()
    for attempt in range(3):
        wait(monkeypatch, 3600 * attempt)
        (request,) = ticks.requests(defs, SENSOR)
        assert request.run_key.endswith(f"/{attempt}")
        run = instance.create_run_for_job(
            defs.resolve_job_def(request.job_name),
            status=dg.DagsterRunStatus.STARTED,
            tags=request.tags,
            asset_selection=frozenset(request.asset_selection),
        )
        assert ticks.requests(defs, SENSOR) == []
        instance.report_run_failed(run)
        monkeypatch.undo()
        assert ticks.requests(defs, SENSOR) == []
        assert "tried again after a pause" in ticks.message


def test_a_storage_that_has_failed_runs_is_well_when_nothing_is_left_of_their_groups(ticks, defs, filled):
    alerts = Alerts(filled.registry, [], SystemClock())
    alerts.report([replace(STORAGE, groups=("spending",))])
    path(filled, "2024-03-03").unlink()
    (request,) = ticks.requests(defs, SENSOR)
    assert filled.registry.incidents()[STORAGE.key].resolved_at is None
    ticks.run(defs, [request])
    ticks.requests(defs, SENSOR)
    assert filled.registry.incidents()[STORAGE.key].resolved_at is not None


def test_what_an_outage_has_ended_never_waits_for_long(ticks, defs, filled, domain, resources, monkeypatch):
    path(filled, "2024-03-03").unlink()
    nowhere = overriding(resources["feature_store"], registry="postgresql://nobody@127.0.0.1:9/registry")
    without_registry = feature_store_definitions(domain, resources={"feature_store": nowhere})
    for attempt in range(5):
        wait(monkeypatch, 61 * attempt)
        (request,) = ticks.requests(defs, SENSOR)
        assert request.run_key.endswith(f"/{attempt}")
        (result,) = ticks.run(without_registry, [request])
        assert not result.success
        monkeypatch.undo()
        assert ticks.requests(defs, SENSOR) == []
    wait(monkeypatch, 61 * 5)
    requests = ticks.requests(defs, SENSOR)
    assert requests, ticks.message
    (result,) = ticks.run(defs, requests)
    assert result.success


def test_days_that_nobody_works_on_are_requested_beside_a_run(ticks, defs, filled, instance):
    job = defs.resolve_job_def("feature_store_features")
    tags = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[3]}
    instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags=tags, asset_selection=frozenset([SPENDING])
    )
    for day in (DAYS[2], DAYS[7]):
        path(filled, day).unlink()
    assert spans_of(ticks.requests(defs, SENSOR)) == [("spending", DAYS[7], DAYS[7])]


def test_one_bad_day_is_held_and_all_others_are_computed(ticks, defs, filled, domain, monkeypatch):
    before = domain.source.events
    add(domain, *range(1, 10))
    add(domain, 5, amount=5000)
    requests = ticks.requests(defs, SENSOR) + ticks.requests(defs, SENSOR)
    (result,) = ticks.run(defs, requests)
    assert not result.success
    wait(monkeypatch, 3600)
    assert ticks.requests(defs, SENSOR) == []
    assert "Held until they are corrected: 1 of spending" in ticks.message
    files = filled.offline.files("spending")
    changed = [file.date.day for file in files if 7 in pl.read_parquet(file.path)["last_amount"]]
    assert changed == [1, 2, 3, 4, 6, 7, 8, 9]
    domain.source.events = before
    add(domain, *range(1, 10))
    requests = ticks.requests(defs, SENSOR) + ticks.requests(defs, SENSOR)
    assert spans_of(requests) == [("spending", "2024-03-05", "2024-03-08")]
    assert all(result.success for result in ticks.run(defs, requests))
    assert ticks.requests(defs, SENSOR) == []
    assert "No partition is missing" in ticks.message


def test_a_source_that_fails_is_named_and_stops_no_other(ticks, resources, store):
    class Dead(Orders):
        def fingerprint(self, day):
            raise ConnectionError("the warehouse is away")

    domain = Domain(Orders(some_orders()))
    domain.activity = Domain(Dead(some_orders(), name="warehouse")).activity
    defs = feature_store_definitions(domain, resources=resources)
    requests = ticks.requests(defs, SENSOR)
    assert spans_of(requests) == [("spending", DAYS[0], DAYS[-1])]
    ticks.run(defs, requests)
    assert ticks.requests(defs, SENSOR) == []
    assert "Source 'warehouse' was not looked at: ConnectionError: the warehouse is away" in ticks.message


def test_a_source_that_hangs_is_named_and_stops_no_other(domain):
    import threading

    from dagster_feature_store.sensors.sources import SourceLooks

    released = threading.Event()

    class Hanging(Orders):
        def landed_days(self):
            released.wait(30)
            yield from super().landed_days()

    looks = SourceLooks()
    sources = [Hanging(some_orders(), name="warehouse"), domain.source]
    seen = looks.at(sources, seconds=2)
    assert set(seen.landed) == {"orders"}
    for again in (seen, looks.at(sources, seconds=0.1)):
        assert "Source 'warehouse' was not looked at: it has not answered" in str(again)
    assert sum(thread.name == "look at warehouse" for thread in threading.enumerate()) == 1
    released.set()
    assert set(looks.at(sources, seconds=30).landed) == {"orders", "warehouse"}


def test_a_group_that_cannot_be_looked_at_is_named_and_stops_no_other(ticks, resources, store):
    domain = Domain(Orders(some_orders()))
    store.offline.root.mkdir(parents=True)
    (store.offline.root / "activity").write_text("no folder")
    defs = feature_store_definitions(domain, resources=resources)
    requests = ticks.requests(defs, SENSOR)
    assert spans_of(requests) == [("spending", DAYS[0], DAYS[-1])]
    ticks.run(defs, requests)
    assert ticks.requests(defs, SENSOR) == []
    assert "activity was not looked at: " in ticks.message
