"""The streamer on a real broker: the rows of a batch pass, online and in the features topic."""

from __future__ import annotations

from feature_store.transform.comparison import difference
from tests.streaming.pipeline import KEYS, batch, by_the_rule, deliveries, random_orders


def test_late_and_repeated_events_come_to_the_rows_of_a_batch(pipeline):
    events = random_orders(4000, customers=50)
    pipeline.publish(deliveries(events))
    pipeline.stream_all()
    assert difference(batch(pipeline.group, events), by_the_rule(pipeline.rows()), KEYS) is None


def test_rows_are_online_by_the_rule(pipeline):
    events = random_orders(2000, customers=30)
    pipeline.publish(deliveries(events))
    pipeline.stream_all()
    pipeline.assert_online(events)
