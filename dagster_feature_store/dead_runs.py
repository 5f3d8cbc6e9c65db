"""Runs whose machine has died: Dagster's record says that they go on, for ever, and nothing of them does.

Dagster's own run monitoring asks launchers that know (Kubernetes, ECS, Docker). The default launcher does not: it
starts processes of the code server, and a code server that is gone has none.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from dagster_feature_store.compat import is_executing
from feature_store.clock import SystemClock

SILENT_FOR = timedelta(seconds=30)
"""A run that has logged something within this time is not asked for."""

_STARTED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_MOST_RUNS = 200


def end_dead_runs(instance: dg.DagsterInstance, is_ours: Callable[[dg.DagsterRun], bool]) -> list[str]:
    """Marks runs as failed whose process is gone; returns their ids.

    Args:
        instance: Holds the runs.
        is_ours: Tells the runs that are looked at.
    """
    dead = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_STARTED), limit=_MOST_RUNS):
        run = record.dagster_run
        if not is_ours(run) or _is_talking(instance, run.run_id) or is_executing(run) is not False:
            continue
        instance.report_run_failed(run, "The process of the run is gone: its machine, or its code server, has died.")
        dead.append(run.run_id)
    return dead


def _is_talking(instance: dg.DagsterInstance, run_id: str) -> bool:
    page = instance.get_records_for_run(run_id, limit=1, ascending=False)
    last = max((record.event_log_entry.timestamp for record in page.records), default=0.0)
    return SystemClock().now() - datetime.fromtimestamp(last, UTC) < SILENT_FOR
