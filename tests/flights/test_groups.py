"""The promises of each group's transform, on real events around both changes of clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_assets.flights import END, FEATURE_GROUPS, REPLAY_END, START
from feature_assets.flights.events import EVENTS
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.rows.polars_schema import polars_type
from feature_store.rows.schema import RowSchema

pytestmark = pytest.mark.slow

BY_NAME = {group.name: group for group in FEATURE_GROUPS}
DAY = timedelta(days=1)

# A week around the start of summer time, one around its end, and the first days, where look-backs reach before all.
SPANS = [(datetime(2013, month, day, tzinfo=UTC)) for month, day in ((3, 7), (10, 31), (1, 1))]


@pytest.fixture(params=BY_NAME)
def group(request):
    return BY_NAME[request.param]


def test_names_are_unique_and_every_feature_tells_what_it_is():
    specs = [spec for group in FEATURE_GROUPS for spec in group.features]
    names = [spec.ref.name for spec in specs]
    assert len(names) == len(set(names)) == 23
    assert all(len(spec.description) > 10 for spec in specs)
    assert all(group.owner.endswith("@example.com") and group.description and group.tags for group in FEATURE_GROUPS)
    assert all((group.start, group.end) == (START, END) for group in FEATURE_GROUPS)


@pytest.mark.parametrize("start", SPANS, ids=str)
def test_day_by_day_equals_one_pass_to_the_bit(group, start, one_pass, to_the_bit):
    end = start + 7 * DAY
    whole = one_pass(group, start, end)
    days = [one_pass(group, start + k * DAY, start + (k + 1) * DAY) for k in range(7)]
    assert whole.height > 0 or group.name == "plane_profile"
    assert_frame_equal(
        to_the_bit(pl.concat(days).sort(*group.entity.join_keys, EVENT_TIMESTAMP)), to_the_bit(whole), check_exact=True
    )


def test_a_pass_from_the_beginning_equals_one_from_the_lookback(group, one_pass, to_the_bit):
    """More history than the look-back changes nothing."""
    start, end = datetime(2013, 3, 8, tzinfo=UTC), datetime(2013, 3, 12, tzinfo=UTC)
    from_the_beginning = one_pass(group, START, end).filter(pl.col(EVENT_TIMESTAMP) >= start)
    assert_frame_equal(to_the_bit(from_the_beginning), to_the_bit(one_pass(group, start, end)), check_exact=True)


@pytest.mark.parametrize("minutes", [0, 437, 1013])
def test_the_future_changes_nothing(group, minutes, one_pass, to_the_bit):
    start = datetime(2013, 3, 8, tzinfo=UTC)
    now = start + 3 * DAY + timedelta(minutes=minutes)
    events = EVENTS[group.source.name]()
    known = one_pass(group, start, end=now + DAY, events=events.filter(pl.col(EVENT_TIMESTAMP) <= now))
    later = one_pass(group, start, end=now + DAY, events=events).filter(pl.col(EVENT_TIMESTAMP) <= now)
    assert_frame_equal(to_the_bit(known), to_the_bit(later), check_exact=True)


def test_an_entity_alone_gives_its_same_rows(group, one_pass, to_the_bit):
    start, end = (START, START + 2 * DAY) if group.name == "plane_profile" else (SPANS[0], SPANS[0] + 3 * DAY)
    keys = list(group.entity.join_keys)
    rows = one_pass(group, start, end)
    entities = rows.select(keys).unique().sort(keys)
    for keys_of_one in entities.gather_every(max(1, entities.height // 3)).iter_rows(named=True):
        only = pl.all_horizontal(pl.col(key) == value for key, value in keys_of_one.items())
        alone = one_pass(group, start, end, events=EVENTS[group.source.name]().filter(only))
        assert alone.height > 0
        assert_frame_equal(to_the_bit(alone), to_the_bit(rows.filter(only)), check_exact=True)


def test_the_order_of_events_does_not_matter(group, one_pass, to_the_bit):
    start = SPANS[1]
    shuffled = EVENTS[group.source.name]().sample(fraction=1, shuffle=True, seed=7)
    assert_frame_equal(
        to_the_bit(one_pass(group, start, start + DAY, events=shuffled)),
        to_the_bit(one_pass(group, start, start + DAY)),
        check_exact=True,
    )


def test_rows_of_the_year_satisfy_the_schema(group):
    rows = group.transform(EVENTS[group.source.name]().lazy()).collect()
    group.schema.validate(rows)
    assert rows.columns == list(RowSchema.of(group).computed)
    for spec in group.features:
        assert rows.schema[spec.ref.column] == polars_type(spec.dtype), spec.ref
    assert rows.select(*group.entity.join_keys, EVENT_TIMESTAMP).is_unique().all()


def test_rows_are_sorted_and_the_same_on_both_engines(group, to_the_bit):
    rows = group.transform(EVENTS[group.source.name]().lazy())
    in_memory, streamed = rows.collect(), rows.collect(engine="streaming")
    assert_frame_equal(in_memory, in_memory.sort(*group.entity.join_keys, EVENT_TIMESTAMP))
    assert_frame_equal(to_the_bit(in_memory), to_the_bit(streamed), check_exact=True)


def test_no_events_give_no_rows_of_the_same_columns(group):
    events = EVENTS[group.source.name]()
    none = group.transform(events.clear().lazy()).collect()
    some = group.transform(events.head(50).lazy()).collect()
    assert none.height == 0
    assert none.schema == some.schema


def test_null_rates_of_partitions_stay_below_their_limits(group):
    rows = group.transform(EVENTS[group.source.name]().lazy()).collect()
    columns = [spec.ref.column for spec in group.features]
    worst = rows.group_by(pl.col(EVENT_TIMESTAMP).dt.date()).agg(pl.col(columns).is_null().mean()).max()
    for spec in group.features:
        assert worst[spec.ref.column].item() <= spec.max_null_rate, spec.ref


def test_impossible_wind_is_null(one_pass):
    weather = one_pass(BY_NAME["origin_weather"], START, END)
    assert weather["wind_speed_mph"].null_count() == 5, "four not recorded, one of 1,048 miles per hour"
    assert weather["wind_speed_mph"].max() < 50
    assert weather["pressure_hpa"].null_count() == 2_729
    assert weather["temperature_f"].null_count() == 1


def test_departure_profile_is_one_row_per_hour_and_its_shares_sum_to_one(one_pass):
    start = SPANS[1]
    rows = one_pass(BY_NAME["departure_profile"], start, start + 5 * DAY)
    hour = pl.col(EVENT_TIMESTAMP).dt.truncate("1h")
    assert rows.select("origin", hour).is_unique().all()
    sums = rows["departures_by_hour_28d"].arr.sum()
    assert ((sums - 1).abs() < 1e-5).all()
    night = rows["departures_by_hour_28d"].arr.get(3).max()
    assert night == 0, "nothing leaves between 3 and 4 in the morning, by the local clock"


def test_most_of_what_is_served_is_live_at_the_end_of_the_replay():
    for group in FEATURE_GROUPS:
        latest = group.transform(EVENTS[group.source.name]().lazy()).collect()[EVENT_TIMESTAMP].max()
        assert latest < REPLAY_END
        is_live = latest + min(spec.ttl for spec in group.features) > REPLAY_END
        assert is_live == (group.name != "origin_weather"), group.name
