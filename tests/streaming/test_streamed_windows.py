"""Windows of a stream on a real broker: what the events say, before the drain and after it, to the bit."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from feature_store import FeatureSchema, count, last, maximum, mean, total
from feature_store import window as windowed
from feature_store.clock import to_micros
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.windows.plain_fold import Event, value_of
from tests.orders import CUSTOMER, Orders
from tests.streaming.pipeline import Pipeline, deliveries, open_pipeline, random_orders


class Bought(FeatureSchema):
    orders_1h: int = windowed("Orders.", count(), "1h")
    amount_3d: int = windowed("Amount, in cents.", total("amount"), "3d")
    mean_3d: float = windowed("Mean amount, in cents.", mean("amount"), "3d")
    greatest_30d: int = windowed("Greatest amount, in cents.", maximum("amount"), "30d")
    last_3d: list[int] = windowed("Amounts of the last orders, in cents.", last("amount", 3), "3d")


def bought(source: Orders, name: str) -> FeatureGroup:
    @feature_group(entity=CUSTOMER, source=source, schema=Bought, owner="team@example.com", name=name)
    def orders_of(events: pl.LazyFrame) -> pl.LazyFrame:
        """Orders as they are."""
        return events.select("customer", "event_timestamp", "amount")

    return orders_of


def assert_served(pipeline: Pipeline, events: pl.DataFrame) -> None:
    registered = pipeline.store.registered(pipeline.group)
    customers = events["customer"].unique().sort().to_list()
    served = pipeline.store.get_online_features_batch(customers, [pipeline.group.name])
    now = to_micros(pipeline.store.clock.now())
    for customer, answer in zip(customers, served, strict=True):
        own = events.filter(pl.col("customer") == customer)
        times = own["event_timestamp"].to_physical().to_list()
        told = [Event(time, {"amount": amount}) for time, amount in zip(times, own["amount"].to_list(), strict=True)]
        for feature in registered.windows:
            assert feature.window is not None
            assert answer[feature.ref.name] == value_of(feature.window, feature.dtype, told, now), (customer, feature)


@pytest.fixture
def pipeline(store, kafka_server, tmp_path):
    return open_pipeline(store, kafka_server, tmp_path, "bought", group=bought)


def test_windows_of_a_stream_are_those_of_its_events(pipeline, clock):
    events = random_orders(2000, customers=20)
    clock.set(events["event_timestamp"].max())
    pipeline.publish(deliveries(events, spread=100))
    pipeline.stream_all()
    for wait in (timedelta(), timedelta(minutes=7), timedelta(hours=20)):
        clock.set(clock.now() + wait)
        assert_served(pipeline, events)
    pipeline.store.drainer(pipeline.group, pipeline.settings).drain()
    assert_served(pipeline, events)
    times = [clock.now()] * 20
    customers = events["customer"].unique().sort().to_list()
    trained = pipeline.store.get_offline_features(customers, [pipeline.group.name], times)
    served = pipeline.store.get_online_features_batch(customers, [pipeline.group.name])
    assert trained.select(served[0].keys()).to_dicts() == served
    # What comes after the drain joins what was there.
    more = random_orders(300, customers=20, days=1, seed=5).with_columns(
        pl.col("event_timestamp") + (clock.now() - timedelta(days=1) - events["event_timestamp"].min())
    )
    clock.set(more["event_timestamp"].max())
    pipeline.publish(more)
    pipeline.stream_all()
    assert_served(pipeline, pl.concat([events, more]))
