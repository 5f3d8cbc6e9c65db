"""What a killed run or an outage has cut off is run again, until it is done; what fails of its own is left alone."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from dagster_feature_store import feature_store_definitions
from dagster_feature_store.sensors import reruns
from feature_store.clock import FixedClock, SystemClock
from tests.dagster.conftest import overriding

SENSOR = "feature_store_rerun_sensor"
NIGHTLY = "feature_store_nightly_monitor"
PURCHASE = "feature_store_purchase_training_set"
RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}


@pytest.fixture
def filled(defs, instance):
    assert defs.resolve_job_def("feature_store_features").execute_in_process(instance=instance, tags=RANGE).success


def wait(monkeypatch, seconds):
    monkeypatch.setattr(reruns, "SystemClock", lambda: FixedClock(SystemClock().now() + timedelta(seconds=seconds)))


@pytest.mark.parametrize("job", [NIGHTLY, "feature_store_freshness", PURCHASE])
def test_a_killed_run_is_repeated_after_a_pause_until_one_succeeds(
    ticks, defs, filled, store, instance, monkeypatch, job
):
    def open_incidents():
        ticks.requests(defs, "feature_store_alert_sensor")
        return [key for key, record in store.registry.incidents().items() if record.resolved_at is None]

    assert ticks.requests(defs, SENSOR) == []
    run = instance.create_run_for_job(defs.resolve_job_def(job), status=dg.DagsterRunStatus.STARTED)
    assert ticks.requests(defs, SENSOR) == []
    instance.report_run_failed(run)
    assert ticks.requests(defs, SENSOR) == []
    assert "after a pause" in ticks.message
    assert len(open_incidents()) == 1
    wait(monkeypatch, 31)
    (request,) = ticks.requests(defs, SENSOR)
    assert (request.job_name, request.run_key) == (job, f"rerun/{run.run_id}")
    assert ticks.requests(defs, SENSOR) == []
    (result,) = ticks.run(defs, [request])
    assert result.success
    assert open_incidents() == []
    wait(monkeypatch, 3600)
    assert ticks.requests(defs, SENSOR) == []
    assert "No run was cut off" in ticks.message


def test_what_an_outage_has_ended_is_repeated_and_never_waits_for_long(
    ticks, defs, filled, domain, instance, resources, monkeypatch
):
    nowhere = overriding(resources["feature_store"], registry="postgresql://nobody@127.0.0.1:9/registry")
    without_registry = feature_store_definitions(domain, resources={"feature_store": nowhere})
    job = without_registry.resolve_job_def(PURCHASE)
    assert not job.execute_in_process(instance=instance, raise_on_error=False).success
    for attempt in range(1, 6):
        wait(monkeypatch, 61 * attempt)
        (request,) = ticks.requests(defs, SENSOR)
        (result,) = ticks.run(without_registry, [request])
        assert not result.success


def test_what_fails_for_a_reason_of_its_own_is_left_to_its_owner(ticks, defs, filled, domain, instance, monkeypatch):
    domain.source.events = domain.source.events.drop("amount")
    job = defs.resolve_job_def(PURCHASE)
    assert not job.execute_in_process(instance=instance, raise_on_error=False).success
    wait(monkeypatch, 3600)
    assert ticks.requests(defs, SENSOR) == []


def test_a_partition_of_a_training_set_is_built_again_and_no_other(ticks, defs, instance, monkeypatch):
    tags = {"dagster/partition": "2024-03-04", "team": "shop"}
    run = instance.create_run_for_job(defs.resolve_job_def(PURCHASE), status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.report_run_failed(run)
    wait(monkeypatch, 31)
    (request,) = ticks.requests(defs, SENSOR)
    assert request.tags["dagster/partition"] == "2024-03-04"
    assert "team" not in request.tags


def test_what_was_cut_off_long_ago_is_not_repeated(ticks, defs, filled, instance, monkeypatch):
    run = instance.create_run_for_job(defs.resolve_job_def(NIGHTLY), status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run)
    wait(monkeypatch, 5 * 86400)
    assert ticks.requests(defs, SENSOR) == []
