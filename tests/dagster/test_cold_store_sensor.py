from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from dagster_feature_store import feature_store_definitions
from dagster_feature_store.sensors import cold_store
from feature_store.clock import FixedClock, SystemClock
from tests.dagster.conftest import overriding

SENSOR = "feature_store_cold_store_sensor"
RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}


@pytest.fixture
def redis(redis_server):
    with redis_server.client() as client:
        yield client


@pytest.fixture
def filled(defs, instance):
    assert defs.resolve_job_def("feature_store_features").execute_in_process(instance=instance, tags=RANGE).success


def values(store):
    ids = [f"c{number}" for number in range(5)]
    return store.get_online_features_batch(ids, ["spending"])


def open_incidents(store):
    return " ".join(key for key, record in store.registry.incidents().items() if record.resolved_at is None)


def test_a_warm_store_is_left_alone(ticks, defs, filled):
    assert ticks.requests(defs, SENSOR) == []
    assert "are all there" in ticks.message


def test_the_first_look_at_a_new_store_is_no_failure(ticks, defs):
    assert ticks.requests(defs, SENSOR) == []
    assert "never been applied" in ticks.message


def test_a_flushed_store_is_filled_again_and_nothing_is_computed(ticks, defs, filled, store, redis, domain, instance):
    before = values(store)
    assert any(value is not None for row in before for value in row.values())
    redis.flushall()
    assert values(store) != before
    domain.source.scans.clear()
    requests = ticks.requests(defs, SENSOR)
    assert [request.run_config["ops"]["feature_store_push_online"]["config"] for request in requests] == [
        {"groups": ["spending"]}
    ]
    (result,) = ticks.run(defs, requests)
    assert result.success
    assert domain.source.scans == []
    assert values(store) == before
    (observation,) = instance.fetch_observations(dg.AssetKey("spending"), limit=5).records
    assert observation.asset_observation.metadata["refill/written"].value > 0
    assert ticks.requests(defs, SENSOR) == []
    assert "are all there" in ticks.message
    assert store.registry.incidents()["online/spending"].resolved_at is not None


def test_a_loss_of_single_keys_is_found(ticks, defs, filled, redis):
    for key in redis.scan_iter("feature*:c3"):
        redis.delete(key)
    assert len(ticks.requests(defs, SENSOR)) == 1


def test_a_loss_is_one_request_however_often_it_is_seen(ticks, defs, filled, redis, instance):
    redis.flushall()
    (request,) = ticks.requests(defs, SENSOR)
    for _ in range(2):
        assert {again.run_key for again in type(ticks)(instance).requests(defs, SENSOR)} == {request.run_key}
        assert len(ticks.requests(defs, SENSOR)) <= 1


def test_a_refill_that_was_killed_is_repeated_and_its_incident_ends(
    ticks, defs, filled, store, redis, instance, monkeypatch
):
    before = values(store)
    redis.flushall()
    (request,) = ticks.requests(defs, SENSOR)
    run = instance.create_run_for_job(
        defs.resolve_job_def("feature_store_refill_online"), status=dg.DagsterRunStatus.STARTED, tags=request.tags
    )
    instance.report_run_failed(run)
    ticks.requests(defs, "feature_store_alert_sensor")
    assert "feature_store_refill_online" in open_incidents(store)
    assert ticks.requests(defs, SENSOR) == []
    assert "after a pause" in ticks.message
    monkeypatch.setattr(cold_store, "SystemClock", lambda: FixedClock(SystemClock().now() + timedelta(seconds=31)))
    (result,) = ticks.run(defs, ticks.requests(defs, SENSOR))
    assert result.success
    assert values(store) == before
    assert ticks.requests(defs, SENSOR) == []
    assert open_incidents(store) == ""


def test_a_store_that_goes_on_losing_keys_is_refilled_with_longer_pauses(ticks, defs, filled, redis, monkeypatch):
    times = []
    for second in range(0, 300, 30):
        monkeypatch.setattr(
            cold_store, "SystemClock", lambda ahead=second: FixedClock(SystemClock().now() + timedelta(seconds=ahead))
        )
        redis.flushall()
        if requests := ticks.requests(defs, SENSOR):
            times.append(second)
            ticks.run(defs, requests)
    assert times == [0, 30, 60, 120, 240]


def test_what_a_killed_writer_left_undone_is_asked_for_and_done(ticks, defs, filled, store):
    mark = store.offline.root / "_unfinished" / "spending" / "of-a-dead-writer.json"
    mark.write_text('["2024-03-08"]')
    assert store.sample_online("spending").unfinished == 1
    (result,) = ticks.run(defs, ticks.requests(defs, SENSOR))
    assert result.success
    assert not mark.exists()
    assert ticks.requests(defs, SENSOR) == []


def test_what_is_being_worked_on_is_not_judged(ticks, defs, filled, redis, instance):
    redis.flushall()
    instance.create_run_for_job(defs.resolve_job_def("feature_store_features"), status=dg.DagsterRunStatus.STARTED)
    assert ticks.requests(defs, SENSOR) == []


def test_expired_values_are_not_lost(store, filled, redis):
    redis.flushall()
    assert store.sample_online("spending").lost
    store.clock = FixedClock(store.clock.now().replace(year=2025))
    assert store.sample_online("spending").entities == 0


def test_a_store_that_does_not_answer_is_an_incident(ticks, domain, resources, instance, store, filled, tmp_path):
    dead = overriding(resources["feature_store"], online=f"unix://{tmp_path / 'nothing'}")
    defs = feature_store_definitions(domain, resources={"feature_store": dead})
    assert ticks.requests(defs, SENSOR) == []
    assert store.registry.incidents()["online/store"].resolved_at is None
    defs = feature_store_definitions(domain, resources=resources)
    ticks.requests(defs, SENSOR)
    assert store.registry.incidents()["online/store"].resolved_at is not None


def test_all_groups_are_pushed_by_hand_without_configuration(defs, filled, store, redis, instance):
    before = values(store)
    redis.flushall()
    assert defs.resolve_job_def("feature_store_refill_online").execute_in_process(instance=instance).success
    assert values(store) == before
