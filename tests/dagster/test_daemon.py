"""All of it together: the real daemon, in a process of its own, on a night in which things go wrong."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store.sensors.attempts import CAUSE_TAG
from tests.orders import orders, some_orders
from tests.servers.daemon import end_daemon, kill_all_of, start_daemon
from tests.servers.listeners import HttpListener

ROOT = Path(__file__).parents[2]
RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}
SPENDING = dg.AssetKey("spending")
REFILL = "feature_store_refill_online"
STALE = dg.AssetCheckKey(dg.AssetKey("purchase"), "up_to_date")
PATIENCE_SECONDS = 150
"""How long one thing may take on a machine that is busy with other tests; alone, all of it takes a minute."""


def land(folder: Path, events: pl.DataFrame) -> None:
    for day in range(1, 10):
        of_day = events.filter(pl.col("event_timestamp").dt.date() == datetime(2024, 3, day, tzinfo=UTC).date())
        path = folder / f"date=2024-03-{day:02d}" / "events.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        of_day.write_parquet(scratch)
        if not path.exists() or path.read_bytes() != scratch.read_bytes():
            scratch.replace(path)


@contextmanager
def daemon(environment: dict[str, str], log: Path, *, kills: bool = False) -> Iterator[None]:
    process = start_daemon("tests.dagster.daemon_location", environment, log)
    try:
        yield
    finally:
        if kills:
            kill_all_of(Path(environment["DAGSTER_HOME"]))
        end_daemon(process)


@pytest.fixture
def environment(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with HttpListener() as http:
        settings = {
            "DAGSTER_HOME": str(home),
            "ORDERS_LANDING": str(tmp_path / "landing"),
            "FEATURE_STORE_OFFLINE": str(tmp_path / "offline"),
            "FEATURE_STORE_ONLINE": redis_url,
            "FEATURE_STORE_REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
            "FEATURE_STORE_CLOCK": "2024-03-10T00:00:00Z",
            "FEATURE_STORE_ALERT_WEBHOOK": http.url,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield {**os.environ, **settings}


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_night_with_late_files_and_a_flushed_store(environment, tmp_path, redis_server):
    land(tmp_path / "landing", some_orders())
    sys.modules.pop("tests.dagster.daemon_location", None)
    defs = importlib.import_module("tests.dagster.daemon_location").defs
    log = tmp_path / "daemon.log"
    with dg.DagsterInstance.get() as instance, redis_server.client() as redis:

        def until(what: Callable[[], bool]) -> None:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not what():
                runs = [
                    (run.job_name, run.status.value, run.tags.get("dagster/run_key")) for run in instance.get_runs()
                ]
                assert time.monotonic() < deadline, f"{runs}\n{log.read_text()[-4000:]}"
                time.sleep(0.2)

        def recomputed() -> set[str]:
            records = instance.fetch_materializations(SPENDING, limit=1000).records
            runs = {run.run_id for run in requested()}
            return {record.partition_key for record in records if record.run_id in runs}

        def requested() -> list[dg.DagsterRun]:
            return [run for run in instance.get_runs() if CAUSE_TAG in run.tags and run.job_name != REFILL]

        def stale() -> bool:
            history = instance.event_log_storage.get_asset_check_execution_history(STALE, limit=1)
            return bool(history) and not history[0].event.asset_check_evaluation.passed

        for name, tags in (("feature_store_features", RANGE), ("feature_store_purchase_training_set", {})):
            assert defs.resolve_job_def(name).execute_in_process(instance=instance, tags=tags).success

        keys = set(redis.keys("feature:*"))
        assert keys
        with daemon(environment, log):
            ticked = lambda name: any(  # noqa: E731
                tick.is_completed
                for state in instance.all_instigator_state()
                if state.instigator_name == name
                for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
            )
            until(
                lambda: (
                    ticked("feature_store_gap_sensor")
                    and ticked("feature_store_landing_sensor")
                    and ticked("feature_store_cold_store_sensor")
                )
            )
            late = [(f"c{day}", datetime(2024, 3, day, 15, tzinfo=UTC), 7) for day in (2, 3, 4)]
            land(tmp_path / "landing", pl.concat([some_orders(), orders(*late)]))
            until(lambda: recomputed() == {f"2024-03-0{day}" for day in range(2, 8)})
            until(lambda: all(run.is_success for run in requested()))
            until(stale)
            redis.flushall()
            until(lambda: keys <= set(redis.keys("feature:*")))
        assert len(requested()) == 1
        refills = instance.get_runs(dg.RunsFilter(job_name=REFILL))
        assert any(run.is_success for run in refills)
        with daemon(environment, log):
            until(lambda: log.read_text().count("Instance is configured with the following daemons") == 2)
            until(lambda: instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == 0)
        assert len(requested()) == 1
        assert len(instance.get_runs(dg.RunsFilter(job_name=REFILL))) == len(refills)


@pytest.mark.gate
@pytest.mark.timeout(420)
def test_a_machine_that_dies_in_a_run_leaves_nothing_undone(environment, tmp_path):
    """The daemon, its code servers and the run are killed; the next daemon ends the run, and does what it had to do."""
    land(tmp_path / "landing", some_orders())
    environment |= {"ORDERS_HOLD": str(tmp_path / "hold")}
    (tmp_path / "hold").touch()
    spending = tmp_path / "offline" / "spending"
    with dg.DagsterInstance.get() as instance:

        def until(what: Callable[[], object]) -> None:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not what():
                assert time.monotonic() < deadline, (tmp_path / "daemon.log").read_text()[-4000:]
                time.sleep(0.2)

        def started() -> list[dg.DagsterRun]:
            return instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))

        with daemon(environment, tmp_path / "daemon.log", kills=True):
            until((tmp_path / "hold.seen").exists)
        assert len(started()) == 1
        assert not spending.exists()
        (tmp_path / "hold").unlink()
        with daemon(environment, tmp_path / "daemon.log"):
            until(lambda: len(list(spending.glob("date=*/batch.parquet"))) == 9)
            until(lambda: not started())
        failed, done = instance.get_runs(ascending=True)
        assert (failed.is_failure, done.is_success) == (True, True)
        assert failed.tags[CAUSE_TAG] == done.tags[CAUSE_TAG]
