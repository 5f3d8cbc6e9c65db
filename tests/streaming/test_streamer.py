"""The streamer on a real broker: the rows of a batch pass, online and in the features topic."""

from __future__ import annotations

import polars as pl
import pytest

from feature_store.transform.comparison import difference
from tests.streaming.pipeline import batch, deliveries, open_pipeline, random_orders

KEYS = ["customer", "event_timestamp"]


@pytest.fixture
def pipeline(store, kafka_server, tmp_path, request):
    name = "g" + str(abs(hash(request.node.name)) % 10**8)
    return open_pipeline(store, kafka_server, tmp_path, name)


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("ingested_at").unique(KEYS, keep="last").drop("ingested_at")


def test_late_and_repeated_events_come_to_the_rows_of_a_batch(pipeline):
    events = random_orders(4000, customers=50)
    pipeline.publish(deliveries(events))
    pipeline.stream_all()
    assert difference(batch(pipeline.group, events), newest(pipeline.rows()), KEYS) is None
