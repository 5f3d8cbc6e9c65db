"""Exact rolling sums, means and deviations beside Polars' own: `python -m benchmarks.exact [--events 1000000]`.

One frame of events, sorted by entity and time, windows of 28 days. Prints seconds of wall time, the best of three runs
of each, and how many results Polars' kernels round to other bits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from feature_store import exact

PERIOD = timedelta(days=28)
TIME = "event_timestamp"
STATISTICS = ("sum", "mean", "std")


def events_of(count: int, entities: int, days: int = 365) -> pl.DataFrame:
    chance = np.random.default_rng(7)
    start = int(datetime(2023, 1, 1, tzinfo=UTC).timestamp())
    return (
        pl.DataFrame(
            {
                "customer": chance.integers(0, entities, count),
                TIME: pl.Series(start + chance.integers(0, days * 86_400, count)).cast(pl.Int64) * 1_000_000,
                "amount": chance.lognormal(3, 1, count).round(2),
            }
        )
        .select("customer", pl.col(TIME).cast(pl.Datetime("us", "UTC")), "amount")
        .sort("customer", TIME)
    )


def best(compute: Callable[[], pl.DataFrame]) -> tuple[float, pl.DataFrame]:
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        result = compute()
        seconds.append(time.perf_counter() - begun)
    return min(seconds), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--entities", type=int, default=10_000)
    arguments = parser.parse_args()
    events = events_of(arguments.events, arguments.entities)
    threads = pl.thread_pool_size()
    print(f"{events.height:,} events of {arguments.entities:,} entities, windows of 28 days, {threads} threads")
    print(f"{'':6} {'exact':>8} {'Polars':>8} {'times':>6}  other bits")
    for name in STATISTICS:
        ours = getattr(exact, f"rolling_{name}")("amount", PERIOD, over="customer")
        theirs = getattr(pl.col("amount"), f"rolling_{name}_by")(TIME, PERIOD).over("customer")
        exactly, result = best(lambda expression=ours: events.select(expression))
        roughly, kernel = best(lambda expression=theirs: events.select(expression))
        other = int((result.to_series().ne_missing(kernel.to_series())).sum())
        print(f"{name:6} {exactly:7.2f}s {roughly:7.2f}s {exactly / roughly:6.1f}  {other / events.height:.1%}")


if __name__ == "__main__":
    main()
