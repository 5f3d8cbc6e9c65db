"""The drainer and the compaction: every row once in the offline store, whatever is cut off where."""

from __future__ import annotations

from feature_store.transform.comparison import difference
from tests.streaming.pipeline import KEYS, batch, by_the_rule, deliveries, random_orders


def test_drained_in_parts_the_offline_rows_are_those_of_a_batch(pipeline):
    events = random_orders(3000, customers=40)
    delivered = deliveries(events)
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    reports = []
    for part in delivered.iter_slices(1000):
        pipeline.publish(part)
        pipeline.stream_all()
        reports.append(drainer.drain())
    assert all(report.rows for report in reports)
    assert not any(report.lag for report in reports)
    assert drainer.drain().rows == 0
    emitted = pipeline.rows()
    assert difference(emitted, pipeline.offline(), [*KEYS, "ingested_at"]) is None
    assert pipeline.offline().height == emitted.height
    expected = batch(pipeline.group, events)
    assert difference(expected, by_the_rule(pipeline.offline()), KEYS) is None

    files = pipeline.store.stream_files(pipeline.group)
    report = files.compact()
    assert report.superseded == emitted.height - expected.height
    compacted = pipeline.offline()
    assert compacted.height == expected.height
    assert difference(expected, compacted.drop("ingested_at"), KEYS) is None
    assert drainer.drain().rows == 0
    assert pipeline.offline().height == expected.height
