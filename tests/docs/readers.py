"""What the reader of each page has before a block of it runs.

One generator a page: it runs up to its first `yield` before the first block, goes on before each further one, and to
its end after the last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from feature_assets import flights
from feature_assets.flights.training_sets import flight_delay_labels
from feature_store import (
    Entity,
    FeatureGroup,
    FeatureSchema,
    FeatureStore,
    InvalidRequestError,
    MissingSourceError,
    ParquetSource,
    Partitioning,
    feature,
    feature_group,
)
from feature_store.definitions.source import fingerprints
from feature_store.settings import Settings
from tests.cli.documents import blocks
from tests.docs.snippets import ROOT
from tests.orders import CUSTOMER, Orders, some_orders, spending

FLIGHT_DAYS = ("2013-01-01", "2013-01-05")


class Reader:
    """A reader at a page: a folder to work in, the names at hand, and what stands for places that are not here."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.module = ModuleType("a_page")
        self.replaced: dict[str, str] = {}
        self.monkeypatch = monkeypatch
        self._request = request

    def has(self, **names: Any) -> None:
        """Puts names at hand."""
        vars(self.module).update(names)

    def got(self, name: str) -> Any:
        """Returns what a block has made."""
        return vars(self.module)[name]

    def can_import(self, name: str, **members: Any) -> ModuleType:
        """Makes a module of the reader's own importable."""
        module = ModuleType(name)
        vars(module).update(members)
        self.monkeypatch.setitem(sys.modules, name, module)
        return module

    def flights(self) -> FeatureStore:
        """Returns a store with some days of flights, which the environment names; the reader works beside it."""
        folder: Path = self._request.getfixturevalue("flights_folder")
        self.monkeypatch.chdir(folder)
        for name, value in self._request.getfixturevalue("flights_settings").variables().items():
            self.monkeypatch.setenv(name, value)
        store: FeatureStore = self._request.getfixturevalue("flights_store")
        return store

    def flights_group(self, name: str) -> FeatureGroup:
        """Returns a feature group of that store."""
        group: FeatureGroup = self._request.getfixturevalue("flights_groups")[name]
        return group

    def store(self) -> FeatureStore:
        """Returns an empty store."""
        store: FeatureStore = self._request.getfixturevalue("store")
        return store

    def opens_by_the_environment(self, **settings: str) -> None:
        """Lets the environment name an empty store in the reader's folder."""
        places = {
            "offline": f"{self.folder}/offline",
            "online": self._request.getfixturevalue("redis_url"),
            "registry": f"sqlite:///{self.folder}/registry.db",
        }
        for name, value in {**places, **settings}.items():
            self.monkeypatch.setenv(f"FEATURE_STORE_{name.upper()}", value)

    def shop(self) -> FeatureStore:
        """Returns a store with the rows of `spending`."""
        store = self.store()
        group = spending(Orders(some_orders()))
        store.apply([group])
        store.materialize(group, "2024-03-01", "2024-03-09")
        return store


def readme(reader: Reader) -> Iterator[None]:
    store = reader.flights()
    yield
    group = reader.got("plane_punctuality")
    features = reader.can_import("my_project.features", plane_punctuality=group)
    import dagster as dg

    reader.can_import("my_project", features=features, own_definitions=dg.Definitions())
    yield
    assert "plane_punctuality" in {key.path[-1] for key in reader.got("defs").resolve_all_asset_keys()}
    own = reader.flights_group("plane_punctuality")
    arrivals = own.source.scan(Partitioning.DAILY.span(*FLIGHT_DAYS)).collect()
    time = datetime(2013, 1, 4, tzinfo=UTC)
    labels = arrivals.select("tailnum", "origin", "event_timestamp").head(3)
    frame = store.get_offline_features(["N14228"], ["plane_punctuality"], [time]).rename(
        {"entity_id": "tailnum", "as_of_timestamp": "event_timestamp"}
    )
    reader.replaced["2013-01-31"] = FLIGHT_DAYS[1]
    reader.has(plane_punctuality=own, some_time=time, labels=labels, frame=frame)
    yield
    reader.has(read_labels=flight_delay_labels)
    yield
    reader.got("store").close()


def alerts(reader: Reader) -> Iterator[None]:
    store = reader.shop()
    reader.has(store=store)
    yield
    assert [incident.key for incident in reader.got("alerts").open_incidents()] == ["model/flight_delay"]


def code_versions(reader: Reader) -> Iterator[None]:
    from tests.serving.shop import basket

    reader.has(plane_punctuality=flights.plane_punctuality, flight_delay=flights.flight_delay, basket=basket)
    yield


def conformance(reader: Reader) -> Iterator[None]:
    reader.has(spending=spending(Orders(some_orders())))
    yield
    assert not [result.name for result in reader.got("results") if result.passed is False]

    class Money(FeatureSchema):
        spent_7d: float = feature("Spent in the last 7 days (dollars)")
        payment_mean_7d: float = feature("Mean payment of the last 7 days (dollars)")
        payment_std_7d: float = feature("Its deviation (dollars)")

    reader.has(CUSTOMER=CUSTOMER, PAYMENTS=Orders(some_orders(), name="payments"), Spending=Money)
    yield
    payments = some_orders().with_columns(dollars=pl.col("amount") / 100)
    assert reader.got("spending").transform(payments.lazy()).collect().height == payments.height


def dagster(reader: Reader) -> Iterator[None]:
    import dagster as dg

    reader.monkeypatch.chdir(reader.folder)
    source = ParquetSource("purchases", "lake/purchases", start=datetime(2024, 3, 1, tzinfo=UTC))
    features = reader.can_import("my_project.features", PURCHASES=source, spending=spending(source))
    reader.can_import("my_project", features=features, own_definitions=dg.Definitions())
    reader.can_import("my_project.shop", read_purchases=_orders_of)
    yield
    yield
    asset = reader.got("raw_purchases")
    for day in ("2024-03-01", "2024-03-02"):
        assert dg.materialize([asset], partition_key=day).success
    assert [day.isoformat() for day in source.landed_days()] == ["2024-03-01", "2024-03-02"]
    graph = reader.got("defs").resolve_asset_graph()
    assert graph.get(dg.AssetKey("spending")).parent_keys == {dg.AssetKey("raw_purchases")}
    yield
    assert {key.path[-1] for key in reader.got("defs").resolve_all_asset_keys()} == {"purchases", "spending"}


def _orders_of(day: str) -> pl.DataFrame:
    return some_orders().filter(pl.col("event_timestamp").dt.strftime("%Y-%m-%d") == day)


def monitoring(reader: Reader) -> Iterator[None]:
    reader.has(FeatureSchema=FeatureSchema, feature=feature)
    yield
    assert [spec.ref.name for spec in reader.got("PlanePunctuality").specs()] == ["late_share_7d", "seats", "campaign"]


def offline_store(reader: Reader) -> Iterator[None]:
    reader.flights()
    yield


def online_store(reader: Reader) -> Iterator[None]:
    store = reader.flights()
    assert store.settings
    reader.replaced["redis://host:6379/0"] = str(store.settings.online)
    yield
    reader.got("store").close()
    reader.monkeypatch.chdir(reader.folder)
    yield
    reader.got("EmbeddedRedis")().stop()


def registry(reader: Reader) -> Iterator[None]:
    class Clicks(FeatureSchema):
        clicks_7d: int = feature("Clicks in the last 7 days")

    @feature_group(entity=CUSTOMER, source=Orders(some_orders()), schema=Clicks, owner="team@example.com")
    def clicks(events: pl.LazyFrame) -> pl.LazyFrame:
        return events

    reader.has(groups=[clicks])
    reader.replaced["postgresql://user:password@host/features"] = f"sqlite:///{reader.folder}/registry.db"
    yield


def row_layout(_: Reader) -> Iterator[None]:
    yield


def serving(reader: Reader) -> Iterator[None]:
    store = reader.shop()
    yield
    domain = reader.can_import("shop_features", basket=reader.got("basket"), checkout=reader.got("checkout"))
    parts = {"offline": store.offline, "online": store.online, "registry": store.registry, "clock": store.clock}
    asked = FeatureStore(**parts, definitions=domain)
    labels = some_orders().with_columns(basket=pl.lit(12.5)).drop("amount")
    reader.has(store=asked, labels=labels)
    yield
    answer = asked.get_online_features("c1", ["amount_3d", "basket_share"], request_data={"basket": 12.5})
    assert answer["basket_share"] == 12.5 / answer["amount_3d"]


def settings(reader: Reader) -> Iterator[None]:
    reader.flights()
    yield
    assert reader.got("store").engine.name == "duckdb"
    reader.got("store").close()
    span = Partitioning.DAILY.span(*FLIGHT_DAYS)
    labels = reader.flights_group("plane_punctuality").source.scan(span).collect().select("tailnum", "event_timestamp")
    reader.has(labels=labels)
    yield
    assert 0 < reader.got("known").height < labels.height
    standing = Settings.from_env().overridden({"clock": "2013-01-04T00:00:00Z"})
    with FeatureStore.open(standing) as store, pytest.raises(InvalidRequestError, match="after the store's present"):
        store.training_set(labels, ["plane_punctuality"])
    yield


def sources(reader: Reader) -> Iterator[None]:
    reader.monkeypatch.chdir(reader.folder)
    yield
    yield
    yield
    source = reader.got("VISITS")
    source.folder.mkdir(parents=True)
    assert source.fingerprint(date(2024, 3, 1)) is None
    for day in (1, 2):
        row = {"event_timestamp": f"2024-03-0{day}T10:00:00Z", "shop": "north", "visitors": day}
        (source.folder / f"2024-03-0{day}.jsonl").write_text(json.dumps(row) + "\n")
    before = fingerprints(source)
    assert list(before) == [date(2024, 3, 1), date(2024, 3, 2)]
    _a_group_over_it_is_computed(reader, source)
    with (source.folder / "2024-03-02.jsonl").open("a") as file:
        file.write(json.dumps({"event_timestamp": "2024-03-02T11:00:00Z", "shop": "north", "visitors": 5}) + "\n")
    after = fingerprints(source)
    assert [day.day for day in after if after[day] != before[day]] == [2]
    with pytest.raises(MissingSourceError, match=r"2024-03-03\.jsonl"):
        source.scan(Partitioning.DAILY.span("2024-03-02", "2024-03-03"))


class Visitors(FeatureSchema):
    visitors: int = feature("Visitors of an hour")


def _a_group_over_it_is_computed(reader: Reader, source: Any) -> None:
    @feature_group(entity=Entity("shop", {"shop": str}), source=source, schema=Visitors, owner="team@example.com")
    def shop_visitors(visits: pl.LazyFrame) -> pl.LazyFrame:
        return visits

    store = reader.store()
    store.apply([shop_visitors])
    store.materialize(shop_visitors, "2024-03-01", "2024-03-02")
    read = store.get_offline_features(["north"], ["visitors"], [datetime(2024, 3, 2, 12, tzinfo=UTC)])
    assert read["visitors"].to_list() == [2]


def spark(reader: Reader) -> Iterator[None]:
    features = reader.can_import("my_project.features", spending=spending(Orders(some_orders())))
    reader.can_import("my_project", features=features)
    yield
    assert reader.got("defs").resources["feature_store_spark"] is reader.got("spark")
    yield


def streaming(reader: Reader) -> Iterator[None]:
    reader.has(FLIGHT_ARRIVALS=flights.SOURCES["flight_arrivals"], PLANE=flights.PLANE)
    yield


def training_sets(reader: Reader) -> Iterator[None]:
    store = reader.flights()
    group = reader.flights_group("plane_punctuality")
    reader.has(store=store, plane_punctuality=group, flight_delay_labels=lambda: flight_delay_labels(group.source))
    yield
    assert reader.got("written").scan("train").collect().height > 0
    yield
    yield
    assert reader.got("labels").entity is flights.PLANE


def your_own_domain(reader: Reader) -> Iterator[None]:
    reader.monkeypatch.chdir(reader.folder)
    [data] = blocks((ROOT / "docs" / "your-own-domain.md").read_text("utf-8"), "csv")
    Path("purchases.csv").write_text(data)
    yield
    yield
    names = {name: value for name, value in vars(reader.module).items() if not name.startswith("__")}
    reader.can_import("shop", **names)
    reader.opens_by_the_environment(definitions="shop", clock="2024-01-07T00:00:00Z")
    with FeatureStore.from_env() as store:
        store.apply([reader.got("customer_spending")])
        store.materialize(reader.got("customer_spending"), "2024-01-01", "2024-01-06")
    yield
    yield
    assert "buys_again" in {key.path[-1] for key in reader.got("defs").resolve_all_asset_keys()}


def windows(reader: Reader) -> Iterator[None]:
    store = reader.store()
    events = (
        some_orders()
        .rename({"customer": "card_id"})
        .with_columns(merchant_id=pl.lit("m"), category=pl.lit("food"), amount=pl.col("amount") / 4)
    )
    reader.has(CARD=Entity("card", {"card_id": str}), PAYMENTS=Orders(events, name="payments"))
    yield
    labels = events.select("card_id", "event_timestamp")
    reader.has(store=store, labels=labels)
    yield
    found = store.training_set(labels, ["card_activity"], as_of="event_timestamp")
    assert found["payments_1h"].min() == 1


READERS: dict[str, Callable[[Reader], Iterator[None]]] = {
    "README.md": readme,
    "docs/alerts.md": alerts,
    "docs/code-versions.md": code_versions,
    "docs/conformance.md": conformance,
    "docs/dagster.md": dagster,
    "docs/monitoring.md": monitoring,
    "docs/offline-store.md": offline_store,
    "docs/online-store.md": online_store,
    "docs/registry.md": registry,
    "docs/row-layout.md": row_layout,
    "docs/tile-layout.md": row_layout,
    "docs/serving.md": serving,
    "docs/settings.md": settings,
    "docs/sources.md": sources,
    "docs/spark.md": spark,
    "docs/streaming.md": streaming,
    "docs/training-sets.md": training_sets,
    "docs/windows.md": windows,
    "docs/your-own-domain.md": your_own_domain,
}
