"""Every engine against the oracle, on histories full of ties, gaps, late files and expiring values."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.catalog import Catalog, RegisteredGroup
from feature_store.definitions.dtypes import BOOL, FLOAT, INT, STRING, TIMESTAMP, embedding
from feature_store.engines import engine_named
from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from tests.offline.groups import PASS, ROUTE, USER, at, group, lay, metadata, rows, without
from tests.offline.oracle import WrittenRow, visible

if TYPE_CHECKING:
    from feature_store.offline.point_in_time.engine import PointInTimeEngine

ENGINES: dict[str, PointInTimeEngine] = {
    "duckdb": DuckDBEngine(),
    "sweep": SweepEngine(),
    # Every date a span, a read and nearly a range of its own: what is carried and what stays open matter most.
    "sweep in small pieces": SweepEngine(3, chunk_rows=1, span_rows=1),
    # All dates in one span: rows of many files are sorted.
    "sweep in one piece": SweepEngine(1, span_rows=10**9),
    "auto": engine_named("auto"),
}

HALF_DAY, DAY = 43_200, 86_400
ACTIVITY = group(
    "activity",
    USER,
    {"clicks": (FLOAT, HALF_DAY), "visits": (INT, DAY), "plan": (STRING, 3 * DAY), "added": (FLOAT, DAY)},
)
DELAYS = group(
    "delays",
    ROUTE,
    {
        "delay": (FLOAT, DAY),
        "cancelled": (BOOL, HALF_DAY),
        "seen": (TIMESTAMP, DAY),
        "profile": (embedding(2), DAY),
        "delay_v2": (FLOAT, timedelta.max // timedelta(seconds=1)),
    },
    first_id=10,
)
CATALOG = Catalog.of([ACTIVITY, DELAYS])
REQUEST = ["plan", "delay:v1", "activity", "delay", "profile", "cancelled", "seen"]
DAYS = 3
WRITERS = ["batch", "stream-0-17", "a-stream", "old"]

# A coarse grid of instants, one microsecond around it: ties and exact ends of a time to live are the rule here.
instants = st.builds(at, st.integers(0, DAYS - 1), st.sampled_from([0, 12]), st.sampled_from([0, 0, 1]))
label_instants = st.builds(at, st.integers(-1, DAYS + 1), st.sampled_from([0, 12]), st.sampled_from([-1, 0, 1]))
# Most rows are ingested long after all labels; some between them, before their own event even.
passes = st.sampled_from([PASS, PASS + timedelta(microseconds=1)]) | label_instants
floats = st.none() | st.sampled_from([float("nan"), 0.1, -0.0, 1e308, float("inf")])
ints = st.none() | st.sampled_from([-(2**63), 2**63 - 1]) | st.integers(0, 100)
users = st.fixed_dictionaries({"user_id": st.sampled_from(["u", ""])})
routes = st.fixed_dictionaries({"origin": st.just("J|F"), "flight": st.sampled_from([1, -7])})


def records(keys: st.SearchStrategy[dict[str, Any]], values: dict[str, st.SearchStrategy[Any]]) -> Any:
    row = st.builds(
        lambda key, rest: {**key, **rest},
        keys,
        st.fixed_dictionaries({"event_timestamp": instants, "ingested_at": passes, **values}),
    )
    return st.lists(st.tuples(row, st.sampled_from(WRITERS)), min_size=10, max_size=40) | st.just([])


activity_rows = records(
    users, {"clicks": floats, "visits": ints, "plan": st.sampled_from([None, "", "gold", "ö"]), "added": floats}
)
delay_rows = records(
    routes,
    {
        "delay": floats,
        "delay_v2": floats,
        "cancelled": st.sampled_from([None, True, False]),
        "seen": st.none() | instants,
        "profile": st.sampled_from(
            [None, [0.5, -1.0], [3.0, 4.0], [float("nan"), 1.0], [None, 2.0], [float("inf"), float("-inf")]]
        ),
    },
)
label_rows = st.lists(
    st.builds(
        lambda user, route, t: {**user, **route, "t": t}, users | st.just({"user_id": "?"}), routes, label_instants
    ),
    max_size=12,
)


def as_given(times: list[datetime], form: str) -> pl.Series:
    """Returns label times as users have them: other zones, other units, naive."""
    series = pl.Series("t", times, pl.Datetime("us", "UTC"))
    if form == "naive":
        return series.dt.replace_time_zone(None)
    if form == "zone":
        return series.dt.convert_time_zone("America/New_York")
    if form == "ns":
        nanoseconds = series.cast(pl.Datetime("ns", "Asia/Kolkata"))
        return (nanoseconds.to_physical() + 999).cast(nanoseconds.dtype)
    if form == "ms":
        return series.cast(pl.Datetime("ms", "UTC"))
    return series


def write(store: OfflineStore, of: RegisteredGroup, drawn: list[tuple[dict[str, Any], str]]) -> list[WrittenRow]:
    """Writes rows into the files that were drawn for them; files of the writer `old` lack the column `added`."""
    parts: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for values, writer in drawn:
        parts.setdefault(((values["event_timestamp"] - at(0)).days, writer), []).append(values)
    written = []
    for (day, writer), part in parts.items():
        window = Window(at(day), at(day + 1))
        as_of_then = without(of, "added") if writer == "old" else of
        kept = [{key: value for key, value in row.items() if writer != "old" or key != "added"} for row in part]
        frame = rows(as_of_then, kept)
        if writer == "batch":
            lay(store, as_of_then, window, frame)
        else:
            store.write_stream_file(as_of_then, window.start.date(), writer, frame, metadata=metadata())
        name = (window.start.date().isoformat(), f"{writer}.parquet")
        written += [WrittenRow(values, name, position) for position, values in enumerate(kept)]
    return written


@given(
    activity=activity_rows,
    delays=delay_rows,
    labels=label_rows,
    form=st.sampled_from(["us", "naive", "zone", "ns", "ms"]),
    flight_type=st.sampled_from([pl.Int8, pl.Int32, pl.Int64]),
    user_type=st.sampled_from([pl.String, pl.Categorical]),
    strict=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_every_engine_agrees_with_the_oracle(*, activity, delays, labels, form, flight_type, user_type, strict):
    times = as_given([label["t"] for label in labels], form)
    given_labels = pl.DataFrame(
        {
            "target": pl.Series([index % 2 for index in range(len(labels))], dtype=pl.UInt8),
            "flight": pl.Series([label["flight"] for label in labels], dtype=flight_type),
            "user_id": pl.Series([label["user_id"] for label in labels], dtype=pl.String).cast(user_type),
            "t": times,
            "origin": pl.Series([label["origin"] for label in labels], dtype=pl.String),
        }
    )
    selections = CATALOG.select(REQUEST)
    with tempfile.TemporaryDirectory() as root:
        store = OfflineStore(root)
        history = {"activity": write(store, ACTIVITY, activity), "delays": write(store, DELAYS, delays)}
        answers = {
            name: point_in_time_join(store, CATALOG, given_labels, "t", selections, engine, strict=strict)
            for name, engine in ENGINES.items()
        }

    answer = answers["duckdb"]
    assert answer.columns == [*given_labels.columns, *(selection.label for selection in selections)]
    assert answer.select(given_labels.columns).equals(given_labels)
    assert answer.select(given_labels.columns).schema == given_labels.schema
    moments = times.cast(pl.Datetime("us")) if form == "naive" else times.dt.convert_time_zone("UTC")
    moments = moments.dt.cast_time_unit("us").dt.replace_time_zone(None).dt.replace_time_zone("UTC")
    for selection in selections:
        feature = selection.feature
        entity = CATALOG.group(feature.group).entity
        expected = [
            visible(
                history[feature.group],
                {key: label[key] for key in entity.join_keys},
                moment,
                feature.ref.column,
                min(timedelta(seconds=feature.online_ttl_seconds), timedelta(days=10_000)),
                strict,
            )
            for label, moment in zip(labels, moments, strict=True)
        ]
        found = [value.to_list() if isinstance(value, pl.Series) else value for value in answer[selection.label]]
        assert found == expected, selection.label
    for name, other in answers.items():
        assert other.schema == answer.schema, name
        assert bits(other) == bits(answer), name


def bits(frame: pl.DataFrame) -> list[Any]:
    """Returns all values such that only equal bits are equal: -0.0 is not 0.0."""
    return [repr(row) for row in frame.iter_rows()]
