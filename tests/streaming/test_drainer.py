"""The drainer and the compaction: every row once in the offline store, whatever is cut off where."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import polars as pl

from feature_store.transform.comparison import difference
from tests.orders import START, Orders
from tests.streaming.pipeline import (
    KEYS,
    PARTITIONS,
    batch,
    by_the_rule,
    deliveries,
    habits,
    random_orders,
    wait_until,
)


def test_drained_in_parts_the_offline_rows_are_those_of_a_batch(pipeline):
    events = random_orders(1500, customers=40)
    delivered = deliveries(events)
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    reports = []
    for part in delivered.iter_slices(900):
        pipeline.publish(part)
        pipeline.stream_all()
        reports.append(drainer.drain())
    assert all(report.rows for report in reports)
    assert not any(report.lag for report in reports)
    assert drainer.drain().rows == 0
    emitted = pipeline.rows()
    drained = pipeline.offline()
    assert drained.height == sum(report.rows for report in reports)
    assert drained.join(emitted, on=emitted.columns, how="anti", nulls_equal=True).is_empty()
    assert difference(by_the_rule(emitted), by_the_rule(drained), KEYS) is None
    expected = batch(pipeline.group, events)
    assert difference(expected, by_the_rule(drained), KEYS) is None

    report = pipeline.store.stream_files(pipeline.group).compact()
    assert report.superseded == drained.height - expected.height > 0
    compacted = pipeline.offline()
    assert compacted.height == expected.height
    assert difference(expected, compacted.drop("ingested_at"), KEYS) is None
    assert drainer.drain().rows == 0
    assert pipeline.offline().height == expected.height


def test_a_drain_that_is_cut_off_anywhere_is_completed_by_the_next(pipeline):
    events = random_orders(600, customers=10)
    pipeline.publish(events)
    pipeline.stream_all()
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    drainer.drain()
    whole = pipeline.offline()
    files = sorted(pipeline.store.offline.files(pipeline.group.name))
    assert len(files) > 10
    # Files appear one by one: any of the last micro-batch but one may be missing where it was killed.
    for partition in range(PARTITIONS):
        own = [file for file in files if f"-{partition}-" in file.name]
        for file in own[1::2]:
            file.path.unlink()
    assert pipeline.offline().height < whole.height
    drainer.drain()
    assert difference(whole, pipeline.offline(), [*KEYS, "ingested_at"]) is None
    assert pipeline.offline().height == whole.height


def test_readers_never_miss_or_repeat_a_row_while_files_are_folded(pipeline):
    events = random_orders(900, customers=20)
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    for part in events.iter_slices(300):
        pipeline.publish(part)
        pipeline.stream_all()
        drainer.drain()
    expected = by_the_rule(pipeline.offline())
    labels = expected.select(*KEYS)
    features = [pipeline.group.name]
    answer = pipeline.store.training_set(labels, features)
    files = pipeline.store.stream_files(pipeline.group)
    done = threading.Event()
    seen = []

    def read() -> None:
        while not done.is_set():
            rows = pipeline.offline()
            seen.append(rows.height)
            assert rows.select(*KEYS, "ingested_at").is_unique().all()
            assert difference(expected, by_the_rule(rows), KEYS) is None

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        wait_until(lambda: len(seen) > 2 or reading.done(), "a read")
        report = files.compact(grace_seconds=1)
        wait_until(lambda: len(seen) > 6 or reading.done(), "more reads")
        time.sleep(1.1)  # the time that replaced files stay
        assert files.compact(grace_seconds=1).removed == report.folded
        wait_until(lambda: len(seen) > 9 or reading.done(), "more reads")
        done.set()
        reading.result()
    assert difference(answer, pipeline.store.training_set(labels, features), KEYS) is None


def test_batch_and_stream_write_one_group_and_the_rule_decides(pipeline):
    events = random_orders(900, customers=20)
    begin = START + timedelta(days=4)
    pipeline.publish(events)
    pipeline.stream_all()
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    drainer.drain()
    # The nightly batch has read more: each amount is greater by one.
    corrected = events.with_columns(pl.col("amount") + 1)
    later = pipeline.store.clock.now() + timedelta(hours=1)
    pipeline.store.clock.set(later)
    landed = habits(Orders(corrected, landed=(begin - timedelta(days=1)).date()), pipeline.group.name)
    pipeline.store.materialize(landed, START, begin - timedelta(days=1))
    of_batch = pl.col("event_timestamp") < begin
    expected = pl.concat(
        [batch(pipeline.group, corrected).filter(of_batch), batch(pipeline.group, events).filter(~of_batch)]
    )
    assert difference(expected, by_the_rule(pipeline.offline()), KEYS) is None
    pipeline.store.stream_files(pipeline.group).compact()
    assert difference(expected, by_the_rule(pipeline.offline()), KEYS) is None
    labels = expected.select(KEYS)
    values = pipeline.store.training_set(labels, [pipeline.group.name])
    assert difference(expected, values.select(expected.columns), KEYS) is None
