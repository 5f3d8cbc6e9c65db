from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.clock import FixedClock
from feature_store.errors import InvalidRequestError, UnknownFeatureError
from feature_store.explain import ROWS_SHOWN
from feature_store.online.store import OnlineStore
from feature_store.store import FeatureStore
from tests.orders import Orders, orders, some_orders, spending

DAY = timedelta(days=1)
NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


def frame(*rows: tuple[str, datetime, int | None]) -> pl.DataFrame:
    return orders(*rows).select(
        "customer",
        "event_timestamp",
        orders_3d=pl.lit(1, pl.Int64),
        amount_3d=pl.col("amount"),
        last_amount=pl.col("amount"),
    )


@pytest.fixture
def group():
    return spending(Orders(some_orders()))


@pytest.fixture
def filled(store, group, clock):
    """c1 with two rows, the later one corrected once."""
    store.apply([group])
    for ingested, rows in (
        (NOON + timedelta(hours=1), [("c1", NOON - DAY, 1), ("c1", NOON, 2)]),
        (NOON + timedelta(hours=2), [("c1", NOON, 3)]),
    ):
        clock.set(ingested)
        store.ingest(group, frame(*rows))
    clock.set(datetime(2024, 3, 10, tzinfo=UTC))
    return store


def outcomes(explanation):
    return [row.outcome for row in explanation.losers]


def test_the_latest_row_wins_and_the_others_say_why_they_lost(filled):
    found = filled.explain("c1", "amount_3d")
    assert (found.status, found.value, found.at) == ("present", 3, datetime(2024, 3, 10, tzinfo=UTC))
    assert found.winner.outcome == "wins"
    assert found.winner.ingested_at == NOON + timedelta(hours=2)
    assert [(row.outcome, row.value) for row in found.losers] == [("tie", 2), ("older", 1)]
    assert "ingested 1h earlier" in found.losers[0].reason
    assert found.ttl_left_seconds == (5 * DAY - timedelta(hours=36)).total_seconds()
    assert found.expires_at == NOON + 5 * DAY
    assert found.online.agrees
    assert (found.online.value, found.online.event_timestamp) == (3, NOON)


def test_rows_after_the_instant_are_later_and_online_is_not_compared(filled):
    found = filled.explain("c1", "amount_3d", NOON - timedelta(hours=1))
    assert (found.value, outcomes(found)) == (1, ["later", "later"])
    assert "after the instant: who read online then" in found.reason
    assert found.online.agrees is None
    assert found.online.value == 3


def test_a_value_whose_time_to_live_is_over_is_expired_however_old(filled, clock):
    assert filled.explain("c1", "orders_3d", NOON + 2 * DAY).status == "expired"
    assert filled.explain("c1", "orders_3d", NOON + 2 * DAY - timedelta(microseconds=1)).value == 1
    years = filled.explain("c1", "orders_3d", NOON + 3000 * DAY)
    assert (years.status, years.winner.outcome, years.ttl_left_seconds) == ("expired", "expired", 0.0)
    assert years.winner.event_timestamp == NOON
    clock.set(NOON + 4 * DAY)
    now = filled.explain("c1", "orders_3d")
    assert (now.status, now.online.status, now.online.agrees) == ("expired", "expired", True)


def test_a_null_in_the_latest_row_is_known(filled, group):
    filled.ingest(group, frame(("c1", NOON + timedelta(hours=6), None)))
    found = filled.explain("c1", "amount_3d")
    assert (found.status, found.value, found.winner.value) == ("null", None, None)
    assert "An older value never stands in" in found.reason
    assert found.online.agrees


def test_an_entity_without_rows_is_missing(filled):
    for at in (None, datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        found = filled.explain("nobody", "amount_3d", at)
        assert (found.status, found.winner, found.losers, found.ttl_left_seconds) == ("missing", None, (), None)
    assert filled.explain("c1", "amount_3d", NOON - 9 * DAY).status == "missing"


def test_a_materialized_row_names_file_run_and_code(store, group):
    store.apply([group])
    store.materialize(group, "2024-03-01", "2024-03-09", run_id="run-7")
    found = store.explain("c1", "last_amount:v1")
    assert found.winner.file == f"spending/date={found.winner.event_timestamp:%Y-%m-%d}/batch.parquet"
    assert found.winner.partition == f"{found.winner.event_timestamp:%Y-%m-%d}"
    assert (found.winner.run_id, found.winner.code_version) == ("run-7", group.code_version)
    assert "profile" not in found.winner.written_with
    assert found.code_is_current
    assert "profile" not in found.winner.written_with
    assert found.owner == "team@example.com"


def test_what_is_wrong_online_is_told(filled, redis_server, clock):
    redis = redis_server.client()
    redis.flushall()
    lost = filled.explain("c1", "amount_3d").online
    assert (lost.agrees, lost.status) == (False, "missing")
    assert "lost" in lost.reason
    with OnlineStore.connect(redis_server.url, clock) as online:
        registered = filled.catalog().group("spending")
        ingested = pl.lit(NOON).alias("ingested_at")
        online.write(registered, frame(("c1", NOON - DAY, 9)).with_columns(ingested))
        assert "older than the latest" in filled.explain("c1", "amount_3d").online.reason
        online.write(registered, frame(("c1", NOON + DAY, 9)).with_columns(ingested))
        assert "newer than all" in filled.explain("c1", "amount_3d").online.reason
        online.write(registered, frame(("c2", NOON, 9)).with_columns(ingested))
        assert "does not have" in filled.explain("c2", "amount_3d").online.reason
    redis.close()


def test_an_online_store_that_does_not_answer_takes_nothing_away(filled, tmp_path):
    elsewhere = FeatureStore(
        filled.offline, f"unix://{tmp_path / 'nothing'}", filled.registry, FixedClock(NOON + timedelta(hours=3))
    )
    found = elsewhere.explain("c1", "amount_3d")
    assert (found.value, found.online.status, found.online.agrees) == (3, "unreachable", None)
    elsewhere.online.close()


def test_of_many_rows_the_nearest_are_shown(store, group):
    store.apply([group])
    store.ingest(group, frame(*(("c1", NOON + timedelta(minutes=minute), minute) for minute in range(-100, 100))))
    found = store.explain("c1", "amount_3d", NOON)
    assert len(found.losers) == ROWS_SHOWN
    assert {row.value for row in found.losers} == set(range(-10, 11)) - {0}


def test_what_cannot_be_explained_is_refused(filled):
    with pytest.raises(InvalidRequestError, match="name one of them, such as orders_3d"):
        filled.explain("c1", "spending")
    with pytest.raises(UnknownFeatureError, match="amount_3d"):
        filled.explain("c1", "amount_4d")


def test_only_files_near_the_instant_are_opened(filled, group):
    """A damaged file of another month does not matter."""
    folder = filled.offline.root / "spending" / "date=2023-11-01"
    folder.mkdir()
    (folder / "ingest-damaged.parquet").write_bytes(b"nothing")
    assert filled.explain("c1", "amount_3d").value == 3


def test_it_answers_as_the_point_in_time_rule_does(store, group, clock):
    store.apply([group])
    numbers = itertools.count()
    minutes = st.integers(-9000, 9000)
    batches = st.lists(st.lists(st.tuples(minutes, st.none() | st.integers(0, 9)), max_size=4), min_size=1, max_size=3)

    @given(batches=batches, instants=st.lists(minutes, min_size=1, max_size=3))
    @settings(max_examples=12, deadline=None)
    def check(batches, instants):
        entity = f"e{next(numbers)}"
        for position, batch in enumerate(batches):
            clock.set(datetime(2024, 3, 15, position, tzinfo=UTC))
            rows = {minute: (entity, NOON + timedelta(minutes=minute), value) for minute, value in batch}
            if rows:
                store.ingest(group, frame(*rows.values()))
        moments = [NOON + timedelta(minutes=minute) for minute in instants]
        expected = store.get_offline_features([entity] * len(moments), ["amount_3d"], moments)["amount_3d"].to_list()
        assert [store.explain(entity, "amount_3d", moment).value for moment in moments] == expected

    check()
