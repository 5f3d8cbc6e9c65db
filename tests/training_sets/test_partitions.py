"""Sets in partitions: what is appended, what stays, and when a new version begins."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial

import polars as pl
import pyarrow.dataset as ds
import pytest
from polars.testing import assert_frame_equal

from feature_store.definitions.splits import split_by_entity
from feature_store.errors import InvalidRequestError
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore
from feature_store.training_sets import partitioned
from tests.orders import CUSTOMER, START, spending
from tests.training_sets.conftest import arriving, every_morning, purchases

DAILY = Partitioning.DAILY
ALL = ["2024-03-02", "2024-03-03", "2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07", "2024-03-08", "2024-03-09"]


def days(first, last=None):
    return DAILY.span(f"2024-03-0{first}", f"2024-03-0{last or first}")


def daily(frame=None, **arguments):
    frame = every_morning() if frame is None else frame
    return purchases(frame, **{"partitioning": DAILY, "start": START, **arguments})


def contents(version):
    return {
        str(path.relative_to(version.path)): path.read_bytes() for path in version.path.rglob("*") if path.is_file()
    }


class Counting:
    """An engine that counts the labels it is given."""

    name = "counting"

    def __init__(self, inner):
        self.inner = inner
        self.labels = []

    def latest(self, labels, history, progress=None):
        self.labels.append(labels.as_of.len())
        return self.inner.latest(labels, history, progress)


@pytest.fixture
def counting(shop, clock):
    with FeatureStore(shop.offline, shop.online, shop.registry, clock, Counting(shop.engine)) as store:
        yield store


def test_all_complete_partitions_by_default_equal_the_set_as_a_whole(shop):
    labels = every_morning()
    written = shop.write_training_set(daily(labels))
    assert written.created
    assert list(written.built) == list(written.partitions) == ALL
    assert_frame_equal(written.scan().collect(), shop.training_set(labels, ["spending"]))
    assert [part.rows for part in written.parts] == [6] * 8
    [record] = shop.registry.training_sets("purchases")
    assert (record.version, record.row_count) == (1, 48)
    assert shop.verify_training_set("purchases").passed


def test_a_new_day_is_appended_and_nothing_else_is_computed_or_touched(counting):
    first = counting.write_training_set(daily(), days(2, 7))
    assert counting.engine.labels == [36]
    before = contents(first)
    second = counting.write_training_set(daily())
    assert counting.engine.labels == [36, 12]
    assert (second.version, second.created, second.built) == (1, False, ("2024-03-08", "2024-03-09"))
    after = contents(second)
    assert {path: after[path] for path in before} == before
    [record] = counting.registry.training_sets("purchases")
    assert record.row_count == 48
    assert record.baseline["amount_3d:v1"]["n"] == 48
    third = counting.write_training_set(daily())
    assert (third.built, third.created, counting.engine.labels) == ((), False, [36, 12])


def test_partitions_are_the_same_however_they_are_grouped(shop, monkeypatch):
    splits = split_by_entity(CUSTOMER, {"train": 0.5, "test": 0.5}, seed=3)
    at_once = contents(shop.write_training_set(daily(splits=splits)))
    monkeypatch.setattr(partitioned, "PASS_ROWS", 13)
    told = []
    name_one = purchases(every_morning(), splits=splits, partitioning=DAILY, start=START)
    object.__setattr__(name_one, "name", "others")
    passes = shop.write_training_set(name_one, progress=lambda group, share: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1
    assert {path: rows for path, rows in contents(passes).items() if path != "manifest.json"} == {
        path: rows for path, rows in at_once.items() if path != "manifest.json"
    }


def test_a_dataset_reads_days_and_splits_from_the_folders(shop):
    written = shop.write_training_set(daily(splits=split_by_entity(CUSTOMER, {"train": 0.5, "test": 0.5}, seed=3)))
    dataset = ds.dataset(written.path / "rows", partitioning="hive")
    assert dataset.count_rows() == 48
    of_day = dataset.count_rows(filter=(ds.field("partition") == "2024-03-05") & (ds.field("split") == "train"))
    assert (
        of_day == written.scan("train").filter(pl.col("event_timestamp").dt.date() == date(2024, 3, 5)).collect().height
    )


def test_a_late_change_leaves_the_partition_and_tells_of_it(shop, group, source):
    first = shop.write_training_set(daily())
    before = contents(first)
    changed = pl.when(pl.col("event_timestamp").dt.day() == 8).then(1).otherwise("amount")
    source.events = source.events.with_columns(amount=changed)
    shop.materialize(group, "2024-03-08")
    again = shop.write_training_set(daily())
    assert (again.version, again.built) == (1, ())
    assert contents(again) == before
    assert again.stale == {
        "2024-03-08": ["1 source file(s) changed: spending/date=2024-03-08/batch.parquet"],
        "2024-03-09": ["1 source file(s) changed: spending/date=2024-03-08/batch.parquet"],
    }
    assert shop.write_training_set(daily(), days(2, 5)).stale == {}


def test_a_new_version_on_request_takes_over_what_is_sound(counting, group, source):
    first = counting.write_training_set(daily())
    source.events = source.events.with_columns(
        amount=pl.when(pl.col("event_timestamp").dt.day() == 8).then(1).otherwise("amount")
    )
    counting.materialize(group, "2024-03-08")
    before = contents(first)
    counting.engine.labels.clear()
    second = counting.write_training_set(daily(), new_version=True)
    assert (second.version, second.created, second.built) == (2, True, ("2024-03-08", "2024-03-09"))
    assert counting.engine.labels == [12]
    assert second.partitions == tuple(ALL)
    assert_frame_equal(second.scan().collect(), counting.training_set(every_morning(), ["spending"]))
    assert contents(first) == before
    [name] = second.parts[0].files
    assert (second.path / name).samefile(first.path / name)
    assert not counting.write_training_set(daily(), new_version=True).created
    assert counting.write_training_set(daily()).stale == {}
    assert counting.verify_training_set("purchases", 2).passed
    assert [record.version for record in counting.registry.training_sets("purchases")] == [1, 2]


def test_labels_that_changed_make_a_partition_stale(shop, tmp_path):
    labels, place = every_morning(), tmp_path / "labels.parquet"
    shop.write_training_set(daily(arriving(labels, place)))
    changed = labels.with_columns(bought=pl.col("bought") | (pl.col("event_timestamp").dt.day() == 4)).filter(
        pl.col("event_timestamp").dt.day() != 6
    )
    again = shop.write_training_set(daily(arriving(changed, place)))
    assert again.stale == {
        "2024-03-04": ["labels: 6 rows then, 6 now, with another content"],
        "2024-03-06": ["labels: 6 rows then, none now"],
    }
    anew = shop.write_training_set(daily(arriving(changed, place)), new_version=True)
    assert (anew.version, anew.built, anew.rows) == (2, ("2024-03-04",), 42)
    assert_frame_equal(anew.scan().collect(), shop.training_set(changed, ["spending"]))


@pytest.mark.parametrize(
    "change",
    [{"features": ["amount_3d"]}, {"splits": split_by_entity(CUSTOMER, {"a": 0.5, "b": 0.5})}, {"as_of": "when"}],
)
def test_a_changed_definition_opens_the_next_version(shop, change):
    labels = every_morning().with_columns(when="event_timestamp")
    shop.write_training_set(daily(labels))
    written = shop.write_training_set(daily(labels, **change), days(9))
    assert (written.version, written.created, written.partitions) == (2, True, ("2024-03-09",))
    back = shop.write_training_set(daily(labels), days(9))
    assert (back.version, back.partitions) == (3, ("2024-03-09",))


@pytest.mark.parametrize("kind", ["captured", "partial", "default", "bound", "callable"])
def test_a_changed_value_of_the_labels_function_opens_the_next_version(shop, kind):
    def labels(horizon):
        return every_morning().with_columns(horizon=horizon).lazy()

    class Bound:
        def __init__(self, horizon):
            self.horizon = horizon

        def __call__(self):
            return labels(self.horizon)

    def function(horizon):
        return {
            "captured": lambda: labels(horizon),
            "partial": partial(labels, horizon),
            "default": lambda days=horizon: labels(days),
            "bound": Bound(horizon).__call__,
            "callable": Bound(horizon),
        }[kind]

    first = shop.write_training_set(daily(function(7)), days(2))
    assert shop.write_training_set(daily(function(7)), days(3)).version == first.version
    second = shop.write_training_set(daily(function(14)), days(4))
    assert second.version == first.version + 1
    assert second.scan().collect()["horizon"].unique().to_list() == [14]


def test_a_changed_time_to_live_opens_the_next_version(shop, source):
    shop.write_training_set(daily())
    longer = spending(source)
    object.__setattr__(longer, "default_ttl", timedelta(days=3))
    shop.apply([longer])
    assert shop.write_training_set(daily(), days(9)).version == 2


def test_hours_are_partitions_too(shop):
    definition = daily(partitioning=Partitioning.HOURLY)
    written = shop.write_training_set(definition, Partitioning.HOURLY.span("2024-03-03-00:00", "2024-03-04-23:00"))
    assert written.partitions == ("2024-03-03-06:00", "2024-03-04-06:00")
    assert shop.verify_training_set("purchases").passed


def test_a_partition_without_labels_waits_for_them(shop, tmp_path):
    place = tmp_path / "labels.parquet"
    shop.write_training_set(daily(arriving(every_morning(), place)), days(2, 5))
    quiet = every_morning().filter(pl.col("event_timestamp").dt.day() != 6)
    assert shop.write_training_set(daily(arriving(quiet, place)), days(6)).built == ()
    assert shop.write_training_set(daily(arriving(every_morning(), place)), days(6)).built == ("2024-03-06",)


@pytest.mark.parametrize(
    ("arguments", "span", "message"),
    [
        ({}, DAILY.span("2024-02-28", "2024-03-03"), "is not one of its partitions"),
        ({"end": START + timedelta(days=4)}, days(2, 6), "and ends at 2024-03-05.*is not one of its partitions"),
        ({}, DAILY.span("2024-03-09", "2024-03-10"), "Partition 2024-03-10 .* is not complete"),
        ({"label_delay": timedelta(hours=1)}, days(9), "is not complete: .* 1:00:00 after its end"),
        ({"start": START.replace(day=10)}, None, "no partition of it is complete yet"),
        ({}, Partitioning.HOURLY.span("2024-03-02-01:00", "2024-03-02-02:00"), "not the boundary of a daily partition"),
    ],
)
def test_spans_that_are_not_of_complete_partitions(shop, arguments, span, message):
    with pytest.raises(InvalidRequestError, match=message):
        shop.write_training_set(daily(**arguments), span)


def test_labels_come_in_late(shop):
    written = shop.write_training_set(daily(label_delay=timedelta(days=1, hours=2)))
    assert written.partitions[-1] == "2024-03-07"


def test_other_columns_than_the_version_has_are_refused(shop, tmp_path):
    place = tmp_path / "labels.parquet"
    shop.write_training_set(daily(arriving(every_morning(), place)), days(2, 5))
    with pytest.raises(InvalidRequestError, match=r"Partition 2024-03-06 .* other columns .*: more Int32"):
        shop.write_training_set(daily(arriving(every_morning().with_columns(more=1), place)), days(6))
    assert shop.open_training_set("purchases").partitions == tuple(ALL[:4])
