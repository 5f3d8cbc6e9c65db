"""A partition that fails for a reason of its own holds back no other, and is remembered until it is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from feature_store.definitions.group import feature_group
from feature_store.errors import InvalidRowsError, TransformError
from feature_store.offline.failed_partitions import failed_partitions
from feature_store.transform.inputs import INPUTS
from feature_store.transform.partition_failures import MOST_RAISING
from tests.orders import CUSTOMER, START, Orders, Spending, orders, some_orders, spending

SPAN = ("2024-03-01", "2024-03-09")


def raising(source, amount):
    """Returns the group whose function raises where it meets an amount."""

    @feature_group(entity=CUSTOMER, source=source, schema=Spending, owner="team@example.com", name="spending")
    def group(events: pl.LazyFrame) -> pl.LazyFrame:
        """What a customer has spent of late."""
        rows = events.collect()
        if rows.filter(pl.col("amount") == amount).height:
            raise ZeroDivisionError("no such amount")
        value = pl.col("amount")
        return rows.lazy().select(
            "customer", "event_timestamp", orders_3d=pl.lit(1, pl.Int64), amount_3d=value, last_amount=value
        )

    return group


def days(store, group):
    return [window.start.day for window in store.offline.materialized(store.registered(group))]


def with_amount(amount, *of_days):
    rows = [("c9", START + timedelta(days=day - 1, hours=12), amount) for day in of_days]
    return pl.concat([some_orders(), orders(*rows)])


def test_a_function_that_raises_on_one_day_leaves_all_others(store):
    group = raising(Orders(with_amount(777, 4)), 777)
    store.apply([group])
    with pytest.raises(TransformError, match=r"'spending', partition 2024-03-04, raised ZeroDivisionError: no such"):
        store.materialize(group, *SPAN)
    assert days(store, group) == [1, 2, 3, 5, 6, 7, 8, 9]
    ((_, failed),) = failed_partitions(store.offline.root).items()
    assert (failed.start.day, failed.is_final, failed.attempts) == (4, False, 1)
    with pytest.raises(TransformError):
        store.materialize(group, "2024-03-04")
    ((_, failed),) = failed_partitions(store.offline.root).items()
    assert failed.attempts == 2


def test_it_is_forgotten_when_the_day_is_written(store):
    source = Orders(with_amount(5000, 4, 7))
    group = spending(source)
    store.apply([group])
    with pytest.raises(InvalidRowsError, match="partition 2024-03-04, 2024-03-07,") as failure:
        store.materialize(group, *SPAN)
    assert len(failure.value.failures) == 2
    assert days(store, group) == [1, 2, 3, 5, 6, 8, 9]
    assert {failed.start.day for failed in failed_partitions(store.offline.root).values()} == {4, 7}
    source.events = with_amount(5000, 7)
    store.materialize(group, "2024-03-04")
    assert {failed.start.day for failed in failed_partitions(store.offline.root).values()} == {7}


def test_a_function_that_always_raises_is_not_tried_on_every_day(store):
    history = [("c1", START + timedelta(days=day, hours=1), 777) for day in range(60)]
    source = Orders(orders(*history), landed=START.date() + timedelta(days=59))
    group = raising(source, 777)
    store.apply([group])
    with pytest.raises(TransformError, match="and 15 more"):
        store.materialize(group, "2024-03-01", "2024-04-29")
    assert len(failed_partitions(store.offline.root)) == MOST_RAISING


def test_a_file_says_which_source_days_it_was_made_of(open_store):
    from feature_store.offline.footers import file_metadata

    store = open_store()
    source = Orders(some_orders())
    group = spending(source)
    store.apply([group])
    store.materialize(group, *SPAN)

    def inputs():
        return {file.date.day: file_metadata(file.path)[INPUTS] for file in store.offline.files("spending")}

    before = inputs()
    store.materialize(group, *SPAN)
    assert inputs() == before
    late = orders(("c1", datetime(2024, 3, 4, 15, tzinfo=UTC), 7))
    source.events = pl.concat([source.events, late])
    store.materialize(group, *SPAN)
    assert {day for day, digest in inputs().items() if digest != before[day]} == {4, 5, 6, 7}


def test_a_source_that_changes_while_it_is_read_makes_its_partitions_old(open_store):
    """The fingerprint is the one from before the source was read: what changes after it is found."""
    from feature_store.reconcile.coverage import coverage
    from feature_store.reconcile.due import LandedDays, due_partitions

    late = orders(("c1", datetime(2024, 3, 4, 15, tzinfo=UTC), 7))

    class Moving(Orders):
        def scan(self, window):
            read = super().scan(window)
            self.events = pl.concat([self.events, late]).unique(maintain_order=True)
            return read

    store = open_store()
    group = spending(Moving(some_orders()))
    store.apply([group])
    store.materialize(group, *SPAN)
    from feature_store.definitions.source import fingerprints

    now = store.clock.now()
    landed = LandedDays(fingerprints(group.source))
    due = due_partitions(group, coverage(group, store.offline), landed, {}, now=now, tried_until=now)
    assert [window.start.day for window in due.changed] == [4, 5, 6, 7]


def test_equal_rows_of_days_that_landed_again_are_neither_stamped_nor_pushed(open_store, tmp_path):
    from feature_store.sources import ParquetSource

    def land():
        for (day,), rows in some_orders().group_by(pl.col("event_timestamp").dt.date(), maintain_order=True):
            file = tmp_path / "landing" / f"date={day}" / "events.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows.write_parquet(file)

    land()
    store = open_store()
    group = spending(ParquetSource("orders", tmp_path / "landing", START))
    store.apply([group])
    store.materialize(group, *SPAN)
    before = store.offline.scan(store.registered(group)).collect().sort("customer", "event_timestamp")
    land()
    again = store.materialize(group, *SPAN)
    assert (again.changed, again.gone, again.online.written) == (0, 0, 0)
    after = store.offline.scan(store.registered(group)).collect().sort("customer", "event_timestamp")
    assert after.equals(before)
