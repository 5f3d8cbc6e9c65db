"""The offline store in S3 answers what it answers in a folder, and asks for no more than it needs."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.catalog import Catalog
from feature_store.definitions.dtypes import FLOAT
from feature_store.engines import engine_named
from feature_store.errors import FeatureStoreError, OvertakenError, SettingsError
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.row_changes import PartitionRows
from feature_store.offline.snapshots import usable_snapshot, write_snapshots
from feature_store.offline.store import OfflineStore, PartitionWrite
from feature_store.partitions import Window
from feature_store.rows.polars_schema import row_schema
from tests.offline.groups import FIRST_DAY, PASS, at, claiming, give, group, metadata, rows

CLICKS = group("clicks_daily")
CATALOG = Catalog.of([CLICKS])
DAYS = 12
USERS = 40


def history(day: int) -> pl.DataFrame:
    return rows(
        CLICKS,
        [
            {"user_id": f"u{user}", "event_timestamp": at(day, user % 24, user), "clicks": day + user / 7}
            for user in range(USERS)
            if (user + day) % 3
        ],
    )


def written(root, count: int = DAYS) -> OfflineStore:
    store = OfflineStore(root)
    days = [
        PartitionWrite(PartitionRows(CLICKS, Window(at(day), at(day + 1)), history(day).drop("ingested_at")), {})
        for day in range(count)
    ]
    assert all(store.replace_partitions(CLICKS, days, began=PASS, claim=claiming(PASS)))
    late = rows(CLICKS, [{"user_id": "u1", "event_timestamp": at(3, 5), "clicks": None}])
    store.write_stream_file(CLICKS, date(2024, 1, 4), "topic-0-9", late, metadata=metadata())
    return store


def labels(first: int = 0, last: int = DAYS) -> pl.DataFrame:
    chance = random.Random(7)
    drawn = [
        (f"u{chance.randrange(USERS + 2)}", at(chance.randrange(first, last), chance.random() * 24)) for _ in range(200)
    ]
    return pl.DataFrame(drawn, schema={"user_id": pl.String, "t": pl.Datetime("us", "UTC")}, orient="row")


def joined(store: OfflineStore, frame: pl.DataFrame, engine: str, **options) -> pl.DataFrame:
    return point_in_time_join(store, CATALOG, frame, "t", CATALOG.select(["clicks"]), engine_named(engine), **options)


def test_everything_reads_as_it_does_from_a_folder(tmp_path, s3_root):
    local, remote = written(tmp_path), written(s3_root)
    names = [(file.date, file.name, file.size) for file in local.files("clicks_daily")]
    assert [(file.date, file.name, file.size) for file in remote.files("clicks_daily")] == names
    assert remote.materialized(CLICKS) == local.materialized(CLICKS)
    for window in (None, FIRST_DAY, Window(at(2, 5), at(4, 7))):
        order = ["user_id", "event_timestamp"]
        assert_frame_equal(
            local.scan(CLICKS, window).sort(order).collect(), remote.scan(CLICKS, window).sort(order).collect()
        )
    assert_frame_equal(local.history(CLICKS, "u1"), remote.history(CLICKS, "u1"))
    assert remote.content(remote.files("clicks_daily")) == local.content(local.files("clicks_daily"))
    for engine in ("sweep", "duckdb"):
        for strict in (False, True):
            answer = joined(remote, labels(), engine, strict=strict)
            assert_frame_equal(answer, joined(local, labels(), engine, strict=strict))
    with duckdb.connect() as one, duckdb.connect() as other:
        query = "SELECT entity_id, value, epoch_us(event_timestamp) FROM feature_value ORDER BY ALL"
        found = [
            store.connect_views(CATALOG, connection).execute(query).fetchall()
            for store, connection in ((local, one), (remote, other))
        ]
        assert found[0] == found[1]
        assert other.execute("SELECT count(DISTINCT date) FROM clicks_daily").fetchone() == (DAYS,)


def test_a_snapshot_stands_for_what_lies_before_it(s3_root):
    store = written(s3_root)
    before = joined(store, labels(9), "sweep")
    (snapshot,) = write_snapshots(store, CLICKS, [date(2024, 1, 9)])
    assert snapshot.created
    assert not next(write_snapshots(store, CLICKS, [date(2024, 1, 9)])).created
    assert usable_snapshot(store, CLICKS, Window(at(-9), at(40)), at(9)) == snapshot.file
    for engine in ("sweep", "duckdb"):
        assert_frame_equal(joined(store, labels(9), engine), before)
    give(store, CLICKS, FIRST_DAY, history(0).head(3), began=PASS + timedelta(hours=1))
    assert usable_snapshot(store, CLICKS, Window(at(-9), at(40)), at(9)) is None


def test_the_pass_that_began_last_stays_whichever_ends_first(s3_root):
    store = OfflineStore(s3_root)
    order = list(range(12))
    random.Random(1).shuffle(order)

    def is_overtaken(number: int) -> bool:
        frame = rows(CLICKS, [{"user_id": "u", "event_timestamp": at(0), "clicks": float(number)}])
        began = PASS + timedelta(microseconds=number)
        try:
            give(store, CLICKS, FIRST_DAY, frame, began=began)
        except OvertakenError:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        overtaken = dict(zip(order, pool.map(is_overtaken, order), strict=True))
    assert not overtaken[11]
    assert store.scan(CLICKS).collect()["clicks"].to_list() == [11.0]
    assert len(store.files("clicks_daily")) == 1


def test_reads_ask_for_the_dates_and_columns_that_they_need(proxy, s3_root):
    wide = group("wide", features={f"feature_{number}": (FLOAT, 86_400) for number in range(20)})
    store = OfflineStore(s3_root)
    for day in range(10):
        height = 60_000 if day in {3, 4} else 10
        numbers = np.random.default_rng(day).random((20, height))
        columns = {f"feature_{number}": values for number, values in enumerate(numbers)}
        frame = pl.DataFrame({"user_id": [f"u{user}" for user in range(height)], **columns})
        frame = frame.with_columns(event_timestamp=at(day), ingested_at=PASS).cast(row_schema(wide))
        give(store, wide, Window(at(day), at(day + 1)), frame)
    file_bytes = store.files("wide")[3].size
    catalog = Catalog.of([wide])
    asked = pl.DataFrame({"user_id": ["u7", "u8"] * 5, "t": [at(4, 2)] * 10})
    for engine in ("sweep", "duckdb"):
        proxy.requests.clear()
        answer = point_in_time_join(store, catalog, asked, "t", catalog.select(["feature_3"]), engine_named(engine))
        assert answer["feature_3"].null_count() == 0
        days = {
            day
            for request in proxy.requests
            for day in range(10)
            if f"2024-01-{day + 1:02}/batch" in request.path.replace("%3D", "=")
        }
        assert days <= {3, 4}, engine
        lists = [request for request in proxy.requests if "list-type=2" in request.path]
        assert len(lists) <= 3, engine
        assert len(proxy.requests) <= 60, engine
        # Two files: keys, times and one of twenty features of each.
        assert proxy.bytes_read("batch") < 2 * file_bytes * 0.3, engine
    proxy.requests.clear()
    assert store.files("wide", Window(at(2), at(4)))[0].date == date(2024, 1, 3)
    assert len(proxy.requests) == 1


def test_without_credentials_or_a_bucket_the_error_says_what_to_do(s3_root, monkeypatch):
    store = OfflineStore("s3://no-such-bucket/prefix")
    with pytest.raises((FeatureStoreError, FileNotFoundError), match="no-such-bucket"):
        give(store, CLICKS, FIRST_DAY, history(0))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SettingsError, match="No AWS credentials"):
        OfflineStore(s3_root)
