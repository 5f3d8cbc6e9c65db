"""The online store against the offline store, on a real Redis, in both layouts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from redis import Redis

from feature_store.clock import FixedClock, SystemClock
from feature_store.errors import UnknownFeatureError
from feature_store.monitoring.consistency import IN_FLIGHT
from feature_store.offline.unfinished import unfinished
from feature_store.online.repair import Remover
from tests.orders import Orders, some_orders, spending

NOW = datetime(2024, 3, 10, tzinfo=UTC)


@pytest.fixture(params=["feature", "row"])
def group(request):
    return spending(Orders(some_orders()), online_layout=request.param)


@pytest.fixture
def filled(store, group):
    """A store whose group has been materialized up to the present."""
    store.apply([group])
    store.materialize(group, "2024-03-01", "2024-03-09")
    return store


def written(store, group, *rows):
    """Writes rows to the online store alone, past the offline store."""
    columns = ["customer", "event_timestamp", "orders_3d", "amount_3d", "last_amount", "ingested_at"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        pl.col("event_timestamp", "ingested_at").dt.cast_time_unit("us")
    )
    return store.online.write(store.registered(group), frame)


def wrong(report):
    return {each.feature: (each.mismatched, each.missing, each.extra) for each in report.features if each.wrong}


def test_what_was_materialized_is_consistent(filled):
    report = filled.check_consistency("spending")
    assert report.passed
    assert report.entities == 5
    assert [each.compared for each in report.features] == [5, 5, 5]
    assert report.offenders == ()


def test_a_sample_is_as_large_as_asked_and_another_turn_has_other_entities(filled):
    assert filled.check_consistency("spending", entities=2).entities == 2
    assert filled.check_consistency("spending", entity_ids=["c1", "nobody"]).entities == 2
    with pytest.raises(UnknownFeatureError, match="spendings"):
        filled.check_consistency("spendings")


def test_each_kind_of_fault_is_seen_and_repaired(filled, group, redis_url):
    server = Redis.from_url(redis_url)
    visible = filled.get_online_features("c1", ["spending"])
    newer = NOW - timedelta(minutes=1)
    written(filled, group, ("c1", newer, 9, 999, 99, NOW))
    for key in server.keys("*c2*"):
        server.delete(key)
    written(filled, group, ("ghost", newer, 1, 2, 3, NOW))
    report = filled.check_consistency("spending", entity_ids=["c1", "c2", "c3", "ghost"])
    assert not report.passed
    assert wrong(report) == {f"{name}:v1": (1, 1, 1) for name in ("orders_3d", "amount_3d", "last_amount")}
    faults = {(offender.entity_id, offender.fault) for offender in report.offenders}
    assert ("c1", "mismatch") in faults
    first = report.offenders[0]
    assert (first.online, first.offline, first.online_event) == (9, visible["orders_3d"], newer)

    repaired = filled.repair_online("spending")
    assert repaired.removed == 2
    assert (repaired.moved_on, repaired.in_flight) == (0, 0)
    assert filled.check_consistency("spending", entity_ids=["c1", "c2", "c3", "ghost"]).passed
    assert filled.get_online_features("c1", ["spending"]) == visible
    assert filled.get_online_features("ghost", ["spending"]) == dict.fromkeys(visible)
    again = filled.repair_online("spending")
    assert again.removed == 0
    server.close()


def test_a_row_of_the_future_is_taken_back(filled, group):
    before = filled.get_online_features("c1", ["spending"])
    ahead = FixedClock(NOW + timedelta(days=3))
    later = type(filled)(filled.offline, filled.online, filled.registry, clock=ahead)
    later.online._clock.set(ahead.now())
    written(later, group, ("c1", NOW + timedelta(days=2), 7, 7, 7, NOW))
    filled.clock.set(NOW)
    assert not filled.check_consistency("spending", entity_ids=["c1"]).passed
    filled.repair_online("spending")
    assert filled.get_online_features("c1", ["spending"]) == before


def test_what_the_offline_store_lost_is_removed_online(filled, group):
    for file in filled.offline.files("spending"):
        file.path.unlink()
    assert filled.get_online_features("c1", ["last_amount"])["last_amount"] is not None
    report = filled.repair_online("spending")
    assert report.removed == report.entities == 5
    assert filled.get_online_features("c1", ["last_amount"]) == {"last_amount": None}


def test_a_row_that_is_written_meanwhile_stays(filled, group):
    remover = Remover(filled.online, filled.registered(group))
    seen = remover.look(["c1", "c2", "nobody"])
    assert set(seen) == {"c1", "c2"}
    newer = NOW - timedelta(minutes=1)
    written(filled, group, ("c1", newer, 9, 999, 99, NOW))
    assert remover.remove(seen) == 1
    assert filled.get_online_features("c1", ["last_amount"]) == {"last_amount": 99}
    assert filled.get_online_features("c2", ["last_amount"]) == {"last_amount": None}


def test_a_group_never_touches_another_ones_keys(filled, group, redis_url):
    with Redis.from_url(redis_url) as server:
        for name in ("feature_stamp:spending2:c1", "feature_row:spending2:c1", "feature_stamp:spendin*:c1"):
            server.set(name, "not ours")
        ids = sorted(Remover(filled.online, filled.registered(group)).entity_ids())
        assert ids == ["c0", "c1", "c2", "c3", "c4"]
        filled.repair_online("spending")
        assert server.get("feature_stamp:spending2:c1") == b"not ours"


@pytest.fixture
def live(open_store, group):
    """A store on the wall clock, with a row of c1 and of c2 in both stores."""
    store = open_store(SystemClock())
    store.apply([group])
    rows = pl.DataFrame(
        {
            "customer": ["c1", "c2"],
            "event_timestamp": [store.clock.now() - timedelta(hours=1)] * 2,
            "orders_3d": [1, 1],
            "amount_3d": [5, 5],
            "last_amount": [5, 5],
        }
    )
    store.ingest(group, rows)
    return store


def test_what_a_stream_has_not_drained_is_left_alone(live, group):
    """A stream writes online first: its rows are in no file until they are drained, and no fault."""
    now = live.clock.now()
    claimed = live.online.ingestion.claim("spending", streamer="one")
    other = live.online.ingestion.claim("spending")
    written(live, group, ("c1", now - timedelta(minutes=1), 2, 9, 4, claimed))
    written(live, group, ("c2", now - timedelta(minutes=1), 2, 9, 4, other))
    report = live.check_consistency("spending", entity_ids=["c1", "c2"])
    assert (report.in_flight, report.entities) == (1, 1)
    assert {offender.entity_id for offender in report.offenders} == {"c2"}
    repaired = live.repair_online("spending")
    assert (repaired.in_flight, repaired.removed) == (1, 1)
    assert live.get_online_features("c1", ["last_amount"]) == {"last_amount": 4}
    assert live.get_online_features("c2", ["last_amount"]) == {"last_amount": 5}


def test_what_has_just_been_ingested_is_not_judged_while_a_write_is_under_way(live, group):
    now = live.clock.now()
    written(live, group, ("c1", now - timedelta(minutes=1), 2, 9, 4, now))
    written(live, group, ("old", now - timedelta(minutes=30), 2, 9, 4, now - 2 * IN_FLIGHT))
    with unfinished(live.offline.root, "spending", [now.date()], now):
        report = live.check_consistency("spending", entity_ids=["c1", "old"])
        assert (report.in_flight, report.entities) == (1, 1)
        assert {offender.entity_id for offender in report.offenders} == {"old"}
    report = live.check_consistency("spending", entity_ids=["c1", "old"])
    assert (report.in_flight, report.entities) == (0, 2)
    assert {offender.entity_id for offender in report.offenders} == {"c1", "old"}


def test_expired_values_are_none_in_both_stores(filled, clock):
    clock.set(NOW + timedelta(days=20))
    report = filled.check_consistency("spending")
    assert report.entities == 5
    assert report.passed
