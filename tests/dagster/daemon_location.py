"""A code location in files, for a daemon in another process: where everything lies comes from the environment."""

from __future__ import annotations

import multiprocessing
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from dagster_feature_store import feature_store_definitions
from feature_store.partitions import Window
from feature_store.sources import ParquetSource
from tests.dagster.conftest import Domain


class HeldOrders(ParquetSource):
    """Orders of which a run reads nothing, as long as a test holds them."""

    def scan(self, window: Window) -> pl.LazyFrame:
        hold = Path(os.environ.get("ORDERS_HOLD", ""))
        # Runs are children of the code server, whose sensors read the source themselves.
        if hold.name and multiprocessing.parent_process():
            hold.with_suffix(".seen").touch()
            while hold.exists():
                time.sleep(0.1)
        return super().scan(window)


SOURCE = HeldOrders("orders", root=Path(os.environ["ORDERS_LANDING"]), start=datetime(2024, 3, 1, tzinfo=UTC))


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
