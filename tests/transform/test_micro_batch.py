"""Whatever the order of events and however they are cut into micro-batches, the rows are those of one batch pass."""

from __future__ import annotations

import itertools
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feature_store.clock import to_micros
from feature_store.streaming.state import GroupState
from feature_store.transform.bad_events import GONE, SEQUENCE
from feature_store.transform.comparison import difference
from feature_store.transform.micro_batch import compute_micro_batch
from tests.orders import START
from tests.streaming.first_of_hour import first_orders
from tests.streaming.pipeline import KEYS, LOOKBACK, batch, habits, no_files, order_stream, random_orders

EVENTS = random_orders(40, customers=3, days=2)
GROUPS = {"habits": habits(no_files(), "habits"), "first_orders": first_orders(no_files(), "first_orders")}


NOW = to_micros(START + timedelta(days=30))


def new_state(group) -> GroupState:
    state = GroupState(group, order_stream(group.source))
    state.lanes[0] = state.new_lane()
    return state


def as_new(events: pl.DataFrame) -> pl.DataFrame:
    numbered = events.with_row_index(SEQUENCE).with_columns(pl.col(SEQUENCE).cast(pl.Int64))
    return numbered.with_columns(pl.lit(value=False).alias(GONE))


def streamed(group, deliveries: list[list[int]]) -> pl.DataFrame:
    """Returns the rows that stand after all micro-batches: later ones replace earlier ones, retracted ones go."""
    state = new_state(group)
    standing = batch(group, EVENTS.clear())
    for positions in deliveries:
        new = as_new(EVENTS[positions])
        state.lanes[0].too_late(new["event_timestamp"].to_physical(), LOOKBACK, NOW)
        new, past = state.without_repeated(0, new)
        if new.is_empty():
            continue
        result = compute_micro_batch(group, new, past)
        assert not result.rejected
        state.add(0, new.drop(SEQUENCE), result.last_rows)
        standing = pl.concat([standing, result.rows]).unique(KEYS, keep="last", maintain_order=True)
        standing = standing.join(result.retracted, on=KEYS, how="anti")
    return standing


@st.composite
def cut_orders(draw: st.DrawFn) -> list[list[int]]:
    order = draw(st.permutations(range(EVENTS.height)))
    order += draw(st.lists(st.sampled_from(range(EVENTS.height)), max_size=8))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=6)))
    parts = [order[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return [part for part in parts if part]


@pytest.mark.parametrize("name", GROUPS)
@settings(max_examples=12, deadline=None)
@given(deliveries=cut_orders())
def test_any_order_in_any_cuts_comes_to_the_rows_of_a_batch(name, deliveries):
    group = GROUPS[name]
    assert difference(batch(group, EVENTS), streamed(group, deliveries), KEYS) is None


def test_an_event_whose_rows_are_rejected_is_found_among_good_ones():
    group = GROUPS["habits"]
    bad = EVENTS[5:6].with_columns(amount=pl.lit(10**9, pl.Int64), order_id=pl.lit(999, pl.Int64))
    new, past = new_state(group).without_repeated(0, as_new(pl.concat([EVENTS[:20], bad, EVENTS[20:]])))
    result = compute_micro_batch(group, new, past)
    assert list(result.rejected) == [20]
    assert "greatest_3d" in result.rejected[20]
    assert difference(batch(group, EVENTS), result.rows, KEYS) is None


@pytest.mark.timeout(400)  # where many events are bad, they are tried one by one
@settings(max_examples=4, deadline=None)
@given(
    bad=st.sets(st.integers(0, 59), max_size=40),
    order=st.permutations(range(60)),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
@example(bad={0, 10, 19, 23, 35}, order=list(range(60)), cuts=[])  # 25 is good, and of the time of 35
def test_bad_events_and_no_others_are_rejected(bad, order, cuts):
    """Bad is what leads to a bad row by itself, so a brute force needs no order: the others come to a batch's rows."""
    group = GROUPS["habits"]
    events = random_orders(60, customers=3, days=2, seed=1)
    is_bad = pl.col("order_id").is_in(sorted(bad))
    events = events.with_columns(pl.when(is_bad).then(10**9).otherwise("amount").cast(pl.Int64).alias("amount"))
    state, rejected, standing = new_state(group), set(), batch(group, events.clear())
    for begin, end in itertools.pairwise([0, *sorted(cuts), 60]):
        if begin == end:
            continue
        part = as_new(events[list(order[begin:end])])
        new, past = state.without_repeated(0, part)
        result = compute_micro_batch(group, new, past)
        ids = dict(part.select(SEQUENCE, "order_id").iter_rows())
        rejected |= {ids[position] for position in result.rejected}
        accepted = new.filter(~pl.col(SEQUENCE).is_in(list(result.rejected)))
        state.add(0, accepted.drop(SEQUENCE), result.last_rows)
        standing = pl.concat([standing, result.rows]).unique(KEYS, keep="last", maintain_order=True)
    assert rejected == bad
    assert difference(batch(group, events.filter(~is_bad)), standing, KEYS) is None
