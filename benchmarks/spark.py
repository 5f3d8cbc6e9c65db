"""Point-in-time joins on Spark, stage by stage, beside one machine's: `python -m benchmarks.spark`.

History and labels are those of `benchmarks.history`: entities by Zipf's law. Each stage runs by itself into nowhere,
and holds all stages before it; the whole join goes from Parquet into Parquet. On one machine Spark cannot win: the
figures say what a core does, and where the time goes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.history import LABEL_ID, LABEL_TIME, Shape, catalog, history, labels
from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.join import group_history, point_in_time_join, visible_span
from feature_store.spark.engine import latest_rows, shuffle_tasks
from feature_store.spark.frames import columns_of, read_history
from feature_store.spark.hot_entities import ROWS_PER_TASK
from feature_store.spark.latest_rows import AS_OF
from feature_store.spark.session import spark_session
from feature_store.spark.training_sets import join_files

console = Console(width=110)


@click.command()
@click.option("--history", "rows", type=int, default=10_000_000, show_default=True)
@click.option("--labels", "count", type=int, default=1_000_000, show_default=True)
@click.option("--ttl-days", type=int, default=30, show_default=True)
@click.option("--cores", type=int, default=2, show_default=True)
@click.option("--memory", default="4g", show_default=True, help="Heap of the one JVM.")
@click.option("--pieces/--no-pieces", default=True, help="Also with the hottest entities cut by time.")
@click.option("--data", type=click.Path(path_type=Path), default=Path(".feature_store/bench"), show_default=True)
@click.option("--one-machine", is_flag=True, hidden=True)
def main(
    rows: int, count: int, ttl_days: int, cores: int, memory: str, pieces: bool, data: Path, one_machine: bool
) -> None:
    """Measures the stages of a join on Spark."""
    data = data.absolute()
    shape = Shape(rows)
    store = history(data, shape)
    label_file = labels(data, shape, count, (0, shape.days))
    groups = catalog(shape, ttl_days * 86_400)
    selections = groups.select(["group_0"])
    answers = data / "answers"
    answers.mkdir(exist_ok=True)
    if one_machine:
        started = time.perf_counter()
        frame = pl.read_parquet(label_file)
        joined = point_in_time_join(store, groups, frame, LABEL_TIME, selections, SweepEngine())
        joined.write_parquet(answers / "sweep.parquet")
        print(json.dumps({"wall": time.perf_counter() - started}))
        return
    console.print(f"history {rows:,} rows, {count:,} labels, local[{cores}]; load average {os.getloadavg()[0]:.1f}")
    again = [sys.executable, "-m", "benchmarks.spark", *sys.argv[1:], "--one-machine"]
    done = subprocess.run(again, capture_output=True, text=True, check=True)
    taken = {"one machine (sweep), Parquet into Parquet": json.loads(done.stdout.splitlines()[-1])["wall"]}
    conf = (
        f"spark.master=local[{cores}] spark.driver.memory={memory} spark.ui.enabled=false "
        "spark.ui.showConsoleProgress=false spark.driver.bindAddress=127.0.0.1 spark.driver.host=127.0.0.1 "
        f"spark.local.dir={data / 'spark'}"
    )
    session, taken["start of Spark"] = _timed(lambda: spark_session(conf=conf))
    session.sparkContext.setLogLevel("ERROR")
    times = pl.scan_parquet(label_file).select(
        oldest=pl.col(LABEL_TIME).min().to_physical(), newest=pl.col(LABEL_TIME).max().to_physical()
    )
    oldest, newest = times.collect().row(0)
    span = visible_span(oldest, newest, selections)
    group = groups.group("group_0")
    read = group_history(group, selections, store.files(group.name, span), span)
    assert read is not None
    given = session.read.parquet(f"file://{label_file}").withColumnRenamed(LABEL_TIME, AS_OF)
    keys = tuple(columns_of(group.entity.join_keys))
    tasks = shuffle_tasks(session, read)

    def joined(rows_per_task: int) -> Any:
        return latest_rows(session, given, keys, count, read, rows_per_task=rows_per_task)

    stages: dict[str, Callable[[], Any]] = {
        "read history and labels": lambda: (_run(read_history(session, read)), _run(given)),
        f"and shuffle history by entity, {tasks} tasks": lambda: _run(
            read_history(session, read).repartition(tasks, *group.entity.join_keys)
        ),
        "union and window": lambda: _run(joined(ROWS_PER_TASK)),
    }
    if pieces:
        # The hottest entity of this history has about a thousandth of the rows.
        few = max(2, rows // 2_000)
        stages[f"the same, entities of more than {few:,} rows cut by time"] = lambda: _run(joined(few))
    for name, stage in stages.items():
        _, taken[name] = _timed(stage)
    output = answers / "spark"
    shutil.rmtree(output, ignore_errors=True)
    _, taken["whole: Parquet into Parquet, in the labels' order"] = _timed(
        lambda: join_files(store, groups, label_file, LABEL_TIME, selections, output)
    )
    table = Table("stage", "s", "x one machine")
    first = next(iter(taken.values()))
    for name, seconds in taken.items():
        table.add_row(name, f"{seconds:.1f}", f"{seconds / first:.1f}")
    console.print(table)
    one = pl.read_parquet(answers / "sweep.parquet")
    spark = pl.concat([pl.read_parquet(file) for file in sorted(output.glob("*.parquet"))])
    same = one.drop(LABEL_TIME).equals(spark.drop(LABEL_TIME)) and one[LABEL_ID].equals(spark[LABEL_ID])
    console.print(f"answers {'are equal' if same else '[red]differ[/]'}: {spark.height:,} rows")


def _run(frame: Any) -> None:
    frame.write.format("noop").mode("overwrite").save()


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


if __name__ == "__main__":
    main()
