"""The command that shows what people were told: alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from feature_store.alerts.listing import COLUMNS, rows_of
from feature_store.cli.context import open_store
from feature_store.cli.output import examples, hint, print_json, print_table

if TYPE_CHECKING:
    from feature_store.registry.records import IncidentRecord


@click.command(epilog=examples("feature-store alerts", "feature-store alerts --all --json"))
@click.option("--all", "show_all", is_flag=True, help="The latest incident of each kind that is over, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def alerts(*, show_all: bool, as_json: bool) -> None:
    """Show open incidents.

    Each with its owner, since when it is open, when people were last told, and which channels have the message. Times
    are UTC. `docs/alerts.md` says what an incident is.
    """
    with open_store() as store:
        store.registry.migrate()
        found = list(store.registry.incidents().values())
    if as_json:
        records = sorted(
            (each for each in found if show_all or each.resolved_at is None), key=lambda each: each.opened_at
        )
        print_json({"incidents": [_record(each) for each in records]})
        return
    rows = rows_of(found, all_of_them=show_all)
    print_table(list(COLUMNS), rows)
    if not rows:
        hint("No incident is open.")


def _record(record: IncidentRecord) -> dict[str, Any]:
    times = {name: getattr(record, name) for name in ("opened_at", "changed_at", "resolved_at", "notified_at")}
    return {
        "key": record.key,
        **{name: value.isoformat() if value else None for name, value in times.items()},
        "partitions": list(record.partitions),
        "pending": record.pending,
        "deliveries": dict(record.deliveries),
        "finding": dict(record.finding),
    }
