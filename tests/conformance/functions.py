"""Functions that break the contract, each in one way, and functions that keep it, as a module that can be imported."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from feature_store import exact
from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.partitions import Window

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
TIME = "event_timestamp"
SHOP = Entity("shop", {"shop": str})
BROKEN: dict[str, tuple[FeatureGroup, str]] = {}
"""Name to a group and the promise that it breaks."""
KEPT: dict[str, FeatureGroup] = {}

IMPORTED = time.time()
CALLS = 0
FIRST: dict[str, float] = {}
SCALE: list[float] = []
TABLE: dict[str, float] = {}


class Sales:
    """A sale per shop and day at ten in the evening, amounts in dollars."""

    name = "sales"
    start = START

    def scan(self, window: Window) -> pl.LazyFrame:
        chance = random.Random(1)
        rows = [
            (f"s{shop}", START + day * DAY + timedelta(hours=22, minutes=shop), round(chance.uniform(1, 300), 2))
            for day in range(30)
            for shop in range(6)
        ]
        events = pl.DataFrame(
            rows, schema={"shop": pl.String, TIME: pl.Datetime("us", "UTC"), "dollars": pl.Float64}, orient="row"
        ).with_columns(ordered=pl.col(TIME) - timedelta(hours=3), day=pl.col(TIME).dt.date())
        return events.lazy().filter(pl.col(TIME).is_between(window.start, window.end, closed="left"))

    def fingerprint(self, day: date) -> str | None:
        return "1"

    def landed_days(self) -> Any:
        return iter(())


class Value(FeatureSchema):
    value: float = feature("A number.")


def group(transform: Callable[..., Any], lookback: timedelta) -> FeatureGroup:
    decorate = feature_group(entity=SHOP, source=Sales(), schema=Value, owner="team@example.com", lookback=lookback)
    return decorate(transform)


def breaks(promise: str, lookback: timedelta = timedelta(0)) -> Callable[[Callable[..., Any]], FeatureGroup]:
    def decorate(transform: Callable[..., Any]) -> FeatureGroup:
        made = group(transform, lookback)
        BROKEN[made.name] = (made, promise)
        return made

    return decorate


def keeps(lookback: timedelta = timedelta(0)) -> Callable[[Callable[..., Any]], FeatureGroup]:
    def decorate(transform: Callable[..., Any]) -> FeatureGroup:
        made = group(transform, lookback)
        KEPT[made.name] = made
        return made

    return decorate


def valued(events: pl.LazyFrame, value: Any) -> pl.LazyFrame:
    expression = value if isinstance(value, pl.Expr) else pl.lit(value)
    return events.select("shop", TIME, value=expression.cast(pl.Float64))


def rolled(events: pl.LazyFrame, value: pl.Expr, period: timedelta) -> pl.LazyFrame:
    return events.sort(TIME).rolling(TIME, period=period, group_by="shop").agg(value=value.cast(pl.Float64))


@breaks("clock")
def age_by_todays_date(events):
    return valued(events, (pl.lit(date.today()) - pl.col(TIME).dt.date()).dt.total_days())  # noqa: DTZ011


@breaks("clock")
def weekday_of_now(events):
    return valued(events, pl.col("dollars") * (datetime.now(UTC).month + 1))


@breaks("clock")
def year_by_the_time_module(events):
    return valued(events, int(time.strftime("%Y")))


@breaks("process")
def clock_at_import(events):
    return valued(events, IMPORTED)


@breaks("process")
def hash_of_text(events):
    return valued(events, pl.col("shop").map_elements(lambda shop: hash(shop) % 1000, return_dtype=pl.Int64))


@breaks("process")
def local_time(events):
    def hour(moment):
        return datetime.fromtimestamp(moment.timestamp()).hour  # noqa: DTZ006

    return valued(events, pl.col(TIME).map_elements(hour, return_dtype=pl.Int64))


@breaks("repeatable")
def noise(events):
    return valued(events, pl.col("dollars") + random.random())


@breaks("order")
def seeded_noise(events):
    frame = events.collect()
    return valued(frame.lazy(), pl.col("dollars") + pl.Series(np.random.default_rng(3).normal(size=frame.height)))


@breaks("lookback", lookback=timedelta(days=6, hours=23))
def look_back_an_hour_short(events):
    return rolled(events, pl.len(), WEEK)


@breaks("lookback")
def an_hour_without_look_back(events):
    return rolled(events, pl.col("dollars").sum(), timedelta(hours=1))


@breaks("causality")
def another_within_the_hour(events):
    following = pl.col(TIME).shift(-1).over("shop", order_by=TIME) - pl.col(TIME)
    return valued(events, (following < timedelta(hours=1)).fill_null(value=False))


@breaks("entities")
def one_shop_reads_another(events):
    other = pl.col("dollars").filter(pl.col("shop") == "s4").max().fill_null(0)
    return valued(events, pl.when(pl.col("shop") == "s1").then(pl.col("dollars") + other).otherwise("dollars"))


@breaks("order", lookback=2 * DAY)
def sale_before_as_they_come(events):
    return valued(events, pl.col("dollars").shift(1).over("shop"))


@breaks("repeatable")
def counter(events):
    global CALLS  # noqa: PLW0603 - what must not be done
    CALLS += 1
    return valued(events, pl.col("dollars") + CALLS)


@breaks("repeatable")
def first_amount_ever(events):
    frame = events.sort(TIME).collect()
    for shop, amount in zip(frame["shop"], frame["dollars"], strict=True):
        FIRST.setdefault(shop, amount)
    return valued(frame.lazy(), pl.col("shop").replace_strict(FIRST, return_dtype=pl.Float64))


@breaks("repeatable")
def scale_of_the_first_call(events, scale=SCALE):
    if not scale:
        scale.append(events.select(pl.col("dollars").max()).collect().item())
    return valued(events, pl.col("dollars") / scale[0])


@functools.cache
def amount_when_first_asked(shop):
    return FIRST.get(shop, 0.0)


@breaks("repeatable")
def cached_helper(events):
    frame = events.sort(TIME).collect()
    FIRST.update(zip(frame["shop"], frame["dollars"], strict=True))
    known = {shop: amount_when_first_asked(shop) for shop in frame["shop"].unique()}
    return valued(frame.lazy(), pl.col("shop").replace_strict(known, return_dtype=pl.Float64))


@breaks("partitions", lookback=2 * DAY)
def time_since_the_pass_began(events):
    return valued(events, (pl.col(TIME) - pl.col(TIME).min().over("shop")).dt.total_seconds())


@keeps(lookback=WEEK)
def most_of_a_week(events):
    return rolled(events, pl.col("dollars").max(), WEEK)


@keeps(lookback=WEEK)
def money_in_cents(events):
    cents = (pl.col("dollars") * 100).round().cast(pl.Int64)
    return rolled(events.with_columns(cents=cents), pl.col("cents").sum(), WEEK)


@keeps(lookback=WEEK)
def money_exactly(events):
    return valued(events, exact.rolling_sum("dollars", WEEK, over="shop"))


@keeps(lookback=WEEK)
def deviation_exactly(events):
    return valued(
        events, exact.rolling_std("dollars", WEEK, over="shop") / exact.rolling_mean("dollars", WEEK, over="shop")
    )


@keeps(lookback=2 * DAY)
def sale_before(events):
    gap = pl.col(TIME).diff().over("shop", order_by=TIME)
    before = pl.col("dollars").shift(1).over("shop", order_by=TIME)
    return valued(events, pl.when(gap < 2 * DAY).then(before))


@keeps()
def times_of_the_event(events):
    return valued(events, (pl.col(TIME) - pl.col("ordered")).dt.total_seconds() + pl.col("day").dt.day())


@keeps()
def table_read_once(events):
    if not TABLE:
        TABLE["rate"] = 1.25
    return valued(events, pl.col("dollars") * TABLE["rate"])


def deviation_by_polars(events: pl.LazyFrame) -> pl.LazyFrame:
    return rolled(events, pl.col("dollars").std(), WEEK)


DEVIATION_ROUNDED = group(deviation_by_polars, WEEK)
