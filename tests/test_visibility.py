"""The arithmetic of visibility, against the rule in plain Python, whose integers have no end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from feature_store.clock import EARLIEST, LATEST, nearest_datetime, to_micros
from feature_store.visibility import Visibility, expires_at, seconds_left

SECOND = timedelta(seconds=1)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
CALENDAR = (LATEST - EARLIEST + 1) // 1_000_000

# Around the lengths that matter: a second, years, the whole calendar, and all that a timedelta can say.
ttls = st.one_of(
    st.integers(1, timedelta.max // SECOND),
    st.integers(1, 10**9),
    st.integers(CALENDAR - 1, CALENDAR + 1),
    st.just(timedelta.max // SECOND),
)
instants = st.one_of(
    st.integers(EARLIEST, LATEST),
    st.integers(-(10**15), 10**15),
    st.sampled_from([EARLIEST, EARLIEST + 1, -1, 0, LATEST - 1, LATEST]),
)


def is_visible(event: int, now: int, ttl_seconds: int) -> bool:
    return event <= now < event + ttl_seconds * 1_000_000


@st.composite
def near_the_end(draw):
    """A time to live, an event, and an instant at most a microsecond from where the one ends after the other."""
    ttl, event = draw(ttls), draw(instants)
    now = event + ttl * 1_000_000 + draw(st.integers(-1, 1))
    return ttl, event, min(max(now, EARLIEST), LATEST)


@given(st.lists(ttls, min_size=1, max_size=4), instants, instants)
def test_a_verdict_is_the_rule(lengths, event, now):
    visibility = Visibility.of_seconds(lengths)
    expected = "ahead" if event > now else "expired"
    if any(is_visible(event, now, ttl) for ttl in lengths):
        expected = "visible"
    assert visibility.verdict(event, now) == expected
    # What reads by the million compares with the integers themselves.
    for ttl, cut in zip(lengths, visibility.ttls, strict=True):
        assert (event <= now < event + cut) == is_visible(event, now, ttl)
    assert all(is_visible(event, now, ttl) for ttl in lengths) == (event <= now < event + visibility.shortest)


@given(near_the_end())
def test_a_verdict_is_right_to_the_microsecond(drawn):
    ttl, event, now = drawn
    assert (Visibility.of_seconds([ttl]).verdict(event, now) == "visible") == is_visible(event, now, ttl)


@given(ttls, instants)
def test_sums_stay_inside_of_64_bits(ttl, event):
    longest = Visibility.of_seconds([ttl]).longest
    assert pl.select(pl.lit(event, pl.Int64) + longest).item() == event + longest
    assert abs(event + 2 * longest) < 2**63


@given(st.lists(ttls, min_size=1, max_size=4), instants, instants, instants, instants)
def test_nothing_outside_of_a_window_is_visible(lengths, one, other, event, inside):
    first, last = sorted((one, other))
    window = Visibility.of_seconds(lengths).window(nearest_datetime(first), nearest_datetime(last))
    assert FIRST <= window.start <= window.end <= LAST
    now = min(max(inside, first), last)
    # The last microsecond of the calendar is in no half-open span.
    if event < LATEST and any(is_visible(event, now, ttl) for ttl in lengths):
        assert to_micros(window.start) <= event < to_micros(window.end)
    # And it is no wider than that, to the microsecond.
    assert to_micros(window.start) == max(first - max(lengths) * 1_000_000 + 1, EARLIEST)
    assert to_micros(window.end) == min(last + 1, LATEST)


@given(near_the_end())
def test_what_is_left_and_when_it_ends(drawn):
    ttl, event, now = drawn
    end = event + ttl * 1_000_000
    moments = nearest_datetime(event), nearest_datetime(now)
    assert expires_at(ttl, moments[0]) == (nearest_datetime(end) if end <= LATEST else None)
    left = seconds_left(ttl, *moments)
    assert left == (ttl if now < event else max(end - now, 0) / 1_000_000)
    assert timedelta(seconds=left) <= timedelta.max


def test_no_features_see_nothing():
    visibility = Visibility.of([])
    assert (visibility.ttls, visibility.shortest, visibility.longest) == ((), 0, 0)
    assert visibility.verdict(5, 5) == "expired"
