"""The demo: a year of flights through the whole store, in one command. Run by `make demo`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
from rich.console import Console
from rich.table import Table

from dagster_feature_store import training_set_job
from dagster_feature_store.check_results import is_repetition
from dagster_feature_store.compat import run_for_location
from dagster_feature_store.jobs import FEATURE_JOB
from dagster_feature_store.monitor_checks import NIGHTLY_JOB
from dagster_feature_store.naming import DEFAULT_NAMES
from dagster_feature_store.sensors.landing import landed_events
from feature_assets import flights
from feature_assets.console import brief_console
from feature_assets.definitions import defs
from feature_store.definitions.source import fingerprints
from feature_store.settings import Settings
from feature_store.store import FeatureStore

SHOWN_PLANE = "N14228"
NEXT = {
    "make ui": "the Dagster page: lineage, partitions, checks, plots",
    f".venv/bin/feature-store get {SHOWN_PLANE} plane_punctuality": "what is online of an aircraft",
    f".venv/bin/feature-store history {SHOWN_PLANE} arrivals_7d": "all that was ever known of it",
    ".venv/bin/feature-store --help": "everything else",
}
READS = 200
SHOWN_LABELS = 4

# Runs of the demo say a line per thing that a person at a terminal wants to know.
LOCATION = dg.Definitions.merge(defs, dg.Definitions(loggers={"console": brief_console}))
WORKSPACE = Path(__file__).parents[1] / "workspace.yaml"

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 120


def main() -> None:
    """Lands the year, runs the feature job over all of it, builds the training set, reads a plane online."""
    started = time.perf_counter()
    with dg.DagsterInstance.get() as instance:
        _land(instance)
        _heading("Computing five feature groups for every day of 2013: Parquet, Redis and checks")
        features = _run(instance, DEFAULT_NAMES.of(FEATURE_JOB), year=True)
        _heading("Building the training set flight_delay: what was known two hours before each departure")
        _run(instance, training_set_job(flights.flight_delay).name)
        _heading("Looking at what is online: freshness, values, consistency with the offline store")
        _show_monitored(_run(instance, DEFAULT_NAMES.of(NIGHTLY_JOB)))
    with FeatureStore.from_env() as store:
        _show_built(store, features)
        _show_training_set(store)
        _show_online(store)
    console.print(f"\n[bold]Done in {time.perf_counter() - started:.0f} s.[/] Next:")
    for command, purpose in NEXT.items():
        console.print(f"  {command:56} {purpose}")


def _heading(text: str) -> None:
    console.print(f"\n[bold]{text}[/]")


def _land(instance: dg.DagsterInstance) -> None:
    _heading("Landing the raw data of 2013 as daily files")
    for source in flights.SOURCES.values():
        started = time.perf_counter()
        flights.land(source.name, flights.FIRST_DAY, flights.LAST_DAY)
        days = list(source.landed_days())
        reported = 0
        for event in landed_events(instance, source, fingerprints(source, days)):
            instance.report_runless_asset_event(event)
            reported += 1
        console.print(
            f"  {source.name}: {len(days)} days, {reported} new or changed ({time.perf_counter() - started:.1f} s)"
        )


def _run(instance: dg.DagsterInstance, job_name: str, *, year: bool = False) -> dg.JobExecutionResult:
    tags = {}
    if year:
        tags = {
            "dagster/asset_partition_range_start": flights.FIRST_DAY.isoformat(),
            "dagster/asset_partition_range_end": flights.LAST_DAY.isoformat(),
        }
    result = run_for_location(
        LOCATION, job_name, instance, WORKSPACE, run_config={"loggers": {"console": {}}}, tags=tags
    )
    if not result.success:
        console.print(f"[red]The job {job_name} failed[/]; its log is above, and in `make ui` under Runs.")
        raise SystemExit(1)
    return result


def _show_built(store: FeatureStore, result: dg.JobExecutionResult) -> None:
    _heading("What was built")
    table = Table("feature group", "entity", "partitions", "rows", "MB", "checks passed", "seconds")
    for column in table.columns[2:]:
        column.justify = "right"
    seconds = {
        event.step_key.removeprefix(DEFAULT_NAMES.of("")): (event.step_success_data.duration_ms / 1000)
        for event in result.all_events
        if event.event_type_value == "STEP_SUCCESS" and event.step_key
    }
    evaluations = result.get_asset_check_evaluations()
    for group in flights.FEATURE_GROUPS:
        files = store.offline.files(group.name)
        rows = store.offline.scan(store.registered(group)).select(pl.len()).collect().item()
        checks = [
            evaluation
            for evaluation in evaluations
            if evaluation.asset_key.to_user_string() == group.name and not is_repetition(evaluation)
        ]
        passed = sum(evaluation.passed for evaluation in checks)
        table.add_row(
            group.name,
            group.entity.name,
            f"{len(files):,}",
            f"{rows:,}",
            f"{sum(file.size for file in files) / 1e6:.1f}",
            f"{passed:,} of {len(checks):,}",
            f"{seconds.get(group.name, 0):.1f}",
        )
    console.print(table)


def _show_monitored(result: dg.JobExecutionResult) -> None:
    evaluations = result.get_asset_check_evaluations()
    console.print(f"  {sum(evaluation.passed for evaluation in evaluations)} of {len(evaluations)} checks passed")


def _show_training_set(store: FeatureStore) -> None:
    written = store.write_training_set(flights.flight_delay)
    size = f"{written.rows:,} labels x {len(written.features)} features"
    _heading(f"Training set {written.name} v{written.version}: {size}")
    shown = written.scan().slice(written.rows // 2, SHOWN_LABELS).collect()
    table = Table("column", *(f"label {written.rows // 2 + row:,}" for row in range(shown.height)))
    for column in shown.columns:
        table.add_row(column, *(_cell(value) for value in shown[column].to_list()))
    console.print(table)
    console.print(f"  in {written.path}")


def _cell(value: object) -> str:
    if isinstance(value, list):
        return f"[{len(value)} floats]"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%m-%d %H:%M}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_online(store: FeatureStore) -> None:
    features = [flights.plane_punctuality.name, flights.plane_profile.name]
    values = store.get_online_features(SHOWN_PLANE, features)
    latencies = []
    for _ in range(READS):
        started = time.perf_counter()
        store.get_online_features(SHOWN_PLANE, features)
        latencies.append(time.perf_counter() - started)
    median = sorted(latencies)[READS // 2] * 1000
    clock = Settings.from_env().clock or "now"
    speed = f"{len(values)} features in {median:.2f} ms (median of {READS})"
    _heading(f"Aircraft {SHOWN_PLANE} online, as of {clock}: {speed}")
    table = Table("feature", "value")
    for name, value in values.items():
        table.add_row(name, _cell(value))
    console.print(table)


if __name__ == "__main__":
    main()
