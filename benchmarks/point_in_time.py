"""Point-in-time reads, measured: `python -m benchmarks.point_in_time --cell 10m --cell 50m`.

Every system answers the same labels from the same files, each time in a new process, in turn, round after round, so
that what else the machine does falls on all alike. Printed are medians, ratios, peak memory, and in how many cells an
answer differs from that of the sweep engine. CPU seconds are the steadier figure on a machine that others use, too.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.history import LABEL_ID, NO_TTL_SECONDS, Shape, history, labels
from benchmarks.point_in_time_systems import FEAST_STORES, RUNS, SNAPSHOT, Cell

OURS = "sweep"
FLOOR = "floor"
SYSTEMS = (FLOOR, *RUNS, SNAPSHOT, *FEAST_STORES)
FEAST = "feast[duckdb]==0.67.*"
TIMEOUT_SECONDS = 600
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Sizes:
    """How large a cell is, and who takes part in it if nobody is named."""

    history: int
    labels: int
    ttl_days: int = 30
    groups: int = 1
    key: str = "string"
    label_days: int = 0
    systems: tuple[str, ...] = (FLOOR, *RUNS)


_WITH_FEAST = (FLOOR, OURS, "duckdb-plain", "duckdb-two-steps", "polars", "feast-duckdb")
CELLS = {
    "1m": Sizes(1_000_000, 100_000, systems=(FLOOR, *RUNS, "feast-duckdb")),
    "10m": Sizes(10_000_000, 1_000_000),
    "10m-int": Sizes(10_000_000, 1_000_000, key="int"),
    "50m": Sizes(50_000_000, 1_000_000),
    "50m-5m": Sizes(50_000_000, 5_000_000),
    "5-groups": Sizes(10_000_000, 1_000_000, groups=5),
    "short-ttl": Sizes(10_000_000, 1_000_000, ttl_days=7, systems=_WITH_FEAST),
    "last-week": Sizes(50_000_000, 1_000_000, ttl_days=90, label_days=7, systems=(FLOOR, *RUNS, SNAPSHOT)),
    "no-ttl": Sizes(10_000_000, 1_000_000, ttl_days=0, systems=_WITH_FEAST),
}
"""`0` days of `ttl_days` stand for no time to live at all, of `label_days` for labels of all days."""

console = Console(width=130)


@click.command()
@click.option("--cell", "cells", multiple=True, type=click.Choice(list(CELLS)), help="A known cell; may be repeated.")
@click.option("--history", "rows", type=int, help="Rows of each group, for a cell of your own.")
@click.option("--labels", "label_count", type=int, default=1_000_000, show_default=True)
@click.option("--groups", type=int, default=1, show_default=True)
@click.option("--key", type=click.Choice(["string", "int"]), default="string", show_default=True)
@click.option("--ttl-days", type=int, default=30, show_default=True, help="0 for no time to live.")
@click.option("--days", type=int, default=365, show_default=True, help="Daily partitions of the history.")
@click.option("--label-days", type=int, default=0, help="Labels of the last days only; 0 for all days.")
@click.option("--strict", is_flag=True, help="Leave out rows ingested after the label's time (our engines only).")
@click.option("--system", "systems", multiple=True, type=click.Choice(SYSTEMS), help="Takes part; may be repeated.")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), default=Path(".feature_store/bench"), show_default=True)
@click.option(
    "--feast-python", type=click.Path(path_type=Path), help="Python with Feast; else it is installed below --data."
)
def main(
    cells: tuple[str, ...],
    rows: int | None,
    label_count: int,
    groups: int,
    key: str,
    ttl_days: int,
    days: int,
    label_days: int,
    strict: bool,
    systems: tuple[str, ...],
    rounds: int,
    seed: int,
    data: Path,
    feast_python: Path | None,
) -> None:
    """Measures point-in-time reads of this store beside those of others, cell by cell."""
    chosen = {name: CELLS[name] for name in cells}
    if rows is not None:
        chosen["own"] = Sizes(rows, label_count, ttl_days, groups, key, label_days)
    data = data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    for name, sizes in (chosen or {"10m": CELLS["10m"]}).items():
        taking_part = list(systems or sizes.systems)
        if any(system in FEAST_STORES for system in taking_part):
            feast_python = feast_python or _feast(data)
            if feast_python is None:
                taking_part = [system for system in taking_part if system not in FEAST_STORES]
        shape = Shape(sizes.history, days, sizes.groups, sizes.key, seed)
        console.print(f"[bold]{name}[/]: {_words(sizes)}; load average {os.getloadavg()[0]:.1f}")
        history(data, shape)
        label_file = labels(data, shape, sizes.labels, (days - sizes.label_days if sizes.label_days else 0, days))
        ttl_seconds = sizes.ttl_days * 86_400 or NO_TTL_SECONDS
        cell = Cell(data, shape, label_file, ttl_seconds, strict, feast_python or Path(sys.executable))
        _measure(cell, taking_part, rounds)


def _words(sizes: Sizes) -> str:
    ttl = f"time to live {sizes.ttl_days} d" if sizes.ttl_days else "no time to live"
    groups = f"{sizes.groups} groups x " if sizes.groups > 1 else ""
    return f"history {groups}{sizes.history:,} rows, {sizes.labels:,} labels, {sizes.key} keys, {ttl}"


def _feast(data: Path) -> Path | None:
    """Returns the Python of an environment with Feast, made now if need be; None if that fails."""
    python = data / "feast" / "bin" / "python"
    if not python.exists():
        uv = Path(sys.executable).with_name("uv")
        steps = [
            [uv, "venv", "--quiet", "--python", sys.executable, data / "feast"],
            [uv, "pip", "install", "--quiet", "--python", python, FEAST],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                console.print(f"[yellow]Feast takes no part: it cannot be installed here.[/] {done.stderr.strip()}")
                return None
    return python


def _measure(cell: Cell, systems: list[str], rounds: int) -> None:
    # The floor writes the answer that the sweep has found: the sweep goes first.
    order = sorted(systems, key=lambda system: system != OURS)
    taken: dict[str, list[dict[str, float]]] = {system: [] for system in order}
    failed: dict[str, str] = {}
    answers = cell.data / "answers"
    answers.mkdir(exist_ok=True)
    for turn in range(rounds):
        for system in order:
            if system in failed:
                continue
            command = [sys.executable, "-m", "benchmarks.point_in_time_systems", system, cell.to_json()]
            done = _in_scratch([*command, str(answers / f"{system}.parquet")], cell.data)
            if done is None:
                failed[system] = f"it was stopped after {TIMEOUT_SECONDS} s"
                continue
            if done.returncode:
                failed[system] = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it was killed"
                continue
            taken[system].append(json.loads(done.stdout.splitlines()[-1]))
            console.print(f"  round {turn + 1} {system}: {_shown(taken[system][-1])}", highlight=False, style="dim")
    _print(taken, answers)
    for system, reason in failed.items():
        console.print(f"[red]{system} failed:[/] {reason}")
    for system in order:
        (answers / f"{system}.parquet").unlink(missing_ok=True)


def _in_scratch(command: list[str], data: Path) -> subprocess.CompletedProcess[str] | None:
    """Runs a system where its spilled data, tens of gigabytes at times, goes when it ends; None if it took too long."""
    with (
        TemporaryDirectory(prefix="scratch-", dir=data) as scratch,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        ) as process,
    ):
        try:
            out, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            # With the processes that it has started: Feast runs in an environment of its own.
            os.killpg(process.pid, signal.SIGKILL)
            return None
        return subprocess.CompletedProcess(command, process.returncode, out, errors)


def _shown(taken: dict[str, float]) -> str:
    return f"{taken['wall']:.2f} s, {taken['cpu']:.2f} CPU s, {taken['peak_mb']:,.0f} MB"


def _print(taken: dict[str, list[dict[str, float]]], answers: Path) -> None:
    medians = {
        system: {key: statistics.median(one[key] for one in runs) for key in ("wall", "cpu", "peak_mb")}
        for system, runs in taken.items()
        if runs
    }
    table = Table(
        "system", "wall s", "CPU s", "peak MB", "wall / floor", "CPU / floor", "wall / sweep", "differs from sweep in"
    )
    for system, median in medians.items():
        ratios = [
            f"{median[key] / medians[base][key]:.2f}" if base in medians else ""
            for base, key in ((FLOOR, "wall"), (FLOOR, "cpu"), (OURS, "wall"))
        ]
        differences = ""
        if system not in {OURS, FLOOR} and OURS in medians:
            differences = _differences(answers / f"{OURS}.parquet", answers / f"{system}.parquet")
        table.add_row(
            system, f"{median['wall']:.2f}", f"{median['cpu']:.2f}", f"{median['peak_mb']:,.0f}", *ratios, differences
        )
    console.print(table)


def _differences(ours: Path, theirs: Path) -> str:
    """Returns in how many of all feature values two answers differ, and how often a label is missing or too many."""
    one = pl.scan_parquet(ours)
    features = [column for column in one.collect_schema() if "_f" in column]
    other = pl.scan_parquet(theirs)
    differing = values = 0
    ids = other.select(LABEL_ID).collect().to_series()
    # One column at a time: an answer may be larger than is comfortable twice.
    order = ids.arg_sort()
    is_complete = ids.gather(order).equals(one.select(LABEL_ID).collect().to_series().sort())
    if not is_complete:
        return f"{ids.len():,} rows instead of {one.select(pl.len()).collect().item():,}"
    our_order = one.select(LABEL_ID).collect().to_series().arg_sort()
    for feature in features:
        mine = one.select(feature).collect().to_series().gather(our_order)
        found = other.select(pl.col(feature).cast(pl.Float64)).collect().to_series().gather(order).fill_nan(None)
        differing += int(mine.ne_missing(found).sum())
        values += mine.len()
    return "nothing" if differing == 0 else f"{differing:,} of {values:,} values"


if __name__ == "__main__":
    main()
