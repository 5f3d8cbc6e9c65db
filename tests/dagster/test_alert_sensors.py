from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store.sensors.run_findings import findings_of
from tests.dagster.conftest import Domain
from tests.orders import Orders, orders, some_orders
from tests.servers.listeners import HttpListener

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}


@pytest.fixture
def domain():
    domain = Domain(Orders(some_orders()))
    domain.activity = None
    return domain


@pytest.fixture
def http(monkeypatch):
    with HttpListener() as listener:
        monkeypatch.setenv("FEATURE_STORE_ALERT_WEBHOOK", listener.url)
        monkeypatch.setenv("FEATURE_STORE_UI_URL", "http://dagster.example.com")
        yield listener


@pytest.fixture
def finish(defs, instance, ticks):
    """Runs a job and lets the sensor look, as the daemon does."""

    def run(job="feature_store_features", *, before_look=lambda: None, **arguments):
        result = defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)
        before_look()
        ticks.requests(defs, "feature_store_alert_sensor")
        return ticks.message, instance.get_run_by_id(result.run_id)

    return run


def with_nulls(domain, *days):
    rows = [(f"n{number}", datetime(2024, 3, day, 15, tzinfo=UTC), None) for day in days for number in range(20)]
    domain.source.events = pl.concat([domain.source.events, orders(*rows)])


def test_runs_in_which_all_is_well_tell_nobody(finish, http):
    message, _ = finish(tags=RANGE)
    assert "0 of" in message
    assert "nobody needed to be told" in message
    assert http.bodies == []


def test_failed_checks_of_a_range_are_one_message_with_numbers(finish, http, domain):
    with_nulls(domain, 4, 5)
    finish(tags=RANGE)
    (body,) = [body for body in http.bodies if "/null_rate" in body["key"]]
    assert body["key"] == "check/spending/null_rate"
    assert body["partitions"] == ["2024-03-04", "2024-03-05"]
    assert body["owner"] == "team@example.com"
    assert "last_amount" in body["summary"]
    assert body["link"] == "http://dagster.example.com/assets/spending?view=checks&checkDetail=null_rate"
    assert all(name.endswith("last_amount") for name in body["numbers"])
    finish(tags=RANGE)
    assert len([body for body in http.bodies if "/null_rate" in body["key"]]) == 1


def test_a_failing_day_is_told_and_its_recovery_too(finish, http, domain):
    with_nulls(domain, 4)
    finish(partition_key="2024-03-04")
    finish(partition_key="2024-03-03")
    finish(partition_key="2024-03-05")
    told = [(body["event"], body["partitions"]) for body in http.bodies if body["key"] == "check/spending/null_rate"]
    assert told == [("opened", ["2024-03-04"]), ("recovered", ["2024-03-04"])]


def test_refused_rows_are_one_incident_not_two(finish, http, domain):
    good = domain.source.events
    bad = orders(("c9", datetime(2024, 3, 4, 12, tzinfo=UTC), 5000))
    domain.source.events = pl.concat([good, bad])
    finish(tags=RANGE)
    (body,) = http.bodies
    assert (body["key"], body["partitions"]) == ("check/spending/schema", ["2024-03-04"])
    assert "5000" in body["summary"]
    assert "No row of the partition was written" in body["remedy"]
    domain.source.events = good
    finish(tags=RANGE)
    assert [body["event"] for body in http.bodies] == ["opened", "recovered"]


def test_a_bad_partition_is_well_when_it_passes_itself_not_when_a_newer_one_does(finish, http, domain):
    good = domain.source.events
    bad = orders(("c9", datetime(2024, 3, 4, 12, tzinfo=UTC), 5000))
    domain.source.events = pl.concat([good, bad])
    finish(partition_key="2024-03-04")
    finish(partition_key="2024-03-05")
    assert [body["event"] for body in http.bodies if body["key"] == "check/spending/schema"] == ["opened"]
    domain.source.events = good
    finish(partition_key="2024-03-04")
    told = [body["event"] for body in http.bodies if body["key"] == "check/spending/schema"]
    assert told == ["opened", "recovered"]


def test_a_run_that_fails_is_told_and_recovers_when_nothing_is_left_to_be_computed(finish, http, domain, ticks, defs):
    landed = domain.source.landed
    domain.source.landed = landed.replace(day=3)
    message, _ = finish(partition_key="2024-03-05")
    assert "opened: The run of spending fails" in message
    domain.source.landed = landed
    finish(partition_key="2024-03-05")
    ticks.run(defs, ticks.requests(defs, "feature_store_gap_sensor")[:1])
    finish(partition_key="2024-03-05")
    ((opened),) = http.bodies
    assert (opened["key"], opened["group"], opened["owner"]) == ("run/spending", "spending", "team@example.com")
    assert "has landed up to 2024-03-03 only" in opened["summary"]
    finish(tags=RANGE)
    ticks.requests(defs, "feature_store_gap_sensor")
    finish(tags=RANGE)
    assert [(body["event"], body["key"]) for body in http.bodies[1:]] == [("recovered", "run/spending")]


def test_what_a_killed_run_was_to_do_is_told_to_its_owners(instance, defs, ticks, http):
    for job, key in (("feature_store_features", "spending"), ("feature_store_purchase_training_set", "purchase")):
        run = instance.create_run_for_job(
            defs.resolve_job_def(job),
            status=dg.DagsterRunStatus.STARTED,
            asset_selection=frozenset([dg.AssetKey(key)]),
        )
        instance.report_run_failed(run)
    ticks.requests(defs, "feature_store_alert_sensor")
    assert [(body["key"], body["owner"]) for body in http.bodies] == [
        ("run/spending", "team@example.com"),
        ("run/purchase", "team@example.com"),
    ]
    assert "was killed" in http.bodies[0]["summary"]


def test_runs_wait_for_the_registry(finish, http, domain, resources, tmp_path):
    with_nulls(domain, 4)
    registry, away = tmp_path / "registry.db", tmp_path / "away.db"
    finish(tags=RANGE)
    http.bodies.clear()
    with_nulls(domain, 6)

    def break_registry():
        registry.rename(away)
        registry.mkdir()

    message = finish(before_look=break_registry, tags=RANGE)[0]
    assert "The registry does not answer" in message
    assert http.bodies == []
    registry.rmdir()
    away.rename(registry)
    finish(partition_key="2024-03-02")
    assert [body["key"] for body in http.bodies if "null_rate" in body["key"]] == ["check/spending/null_rate"]


def test_a_dead_channel_fails_no_run_and_shows_in_the_tick(finish, monkeypatch, domain, store):
    monkeypatch.setenv("FEATURE_STORE_ALERT_SLACK", "http://127.0.0.1:9/hunter2")
    with_nulls(domain, 4)
    message, run = finish(tags=RANGE)
    assert run.is_success
    assert "null_rate of spending fails" in message
    kept = store.registry.incidents()["check/spending/null_rate"]
    assert "does not answer" in kept.deliveries["slack"]["error"]
    assert "hunter2" not in str(kept)


def test_warnings_are_kept_apart_from_errors(instance, finish, domain):
    _, run = finish(tags=RANGE)
    found = findings_of(instance, run, {"spending": domain.spending})
    assert {finding.severity for finding in found} == {"error", "warning"}
    assert all(not finding.failed for finding in found)


def test_the_page_of_alerts_lists_what_is_open_and_who_was_told(finish, http, domain, instance):
    with_nulls(domain, 9)
    finish(tags=RANGE)
    (record,) = instance.fetch_observations(dg.AssetKey("feature_store_alerts"), limit=5).records
    shown = record.event_log_entry.dagster_event.asset_observation_data.asset_observation.metadata
    assert shown["open"].value == len(shown["open_incidents"].records) >= 1
    row = next(row.data for row in shown["open_incidents"].records if row.data["incident"].endswith("/null_rate"))
    assert row["owner"] == "team@example.com"
    assert row["message"] == "sent to log, webhook"
    assert shown["incidents_that_are_over"].records == []
    finish(tags=RANGE)
    assert len(instance.fetch_observations(dg.AssetKey("feature_store_alerts"), limit=5).records) == 1
