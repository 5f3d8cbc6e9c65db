"""Groups that gain and lose features while rows, readers and writers of both definitions are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from feature_store.catalog import RegisteredGroup
from feature_store.clock import FixedClock
from feature_store.definitions.dtypes import FLOAT, INT
from feature_store.online.store import OnlineStore
from tests.online.deployments import Deployment
from tests.online.groups import LAYOUTS, LayoutName, at, catalog, frame, group

COLUMNS = {"a": (INT, 10), "b": (FLOAT, 20), "c": (INT, 20)}


def definition(columns: Sequence[str], layout: LayoutName) -> RegisteredGroup:
    """Returns the group with some of its columns, in their order, as one definition of it declares them."""
    whole = group(COLUMNS, layout=layout)
    return replace(whole, features=tuple(f for c in columns for f in whole.features if f.ref.column == c))


def test_rows_from_before_a_feature_was_added_stay_readable(
    server: Deployment, redis: Redis, layout: LayoutName
) -> None:
    old, new = definition("ab", layout), definition("abc", layout)
    with OnlineStore.connect(server.url, FixedClock(at(1))) as store:
        store.write(old, frame(old, [{"user_id": "old", "event_timestamp": at(0), "a": 1, "b": None}]))
        store.write(new, frame(new, [{"user_id": "new", "event_timestamp": at(0), "a": 2, "b": 2.0, "c": 2}]))
    with OnlineStore.connect(server.url, FixedClock(at(1))) as reader:
        prepared = reader.prepare(catalog(new).select(["activity"]), catalog(new))
        assert prepared.values(["old", "new"]) == [{"a": 1, "b": None, "c": None}, {"a": 2, "b": 2.0, "c": 2}]
        assert prepared.read("frame", ["new", "old"])["c"].to_list() == [2, None]
        [states] = prepared.states(["old"])
        assert [state.status for state in states.values()] == ["present", "null", "missing"]
    with OnlineStore.connect(server.url, FixedClock(at(1))) as behind:
        assert behind.read(["new"], catalog(old).select(["activity"]), catalog(old)) == [{"a": 2, "b": 2.0}]


def test_an_old_writer_beside_a_new_one_leaves_no_value_under_a_foreign_stamp(
    server: Deployment, redis: Redis, layout: LayoutName
) -> None:
    old, new = definition("ab", layout), definition("abc", layout)
    with OnlineStore.connect(server.url, FixedClock(at(9))) as store:
        store.write(new, frame(new, [{"user_id": "u", "event_timestamp": at(0), "a": 1, "b": 1.0, "c": 1}]))
        store.write(old, frame(old, [{"user_id": "u", "event_timestamp": at(5), "a": 5, "b": 5.0}]))
        prepared = store.prepare(catalog(new).select(["c", "a"]), catalog(new))
        assert prepared.values(["u"]) == [{"c": None, "a": 5}], "the row of second 5 has no c"
        assert prepared.states(["u"])[0]["c"].status == "missing"
        assert prepared.read("frame", ["u"])["c"].to_list() == [None]


WRITES = st.lists(
    st.tuples(st.permutations("abc").flatmap(lambda p: st.integers(1, 3).map(lambda n: p[:n])), st.integers(0, 8)),
    min_size=1,
    max_size=7,
)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES, reader=st.permutations("abc"), now=st.integers(8, 40))
def test_any_definitions_may_write_in_any_order(
    server: Deployment,
    redis: Redis,
    layout: LayoutName,
    writes: list[tuple[list[str], int]],
    reader: list[str],
    now: int,
) -> None:
    clock = FixedClock(at(8))
    redis.flushall()
    # A store of its own for each example: what one has learned of schemas would help the next.
    with OnlineStore.connect(server.url, clock) as store:
        for number, (columns, event) in enumerate(writes):
            of = definition(columns, layout)
            row = {"user_id": "u", "event_timestamp": at(event)} | dict.fromkeys(columns, number)
            store.write(of, frame(of, [row]))
        clock.set(at(now))
        of = definition(reader, layout)
        [answer] = store.read(["u"], catalog(of).select(reader), catalog(of))
    # A definition of short-lived features alone is not written once they are over.
    landed = [(e, n, c) for n, (c, e) in enumerate(writes) if e + max(COLUMNS[x][1] for x in c) > 8]
    event, number, columns = max(landed)
    gone = now >= event + max(COLUMNS[x][1] for x in columns)
    assert answer == {x: number if x in columns and not gone and now < event + COLUMNS[x][1] else None for x in reader}
