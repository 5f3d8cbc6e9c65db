"""The sweep beside DuckDB on histories that are long, wide or odd, and what only a sweep has to get right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Lock

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.catalog import Catalog, RegisteredGroup
from feature_store.definitions.dtypes import BOOL, FLOAT, INT, STRING, TIMESTAMP, embedding
from feature_store.definitions.entity import Entity
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from tests.offline.groups import DAY_SECONDS, USER, at, give, group, lay, metadata, rows

SWEEPS = [SweepEngine(), SweepEngine(4, chunk_rows=500, span_rows=100), SweepEngine(2, chunk_rows=1, span_rows=1)]
DAYS = 40
NUMBERED = Entity("numbered", {"number": int})
PAIR = Entity("pair", {"origin": str, "flight": int, "seat": str})
FEATURES = {
    "amount": (FLOAT, 2 * DAY_SECONDS),
    "visits": (INT, 30 * DAY_SECONDS),
    "plan": (STRING, DAY_SECONDS),
    "is_new": (BOOL, 5 * DAY_SECONDS),
    "seen": (TIMESTAMP, 10**10),
    "profile": (embedding(3), 9 * DAY_SECONDS),
}


def keys(entity: Entity, drawn: np.ndarray) -> dict[str, pl.Series]:
    numbers = pl.Series(drawn)
    if entity is USER:
        return {"user_id": pl.select(pl.format("a rather long user id, number {}", numbers)).to_series()}
    if entity is NUMBERED:
        # From one end of int64 to the other.
        return {"number": pl.Series((drawn.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64))}
    return {
        "origin": (numbers % 7).cast(pl.String),
        "flight": numbers // 7 % 5,
        "seat": (numbers // 35).cast(pl.String),
    }


def history(store: OfflineStore, of: RegisteredGroup, generator: np.random.Generator) -> None:
    """Writes most days: a batch, now and then a late stream file, ties between and within both."""
    for day in range(DAYS):
        if day % 11 == 5:
            continue
        for writer in ("batch", "late")[: 1 + (day % 3 == 0)]:
            count = int(generator.integers(0, 200))
            window = Window(at(day), at(day + 1))
            # Few instants, many ties.
            offsets = generator.integers(0, 40, count) * 2_159_999_999
            ingested = generator.integers(0, 3 * DAYS, count) * DAY_SECONDS * 500_000
            frame = pl.DataFrame(
                {
                    **keys(of.entity, generator.integers(0, 90, count)),
                    "event_timestamp": moments(window.start, offsets),
                    "amount": generator.standard_normal(count),
                    "visits": generator.integers(-(2**63), 2**63 - 1, count),
                    "plan": generator.choice(["free", "paid", "a text that does not fit into twelve bytes"], count),
                    "is_new": generator.random(count) < 0.5,
                    "seen": moments(at(0), offsets),
                    "profile": pl.Series(
                        generator.random((count, 3)).astype(np.float32), dtype=pl.Array(pl.Float32, 3)
                    ),
                    "ingested_at": moments(at(0), ingested),
                }
            )
            nothing = pl.Series(generator.random(count) < 0.2)
            frame = frame.with_columns(pl.when(~nothing).then(pl.col(column)) for column in FEATURES)
            if writer == "batch":
                lay(store, of, window, frame)
            else:
                store.write_stream_file(of, window.start.date(), writer, frame, metadata=metadata())


def moments(start: datetime, micros: np.ndarray) -> pl.Series:
    return pl.Series([start], dtype=TIMESTAMP_TYPE).new_from_index(0, len(micros)) + pl.Series(micros).cast(
        pl.Duration("us")
    )


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
@pytest.mark.parametrize("entity", [USER, NUMBERED, PAIR], ids=lambda entity: entity.name)
def test_a_long_history_of_all_dtypes_reads_alike(tmp_path, entity, strict):
    generator = np.random.default_rng(11)
    of = group("wide", entity, FEATURES)
    catalog = Catalog.of([of])
    store = OfflineStore(tmp_path)
    history(store, of, generator)
    count = 3_000
    # One label in ten is of an entity without history; some come before and some after all of it.
    offsets = generator.integers(-2 * 40, (DAYS + 3) * 40, count) * 2_159_999_999 + generator.integers(-1, 2, count)
    labels = pl.DataFrame({**keys(entity, generator.integers(0, 100, count)), "t": moments(at(0), offsets)})
    expected = point_in_time_join(store, catalog, labels, "t", catalog.select(["wide"]), DuckDBEngine(), strict=strict)
    assert all(0 < expected[column].null_count() < count for column in FEATURES)
    for sweep in SWEEPS:
        found = point_in_time_join(store, catalog, labels, "t", catalog.select(["wide"]), sweep, strict=strict)
        assert_frame_equal(found, expected, check_exact=True)


def test_a_span_of_ten_thousand_years_is_exact_to_the_microsecond(tmp_path):
    # Entity and microsecond do not fit into 64 bits together.
    forever = group("forever", features={"visits": (INT, timedelta.max // timedelta(seconds=1))})
    catalog = Catalog.of([forever])
    store = OfflineStore(tmp_path)
    instants = [datetime(1, 1, 2, tzinfo=UTC), at(0), datetime(9999, 12, 30, tzinfo=UTC)]
    for number, instant in enumerate(instants):
        events = [
            {"user_id": f"u{user}", "event_timestamp": instant, "visits": 100 * number + user} for user in range(99)
        ]
        give(store, forever, Window(instant, instant + timedelta(days=1)), rows(forever, events))
    tick = timedelta(microseconds=1)
    labels = pl.DataFrame(
        [
            {"user_id": f"u{user}", "t": instant + late, "expected": value if value >= 0 else None}
            for user in range(99)
            for number, instant in enumerate(instants)
            for late, value in ((-tick, 100 * number - 100 + user), (tick * 0, 100 * number + user))
        ],
        schema={"user_id": pl.String, "t": TIMESTAMP_TYPE, "expected": pl.Int64},
    ).with_columns(pl.when(pl.col("t") >= instants[0]).then(pl.col("expected")))
    answer = point_in_time_join(
        store, catalog, labels, "t", catalog.select(["visits"]), SweepEngine(1, span_rows=10**9)
    )
    assert answer["visits"].to_list() == answer["expected"].to_list()


def test_strict_reads_know_what_was_known_then(tmp_path):
    clicks = group("clicks", features={"seats": (INT, 100 * DAY_SECONDS)})
    catalog = Catalog.of([clicks])
    store = OfflineStore(tmp_path)
    # Event day, day of ingestion, value: a correction of day 1 arrives on day 5, day 3 arrives on day 8.
    known = [(1, 1, 10), (1, 5, 11), (2, 2, 20), (3, 8, 30)]
    for day in (1, 2, 3):
        events = [
            {"user_id": "u", "event_timestamp": at(day), "ingested_at": at(ingested), "seats": value}
            for event, ingested, value in known
            if event == day
        ]
        lay(store, clicks, Window(at(day), at(day + 1)), rows(clicks, events))
    labels = pl.DataFrame({"user_id": ["u"] * 10, "t": [at(day) for day in range(10)]})
    for engine in (*SWEEPS, DuckDBEngine()):
        for strict, expected in (
            (False, [None, 11, 20, 30, 30, 30, 30, 30, 30, 30]),
            (True, [None, 10, 20, 20, 20, 20, 20, 20, 30, 30]),
        ):
            selections = catalog.select(["seats"])
            answer = point_in_time_join(store, catalog, labels, "t", selections, engine, strict=strict)
            assert answer["seats"].to_list() == expected


class Interruption(Exception):  # noqa: N818  # not an error
    """What a user raises to end a read."""


@pytest.mark.slow
@pytest.mark.parametrize("engine", [*SWEEPS, DuckDBEngine()], ids=["sweep", "ranges", "dates", "duckdb"])
def test_progress_is_told_and_may_end_the_read(tmp_path, engine):
    of = group("wide", USER, FEATURES)
    catalog = Catalog.of([of])
    store = OfflineStore(tmp_path)
    history(store, of, np.random.default_rng(3))
    labels = pl.DataFrame({**keys(USER, np.arange(50)), "t": [at(DAYS)] * 50})
    told, lock = [], Lock()

    def progress(name, share):
        assert lock.acquire(blocking=False), "one call at a time"
        told.append((name, share))
        lock.release()

    selections = catalog.select(["wide"])
    point_in_time_join(store, catalog, labels, "t", selections, engine, progress=progress)
    assert told == sorted(told)
    assert told[-1] == ("wide", 1.0)

    def interrupt(name, share):
        told.append((name, share))
        raise Interruption

    told.clear()
    with pytest.raises(Interruption):
        point_in_time_join(store, catalog, labels, "t", selections, engine, progress=interrupt)
    assert len(told) <= 4
