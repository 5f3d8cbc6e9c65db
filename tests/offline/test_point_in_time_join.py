"""Point-in-time reads: requests that are refused, shapes of answers, and what is read for them."""

from __future__ import annotations

import io
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from feature_store.catalog import Catalog
from feature_store.definitions.dtypes import FLOAT, INT, embedding
from feature_store.errors import FeatureStoreError, InvalidRequestError
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.storage.s3_path import S3Path
from tests.offline.groups import DAY_SECONDS, FIRST_DAY, PASS, ROUTE, at, give, group, lay, rows, without

CLICKS = group("activity", features={"clicks": (FLOAT, DAY_SECONDS), "seats": (INT, 3 * DAY_SECONDS)})
ROUTES = group("routes", ROUTE, {"delay": (FLOAT, DAY_SECONDS), "profile": (embedding(2), DAY_SECONDS)}, first_id=9)
CATALOG = Catalog.of([CLICKS, ROUTES])


class RecordingEngine(DuckDBEngine):
    """Remembers what it was given, and runs a hook after it has read."""

    def __init__(self, after=lambda: None):
        super().__init__()
        self.histories = []
        self.after = after

    def latest(self, labels, history, progress=None):
        self.histories.append(history)
        found = super().latest(labels, history)
        self.after()
        return found


@pytest.fixture
def store(root):
    store = OfflineStore(root)
    for day in range(6):
        record = {"user_id": "u", "event_timestamp": at(day, 12), "clicks": float(day), "seats": day}
        give(store, CLICKS, Window(at(day), at(day + 1)), rows(CLICKS, [record]))
    return store


def read(store, labels, features=("clicks", "seats"), engine=None, as_of="t"):
    return point_in_time_join(store, CATALOG, labels, as_of, CATALOG.select(features), engine or DuckDBEngine())


def test_an_empty_label_frame_has_an_empty_answer_of_the_right_dtypes(store):
    for empty in (
        pl.DataFrame({"user_id": [], "origin": [], "flight": [], "t": []}),
        pl.DataFrame(
            schema={"user_id": pl.String, "origin": pl.String, "flight": pl.Int16, "t": pl.Datetime("ns", "UTC")}
        ),
    ):
        answer = read(store, empty, ["seats", "profile"])
        assert answer.schema == {**empty.schema, "seats": pl.Int64(), "profile": pl.Array(pl.Float32, 2)}
        assert answer.is_empty()


def test_a_group_without_history_answers_null(store):
    answer = read(store, pl.DataFrame({"origin": ["JFK"], "flight": [1], "t": [at(1)]}), ["routes"])
    assert answer.select("delay", "profile").row(0) == (None, None)
    assert answer.schema["profile"] == pl.Array(pl.Float32, 2)


def test_a_feature_that_no_file_has_answers_null(tmp_path):
    store = OfflineStore(tmp_path)
    older = without(CLICKS, "seats")
    frame = rows(older, [{"user_id": "u", "event_timestamp": at(0), "clicks": 1.0}])
    give(store, older, FIRST_DAY, frame)
    labels = pl.DataFrame({"user_id": ["u"], "t": [at(0, 1)]})
    assert read(store, labels, ["seats"])["seats"].to_list() == [None]
    assert read(store, labels, ["seats", "clicks"]).select("seats", "clicks").row(0) == (None, 1.0)


def test_arrow_and_pandas_like_tables_are_labels_too(store):
    table = pa.table({"user_id": ["u", "?"], "t": pa.array([datetime(2024, 1, 2, 12)] * 2, pa.timestamp("ms"))})
    assert read(store, table)["seats"].to_list() == [1, None]


def test_only_files_that_can_matter_are_read_and_only_the_columns_asked_for(store):
    engine = RecordingEngine()
    labels = pl.DataFrame({"user_id": ["u", "u"], "t": [at(3, 12), at(4, 1)]})
    assert read(store, labels, ["clicks"], engine)["clicks"].to_list() == [3.0, 3.0]
    (history,) = engine.histories
    assert [file.date.day for file in history.files] == [3, 4, 5]
    assert history.columns == ("clicks",)
    assert read(store, labels, ["seats"], engine)["seats"].to_list() == [3, 3]
    assert [file.date.day for file in engine.histories[1].files] == [1, 2, 3, 4, 5]


def test_a_label_at_the_end_of_time_is_answered(store):
    times = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)]
    assert read(store, pl.DataFrame({"user_id": ["u", "u"], "t": times}))["clicks"].to_list() == [None, None]


def test_a_value_is_visible_until_its_last_microsecond(store):
    ttl = timedelta(seconds=DAY_SECONDS)
    for age, value in ((ttl - timedelta(microseconds=1), 5.0), (ttl, None), (timedelta(0), 5.0), (-ttl, 4.0)):
        labels = pl.DataFrame({"user_id": ["u"], "t": [at(5, 12) + age]})
        assert read(store, labels, ["clicks"])["clicks"].to_list() == [value], age


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Written in the first place and in the second: (writer, ingested_at, value). The greater value wins.
        ([("batch", PASS, 1)], [("a", PASS + timedelta(microseconds=1), 2)]),
        ([("b", PASS, 2)], [("a", PASS, 1)]),
        ([("batch", PASS, 1), ("batch", PASS, 2)], []),
        ([("batch", PASS + timedelta(seconds=1), 2), ("batch", PASS, 1)], []),
        ([("batch-topic", PASS, 1)], [("batch", PASS, 2)]),
    ],
    ids=["later ingestion", "greater file name", "later row", "later ingestion in one file", "names with their suffix"],
)
def test_of_rows_of_one_instant_the_last_one_wins(tmp_path, first, second):
    store = OfflineStore(tmp_path)
    for part in filter(None, (first, second)):
        writer = part[0][0]
        frame = rows(
            CLICKS,
            [
                {"user_id": "u", "event_timestamp": at(0), "ingested_at": ingested, "seats": value}
                for _, ingested, value in part
            ],
        )
        if writer == "batch":
            lay(store, CLICKS, FIRST_DAY, frame)
        else:
            store.write_stream_file(CLICKS, FIRST_DAY.start.date(), writer, frame, metadata={})
    labels = pl.DataFrame({"user_id": ["u"], "t": [at(0)]})
    assert read(store, labels)["seats"].to_list() == [2]
    assert store.history(CLICKS, "u")["seats"][0] == 2


def test_nan_in_a_foreign_file_reads_as_null(store):
    path = store.files("activity", FIRST_DAY)[0].path
    foreign = io.BytesIO()
    pl.read_parquet(io.BytesIO(path.read_bytes())).with_columns(clicks=float("nan")).write_parquet(foreign)
    (path.put if isinstance(path, S3Path) else path.write_bytes)(foreign.getvalue())
    assert read(store, pl.DataFrame({"user_id": ["u"], "t": [at(0, 13)]}))["clicks"].to_list() == [None]
    assert store.scan(CLICKS, FIRST_DAY).collect()["clicks"].to_list() == [None]
    with duckdb.connect() as connection:
        store.connect_views(CATALOG, connection)
        values = connection.execute("SELECT value FROM feature_value WHERE feature_id = 1 ORDER BY event_timestamp")
        assert values.fetchmany(2) == [(None,), ("1.0",)]


def test_a_read_during_which_a_file_was_replaced_is_read_again(store):
    labels = pl.DataFrame({"user_id": ["u"], "t": [at(2, 13)]})
    replaced = rows(CLICKS, [{"user_id": "u", "event_timestamp": at(2, 12), "clicks": 99.0}])

    def replace_once():
        if len(engine.histories) == 1:
            give(store, CLICKS, Window(at(2), at(3)), replaced)

    engine = RecordingEngine(replace_once)
    assert read(store, labels, ["clicks"], engine)["clicks"].to_list() == [99.0]
    assert len(engine.histories) == 2


def test_a_read_of_files_that_never_rest_gives_up(store):
    def replace_always():
        began = PASS + timedelta(seconds=len(engine.histories))
        code = f"code-{len(engine.histories)}"
        give(store, CLICKS, Window(at(2), at(3)), rows(CLICKS, []), began=began, code_version=code)

    engine = RecordingEngine(replace_always)
    with pytest.raises(FeatureStoreError, match="'activity' were replaced during each of 5 reads"):
        read(store, pl.DataFrame({"user_id": ["u"], "t": [at(2, 13)]}), engine=engine)


def test_the_callers_connection_stays_as_it_was(store):
    with duckdb.connect() as mine:
        mine.execute("SET TimeZone = 'Asia/Kolkata'")

        @contextmanager
        def connect():
            yield mine

        answer = read(store, pl.DataFrame({"user_id": ["u"], "t": [at(2, 13)]}), engine=DuckDBEngine(connect))
        assert answer["clicks"].to_list() == [2.0]
        assert mine.execute("SELECT current_setting('TimeZone')").fetchone() == ("Asia/Kolkata",)
        assert mine.execute("SHOW ALL TABLES").fetchall() == []


def test_too_little_memory_is_said_so(store):
    users = pl.DataFrame({"user_id": pl.int_range(300_000, eager=True).cast(pl.String)}).with_columns(t=at(2, 13))
    with pytest.raises(FeatureStoreError, match="raise memory_limit"):
        read(store, users, engine=DuckDBEngine(memory_limit="1MB"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"user_id": ["u", None, None], "t": [at(1)] * 3},
            r"'user_id', a join key of entity 'user', is null in 2 of 3 rows \(row 1: {'user_id': None, .*row 2: ",
        ),
        ({"user_id": ["u", "u"], "t": [at(1), None]}, r"'t', the time .*, is null in 1 of 2 rows \(row 1: {'user_id'"),
        ({"user_id": [None], "t": [at(1)]}, "'user_id', a join key of entity 'user', is null in 1 of 1 rows"),
        ({"user": ["u"], "t": [at(1)]}, "no column 'user_id', a join key of entity 'user'. Did you mean user?"),
        ({"user_id": [7], "t": [at(1)]}, r"declared as str but holds Int64: cast it with .cast\(pl.String\)"),
        (
            {"user_id": ["u"], "when": [at(1)], "d": [1]},
            "no column 't' to read features as of. Its time columns are when",
        ),
        ({"user_id": ["u"], "d": [1]}, "no column 't' to read features as of. It has no time column at all"),
        ({"user_id": ["u"], "t": ["2024-01-01"]}, "'t' holds String, not timestamps"),
        ({"user_id": ["u"], "t": [at(1)], "seats": [1]}, "names of requested features: seats. Rename or drop"),
    ],
)
def test_labels_that_cannot_be_answered_are_refused(store, labels, message):
    with pytest.raises(InvalidRequestError, match=message):
        read(store, pl.DataFrame(labels))


@pytest.mark.parametrize(
    ("flights", "message"),
    [
        (pl.Series(["1"]), "'flight', a join key of entity 'route', is declared as int but holds String"),
        (pl.Series([1.0]), "declared as int but holds Float64"),
        (pl.Series([2**64 - 1], dtype=pl.UInt64), r"'flight' exceeds int64 in 1 rows \(row 0: 18446744073709551615\)"),
    ],
)
def test_int_keys_that_are_no_int64_are_refused(store, flights, message):
    with pytest.raises(InvalidRequestError, match=message):
        read(store, pl.DataFrame({"origin": ["JFK"], "flight": flights, "t": [at(1)]}), ["delay"])


def test_two_columns_of_one_name_are_refused(store):
    table = pa.Table.from_arrays([pa.array(["u"]), pa.array(["v"])], names=["user_id", "user_id"])
    with pytest.raises(InvalidRequestError, match="Give each column a name of its own"):
        read(store, table)
