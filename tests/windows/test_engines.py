"""Windows in point-in-time reads: every engine against plain Python, on files with rivals, ties and gaps."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.catalog import Catalog, Feature, RegisteredGroup
from feature_store.clock import to_micros
from feature_store.day_windows import day_window
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.window_spec import WindowSpec
from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.row_changes import write_rows
from feature_store.offline.rows import checked_rows
from feature_store.offline.store import OfflineStore
from feature_store.storage.local_files import replace_file
from feature_store.windows.instants import instants
from feature_store.windows.plain_fold import Event, value_of
from tests.offline.groups import JAN_1, PASS, ROUTE, at, metadata

if TYPE_CHECKING:
    from feature_store.offline.point_in_time.engine import PointInTimeEngine

ENGINES: dict[str, PointInTimeEngine] = {
    "duckdb": DuckDBEngine(),
    "sweep": SweepEngine(),
    "sweep in small pieces": SweepEngine(3, chunk_rows=1),
}
HOUR = 3_600_000_000
MONEY = Dtype.parse("decimal[2]")


def window(name: str, dtype: str, hours: int | None, **given: Any) -> tuple[str, WindowSpec]:
    column = given.pop("column", "amount")
    kinds = {"amount": "float", "paid": "decimal[2]", "shop": "string"}
    hop = None if hours is None else HOUR // 12 if hours < 12 else 24 * HOUR
    spec = WindowSpec(
        name, column, kinds.get(column), given.pop("condition", None), given.pop("category", None),
        None if hours is None else hours * HOUR, hop, **given,
    )  # fmt: skip
    return dtype, spec


WINDOWS = [
    window("count", "int", 1, column=None),
    window("total", "float", 1),
    window("total", "float", 48, condition="large"),
    window("mean", "float", None),
    window("stddev", "float", 48),
    window("total", "decimal[2]", 24, column="paid"),
    window("total", "map[decimal[2]]", 48, column="paid", category="shop"),
    window("last", "list[string]", 48, column="shop", size=2),
    window("distinct", "int", 48, column="shop", size=100),
    window("age", "float", 48, column=None, unit="days"),
]
PURCHASES = RegisteredGroup(
    "purchases",
    ROUTE,
    tuple(
        Feature(
            number, FeatureRef(f"w{number}", 1), "route", Dtype.parse(dtype), "", "team", 1, {}, "purchases", JAN_1,
            window=spec,
        )
        for number, (dtype, spec) in enumerate(WINDOWS)
    ),
    "team", "", "window", "daily", 0, "", JAN_1,
)  # fmt: skip
CATALOG = Catalog.of([PURCHASES])
INPUTS = {feature.ref.column: feature.dtype for feature in PURCHASES.rows.features}

moments = st.builds(at, st.integers(0, 3), st.sampled_from([0, 0.5, 11, 23.75]), st.sampled_from([-1, 0, 0, 1]))
events = st.fixed_dictionaries(
    {
        "origin": st.just("J|F"),
        "flight": st.sampled_from([1, 2, 3]),
        "event_timestamp": moments,
        "amount": st.none() | st.sampled_from([0.1, 1e16, 1.0, -1e16, 2.5]),
        "paid": st.none() | st.sampled_from([Decimal("0.10"), Decimal("12.34"), Decimal("-5.00")]),
        "shop": st.sampled_from([None, "a", "b", ""]),
        "large": st.sampled_from([True, False]),
    }
)
labels = st.lists(st.tuples(st.sampled_from([1, 2, 9]), moments), min_size=1, max_size=8)


@settings(max_examples=int(os.environ.get("WINDOW_EXAMPLES", "10")))
@given(st.lists(st.tuples(events, st.sampled_from(["batch", "ingest-1"])), max_size=30), labels)
def test_every_engine_says_what_plain_python_says(
    written: list[tuple[dict[str, Any], str]], asked: list[tuple[int, datetime]]
) -> None:
    with tempfile.TemporaryDirectory() as root:
        store = OfflineStore(root)
        standing = write(store, written)
        frame = pl.DataFrame(
            {"origin": ["J|F"] * len(asked), "flight": [flight for flight, _ in asked], "t": [t for _, t in asked]},
            schema_overrides={"flight": pl.Int64, "t": pl.Datetime("us", "UTC")},
        )
        expected = [
            [value_of(spec, Dtype.parse(dtype), standing.get(flight, []), to_micros(time)) for dtype, spec in WINDOWS]
            for flight, time in asked
        ]
        for name, engine in ENGINES.items():
            answer = point_in_time_join(store, CATALOG, frame, "t", CATALOG.select(["purchases"]), engine)
            found = [list(map(plain, row)) for row in answer.drop("origin", "flight", "t").iter_rows()]
            assert list(map(repr, found)) == [repr(list(map(plain, row))) for row in expected], name


def plain(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {pair["key"]: pair["value"] for pair in value}
    return {} if value == [] else value


def write(store: OfflineStore, written: list[tuple[dict[str, Any], str]]) -> dict[int, list[Event]]:
    """Writes events, file by file, and returns those that stand: of two files with one instant, the later one's."""
    standing: dict[tuple[int, datetime], tuple[datetime, str, list[Event]]] = {}
    files: dict[tuple[Any, str], list[dict[str, Any]]] = {}
    for event, writer in written:
        files.setdefault((event["event_timestamp"].date(), writer), []).append(event)
    for (day, writer), members in sorted(files.items(), key=lambda item: (str(item[0][0]), item[0][1])):
        ingested = PASS + timedelta(seconds=writer == "ingest-1")
        frame = pl.DataFrame(
            members,
            schema={
                "origin": pl.String, "flight": pl.Int64, "event_timestamp": pl.Datetime("us", "UTC"),
                "amount": pl.Float64, "paid": pl.Decimal(38, 2), "shop": pl.String, "large": pl.Boolean,
            },
        )  # fmt: skip
        rows = instants(frame.lazy(), ["origin", "flight"], INPUTS, {}).collect()
        stamped = rows.with_columns(pl.lit(ingested, dtype=pl.Datetime("us", "UTC")).alias("ingested_at"))
        window = day_window(day)
        path = store.batch_path(PURCHASES.rows, window)
        laid = write_rows(checked_rows(PURCHASES.rows, window, stamped), metadata())
        replace_file(path.with_name(f"{writer}.parquet"), lambda laid=laid: laid)
        of_file: dict[tuple[int, datetime], list[Event]] = {}
        for event in members:
            key = event["flight"], event["event_timestamp"]
            of_file.setdefault(key, []).append(Event(to_micros(key[1]), event))
        for key, found in of_file.items():
            if key not in standing or standing[key][0] < ingested:
                standing[key] = ingested, writer, found
    by_flight: dict[int, list[Event]] = {}
    for (flight, _), (_, _, found) in standing.items():
        by_flight.setdefault(flight, []).extend(found)
    return by_flight


@pytest.mark.parametrize("engine", ENGINES.values(), ids=list(ENGINES))
def test_a_group_without_a_file_is_empty_windows(engine: PointInTimeEngine, tmp_path: Any) -> None:
    frame = pl.DataFrame({"origin": ["A"], "flight": [1], "t": [at(1)]})
    answer = point_in_time_join(OfflineStore(tmp_path), CATALOG, frame, "t", CATALOG.select(["purchases"]), engine)
    assert [plain(value) for value in answer.drop("origin", "flight", "t").row(0)] == [
        0, 0.0, 0.0, None, None, Decimal("0.00"), {}, {}, 0, None,
    ]  # fmt: skip
    assert replace(PURCHASES).rows.online_layout == "window"
