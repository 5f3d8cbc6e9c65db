"""Windows beside all else: on-demand features, plain groups, hours, several keys, corrected days, labels at events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType

import polars as pl
import pytest

from feature_store.definitions.entity import Entity
from feature_store.definitions.feature_service import FeatureService
from feature_store.definitions.group import feature_group
from feature_store.definitions.on_demand import on_demand
from feature_store.definitions.schema import FeatureSchema, feature, window
from feature_store.definitions.window_functions import count, last, total
from feature_store.errors import DefinitionError
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore
from tests.orders import CUSTOMER, START, Orders, orders, some_orders, spending

NOW = datetime(2024, 3, 9, 13, tzinfo=UTC)


class Pace(FeatureSchema):
    orders_2d: int = window("Orders of two days.", count(), "2d")
    cents_2d: int = window("Cents of two days.", total("amount"), "2d")
    last_amount_ever: int = window("Amount of the last order.", last("amount"), None)


class PerOrder(FeatureSchema):
    cents_per_order: float = feature("Cents of an order.")


@on_demand(inputs=["cents_2d", "orders_2d"], schema=PerOrder, owner="team@example.com")
def per_order(cents_2d: pl.Expr, orders_2d: pl.Expr) -> dict[str, pl.Expr]:
    """Money for each order."""
    return {"cents_per_order": pl.when(orders_2d > 0).then(cents_2d / orders_2d)}


def pace(source: Orders, **arguments):
    @feature_group(entity=CUSTOMER, source=source, schema=Pace, owner="team@example.com", **arguments)
    def pace(events: pl.LazyFrame) -> pl.LazyFrame:
        """How often a customer orders."""
        return events.select("customer", "event_timestamp", "amount")

    return pace


@pytest.mark.parametrize("partitioning", Partitioning)
def test_days_and_hours_give_the_same_windows(open_store, partitioning):
    store = open_store()
    store.clock.set(NOW)
    source = Orders(some_orders(), name="orders_of_pace")
    group = pace(source, partitioning=partitioning)
    store.apply([group])
    first, final = ("2024-03-01", "2024-03-08")
    if partitioning is Partitioning.HOURLY:
        first, final = "2024-03-01-00:00", "2024-03-08-23:00"
    store.materialize(group, first, final)
    ids = [f"c{number}" for number in range(5)]
    online = store.get_online_features_batch(ids, ["pace"])
    assert (
        online == store.get_offline_features(ids, ["pace"], [NOW] * 5).drop("entity_id", "as_of_timestamp").to_dicts()
    )
    seen = source.events.filter(
        (pl.col("event_timestamp") > datetime(2024, 3, 7, 13, tzinfo=UTC))
        & (pl.col("event_timestamp") < START + timedelta(days=8))
    )
    counted = dict(seen.group_by("customer").len().iter_rows())
    assert [row["orders_2d"] for row in online] == [counted.get(each, 0) for each in ids]


def test_on_demand_features_and_plain_groups_stand_beside_windows(open_store):
    store = open_store()
    store.clock.set(NOW)
    module = ModuleType("beside")
    source = Orders(some_orders())
    vars(module).update(
        pace=pace(source),
        spending=spending(source),
        per_order=per_order,
        model=FeatureService("model", ["pace", "cents_per_order", "amount_3d"]),
    )
    store.apply([module.pace, module.spending])
    own = FeatureStore(store.offline, store.online, store.registry, store.clock, definitions=module)
    for group in (module.pace, module.spending):
        own.materialize(group, "2024-03-01", "2024-03-08")
    ids = ["c0", "c1", "c4", "nobody"]
    online = own.get_online_features_batch(ids, module.model)
    labels = pl.DataFrame({"customer": ids, "at": [NOW] * 4}, schema_overrides={"at": pl.Datetime("us", "UTC")})
    assert own.training_set(labels, module.model, as_of="at").drop("customer", "at").to_dicts() == online
    assert online[0]["cents_per_order"] == online[0]["cents_2d"] / online[0]["orders_2d"]
    assert online[3]["cents_per_order"] is None


def test_entities_of_several_keys(open_store):
    route = Entity("route_of_windows", {"origin": str, "number": int})
    events = some_orders().select(origin="customer", number=pl.col("amount") % 3, event_timestamp="event_timestamp")

    class Flown(FeatureSchema):
        flights_4d: int = window("Flights of four days.", count(), "4d")

    @feature_group(entity=route, source=Orders(events, name="flown_events"), schema=Flown, owner="team@example.com")
    def flown(events: pl.LazyFrame) -> pl.LazyFrame:
        """What flies."""
        return events

    store = open_store()
    store.clock.set(NOW)
    store.apply([flown])
    store.materialize(flown, "2024-03-01", "2024-03-08")
    ids = [f"c{number}|{rest}" for number in range(5) for rest in range(3)]
    online = [row["flights_4d"] for row in store.get_online_features_batch(ids, ["flights_4d"])]
    assert online == store.get_offline_features(ids, ["flights_4d"], [NOW] * 15)["flights_4d"].to_list()
    assert sum(online) > 5


def test_a_corrected_day_takes_its_events_out_of_both_stores(open_store):
    store = open_store()
    store.clock.set(NOW)
    at = datetime(2024, 3, 8, 20, tzinfo=UTC)
    source = Orders(orders(("c0", at, 5), ("c0", at, 6), ("c1", at, 7)), name="orders_of_pace")
    group = pace(source)
    store.apply([group])
    store.materialize(group, "2024-03-08", "2024-03-08")
    assert store.get_online_features("c0", ["pace"]) == {"orders_2d": 2, "cents_2d": 11, "last_amount_ever": 6}
    source.events = orders(("c1", at, 8))
    store.clock.set(NOW + timedelta(minutes=1))
    report = store.materialize(group, "2024-03-08", "2024-03-08")
    assert report.rows == 1
    nothing = {"orders_2d": 0, "cents_2d": 0, "last_amount_ever": None}
    assert store.get_online_features("c0", ["pace"]) == nothing
    assert store.get_online_features("c1", ["pace"]) == {"orders_2d": 1, "cents_2d": 8, "last_amount_ever": 8}
    now = [store.clock.now()] * 2
    offline = store.get_offline_features(["c0", "c1"], ["pace"], now)
    assert offline["orders_2d"].to_list() == [0, 1]
    store.clock.set(NOW + timedelta(minutes=2))
    assert store.materialize(group, "2024-03-08", "2024-03-08").changed == 0


def test_a_label_at_an_event_sees_it_and_a_microsecond_before_does_not(open_store):
    store = open_store()
    store.clock.set(NOW)
    at = datetime(2024, 3, 8, 20, tzinfo=UTC)
    group = pace(Orders(orders(("c0", at, 5)), name="orders_of_pace"))
    store.apply([group])
    store.materialize(group, "2024-03-08", "2024-03-08")
    times = [at, at - timedelta(microseconds=1)]
    assert store.get_offline_features(["c0"] * 2, ["orders_2d"], times)["orders_2d"].to_list() == [1, 0]


def test_a_schema_holds_windows_or_plain_features():
    class Both(FeatureSchema):
        orders_1h: int = window("Orders of an hour.", count(), "1h")
        amount: int = feature("Amount.")

    with pytest.raises(DefinitionError, match="Declare the plain ones in a group of their own"):
        Both.specs()
    for more, said in [
        ({"lookback": timedelta(days=1)}, "Leave lookback out"),
        ({"online_layout": "row"}, "leave online_layout out"),
        ({"snapshot_every": timedelta(days=7)}, "Leave snapshot_every out"),
    ]:
        with pytest.raises(DefinitionError, match=said):
            pace(Orders(some_orders()), **more)


@pytest.mark.parametrize("column", ["customer", "date", "other_events"])
def test_a_column_that_the_store_has_is_named(column):
    class Taken(FeatureSchema):
        values_7d: int = window("Values.", count(column), "7d")

    declared = feature_group(
        entity=CUSTOMER, source=Orders(some_orders()), schema=Taken, owner="team@example.com", name="taken"
    )
    with pytest.raises(DefinitionError, match=f"a window reads the column '{column}'"):
        declared(pl.LazyFrame.lazy)


def test_two_conditions_alike_keep_a_column_each(open_store):
    """What a condition is called says nothing of how Polars spells it: another version registers the same window."""

    class Large(FeatureSchema):
        large_1d: int = window("Large orders.", count(), "1d", where=pl.col("amount") > 20)
        large_7d: int = window("Large orders.", count(), "7d", where=pl.col("amount") > 20)

    @feature_group(entity=CUSTOMER, source=Orders(some_orders()), schema=Large, owner="team@example.com")
    def large(events: pl.LazyFrame) -> pl.LazyFrame:
        """Large orders."""
        return events

    assert {spec.ref.column for spec in large.rows.features} == {"where_large_1d", "where_large_7d", "other_events"}
    store = open_store()
    store.clock.set(NOW)
    store.apply([large])
    store.materialize(large, "2024-03-01", "2024-03-08")
    assert store.check_consistency("large").passed
    assert store.get_online_features("c4", ["large_7d"])["large_7d"] > 0
