"""Windows by every door: one value, whoever asks, at any instant."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from feature_store.definitions.schema import FeatureSchema, window
from feature_store.definitions.training_set import TrainingSet
from feature_store.definitions.window_functions import (
    age,
    approx_distinct,
    approx_quantile,
    count,
    distinct,
    histogram,
    last,
    maximum,
    mean,
    stddev,
    total,
)
from feature_store.errors import DefinitionError, InvalidRowsError, RegistryConflictError
from feature_store.serving.app import FeatureServer
from feature_store.serving.auth import Tokens
from feature_store.serving.limits import Limits
from feature_store.serving.logs import JsonLog
from feature_store.store import FeatureStore
from tests.orders import CUSTOMER, START, Orders
from tests.store.test_every_dtype import posted

IDS = ["c0", "c1", "c2", "nobody"]
EVENTS = pl.DataFrame(
    [
        (f"c{number % 3}", START + timedelta(hours=5 * number, microseconds=number % 2), number, "ab"[number % 2])
        for number in range(40)
    ]
    + [("c1", START + timedelta(hours=20), 7, "a"), ("c1", START + timedelta(hours=20), None, "b")],
    schema={"customer": pl.String, "event_timestamp": pl.Datetime("us", "UTC"), "amount": pl.Int64, "shop": pl.String},
    orient="row",
)


class Habit(FeatureSchema):
    orders_1h: int = window("Orders of an hour.", count(), "1h")
    orders_2d: int = window("Orders of two days.", count("amount"), "2d")
    spent_7d: Decimal = window("Spent in 7 days.", total("paid"), "7d")
    spent_by_shop: dict[str, Decimal] = window("Spent in 7 days by shop.", total("paid", by="shop"), "7d")
    mean_7d: float = window("Mean.", mean("amount_in_cents"), "7d", default=-1.0)
    spread_7d: float = window("Spread.", stddev("amount_in_cents"), "7d")
    most_ever: int = window("Greatest amount.", maximum("amount"), None)
    last_shops: list[str] = window("Shops of the last orders.", last("shop", 3), "4w", where=pl.col("amount") > 3)
    shops_7d: int = window("Shops.", distinct("shop"), "7d")
    about_shops: int = window("Shops, about.", approx_distinct("shop"), "7d")
    median_7d: float = window("Median.", approx_quantile("amount_in_cents", 0.5), "7d")
    counts_of_shops: dict[str, int] = window("Orders by shop.", histogram("shop", 5), "7d")
    days_since: float = window("Age.", age(unit="days"), "4w")


def habit(source: Orders, schema: type[FeatureSchema] = Habit) -> Any:
    from feature_store.definitions.group import feature_group

    @feature_group(entity=CUSTOMER, source=source, schema=schema, owner="team@example.com")
    def habit(events: pl.LazyFrame) -> pl.LazyFrame:
        """How a customer orders."""
        return events.with_columns(paid=pl.col("amount") / 4, amount_in_cents=pl.col("amount") * 100)

    return habit


@pytest.fixture
def world(
    open_store: Callable[..., FeatureStore], tmp_path: Path, redis_url: str
) -> tuple[FeatureStore, Any, Callable[..., FeatureStore]]:
    store = open_store()
    store.clock.set(datetime(2024, 3, 9, 7, 13, 11, tzinfo=UTC))
    group = habit(Orders(EVENTS))
    store.apply([group])
    store.materialize(group, "2024-03-01", "2024-03-08")
    settings = {"offline": tmp_path / "offline", "registry": f"sqlite:///{tmp_path / 'registry.db'}"}
    return store, group, partial(FeatureStore, **settings, online=redis_url, clock=store.clock)


NAMES = [spec.ref.name for spec in Habit.specs()]


def test_online_and_offline_say_the_same_at_any_instant(world):
    store, group, another = world
    for moved in (0, 1, 3_600, 86_400 - 26_000, 3 * 86_400, 40 * 86_400):
        store.clock.set(datetime(2024, 3, 9, 7, 13, 11, tzinfo=UTC) + timedelta(seconds=moved))
        at = [store.clock.now()] * len(IDS)
        offline = store.get_offline_features(IDS, NAMES, at).drop("entity_id", "as_of_timestamp")
        online = store.get_online_features_batch(IDS, NAMES)
        assert [plain(row) for row in offline.to_dicts()] == online
        with another(engine="duckdb") as by_sql:
            assert by_sql.get_offline_features(IDS, NAMES, at).drop("entity_id", "as_of_timestamp").equals(offline)
        assert store.get_online_features_frame(IDS, NAMES).drop("entity_id").equals(offline)
        assert [store.get_online_features(each, NAMES) for each in IDS] == online
        assert asyncio.run(read(store)) == online
        states = store.get_online_statuses(IDS, NAMES)
        assert [{name: state.value for name, state in row.items()} for row in states] == online
        assert {state.status for state in states[3].values()} == {"missing"}
        with another() as served:
            assert asyncio.run(by_http(served)) == [[spelled(row[name]) for name in NAMES] for row in online]
        for name in NAMES:
            told = store.explain("c1", name)
            assert told.value == online[1][name] or (told.value is None and online[1][name] == -1.0)
            assert told.online.agrees is not False
        assert store.check_consistency(group.name).passed
    store.get_online_features_batch(IDS * 4, NAMES)[0]["last_shops"].append("of the caller")
    many = store.get_online_features_batch(IDS * 4, NAMES)
    many[3]["last_shops"].append("of the caller")
    assert many[7] == online[3]
    assert online[0] == online[3] | {"most_ever": online[0]["most_ever"]}
    assert online[3]["mean_7d"] == -1.0


async def read(store: FeatureStore) -> list[dict[str, Any]]:
    try:
        return await store.aget_online_features_batch(IDS, NAMES)
    finally:
        await store.aclose()


async def by_http(store: FeatureStore) -> list[list[Any]]:
    app = FeatureServer(store, None, tokens=Tokens({}), limits=Limits(), log=JsonLog(io.BytesIO()))
    answer = await posted(app, "/v1/online-features", {"entity_ids": IDS, "features": NAMES})
    feast = await posted(
        app, "/get-online-features", {"entities": {"customer": IDS}, "features": [f"habit:{name}" for name in NAMES]}
    )
    await store.aclose()
    for place, name in enumerate(feast["metadata"]["feature_names"][1:], start=1):
        assert feast["results"][place]["values"] == [row[NAMES.index(name)] for row in answer["values"]]
    return answer["values"]


def spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: spelled(each) for key, each in value.items()}
    return str(value) if isinstance(value, Decimal) else value


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Maps as dictionaries."""
    maps = ("spent_by_shop", "counts_of_shops")
    return {
        name: {pair["key"]: pair["value"] for pair in value} if name in maps else value for name, value in row.items()
    }


def test_a_training_set_is_built_verified_and_trains_what_is_served(world):
    store, _, _ = world
    labels = EVENTS.select("customer", "event_timestamp").unique()
    definition = TrainingSet(
        "habits", labels=labels.lazy, features=["habit"], owner="team@example.com", description="Habits."
    )
    written = store.write_training_set(definition)
    report = store.verify_training_set("habits")
    assert report.passed
    assert report.values_checked == labels.height * len(NAMES)
    assert written.manifest.stored["orders_1h"].window is not None
    frame = store.training_set(labels, ["habit"], as_of="event_timestamp")
    for row in frame.sample(20, seed=1).iter_rows(named=True):
        store.clock.set(row["event_timestamp"])
        online = store.get_online_features(row["customer"], ["orders_1h"])
        # Later orders are online already: a reader at an earlier clock leaves them out, as far as tiles can tell.
        assert isinstance(online["orders_1h"], int)


def test_what_cannot_be_is_one_error_that_names_the_remedy():
    for function, over, annotation, given, said in [
        (count(), "1h", float, {}, "annotate it as int"),
        (total("x"), "7d", str, {}, "annotate it as int, float or Decimal"),
        (last("x", 5), "7d", str, {}, "a list of the column's type"),
        (last("x"), "7d", list[str], {}, r"for several write last\(..., 5\)"),
        (total("x", by="y"), "7d", float, {}, "dict"),
        (mean("x"), "7d", int, {}, "annotate it as float"),
        (count(), "7h", int, {"hop": "2h"}, "no multiple of its hop"),
        (count(), "13min", int, {}, "take 15min"),
        (count(), "7d", int, {"hop": "7h"}, "does not divide the day"),
        (count(), "a week", int, {}, "write 90s, 5min, 1h, 7d"),
        (count(), None, int, {"hop": "1h"}, "has no hop"),
        (count(), "7d", int, {"where": pl.col("x") > pl.col("x").mean()}, "looks at other events"),
        (count(), "7d", int, {"where": pl.col("x").shift(1) > 0}, "looks at other events"),
        (count(), "7d", int, {"where": pl.len() > 3}, "looks at other events"),
        (count(), "7d", int, {"where": pl.col("x").map_elements(bool, return_dtype=pl.Boolean)}, "Python function"),
    ]:
        members = {"__annotations__": {"f": annotation}, "f": window("f", function, over, **given)}
        schema = type("Wrong", (FeatureSchema,), members)
        with pytest.raises(DefinitionError, match=said):
            schema.specs()


def test_inputs_that_cannot_be_folded_are_rejected_by_name(world):
    store, group, _ = world
    bad = EVENTS.head(2).with_columns(paid=pl.Series([1.0, float("inf")]), amount_in_cents=pl.col("amount"))
    with pytest.raises(InvalidRowsError, match="'paid' is not a finite number in 1 of 2 events"):
        store.ingest(group, bad)
    with pytest.raises(InvalidRowsError, match="'paid' has more digits than decimal"):
        store.ingest(group, bad.with_columns(paid=pl.lit(0.125)))
    with pytest.raises(InvalidRowsError, match="have no column 'paid'"):
        store.ingest(group, bad.drop("paid"))


def test_a_changed_window_is_a_new_version(world):
    store, _, _ = world

    class Changed(Habit):
        orders_1h: int = window("Orders of two hours.", count(), "2h")

    with pytest.raises(RegistryConflictError, match="rename the column to orders_1h_v2"):
        store.apply([habit(Orders(EVENTS), Changed)])


def test_a_new_window_over_stored_columns_needs_no_backfill(world):
    store, _, _ = world

    class More(Habit):
        orders_3d: int = window("Orders of three days.", count(), "3d")

    wider = habit(Orders(EVENTS), More)
    store.apply([wider])
    store.push_online(wider)
    at = [store.clock.now()] * len(IDS)
    offline = store.get_offline_features(IDS, ["orders_3d"], at)["orders_3d"].to_list()
    assert [row["orders_3d"] for row in store.get_online_features_batch(IDS, ["orders_3d"])] == offline
    assert max(offline) > 0


def test_the_command_line_shows_windows(world, monkeypatch, tmp_path, redis_url):
    from feature_store.cli.app import cli

    store, _, _ = world
    for name, value in {
        "OFFLINE": str(tmp_path / "offline"),
        "ONLINE": redis_url,
        "REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
        "CLOCK": store.clock.now().isoformat(),
    }.items():
        monkeypatch.setenv(f"FEATURE_STORE_{name}", value)
    for arguments, said in [
        (["list"], "7d window"),
        (["show", "spent_7d"], "total"),
        (["show", "habit"], "window"),
        (["get", "c1", "habit"], "spent_7d"),
        (["explain", "c1", "orders_2d"], "inside"),
        (["history", "c1", "orders_2d"], "1 event left"),
        (["monitor", "check", "habit"], "orders_1h"),
        (["doctor"], "online store"),
    ]:
        done = CliRunner().invoke(cli, arguments)
        assert said in done.output, (arguments, done.output, done.exception)
