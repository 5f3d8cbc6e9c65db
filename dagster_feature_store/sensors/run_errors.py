"""What has failed in a run: its events of one kind, and the error at the root of each step that failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterInstance

from feature_store import errors

_PAGE = 5000


def events_of(instance: DagsterInstance, run: dg.DagsterRun, kind: DagsterEventType) -> Iterator[Any]:
    """Yields the events of a kind of a run, in their order."""
    cursor = None
    while True:
        page = instance.get_records_for_run(run.run_id, cursor=cursor, of_type=kind, limit=_PAGE)
        for record in page.records:
            yield record.event_log_entry.get_dagster_event()
        if not page.has_more:
            return
        cursor = page.cursor


def failed_steps(instance: DagsterInstance, run: dg.DagsterRun) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yields the steps that failed, with the class of the error behind it and its message.

    The error is the one at the root, or the deepest of this library, which says more than what it was made of.
    """
    for event in events_of(instance, run, DagsterEventType.STEP_FAILURE):
        error = event.step_failure_data.error
        chain = [error]
        while error is not None and error.cause is not None:
            error = error.cause
            chain.append(error)
        ours = [each for each in chain if each is not None and hasattr(errors, each.cls_name or "")]
        error = ours[-1] if ours else chain[-1]
        kind, message = (error.cls_name or "", error.message.strip()) if error else ("", "")
        yield event.step_key, (kind, message.removeprefix(f"feature_store.errors.{kind}: "))
