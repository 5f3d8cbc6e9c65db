"""Incidents as rows of a table: the same on the command line and in Dagster."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from feature_store.registry.records import IncidentRecord

COLUMNS = ("incident", "title", "owner", "since", "over", "sent", "message")


def rows_of(incidents: Iterable[IncidentRecord], *, all_of_them: bool = False) -> list[tuple[str, ...]]:
    """Returns a row of `COLUMNS` for each incident, the oldest first; times are UTC, to the minute.

    Args:
        incidents: The latest of each kind.
        all_of_them: Those that are over, too.
    """
    found = (each for each in incidents if all_of_them or each.resolved_at is None)
    return [_row(each) for each in sorted(found, key=lambda each: each.opened_at)]


def _row(record: IncidentRecord) -> tuple[str, ...]:
    finding = record.finding
    return (
        record.key,
        finding["title"],
        finding.get("owner", ""),
        _minute(record.opened_at),
        _minute(record.resolved_at),
        _minute(record.notified_at),
        _delivery(record),
    )


def _delivery(record: IncidentRecord) -> str:
    """Returns what became of the latest message, in a few words."""
    failed = {name: each["error"] for name, each in record.deliveries.items() if each.get("error")}
    if failed:
        return "; ".join(f"{name}: {error}" for name, error in failed.items())
    if record.pending:
        return f"{record.pending} is not sent yet"
    return f"sent to {', '.join(record.deliveries)}" if record.deliveries else ""


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
