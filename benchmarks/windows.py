"""Windowed features in training, measured: `python -m benchmarks.windows`.

Count, sum, mean, greatest and last amount over 1 hour, 1, 7 and 30 days, 20 features, for each label: from the
date-partitioned files of the offline store to a written training set. Beside it DuckDB (window functions over the union
of labels and events) and Polars (`rolling_by` over the union), which read one flat file of the same events, and the
floor: what is read and written, with nothing in between. Their windows slide, so they are not ours to the event; what
ours come to is proven in `tests/windows`.

Each system runs in a process of its own, in turn, round after round. CPU seconds are the steadier figure on a machine
that others use, too.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from feature_store.catalog import Catalog, Feature, RegisteredGroup
from feature_store.definitions.dtypes import FLOAT, INT
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.window_spec import WindowSpec
from feature_store.engines import engine_named
from feature_store.offline.layout import group_folder
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.windows.extents import Extent

START = datetime(2024, 1, 1, tzinfo=UTC)
LENGTHS = {"1h": 1, "1d": 24, "7d": 168, "30d": 720}
FUNCTIONS = {"count": INT, "total": FLOAT, "mean": FLOAT, "maximum": FLOAT, "last": FLOAT}
USER = Entity("user", {"user_id": str})

console = Console(width=110)


def group() -> RegisteredGroup:
    """Returns the group that is measured."""
    features = []
    for number, (function, length) in enumerate((function, length) for function in FUNCTIONS for length in LENGTHS):
        extent = Extent.of(length)
        column = None if function == "count" else "amount"
        spec = WindowSpec(function, column, None if column is None else "float", None, None, extent.length, extent.hop)
        ref = FeatureRef(f"{function}_{length}", 1)
        dtype = FUNCTIONS[function]
        features.append(Feature(number + 1, ref, "user", dtype, "", "team", 1, {}, "payments", START, window=spec))
    return RegisteredGroup("payments", USER, tuple(features), "team", "", "window", "daily", 0, "", START)


def make_data(data: Path, events: int, labels: int, days: int, entities: int, seed: int) -> Path:
    """Writes events, as the store keeps them and as one flat file, and labels, once for each size."""
    folder = data / f"windows-{events}-{labels}-{days}-{entities}-{seed}"
    if (folder / "labels.parquet").exists():
        return folder
    chance = np.random.default_rng(seed)
    per_day = events // days
    root = folder / "store"
    flat = []
    for day in range(days):
        moments = np.sort(chance.integers(0, 86_400_000, per_day)) * 1000
        # Ties are common: one event in 20 repeats the instant of the one before it.
        repeated = chance.random(per_day) < 0.05
        moments[1:][repeated[1:]] = moments[:-1][repeated[1:]]
        amounts = chance.gamma(2.0, 30.0, per_day).round(2)
        frame = pl.DataFrame(
            {
                "user_id": pl.Series(zipf(chance, entities, per_day)).cast(pl.String),
                "event_timestamp": pl.Series(moments + day * 86_400_000_000).cast(pl.Duration("us")),
                "amount": pl.Series(amounts).zip_with(pl.Series(chance.random(per_day) > 0.01), pl.Series([None])),
            }
        ).with_columns(pl.col("event_timestamp") + pl.lit(START).cast(pl.Datetime("us", "UTC")))
        frame = frame.unique(["user_id", "event_timestamp"]).sort("user_id", "event_timestamp")
        flat.append(frame)
        stored = frame.with_columns(
            pl.lit(None, dtype=pl.String).alias("other_events"),
            pl.lit(START + timedelta(days=day + 1)).cast(pl.Datetime("us", "UTC")).alias("ingested_at"),
        )
        path = Path(str(group_folder(root, "payments"))) / f"date={START + timedelta(days=day):%Y-%m-%d}"
        path.mkdir(parents=True, exist_ok=True)
        stored.write_parquet(path / "batch.parquet", compression="zstd")
    pl.concat(flat).write_parquet(folder / "flat.parquet", compression="zstd")
    asked = pl.DataFrame(
        {
            "user_id": pl.Series(zipf(chance, entities, labels)).cast(pl.String),
            "t": pl.Series(chance.integers(0, days * 86_400_000_000, labels)).cast(pl.Duration("us")),
        }
    ).with_columns(pl.col("t") + pl.lit(START).cast(pl.Datetime("us", "UTC")))
    asked.write_parquet(folder / "labels.parquet")
    return folder


def zipf(chance: np.random.Generator, entities: int, count: int) -> np.ndarray:
    """Returns entities, the first of them far more often than the last."""
    weights = 1.0 / np.arange(1, entities + 1) ** 0.8
    places = np.searchsorted(np.cumsum(weights / weights.sum()), chance.random(count))
    return places.clip(max=entities - 1)


def ours(folder: Path, output: Path) -> None:
    """Reads labels, folds their windows, writes the training set."""
    found = group()
    catalog = Catalog.of([found])
    labels = pl.read_parquet(folder / "labels.parquet")
    engine = engine_named("sweep")
    answer = point_in_time_join(
        OfflineStore(folder / "store"), catalog, labels, "t", catalog.select(["payments"]), engine
    )
    answer.write_parquet(output, compression="zstd")


def by_duckdb(folder: Path, output: Path) -> None:
    """Runs window functions over the union of labels and events."""
    import duckdb

    columns = []
    for length, hours in LENGTHS.items():
        frame = f"w_{length}"
        columns += [
            f"count(event) OVER {frame} AS count_{length}",
            f"coalesce(sum(amount) OVER {frame}, 0) AS total_{length}",
            f"avg(amount) OVER {frame} AS mean_{length}",
            f"max(amount) OVER {frame} AS maximum_{length}",
            f"last_value(amount IGNORE NULLS) OVER {frame} AS last_{length}",
        ]
        del hours
    frames = ", ".join(
        f"w_{length} AS (PARTITION BY user_id ORDER BY t RANGE BETWEEN INTERVAL {hours} HOUR PRECEDING AND CURRENT ROW)"
        for length, hours in LENGTHS.items()
    )
    connection = duckdb.connect()
    connection.execute(
        f"""COPY (
            SELECT user_id, t, {", ".join(name.split(" AS ")[1] for name in columns)} FROM (
                SELECT *, {", ".join(columns)} FROM (
                    SELECT user_id, event_timestamp AS t, amount, 1 AS event FROM '{folder}/flat.parquet'
                    UNION ALL SELECT user_id, t, NULL, NULL FROM '{folder}/labels.parquet'
                ) WINDOW {frames}
            ) WHERE event IS NULL
        ) TO '{output}' (FORMAT parquet, COMPRESSION zstd)"""
    )


def by_polars(folder: Path, output: Path) -> None:
    """Runs `rolling_by` over the union of labels and events."""
    events = pl.scan_parquet(folder / "flat.parquet").select(
        "user_id", pl.col("event_timestamp").alias("t"), "amount", pl.lit(1).alias("event")
    )
    labels = pl.scan_parquet(folder / "labels.parquet").with_columns(
        pl.lit(None, dtype=pl.Float64).alias("amount"), pl.lit(None, dtype=pl.Int32).alias("event")
    )
    union = pl.concat([events, labels]).sort("user_id", "t")
    amount = pl.col("amount")
    rolled = []
    for length in LENGTHS:
        rolled += [
            pl.col("event").fill_null(0).rolling_sum_by("t", length).over("user_id").alias(f"count_{length}"),
            amount.fill_null(0.0).rolling_sum_by("t", length).over("user_id").alias(f"total_{length}"),
            amount.rolling_mean_by("t", length).over("user_id").alias(f"mean_{length}"),
            amount.rolling_max_by("t", length).over("user_id").alias(f"maximum_{length}"),
        ]
    # The last value needs no window: it is the latest one before, if that is young enough.
    latest = amount.forward_fill().over("user_id")
    since = pl.when(amount.is_not_null()).then(pl.col("t")).forward_fill().over("user_id")
    age = pl.col("t") - since
    rolled += [
        pl.when(age < pl.duration(hours=hours)).then(latest).alias(f"last_{length}")
        for length, hours in LENGTHS.items()
    ]
    union.with_columns(rolled).filter(pl.col("event").is_null()).drop("amount", "event").collect().write_parquet(
        output, compression="zstd"
    )


def floor(folder: Path, output: Path) -> None:
    """Reads all events and writes as many columns as the answer has."""
    files = sorted((folder / "store").glob("**/*.parquet"))
    rows = pl.read_parquet(files, columns=["user_id", "event_timestamp", "amount", "other_events"])
    labels = pl.read_parquet(folder / "labels.parquet")
    column = rows["amount"].gather(np.arange(labels.height) % rows.height)
    labels.with_columns(column.alias(f"f{number}") for number in range(20)).write_parquet(output, compression="zstd")


SYSTEMS: Mapping[str, Callable[[Path, Path], None]] = {
    "floor": floor,
    "ours": ours,
    "duckdb": by_duckdb,
    "polars": by_polars,
}


@click.command()
@click.option("--events", type=int, default=10_000_000, show_default=True)
@click.option("--labels", type=int, default=1_000_000, show_default=True)
@click.option("--days", type=int, default=90, show_default=True)
@click.option("--entities", type=int, default=100_000, show_default=True)
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--system", "systems", multiple=True, type=click.Choice(list(SYSTEMS)), help="Default: all.")
@click.option("--data", type=click.Path(path_type=Path), default=Path(".feature_store/bench"), show_default=True)
@click.option("--only", hidden=True, help="Runs one system in this process.")
def main(
    events: int,
    labels: int,
    days: int,
    entities: int,
    rounds: int,
    seed: int,
    systems: tuple[str, ...],
    data: Path,
    only: str | None,
) -> None:
    """Measures windowed features in training beside DuckDB, Polars and the floor."""
    folder = make_data(data.absolute(), events, labels, days, entities, seed)
    if only is not None:
        began = time.perf_counter()
        SYSTEMS[only](folder, folder / f"{only}.parquet")
        wall = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_SELF)
        click.echo(json.dumps([wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20]))
        return
    chosen = systems or tuple(SYSTEMS)
    measured: dict[str, list[list[float]]] = {name: [] for name in chosen}
    for _ in range(rounds):
        for name in chosen:
            command = [sys.executable, "-m", "benchmarks.windows", *_arguments(events, labels, days, entities, seed)]
            done = subprocess.run(
                [*command, "--data", str(data), "--only", name], capture_output=True, text=True, check=True
            )
            measured[name].append(json.loads(done.stdout.splitlines()[-1]))
    table = Table(title=f"{events:,} events x {labels:,} labels x 20 windows, load {os.getloadavg()[0]:.1f}")
    for header in ("system", "wall s", "CPU s", "peak GiB", "wall / ours", "CPU / ours"):
        table.add_column(header, justify="left" if header == "system" else "right")
    medians = {name: [statistics.median(each) for each in zip(*runs, strict=True)] for name, runs in measured.items()}
    base = medians.get("ours") or next(iter(medians.values()))
    for name, (wall, cpu, peak) in medians.items():
        table.add_row(name, f"{wall:.2f}", f"{cpu:.2f}", f"{peak:.2f}", f"{wall / base[0]:.2f}", f"{cpu / base[1]:.2f}")
    console.print(table)


def _arguments(events: int, labels: int, days: int, entities: int, seed: int) -> list[str]:
    given = {"events": events, "labels": labels, "days": days, "entities": entities, "seed": seed}
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


if __name__ == "__main__":
    main()
