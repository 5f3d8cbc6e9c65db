"""Where the events lie: a folder a day below `data/purchases`, `date=2024-01-01/purchases.csv`.

A day with a file has landed. For Parquet, S3, tables and warehouses there are other sources of the same use.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from feature_store.sources import CsvSource

PURCHASES = CsvSource(
    "purchases",
    root=Path(__file__).parents[2] / "data" / "purchases",
    start=datetime(2024, 1, 1, tzinfo=UTC),
    description="What customers have bought, one event per purchase, known when it was paid.",
    columns={
        "event_timestamp": pl.Datetime("us", "UTC"),  # when the event became known
        "customer": pl.String(),
        "amount": pl.Int64(),  # cents: sums of integers are exact in any order
    },
)
