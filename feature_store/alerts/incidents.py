"""What a finding makes of an incident, and whether people are told. Pure: what is stored and sent is not decided here.

An incident is open while its newest failing partition is newer than every partition that has passed since; where each
has to pass, while one of them has not. Partitions that failed once are remembered: failing again, they are no news.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timedelta

from feature_store.alerts.findings import Finding
from feature_store.registry.records import IncidentRecord

OPENED, REMINDER, RECOVERED = "opened", "reminder", "recovered"

REMIND_AFTER = timedelta(days=3)
"""An incident to which failing partitions are still added is told again after this time."""

PARTITIONS_KEPT = 1000
"""Failing partitions that an incident remembers, the newest."""


def after(record: IncidentRecord | None, finding: Finding, now: datetime) -> IncidentRecord | None:
    """Returns the incident as a finding leaves it, None if the finding changes nothing.

    Args:
        record: The latest incident of the finding's key, None if there never was one.
        finding: What was seen.
        now: The present, UTC.
    """
    known = set(record.partitions) if record else set()
    news = set(finding.failed) - known
    failing = (known - set(finding.passed)) | set(finding.failed)
    partitions = tuple(sorted(failing)[-PARTITIONS_KEPT:])
    newer_passes = bool(finding.passed) and bool(failing) and max(finding.passed) > max(failing)
    is_over = not failing or (newer_passes and not finding.needs_all)
    if record is None or record.resolved_at is not None:
        if news:
            return _opened(finding, partitions, now, is_over=is_over)
        if record is None or failing == known:
            return None
        return replace(record, partitions=partitions, changed_at=now)
    if is_over:
        # Who was not told yet that it broke is told once, of both.
        pending = RECOVERED if record.notified_at is not None else OPENED
        seen = {"passed": list(finding.passed), "run_id": finding.run_id, "link": finding.link}
        return replace(
            record,
            finding={**record.finding, **seen},
            partitions=partitions,
            changed_at=now,
            resolved_at=now,
            pending=pending,
            deliveries={},
        )
    if news:
        told = record.notified_at
        is_due = record.pending is None and told is not None and now - told >= REMIND_AFTER
        return replace(
            record,
            finding=asdict(finding),
            partitions=partitions,
            changed_at=now,
            pending=REMINDER if is_due else record.pending,
            deliveries={} if is_due else record.deliveries,
        )
    return None if failing == known else replace(record, partitions=partitions, changed_at=now)


def _opened(finding: Finding, partitions: tuple[str, ...], now: datetime, *, is_over: bool) -> IncidentRecord:
    # What is over in the same breath, as in a backfill whose newest partition is well, is told once.
    return IncidentRecord(
        key=finding.key,
        finding=asdict(finding),
        partitions=partitions,
        opened_at=now,
        changed_at=now,
        resolved_at=now if is_over else None,
        pending=OPENED,
    )
