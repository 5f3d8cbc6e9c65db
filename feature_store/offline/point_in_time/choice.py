"""Which engine a read is given to when no setting names one: a plan of its cost, and one function that judges it.

The numbers come from `benchmarks/point_in_time.py`; see `docs/point-in-time.md`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from feature_store.offline.point_in_time.date_sweep import SweepEngine
from feature_store.offline.point_in_time.duckdb_asof import DuckDBEngine
from feature_store.offline.point_in_time.engine import GroupHistory, LatestRows, Progress, WindowHistory
from feature_store.offline.point_in_time.labels import EntityLabels

if TYPE_CHECKING:
    import polars as pl

_MEMORY_PER_BYTE = 6
"""Memory that a sweep needs per byte of a compressed date: keys, times, codes and sort keys of all its rows."""

_MEMORY_SHARE = 0.5
_LOOKUP_LABELS = 4
_LOOKUP_BYTES = 16 * 2**20
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What is known of a read before any file is opened.

    Attributes:
        labels: Number of labels.
        history_bytes: Size of all files that may be needed.
        largest_date_bytes: Size of the files of the largest date.
        dates: Number of dates.
        threads: How many dates a sweep would hold at a time.
        memory_bytes: Memory that the process may use.
    """

    labels: int
    history_bytes: int
    largest_date_bytes: int
    dates: int
    threads: int
    memory_bytes: int

    @classmethod
    def of(cls, labels: EntityLabels, history: GroupHistory) -> ReadPlan:
        """Returns the plan of a read on this machine."""
        by_date = [
            sum(file.size for file in files) for _, files in groupby(history.files, key=lambda file: file.path.parent)
        ]
        return cls(
            labels=labels.as_of.len(),
            history_bytes=sum(by_date),
            largest_date_bytes=max(by_date),
            dates=len(by_date),
            threads=len(os.sched_getaffinity(0)),
            memory_bytes=_memory_bytes(),
        )


def choose_engine(plan: ReadPlan) -> Literal["sweep", "duckdb"]:
    """Returns the engine that a plan is cheapest with.

    That is the sweep, with two exceptions. It holds whole dates: where a few of them do not fit in memory, DuckDB
    joins them on disk. And it reads the keys of all rows: for a handful of labels and large files, DuckDB reads the
    row groups alone that can hold these keys.
    """
    held = plan.largest_date_bytes * min(plan.threads, plan.dates) * _MEMORY_PER_BYTE
    if held > plan.memory_bytes * _MEMORY_SHARE:
        return "duckdb"
    if plan.labels <= _LOOKUP_LABELS and plan.history_bytes >= _LOOKUP_BYTES:
        return "duckdb"
    return "sweep"


class AutomaticEngine:
    """Gives each read to the engine that `choose_engine` names.

    Args:
        sweep: The engine of that name.
        duckdb: The engine of that name.
    """

    name = "auto"

    def __init__(self, sweep: SweepEngine, duckdb: DuckDBEngine) -> None:
        self._sweep = sweep
        self._duckdb = duckdb

    def latest(self, labels: EntityLabels, history: GroupHistory, progress: Progress | None = None) -> LatestRows:
        """Returns the latest row of each label's entity; see `PointInTimeEngine.latest`."""
        name = choose_engine(ReadPlan.of(labels, history))
        engine = self._sweep if name == self._sweep.name else self._duckdb
        return engine.latest(labels, history, progress)

    def windows(
        self, labels: EntityLabels, history: WindowHistory, progress: Progress | None = None
    ) -> Sequence[pl.Series]:
        """Returns the value of each window for each label; see `PointInTimeEngine.windows`."""
        return self._sweep.windows(labels, history, progress)


def _memory_bytes() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical
