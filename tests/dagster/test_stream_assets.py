"""Streamed rows are drained as they come, and what was done is plotted."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store import feature_store_definitions
from dagster_feature_store.resources.feature_store import FeatureStoreResource
from feature_store.definitions.event_stream import EventStream
from feature_store.streaming.settings import StreamSettings
from tests.dagster.conftest import overriding
from tests.orders import CUSTOMER, START
from tests.streaming.pipeline import Order, Pipeline, habits, no_files, random_orders


@pytest.fixture
def streamed(domain, resources, kafka_server, store, tmp_path):
    source = no_files()
    domain.habits = habits(source, "habits")
    domain.source = source
    del domain.spending, domain.activity, domain.purchase
    domain.stream = EventStream(source, Order, CUSTOMER, topic="orders-dagster", allowed_lateness=timedelta(days=3))
    resources["feature_store"] = overriding(resources["feature_store"], kafka=kafka_server.bootstrap)
    settings = StreamSettings(
        {"bootstrap.servers": kafka_server.bootstrap}, state=tmp_path / "state", session_seconds=1
    )
    store.apply([domain.habits])
    return Pipeline(store, kafka_server, domain.habits, domain.stream, settings)


def evaluated(defs: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None):
    repository = defs.get_repository_def()
    context = dg.build_sensor_context(
        instance,
        cursor=cursor,
        repository_def=repository,
        sensor_name="feature_store_stream_sensor",
        resources={"feature_store": defs.resources["feature_store"]},
    )
    with context:
        return repository.get_sensor_def("feature_store_stream_sensor").evaluate_tick(context)


def test_streamed_rows_are_drained_and_folded(streamed, domain, resources, instance):
    streamed.server.create_topic(domain.stream.topic, 2)
    defs = feature_store_definitions(domain, resources=resources)
    cursor = None
    total = 0
    for part in random_orders(600, customers=8).iter_slices(300):
        streamed.publish(part)
        streamed.stream_all()
        tick = evaluated(defs, instance, cursor)
        (request,) = tick.run_requests
        cursor = tick.cursor
        result = defs.resolve_job_def("feature_store_drain_streams").execute_in_process(
            instance=instance, asset_selection=list(request.asset_selection)
        )
        (materialization,) = result.asset_materializations_for_node("feature_store_habits_stream")
        numbers = {name: value.value for name, value in materialization.metadata.items()}
        assert numbers["lag"] == 0
        assert numbers["files"] > 0
        assert 0 < numbers["delay_seconds"] < 600
        total += numbers["rows"]
    assert not evaluated(defs, instance, cursor).run_requests
    assert streamed.offline().height == total
    files = len(streamed.store.offline.files("habits"))
    assert defs.resolve_job_def("feature_store_compact_streams").execute_in_process(instance=instance).success
    assert len(streamed.store.offline.files("habits")) < files
    assert streamed.offline().select(pl.col("event_timestamp").min()).item() >= START


def test_without_a_broker_there_is_nothing_to_drain(streamed, domain, resources, instance, monkeypatch):
    monkeypatch.delenv("FEATURE_STORE_KAFKA", raising=False)
    resource = resources["feature_store"]
    without = {name: text for name, text in resource.overrides.items() if name != "kafka"}
    defs = feature_store_definitions(
        domain, resources={**resources, "feature_store": FeatureStoreResource(overrides=without)}
    )
    assert "FEATURE_STORE_KAFKA" in evaluated(defs, instance, None).skip_message
