"""Rolling features against a brute force that looks at every event of every window."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_assets.flights import departure_profile, plane_punctuality, route_punctuality

pytestmark = pytest.mark.slow

ORIGIN = datetime(2013, 10, 20, tzinfo=UTC)
MINUTES_PER_DAY = 1440

# Whole days apart meet the edges of windows; a few minutes beside them miss them by as much; few values make ties.
minute = st.builds(
    lambda day, offset: day * MINUTES_PER_DAY + offset, st.integers(0, 60), st.sampled_from([0, 1, 59, 60, 61, 419])
)
events_of = st.lists(
    st.fixed_dictionaries(
        {
            "minute": minute,
            "tailnum": st.sampled_from(["N1", "N2"]),
            "carrier": st.sampled_from(["AA", "UA"]),
            "dest": st.just("LAX"),
            "origin": st.sampled_from(["JFK", "EWR"]),
            "arr_delay": st.integers(-60, 1_000),
            "dep_delay": st.integers(-40, 1_000),
            "air_time": st.integers(20, 600),
        }
    ),
    max_size=40,
)


def frame_of(events):
    schema = {
        **dict.fromkeys(("tailnum", "carrier", "dest", "origin"), pl.String),
        **dict.fromkeys(("arr_delay", "dep_delay", "air_time"), pl.Int64),
        "event_timestamp": pl.Datetime("us", "UTC"),
    }
    stamped = [{**event, "event_timestamp": ORIGIN + timedelta(minutes=event["minute"])} for event in events]
    return pl.DataFrame(stamped, schema=schema)


def instants(events, keys):
    """Yields each distinct entity and time, in order."""
    yield from sorted({(*(event[key] for key in keys), event["minute"]) for event in events})


def window(events, keys, entity, now, days):
    return [
        event
        for event in events
        if tuple(event[key] for key in keys) == entity and now - days * MINUTES_PER_DAY < event["minute"] <= now
    ]


def brute_plane(events):
    for *entity, now in instants(events, ["tailnum"]):
        seen = window(events, ["tailnum"], tuple(entity), now, 7)
        delays = [event["arr_delay"] for event in seen]
        before = [event["minute"] for event in seen if event["minute"] < now]
        yield (
            *entity,
            ORIGIN + timedelta(minutes=now),
            len(seen),
            sum(delays) / len(seen),
            max(delays),
            sum(delay >= 15 for delay in delays) / len(seen),
            sum(event["air_time"] for event in seen) * (1 / 60),
            now - max(before) if before else None,
        )


def brute_route(events):
    for *entity, now in instants(events, ["carrier", "dest"]):
        delays = sorted(event["arr_delay"] for event in window(events, ["carrier", "dest"], tuple(entity), now, 28))
        yield (
            *entity,
            ORIGIN + timedelta(minutes=now),
            len(delays),
            sum(delays) / len(delays),
            sum(delay >= 15 for delay in delays) / len(delays),
            delays[math.ceil(0.9 * (len(delays) - 1))],
        )


def brute_departures(events):
    emitted = set()
    for origin, now in instants(events, ["origin"]):
        if (origin, now // 60) in emitted:
            continue
        emitted.add((origin, now // 60))
        seen = window(events, ["origin"], (origin,), now, 28)
        counts = [0] * 24
        for event in seen:
            counts[(ORIGIN + timedelta(minutes=event["minute"])).astimezone(ZoneInfo("America/New_York")).hour] += 1
        yield (
            origin,
            ORIGIN + timedelta(minutes=now),
            len(seen),
            sum(event["dep_delay"] for event in seen) / len(seen),
            [float(np.float32(count / len(seen))) for count in counts],
        )


GROUPS = {
    "plane_punctuality": (plane_punctuality, brute_plane),
    "route_punctuality": (route_punctuality, brute_route),
    "departure_profile": (departure_profile, brute_departures),
}


def computed(group, frame):
    rows = group.transform(frame.lazy()).collect()
    return [
        tuple(list(value) if isinstance(value, (list, pl.Series)) else value for value in row) for row in rows.rows()
    ]


@pytest.mark.parametrize("name", GROUPS)
@settings(max_examples=60, deadline=None)
@given(events=events_of)
def test_rows_equal_brute_force(name, events):
    group, brute = GROUPS[name]
    assert computed(group, frame_of(events)) == list(brute(events))


@pytest.mark.parametrize("name", GROUPS)
@settings(max_examples=60, deadline=None)
@given(events=events_of, start=minute, length=st.integers(1, 3 * MINUTES_PER_DAY))
def test_any_window_gives_the_rows_of_the_whole(name, events, start, length):
    group, _ = GROUPS[name]
    begin = ORIGIN + timedelta(minutes=start)
    end = begin + timedelta(minutes=length)
    time = pl.col("event_timestamp")
    frame = frame_of(events)
    position = len(group.entity.join_keys)
    whole = [row for row in computed(group, frame) if begin <= row[position] < end]
    part = computed(group, frame.filter(time.is_between(begin - group.lookback, end, closed="left")))
    assert [row for row in part if row[position] >= begin] == whole
