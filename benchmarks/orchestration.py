"""What a look of each sensor costs where nothing is to be done, by groups and years of partitions.

    python benchmarks/orchestration.py [--groups 5 100] [--years 3] [--hourly]

Groups read one source of local files. Each partition has a file in the offline store; those of one group are made
once, and linked into the folders of the others. Printed are processor and wall seconds of the first look, which
reads all footers, and of the second one; beside it the floor: one listing of all these files by `os.scandir`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import polars as pl

warnings.simplefilter("ignore")

import dagster as dg  # noqa: E402

import feature_store  # noqa: E402
from dagster_feature_store import feature_store_definitions  # noqa: E402
from feature_store import (  # noqa: E402
    Entity,
    FeatureGroup,
    FeatureSchema,
    FeatureStore,
    ParquetSource,
    feature,
    feature_group,
)
from feature_store.partitions import Partitioning  # noqa: E402

START = datetime(2021, 1, 1, tzinfo=UTC)
USER = Entity("user", {"user_id": str})
SENSORS = ("landing_sensor", "gap_sensor", "definition_sensor")


class Numbers(FeatureSchema):
    """One number."""

    number: int = feature("A number")


def group(name: str, source: ParquetSource, partitioning: Partitioning) -> FeatureGroup:
    """Returns one of the groups: they differ in their names alone."""

    @feature_group(
        entity=USER,
        source=source,
        schema=Numbers,
        owner="team@example.com",
        lookback=timedelta(days=3),
        name=name,
        partitioning=partitioning,
    )
    def numbers(events: pl.LazyFrame) -> pl.LazyFrame:
        """The rows as they are."""
        return events

    return numbers


def land(root: Path, days: int) -> None:
    """Writes a file of one event per day."""
    for day in range(days):
        at = START + timedelta(days=day, hours=1)
        file = root / f"date={at:%Y-%m-%d}" / "events.parquet"
        file.parent.mkdir(parents=True)
        pl.DataFrame({"user_id": ["u"], "event_timestamp": [at], "number": [day]}).cast(
            {"event_timestamp": pl.Datetime("us", "UTC")}
        ).write_parquet(file)


def fill(root: Path, first: FeatureGroup, others: list[FeatureGroup]) -> None:
    """Links the files of one group into the folders of others."""
    for other in others:
        shutil.copytree(root / first.name, root / other.name, copy_function=os.link)


def listed(root: Path) -> int:
    """Returns the number of files below a folder, with their stats."""
    found = 0
    for folder, _, names in os.walk(root):
        found += len([Path(folder, name).stat() for name in names])
    return found


def looks(defs: dg.Definitions, instance: dg.DagsterInstance) -> Iterator[tuple[str, int, float, float, str]]:
    """Lets each sensor look twice; yields its name, the number of the look, and what it took and said."""
    repository = defs.get_repository_def()
    for name in SENSORS:
        sensor = repository.get_sensor_def(f"feature_store_{name}")
        resources = {key: defs.resources[key] for key in sensor.required_resource_keys}
        cursor = None
        for number in (1, 2):
            context = dg.build_sensor_context(instance, cursor=cursor, repository_def=repository, resources=resources)
            cpu, wall = time.process_time(), time.perf_counter()
            with context:
                done = sensor.evaluate_tick(context)
            yield name, number, time.process_time() - cpu, time.perf_counter() - wall, done.skip_message or "requests"
            cursor = done.cursor


def measure(groups: int, days: int, partitioning: Partitioning) -> None:
    """Prints the looks at one size."""
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.ephemeral() as instance:
        root = Path(folder)
        source = ParquetSource("events", root / "landing", START)
        land(root / "landing", days)
        every = [group(f"numbers_{number}", source, partitioning) for number in range(groups)]
        now = START + timedelta(days=days)
        os.environ |= {
            "FEATURE_STORE_OFFLINE": str(root / "offline"),
            "FEATURE_STORE_REGISTRY": f"sqlite:///{root / 'registry.db'}",
            "FEATURE_STORE_CLOCK": now.isoformat(),
        }
        with FeatureStore.from_env() as store:
            store.apply(every[:1])
            store.materialize(every[0], START, now - partitioning.length)
        fill(root / "offline", every[0], every[1:])
        began = time.perf_counter()
        files = listed(root / "offline")
        floor = time.perf_counter() - began
        sys.stdout.write(f"\n{groups} groups, {files:,} files, {partitioning.value}; listing them all {floor:.2f} s\n")
        module = ModuleType("domain")
        module.__dict__.update({each.name: each for each in every})
        began = time.process_time()
        defs = feature_store_definitions(module)
        defs.get_repository_def()
        sys.stdout.write(f"  {'definitions':18} {time.process_time() - began:6.2f} CPU s\n")
        for name, number, cpu, wall, said in looks(defs, instance):
            sys.stdout.write(f"  {name:18} look {number} {cpu:6.2f} CPU s {wall:6.2f} s  {said[:80]}\n")
        sys.stdout.flush()


def main() -> None:
    """Measures all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="+", default=[5, 100])
    parser.add_argument("--years", type=float, default=3)
    parser.add_argument("--hourly", action="store_true")
    asked = parser.parse_args()
    sys.stdout.write(
        f"Python {platform.python_version()}, Dagster {dg.__version__}, {feature_store.__file__}, "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    for groups in asked.groups:
        measure(groups, int(365 * asked.years), Partitioning.HOURLY if asked.hourly else Partitioning.DAILY)


if __name__ == "__main__":
    main()
