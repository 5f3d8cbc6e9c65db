"""The systems that answer one and the same point-in-time read: this store's engines, and what one could use instead.

Each function reads a label file and a history, and writes a Parquet file with the labels and ten features per group.
As a program, this module runs one of them and prints what it took: `python -m benchmarks.point_in_time_systems SYSTEM
CELL OUT`. Who takes part, how often, and who agrees with whom is decided in `point_in_time`.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import duckdb
import polars as pl

from benchmarks.history import LABEL_ID, LABEL_TIME, Shape, catalog, history
from feature_store.catalog import RegisteredGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.engines import engine_named
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.snapshots import FOLDER, write_snapshots
from feature_store.offline.store import OfflineStore

KEY = "user_id"


@dataclass(frozen=True)
class Cell:
    """One read to be measured.

    Attributes:
        data: Folder of made-up data.
        shape: Of the history.
        labels: Label file.
        ttl_seconds: Time to live of all features.
        strict: Whether rows ingested after a label's time are left out.
        feast_python: Python of the environment that holds Feast.
    """

    data: Path
    shape: Shape
    labels: Path
    ttl_seconds: int
    strict: bool
    feast_python: Path

    def to_json(self) -> str:
        """Returns the cell as text."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Cell:
        """Returns the cell of a text."""
        fields = json.loads(text)
        paths = {name: Path(fields[name]) for name in ("data", "labels", "feast_python")}
        return cls(**{**fields, **paths, "shape": Shape(**fields["shape"])})

    @property
    def store(self) -> OfflineStore:
        """The history."""
        return history(self.data, self.shape)

    @property
    def groups(self) -> list[RegisteredGroup]:
        """The groups of the history."""
        return list(catalog(self.shape, self.ttl_seconds).groups.values())

    def files(self, group: RegisteredGroup) -> list[str]:
        """Returns the history files of a group."""
        return [str(file.path) for file in self.store.files(group.name)]


def columns(group: RegisteredGroup) -> list[str]:
    """Returns the feature columns of a group."""
    return [feature.ref.column for feature in group.features]


def sweep(cell: Cell, out: Path) -> None:
    _ours(cell, out, "sweep")


def duckdb_engine(cell: Cell, out: Path) -> None:
    _ours(cell, out, "duckdb")


def _ours(cell: Cell, out: Path, engine: str) -> None:
    groups = catalog(cell.shape, cell.ttl_seconds)
    answer = point_in_time_join(
        cell.store,
        groups,
        pl.read_parquet(cell.labels),
        LABEL_TIME,
        groups.select(list(groups.groups)),
        engine_named(engine),
        strict=cell.strict,
    )
    answer.write_parquet(out)


@contextmanager
def snapshots(cell: Cell) -> Iterator[Callable[[], None]]:
    """Yields the sweep from a snapshot of the labels' first day, which is made before and removed after."""
    first = pl.scan_parquet(cell.labels).select(pl.col(LABEL_TIME).min().dt.date()).collect().item()
    for group in cell.groups:
        list(write_snapshots(cell.store, group, [first]))
    try:
        yield partial(sweep, cell, Path(sys.argv[3]))
    finally:
        shutil.rmtree(cell.store.root / FOLDER)


def floor(cell: Cell, out: Path) -> Callable[[], None]:
    """Reads every column that is needed, and writes an answer that is there already: no join at all."""
    answer = pl.read_parquet(out.with_name("sweep.parquet")).rechunk()

    def read_and_write() -> None:
        pl.read_parquet(cell.labels)
        for group in cell.groups:
            needed = [KEY, EVENT_TIMESTAMP, INGESTED_AT, *columns(group)]
            scan = pl.scan_parquet(cell.files(group), glob=False, hive_partitioning=False).select(needed)
            for _ in scan.collect_batches(maintain_order=False):
                pass
        answer.write_parquet(out)

    return read_and_write


def duckdb_plain(cell: Cell, out: Path) -> None:
    """The statement that the manual suggests, with the time to live. It takes any row among those of equal time."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET preserve_insertion_order = false")
        joins, values = [], []
        parameters: dict[str, object] = {"labels": str(cell.labels)}
        for number, group in enumerate(cell.groups):
            parameters[f"files_{number}"] = cell.files(group)
            joins.append(
                f"ASOF LEFT JOIN read_parquet($files_{number}, hive_partitioning = false) h{number} "
                f"ON l.{KEY} = h{number}.{KEY} AND l.{LABEL_TIME} >= h{number}.{EVENT_TIMESTAMP}"
            )
            is_alive = f"l.{LABEL_TIME} < h{number}.{EVENT_TIMESTAMP} + INTERVAL {cell.ttl_seconds} SECOND"
            values += [f"CASE WHEN {is_alive} THEN h{number}.{column} END AS {column}" for column in columns(group)]
        connection.execute(
            f"COPY (SELECT l.*, {', '.join(values)} FROM read_parquet($labels) l {' '.join(joins)}) "
            f"TO '{out}' (FORMAT parquet)",
            parameters,
        )


def duckdb_two_steps(cell: Cell, out: Path) -> None:
    """Keys and times first, ties settled; then the features of the rows that matched."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET preserve_insertion_order = false")
        steps, joins, values = [], [], []
        parameters: dict[str, object] = {"labels": str(cell.labels)}
        for number, group in enumerate(cell.groups):
            parameters[f"files_{number}"] = cell.files(group)
            source = f"read_parquet($files_{number}, hive_partitioning = false)"
            steps.append(f"""
                found_{number} AS MATERIALIZED (
                    SELECT l.{LABEL_ID}, h.file, h.place
                    FROM read_parquet($labels) l ASOF JOIN (
                        SELECT {KEY}, {EVENT_TIMESTAMP}, file_index AS file, file_row_number AS place,
                            epoch_us({EVENT_TIMESTAMP})::HUGEINT * 10000000000000000000
                            + epoch_us({INGESTED_AT}) AS precedence
                        FROM {source}
                    ) h ON l.{KEY} = h.{KEY}
                        AND epoch_us(l.{LABEL_TIME})::HUGEINT * 10000000000000000000 + 9000000000000000000
                            >= h.precedence
                    WHERE l.{LABEL_TIME} < h.{EVENT_TIMESTAMP} + INTERVAL {cell.ttl_seconds} SECOND
                ),
                values_{number} AS (
                    SELECT f.{LABEL_ID}, {", ".join(f"h.{column}" for column in columns(group))}
                    FROM {source} h JOIN found_{number} f ON f.file = h.file_index AND f.place = h.file_row_number
                )""")
            joins.append(f"LEFT JOIN values_{number} USING ({LABEL_ID})")
            values += columns(group)
        connection.execute(
            f"COPY (WITH {', '.join(steps)} SELECT l.*, {', '.join(values)} "
            f"FROM read_parquet($labels) l {' '.join(joins)}) TO '{out}' (FORMAT parquet)",
            parameters,
        )


def polars_asof(cell: Cell, out: Path) -> None:
    """`join_asof` of the streaming engine, with the time to live; ties by a sort of history by both times."""
    answer = pl.scan_parquet(cell.labels).sort(LABEL_TIME)
    for group in cell.groups:
        rows = (
            pl.scan_parquet(cell.files(group), glob=False, hive_partitioning=False)
            .select(KEY, EVENT_TIMESTAMP, INGESTED_AT, *columns(group))
            .sort(EVENT_TIMESTAMP, INGESTED_AT)
            .drop(INGESTED_AT)
        )
        is_alive = pl.col(LABEL_TIME) < pl.col(EVENT_TIMESTAMP) + pl.duration(seconds=cell.ttl_seconds)
        answer = (
            answer.join_asof(rows, left_on=LABEL_TIME, right_on=EVENT_TIMESTAMP, by=KEY, check_sortedness=False)
            .with_columns(pl.when(is_alive).then(pl.col(column)) for column in columns(group))
            .drop(EVENT_TIMESTAMP)
        )
    answer.sink_parquet(out, maintain_order=False, engine="streaming")


def feast(cell: Cell, out: Path, store: str) -> dict[str, float]:
    """Feast, in its own environment, which measures itself."""
    request = {
        "store": store,
        "labels": str(cell.labels),
        "out": str(out),
        "key": KEY,
        "key_type": cell.shape.key,
        "label_time": LABEL_TIME,
        # No time to live is 0 in Feast.
        "ttl_seconds": cell.ttl_seconds,
        "groups": {
            group.name: {"path": f"{cell.store.root}/{group.name}", "columns": columns(group)} for group in cell.groups
        },
    }
    script = Path(__file__).with_name("feast_history.py")
    done = subprocess.run(
        [cell.feast_python, script], input=json.dumps(request), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


RUNS: dict[str, Callable[[Cell, Path], None]] = {
    "sweep": sweep,
    "duckdb": duckdb_engine,
    "duckdb-plain": duckdb_plain,
    "duckdb-two-steps": duckdb_two_steps,
    "polars": polars_asof,
}
SNAPSHOT = "sweep-snapshot"
FEAST_STORES = {"feast-duckdb": "duckdb", "feast-dask": "dask"}


def prepared(system: str, cell: Cell, out: Path) -> Callable[[], None]:
    return floor(cell, out) if system == "floor" else partial(RUNS[system], cell, out)


def main() -> None:
    system, cell, out = sys.argv[1], Cell.from_json(sys.argv[2]), Path(sys.argv[3])
    if system in FEAST_STORES:
        print(json.dumps(feast(cell, out, FEAST_STORES[system])))
        return
    with snapshots(cell) if system == SNAPSHOT else nullcontext(prepared(system, cell, out)) as work:
        began, cpu = time.perf_counter(), cpu_seconds()
        work()
        taken = {"wall": time.perf_counter() - began, "cpu": cpu_seconds() - cpu}
    print(json.dumps({**taken, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
