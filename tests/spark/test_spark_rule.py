"""The Spark engine against the other engines and the oracle, on histories full of ties, gaps and expiring values."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.engines import engine_named
from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.spark.engine import SparkEngine
from tests.offline.oracle import visible
from tests.offline.test_point_in_time_rule import (
    ACTIVITY,
    CATALOG,
    DELAYS,
    REQUEST,
    activity_rows,
    bits,
    delay_rows,
    label_instants,
    routes,
    users,
    write,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.needs_spark, pytest.mark.timeout(600)]

label_rows = st.lists(
    st.builds(
        lambda user, route, t: {**user, **route, "t": t}, users | st.just({"user_id": "?"}), routes, label_instants
    ),
    min_size=6,
    max_size=40,
)


def agree(spark: SparkSession, activity: Any, delays: Any, labels: Any, *, strict: bool) -> None:
    engines = {
        "duckdb": DuckDBEngine(),
        "sweep": SweepEngine(),
        "spark": SparkEngine(lambda: spark_of(spark)),
        # Nearly every entity is hot, and nearly every row lies in a piece of its own.
        "spark in pieces": SparkEngine(lambda: spark_of(spark), rows_per_task=2),
    }
    frame = pl.DataFrame(
        {
            "target": pl.Series(range(len(labels)), dtype=pl.UInt8),
            "flight": pl.Series([label["flight"] for label in labels], dtype=pl.Int16),
            "user_id": pl.Series([label["user_id"] for label in labels], dtype=pl.Categorical),
            "t": pl.Series([label["t"] for label in labels], dtype=pl.Datetime("us", "UTC")),
            "origin": [label["origin"] for label in labels],
        }
    )
    selections = CATALOG.select(REQUEST)
    with tempfile.TemporaryDirectory() as root:
        store = OfflineStore(root)
        history = {"activity": write(store, ACTIVITY, activity), "delays": write(store, DELAYS, delays)}
        answers = {
            name: point_in_time_join(store, CATALOG, frame, "t", selections, engine, strict=strict)
            for name, engine in engines.items()
        }
    for name, answer in answers.items():
        assert answer.schema == answers["sweep"].schema, name
        assert bits(answer) == bits(answers["sweep"]), name
    for selection in selections:
        feature = selection.feature
        keys = CATALOG.group(feature.group).entity.join_keys
        ttl = min(timedelta(seconds=feature.online_ttl_seconds), timedelta(days=10_000))
        expected = [
            visible(
                history[feature.group], {key: label[key] for key in keys}, label["t"], feature.ref.column, ttl, strict
            )
            for label in labels
        ]
        found = [
            value.to_list() if isinstance(value, pl.Series) else value for value in answers["spark"][selection.label]
        ]
        assert found == expected, selection.label


def spark_of(spark: SparkSession) -> SparkSession:
    from feature_store.spark.session import spark_session

    assert spark.getActiveSession() is not None
    return spark_session()


@given(activity=activity_rows, delays=delay_rows, labels=label_rows, strict=st.booleans())
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_spark_agrees_with_the_other_engines_and_the_oracle(spark, *, activity, delays, labels, strict):
    agree(spark, activity, delays, labels, strict=strict)


@pytest.mark.long
@given(activity=activity_rows, delays=delay_rows, labels=label_rows, strict=st.booleans())
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.timeout(1800)
def test_spark_agrees_on_many_more_histories(spark, *, activity, delays, labels, strict):
    agree(spark, activity, delays, labels, strict=strict)


def test_the_setting_names_the_engine():
    assert engine_named("spark").name == "spark"
