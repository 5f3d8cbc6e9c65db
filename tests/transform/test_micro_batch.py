"""Whatever the order of events and however they are cut into micro-batches, the rows are those of one batch pass."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.streaming.state import PartitionState
from feature_store.transform.comparison import difference
from feature_store.transform.micro_batch import SEQUENCE, compute_micro_batch
from tests.streaming.first_of_hour import first_orders
from tests.streaming.pipeline import KEYS, batch, habits, no_files, order_stream, random_orders

EVENTS = random_orders(40, customers=3, days=2)
GROUPS = {"habits": habits(no_files(), "habits"), "first_orders": first_orders(no_files(), "first_orders")}


def streamed(group, deliveries: list[list[int]]) -> pl.DataFrame:
    """Returns the rows that stand after all micro-batches: later ones replace earlier ones, retracted ones go."""
    state = PartitionState(group, order_stream(group.source))
    standing = batch(group, EVENTS.clear())
    for positions in deliveries:
        new = EVENTS[positions].with_row_index(SEQUENCE).with_columns(pl.col(SEQUENCE).cast(pl.Int64))
        state.too_late(new["event_timestamp"].to_physical())
        new, past = state.without_repeated(new)
        if new.is_empty():
            continue
        result = compute_micro_batch(group, new, past)
        assert not result.refused
        state.add(new.drop(SEQUENCE), result.last_rows)
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


def test_an_event_whose_rows_are_refused_is_found_among_good_ones():
    group = GROUPS["habits"]
    bad = EVENTS[5:6].with_columns(amount=pl.lit(10**9, pl.Int64), order_id=pl.lit(999, pl.Int64))
    mixed = pl.concat([EVENTS[:20], bad, EVENTS[20:]]).with_row_index(SEQUENCE)
    state = PartitionState(group, order_stream(group.source))
    new, past = state.without_repeated(mixed.with_columns(pl.col(SEQUENCE).cast(pl.Int64)))
    result = compute_micro_batch(group, new, past)
    assert list(result.refused) == [20]
    assert "greatest_3d" in result.refused[20]
    assert difference(batch(group, EVENTS), result.rows, KEYS) is None
