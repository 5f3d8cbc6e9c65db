"""What the tests of the flights share: passes of a group over a span of real events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import polars as pl
import polars.selectors as cs
import pytest

from feature_assets.flights.events import EVENTS
from feature_store.definitions.group import FeatureGroup

Pass = Callable[..., pl.DataFrame]


def one_pass(
    group: FeatureGroup, start: datetime, end: datetime, *, events: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Returns a group's rows of `start <= t < end`, computed from the events that they may depend on."""
    events = EVENTS[group.source.name]() if events is None else events
    seen = events.filter(pl.col("event_timestamp").is_between(start - group.lookback, end, closed="left"))
    rows = group.transform(seen.lazy()).collect()
    return rows.filter(pl.col("event_timestamp") >= start)


def to_the_bit(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns the frame with floats spelled out in the shortest text that reads back as the same bits."""
    return frame.with_columns(cs.array().arr.to_list()).with_columns(
        cs.float().cast(pl.String), cs.list().cast(pl.List(pl.String))
    )


@pytest.fixture(name="one_pass")
def one_pass_fixture() -> Pass:
    return one_pass


@pytest.fixture(name="to_the_bit")
def to_the_bit_fixture() -> Callable[[pl.DataFrame], pl.DataFrame]:
    return to_the_bit
