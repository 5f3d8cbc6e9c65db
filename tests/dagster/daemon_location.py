"""A code location in files, for a daemon in another process: where everything lies comes from the environment."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from dagster_feature_store import feature_store_definitions
from feature_store.definitions.source import ParquetSource
from tests.dagster.conftest import Domain

SOURCE = ParquetSource("orders", root=Path(os.environ["ORDERS_LANDING"]), start=datetime(2024, 3, 1, tzinfo=UTC))


def _labels() -> pl.LazyFrame:
    labels = pl.LazyFrame({"customer": ["c1", "c2"], "bought": [True, False]})
    return labels.with_columns(event_timestamp=pl.lit(datetime(2024, 3, 8, tzinfo=UTC)))


def _domain() -> Domain:
    domain = Domain(SOURCE)  # type: ignore[arg-type]
    domain.purchase = type(domain.purchase)(
        "purchase", labels=_labels, features=["spending"], owner="team@example.com", description="Who buys."
    )
    # One group is enough for a night, and its runs are short.
    domain.activity = None  # type: ignore[assignment]
    return domain


defs = feature_store_definitions(_domain(), sensor_interval_seconds=2)
