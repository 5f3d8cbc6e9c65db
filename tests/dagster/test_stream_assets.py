"""Streamed rows are drained as they come, and what was done is plotted."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import polars as pl
import pytest
from confluent_kafka import Producer

from dagster_feature_store import feature_store_definitions
from feature_store.definitions.event_stream import EventStream
from feature_store.streaming.settings import StreamSettings
from feature_store.streaming.topics import features_topic
from tests.dagster.conftest import overriding
from tests.orders import CUSTOMER, START
from tests.servers.redis import free_port
from tests.streaming.pipeline import Order, Pipeline, habits, no_files, random_orders


@pytest.fixture
def streaming_domain(domain):
    source = no_files()
    domain.habits = habits(source, "habits")
    domain.source = source
    del domain.spending, domain.activity, domain.purchase
    domain.stream = EventStream(source, Order, CUSTOMER, topic="orders-dagster", allowed_lateness=timedelta(days=3))
    return domain


@pytest.fixture
def broker():
    """The broker that the Kafka client brings along: it keeps little, and is there at once."""
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
    producer.list_topics(features_topic("habits"), timeout=10)  # makes it
    return producer


@pytest.fixture
def streamed(streaming_domain, resources, kafka_server, store, tmp_path):
    domain = streaming_domain
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


def asking(domain, resources, kafka):
    resource = overriding(resources["feature_store"], kafka=kafka)
    return feature_store_definitions(domain, resources={**resources, "feature_store": resource})


def test_what_has_come_is_drained_once(streaming_domain, resources, instance, broker):
    (address,) = [f"{each.host}:{each.port}" for each in broker.list_topics(timeout=10).brokers.values()]
    defs = asking(streaming_domain, resources, address)
    assert "Nothing has been streamed" in evaluated(defs, instance, None).skip_message
    cursor = None
    for _ in range(2):
        broker.produce(features_topic("habits"), b"a row")
        assert broker.flush(10) == 0
        tick = evaluated(defs, instance, cursor)
        (request,) = tick.run_requests
        assert [key.to_user_string() for key in request.asset_selection] == ["habits_stream"]
        cursor = tick.cursor
        assert "Nothing has been streamed" in evaluated(defs, instance, cursor).skip_message


@pytest.mark.slow
def test_a_broker_that_does_not_answer_is_named(streaming_domain, resources, instance):
    address = f"127.0.0.1:{free_port()}"
    assert address in evaluated(asking(streaming_domain, resources, address), instance, None).skip_message


def test_without_a_broker_there_is_nothing_to_drain(streaming_domain, resources, instance, monkeypatch):
    monkeypatch.delenv("FEATURE_STORE_KAFKA", raising=False)
    defs = feature_store_definitions(streaming_domain, resources=resources)
    assert "FEATURE_STORE_KAFKA" in evaluated(defs, instance, None).skip_message
