"""What may be declared, what is rejected and why, and what a default changes: the answers, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from feature_store.changes.validation import validate
from feature_store.definitions.dtypes import Dtype, dtype_of_annotation
from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.on_demand import on_demand
from feature_store.definitions.schema import Embedding, FeatureSchema, feature
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import DefinitionError, InvalidRequestError, InvalidRowsError
from feature_store.partitions import Partitioning
from feature_store.resolution import resolve
from feature_store.store import FeatureStore
from feature_store.transform.on_demand import compute_offline, compute_online
from tests.orders import Orders

USER = Entity("user_of_defaults", {"user_id": str})
EVENT = datetime(2024, 3, 9, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
MAP = pl.List(pl.Struct({"key": pl.String, "value": pl.Float64}))


def same(events: pl.LazyFrame) -> pl.LazyFrame:
    """The events as they are."""
    return events


def schema_of(kind: Any, **given: Any) -> type[FeatureSchema]:
    body = {"__annotations__": {"held": kind}, "held": feature("It.", **given), "__module__": __name__}
    return type("Held", (FeatureSchema,), body)


def group_of(
    schema: type[FeatureSchema], events: pl.DataFrame, entity: Entity = USER, name: str = "holdings"
) -> FeatureGroup:
    return FeatureGroup(
        name=name,
        entity=entity,
        schema=schema,
        source=Orders(events),
        transform=same,
        owner="team",
        description="What is held.",
        lookback=timedelta(0),
        partitioning=Partitioning.DAILY,
        default_ttl=timedelta(days=5),
        start=datetime(2024, 3, 1, tzinfo=UTC),
    )


def rows_of(values: list[Any], dtype: Any) -> pl.DataFrame:
    ids = [f"u{place}" for place in range(len(values))]
    return pl.DataFrame(
        {"user_id": ids, "event_timestamp": [EVENT] * len(ids), "held": pl.Series(values, dtype=dtype)},
        schema_overrides={"event_timestamp": TIME},
    )


def held(store: FeatureStore, kind: Any, rows: Any, count: int, **given: Any) -> list[Any]:
    group = group_of(schema_of(kind, **given), rows_of([None], pl.Null))
    store.apply([group])
    store.ingest(group, rows)
    return [row["held"] for row in store.get_online_features_batch([f"u{place}" for place in range(count)], ["held"])]


@pytest.mark.parametrize(
    "spelling",
    ["date", "decimal[0]", "decimal[38]", "list[string]", "map[decimal[2]]", "list[timestamp]", "embedding[3]"],
)
def test_a_dtype_is_read_as_it_is_spelled(spelling):
    assert str(Dtype.parse(spelling)) == spelling


@pytest.mark.parametrize(
    "spelling", ["decimal", "decimal[39]", "list[list[int]]", "map[embedding[2]]", "list[]", "dict"]
)
def test_what_is_no_dtype_is_rejected(spelling):
    with pytest.raises(DefinitionError, match="not a dtype"):
        Dtype.parse(spelling)


@pytest.mark.parametrize("kind", [list, dict, list[list[int]], dict[int, str], list[bytes], list[int | None], tuple])
def test_an_annotation_that_means_no_dtype_is_rejected(kind):
    assert dtype_of_annotation(kind) is None
    with pytest.raises(DefinitionError, match="use float, int, str"):
        schema_of(kind).specs()


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        (int, {"scale": 2}, "holds no decimals"),
        (Embedding, {"dimension": 2, "scale": 2}, "holds no decimals"),
        (Decimal, {"scale": 39}, "from 0 to 38"),
        (int, {"default": 1.5}, "a value of int, got 1.5"),
        (int, {"default": True}, "got True"),
        (float, {"default": float("nan")}, "means null"),
        (Decimal, {"default": Decimal("1.234")}, "more digits than decimal"),
        (Decimal, {"default": 0.1}, "got 0.1"),
        (date, {"default": "2024-02-30"}, "got '2024-02-30'"),
        (list[str], {"default": "ab"}, "got 'ab'"),
        (list[int], {"default": [1, None]}, "means null"),
        (dict[str, int], {"default": {1: 1}}, "got 1"),
        (Embedding, {"dimension": 2, "default": [1.0]}, "got"),
    ],
)
def test_a_declaration_that_cannot_hold_is_rejected_at_once(kind, given, reason):
    with pytest.raises(DefinitionError, match=reason):
        schema_of(kind, **given).specs()


@pytest.mark.parametrize(
    ("kind", "values", "dtype", "reason"),
    [
        (Decimal, [Decimal("1.25"), Decimal("1.257")], pl.Decimal(38, 3), "in 1 of 2 rows, more digits.*scale="),
        (Decimal, [1.5], pl.Float64, "no exact decimal"),
        (Decimal, [Decimal(10) ** 30], pl.Decimal(38, 0), None),
        (Decimal, [Decimal("1" + "0" * 37)], pl.Decimal(38, 0), "more than the 38 digits"),
        (list[Decimal], [[Decimal("0.001")]], pl.List(pl.Decimal(38, 3)), "more digits"),
        (date, [datetime(2024, 3, 1, 12)], pl.Datetime("us"), "no time of day"),
        (date, [datetime(2024, 3, 1)], pl.Datetime("us"), None),
        (date, [datetime(2024, 3, 1, tzinfo=UTC)], TIME, "which time zone"),
        (date, ["2024-03-01"], pl.String, "declares date"),
        (list[int], [[1.5]], pl.List(pl.Float64), "declares list"),
        (dict[str, float], [{"a": 1.0}], pl.Struct({"a": pl.Float64}), "list of entries"),
        (
            dict[str, float],
            [[{"key": "a", "value": 1.0}, {"key": "a", "value": 2.0}]],
            MAP,
            "key more than once",
        ),
    ],
)
def test_values_that_would_lose_something_are_rejected(store, kind, values, dtype, reason):
    group = group_of(schema_of(kind), rows_of([None], pl.Null))
    store.apply([group])
    rows = rows_of(values, dtype)
    if reason is None:
        assert store.ingest(group, rows).rows == len(values)
        return
    with pytest.raises(InvalidRowsError, match=reason):
        store.ingest(group, rows)
    assert store.get_online_features("u0", ["held"]) == {"held": None}


def test_pandas_and_arrow_bring_decimals_dates_lists_and_maps(store):
    frame = pd.DataFrame({"user_id": ["u0", "u1"], "event_timestamp": [EVENT] * 2})
    as_pandas = frame.assign(held=[{"b": 1.0, "a": 2.0}, None])
    assert held(store, dict[str, float], as_pandas, 2) == [{"a": 2.0, "b": 1.0}, None]
    arrow = pa.table(
        {
            "user_id": ["u0", "u1", "u2"],
            "event_timestamp": pa.array([EVENT] * 3, pa.timestamp("us", "UTC")),
            "held": pa.array([[("b", 1.0), ("a", 2.0)], [("a", None)], []], pa.map_(pa.string(), pa.float64())),
        }
    )
    assert held(store, dict[str, float], arrow, 3) == [{"a": 2.0, "b": 1.0}, None, {}]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Decimal, [Decimal("12.30"), None]),
        (date, [date(2024, 2, 29), None]),
        (list[str], [["a", ""], None]),
        (list[Decimal], [[Decimal("0.10")], []]),
    ],
)
def test_pandas_columns_of_objects_are_taken_as_what_they_are(store, kind, values):
    frame = pd.DataFrame({"user_id": ["u0", "u1"], "event_timestamp": [EVENT] * 2})
    assert held(store, kind, frame.assign(held=pd.Series(values, dtype=object)), 2) == values


def test_rules_hold_for_decimals_and_dates(store):
    group = group_of(schema_of(Decimal, ge=Decimal("0.50")), rows_of([None], pl.Null))
    store.apply([group])
    with pytest.raises(InvalidRowsError, match="breaks"):
        store.ingest(group, rows_of([Decimal("0.49")], pl.Decimal(38, 2)))
    later = group_of(schema_of(date, gt=date(2024, 1, 1)), rows_of([None], pl.Null))
    with pytest.raises(InvalidRowsError, match="breaks"):
        validate(later, rows_of([date(2024, 1, 1)], pl.Date))


def test_statuses_and_checks_tell_what_is_stored_and_answers_the_default(open_store: Callable[..., FeatureStore]):
    store = open_store()
    group = group_of(schema_of(int, default=0), rows_of([5, None], pl.Int64))
    store.apply([group])
    assert store.catalog().group("holdings").features[0].default == 0
    store.materialize(group, "2024-03-09", "2024-03-09")
    ids = ["u0", "u1", "nobody"]
    states = [row["held"] for row in store.get_online_statuses(ids, ["held"])]
    assert [(state.value, state.status) for state in states] == [(5, "present"), (0, "null"), (0, "missing")]
    assert store.get_online_features_frame(ids, ["held"])["held"].to_list() == [5, 0, 0]
    at = [store.clock.now()] * 3
    assert store.get_offline_features(ids, ["held"], at)["held"].to_list() == [5, 0, 0]
    late = [store.clock.now() - timedelta(days=2)] * 3
    assert store.get_offline_features(ids, ["held"], late)["held"].to_list() == [0, 0, 0]
    assert store.check_consistency("holdings").passed
    told = store.explain("u1", "held")
    assert (told.status, told.value, told.default) == ("null", None, 0)


def test_a_default_of_a_live_feature_may_change_and_old_training_sets_say_what_it_was(
    open_store: Callable[..., FeatureStore],
):
    store = open_store()
    events = rows_of([5, None], pl.Int64)
    first = group_of(schema_of(int, default=0), events)
    store.apply([first])
    store.materialize(first, "2024-03-09", "2024-03-09")
    labels = pl.DataFrame({"user_id": ["u0", "u1", "nobody"], "at": [EVENT] * 3}, schema_overrides={"at": TIME})
    definition = TrainingSet("held_values", labels.lazy, ["held"], owner="team", as_of="at")
    written = store.write_training_set(definition)
    assert written.scan().collect()["held"].to_list() == [5, 0, 0]
    assert written.null_rates["held"] == pytest.approx(2 / 3)
    assert store.verify_training_set("held_values").passed
    [record] = store.registry.training_sets("held_values")
    assert record.baseline["held:v1"]["nulls"] == 2

    changed = group_of(schema_of(int, default=-1), events)
    report = store.apply([changed])
    assert [str(ref) for ref in report.updated if "held" in str(ref)] == ["held:v1"]
    assert store.get_online_features("nobody", ["held"]) == {"held": -1}
    again = store.write_training_set(definition)
    assert again.version == 2
    assert again.scan().collect()["held"].to_list() == [5, -1, -1]
    assert store.verify_training_set("held_values", 1).passed


def test_a_default_that_is_changed_by_who_got_it_stays(store):
    group = group_of(schema_of(list[int], default=[1]), rows_of([None], pl.Null))
    store.apply([group])
    store.get_online_features("nobody", ["held"])["held"].append(2)
    assert store.get_online_features("nobody", ["held"]) == {"held": [1]}


def test_on_demand_features_take_inputs_with_defaults_and_have_their_own(open_store: Callable[..., FeatureStore]):
    class Twice(FeatureSchema):
        twice: int = feature("Twice what is held.")
        share: float = feature("A share.", default=1.0)

    @on_demand(inputs=["held"], request={"weights": dict[str, float]}, schema=Twice, owner="team")
    def doubled(held: pl.Expr, weights: pl.Expr) -> dict[str, pl.Expr]:
        return {"twice": held * 2, "share": weights.list.first().struct.field("value")}

    store = open_store()
    group = group_of(schema_of(int, default=7), rows_of([5], pl.Int64))
    store.apply([group])
    store.materialize(group, "2024-03-09", "2024-03-09")
    resolution = resolve(store.catalog(), ["doubled"], [doubled])
    rows = store.get_online_features_batch(["u0", "nobody"], ["held"])
    data = {"weights": [{"b": 2.0, "a": 0.5}, None]}
    expected = [{"twice": 10, "share": 0.5}, {"twice": 14, "share": 1.0}]
    assert compute_online(resolution, rows, data) == expected
    labels = pl.DataFrame({"weights": pl.Series([[{"key": "a", "value": 0.5}], None], dtype=MAP)})
    joined = labels.with_columns(held=pl.Series([5, 7]))
    assert compute_offline(resolution, labels, joined).select("twice", "share").to_dicts() == expected
    with pytest.raises(InvalidRequestError, match="'weights' is declared as map"):
        compute_online(resolution, rows, {"weights": [["a"], None]})


def test_a_date_is_a_join_key_with_one_spelling(open_store: Callable[..., FeatureStore]):
    day = Entity("calendar_day", {"day": date, "shop": str})
    events = pl.DataFrame(
        {
            "day": [date(2024, 3, 1), date(999, 1, 1)],
            "shop": ["a", "b"],
            "event_timestamp": [EVENT] * 2,
            "held": [1, 2],
        },
        schema_overrides={"event_timestamp": TIME},
    )
    group = group_of(schema_of(int), events, day)
    store = open_store()
    store.apply([group])
    store.materialize(group, "2024-03-09", "2024-03-09")
    assert day.entity_id(day=date(2024, 3, 1), shop="a") == "2024-03-01|a"
    assert store.get_online_features("2024-03-01|a", ["held"]) == {"held": 1}
    assert store.get_online_features("0999-01-01|b", ["held"]) == {"held": 2}
    assert store.get_offline_features(["2024-03-01|a"], ["held"], [store.clock.now()])["held"].to_list() == [1]
    labels = events.select("day", "shop", at=pl.lit(store.clock.now(), TIME))
    assert store.training_set(labels, ["held"], as_of="at")["held"].to_list() == [1, 2]
    definition = TrainingSet("days", labels.lazy, ["held"], owner="team", as_of="at")
    store.write_training_set(definition)
    assert store.verify_training_set("days").passed
    rows = store.connect_sql().sql("SELECT entity_id FROM feature_value ORDER BY ALL").fetchall()
    assert rows == [("0999-01-01|b",), ("2024-03-01|a",)]
    assert store.check_consistency("holdings").passed
    for wrong in ("2024-3-1|a", "20240301|a", "a|a"):
        with pytest.raises(InvalidRequestError, match="is a date such as"):
            store.get_online_features(wrong, ["held"])


@pytest.mark.parametrize("kind", [Decimal, float, bool, list, dict, datetime])
def test_what_has_no_single_spelling_is_no_join_key(kind):
    with pytest.raises(DefinitionError, match="use str, int or date"):
        Entity("odd", {"key": kind})
