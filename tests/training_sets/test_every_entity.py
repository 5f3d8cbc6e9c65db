"""Labels of every entity at regular instants, against plain Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.catalog import Catalog
from feature_store.definitions.dtypes import INT
from feature_store.definitions.entity import Entity
from feature_store.definitions.training_set import TrainingSet, every_entity
from feature_store.errors import DefinitionError, InvalidRequestError, UnknownFeatureError
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Partitioning, Window
from feature_store.training_sets.every_entity import every_entity_labels
from tests.offline.groups import ROUTE, give
from tests.offline.groups import group as group_record
from tests.offline.groups import rows as group_rows
from tests.orders import CUSTOMER, START

DAY = timedelta(days=1)


def daily(labels, **arguments):
    return TrainingSet("customers", labels, ["spending"], "team@example.com", **arguments)


def test_every_customer_that_is_visible_each_day(shop, group):
    labels = every_entity(group, start=START + DAY, end=START + 5 * DAY)
    rows = shop.write_training_set(daily(labels)).scan().collect()
    history = shop.offline.scan(shop.registered(group)).collect()
    expected = [
        (when, customer)
        for when in (START + day * DAY for day in range(1, 5))
        for customer in sorted(history["customer"].unique())
        # The longest time to live of the group is that of last_amount, 30 days.
        if any(
            event <= when < event + 30 * DAY
            for event in history.filter(pl.col("customer") == customer)["event_timestamp"]
        )
    ]
    assert rows.select("event_timestamp", "customer").rows() == expected
    assert len(expected) > 10
    assert rows["last_amount"].null_count() == 0


def test_partition_by_partition_it_is_the_same(shop, group):
    labels = every_entity(group, every=timedelta(hours=7), start=START + timedelta(minutes=5))
    whole = shop.write_training_set(daily(labels)).scan().collect()
    definition = daily(labels, partitioning=Partitioning.DAILY, start=START)
    shop.write_training_set(definition, Partitioning.DAILY.span("2024-03-04", "2024-03-06"))
    parts = shop.write_training_set(definition)
    assert parts.scan().collect().equals(whole)
    assert parts.manifest.label_query.every_seconds == 7 * 3600


def test_without_an_end_it_goes_up_to_the_present(shop, group, clock):
    labels = shop.write_training_set(daily(every_entity(group, start=START))).scan().collect()
    assert labels["event_timestamp"].max() == clock.now()
    with pytest.raises(InvalidRequestError, match="2024-03-1"):
        shop.write_training_set(daily(every_entity(group, start=START, end=START.replace(day=20))))


def test_an_entity_is_visible_in_any_of_its_groups(shop, group, source):
    from tests.orders import hourly_activity

    hourly = hourly_activity(source)
    shop.apply([hourly])
    # One order, whose customer's activity is live for a day.
    shop.materialize(hourly, "2024-03-09-00:00", "2024-03-09-23:00")
    query = every_entity(CUSTOMER, every=timedelta(hours=6), start=START)
    assert daily(query).labels.group is None
    written = shop.write_training_set(daily(query))
    only = shop.write_training_set(daily(every_entity(hourly, every=timedelta(hours=6), start=START)))
    assert 0 < only.rows < written.rows


def test_it_says_what_is_wrong(shop, group):
    for arguments in ({"every": timedelta(0)}, {"end": START - DAY}):
        with pytest.raises(DefinitionError):
            every_entity(group, start=START, **arguments)
    with pytest.raises(UnknownFeatureError, match="No feature group of entity 'planet'"):
        shop.write_training_set(daily(every_entity(Entity("planet", {"planet": str}), start=START)))
    with pytest.raises(InvalidRequestError, match="as_of='customer' is a join key"):
        shop.write_training_set(daily(every_entity(group, start=START), as_of="customer"))
    with pytest.raises(InvalidRequestError, match="has no labels"):
        shop.write_training_set(daily(every_entity(group, start=START - 9 * DAY, end=START)))


def test_naive_starts_are_utc(group):
    assert every_entity(group, start=datetime(2024, 3, 1)).start == datetime(2024, 3, 1, tzinfo=UTC)


MINUTE = timedelta(minutes=1)
routes = st.tuples(st.sampled_from(["A", "B"]), st.integers(1, 2))
events = st.integers(-30, 60).map(lambda minutes: START + minutes * MINUTE)
edges = st.sampled_from([timedelta(0), timedelta(microseconds=1), -timedelta(microseconds=1)])


@given(
    st.lists(st.tuples(routes, events, edges), max_size=12),
    st.integers(1, 40),
    st.integers(1, 25),
    st.integers(-10, 40),
    st.integers(0, 60),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_against_every_entity_and_instant(tmp_path_factory, history, ttl, every, start, length):
    record = group_record("delays", ROUTE, {"seats": (INT, 60 * ttl)})
    store = OfflineStore(tmp_path_factory.mktemp("offline"))
    written = [(route, event + edge) for route, event, edge in history]
    for day in {event.date() for _, event in written}:
        of_day = [
            {"origin": origin, "flight": flight, "event_timestamp": event, "seats": 1}
            for (origin, flight), event in written
            if event.date() == day
        ]
        window = Partitioning.DAILY.window(day.isoformat())
        give(store, record, window, group_rows(record, of_day))
    query = every_entity(ROUTE, every=every * MINUTE, start=START)
    window = Window(START + start * MINUTE, START + (start + length) * MINUTE)
    expected = sorted(
        (when, *route)
        for step in range(100)
        if window.start <= (when := START + step * every * MINUTE) < window.end
        for route in {route for route, _ in written}
        if any(event <= when < event + ttl * MINUTE for other, event in written if other == route)
    )
    found = every_entity_labels(query, "when", window, catalog=Catalog.of([record]), offline=store)
    assert found.rows() == expected
