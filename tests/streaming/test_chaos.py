"""Killed at random, all parts of it, the pipeline comes to what one batch pass over the events gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_store.transform.comparison import difference
from tests.servers.kafka import KafkaServer
from tests.streaming.chaos import Chaos
from tests.streaming.pipeline import KEYS, batch, by_the_rule, deliveries, random_orders


def run(
    folder: Path,
    *,
    events: int,
    customers: int,
    seconds: float,
    victims: list[str],
    calm: tuple[float, float],
    broker: KafkaServer | None = None,
) -> None:
    orders = random_orders(events, customers)
    delivered = deliveries(orders, spread=events // 20)
    expected_kills = len(victims)
    with Chaos(folder, broker) as chaos:
        publishing = chaos.publish(delivered, seconds)
        chaos.storm(victims, seed=events, calm=calm)
        publishing.join(180)
        assert not publishing.is_alive()
        pipeline = chaos.pipeline
        pipeline.wait(180)
        chaos.stop_drainer()
        pipeline.store.drainer(pipeline.group, pipeline.settings).drain()
        assert chaos.killed.total() == expected_kills

        expected = batch(pipeline.group, orders)
        written = pipeline.offline()
        assert written.select(*KEYS, "ingested_at").is_unique().all(), "rows are doubled"
        assert difference(expected, by_the_rule(written), KEYS) is None
        pipeline.store.stream_files(pipeline.group).compact()
        assert difference(expected, pipeline.offline().drop("ingested_at"), KEYS) is None
        assert pipeline.offline().height == expected.height
        pipeline.assert_online(orders, wait=True)


def test_a_few_kills(tmp_path, kafka_server):
    victims = ["streamer 0", "drainer", "redis", "streamer 1", "streamer 0"]
    run(tmp_path, events=4000, customers=60, seconds=3, victims=victims, calm=(0.3, 0.8), broker=kafka_server)


@pytest.mark.long
@pytest.mark.usefixtures("_kafka_jars")
@pytest.mark.timeout(900)
def test_fifty_kills_and_a_hundred_thousand_events(tmp_path):
    victims = ["streamer 0"] * 12 + ["streamer 1"] * 12 + ["drainer"] * 10 + ["redis"] * 10 + ["broker"] * 6
    run(tmp_path, events=100_000, customers=500, seconds=90, victims=victims, calm=(0.5, 2.5))
