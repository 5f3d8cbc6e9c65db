"""A group with features of every kind of dtype, in a module that workers of Spark can import."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl

from feature_store.definitions.entity import Entity
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from tests.orders import START, Orders

EVENT = datetime(2024, 3, 8, 12, tzinfo=UTC)
EVENTS = pl.DataFrame(
    {
        "user": ["a", "b", "c"],
        "event_timestamp": [EVENT, EVENT, EVENT + timedelta(days=1)],
        "born": [date(1, 1, 1), date(9999, 12, 31), None],
        "paid": [Decimal("12.30"), Decimal("-0.01"), None],
        "kinds": [["x", ""], [], None],
        "rates": [[1.5, float("nan")], [float("inf")], None],
        "spent": [[{"key": "é", "value": Decimal("0.10")}, {"key": "a", "value": Decimal("2.00")}], [], None],
        "seen": [[{"key": "k", "value": EVENT}], None, []],
    },
    schema_overrides={
        "event_timestamp": pl.Datetime("us", "UTC"),
        "paid": pl.Decimal(38, 2),
        "spent": pl.List(pl.Struct({"key": pl.String, "value": pl.Decimal(38, 2)})),
        "seen": pl.List(pl.Struct({"key": pl.String, "value": pl.Datetime("us", "UTC")})),
    },
)


class Everything(FeatureSchema):
    born: date = feature("A day.", default=date(2000, 1, 1))
    paid: Decimal = feature("Money.", default=Decimal("0.00"))
    kinds: list[str] = feature("Texts.", default=["none"])
    rates: list[float] = feature("Numbers.", default=[float("-inf")])
    spent: dict[str, Decimal] = feature("Money by text.", default={"é": Decimal("1.00"), "a": Decimal("3.00")})
    seen: dict[str, datetime] = feature("Times by text.", default={"k": EVENT})


@feature_group(
    entity=Entity("user_of_spark", {"user": str}),
    source=Orders(EVENTS, name="everything_events"),
    schema=Everything,
    owner="team",
    ttl=timedelta(days=5),
    start=START,
)
def everything(events: pl.LazyFrame) -> pl.LazyFrame:
    """The events as they are."""
    return events
