"""The command that computes features: materialize."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from feature_store.cli.context import definitions_option, load, open_store
from feature_store.cli.output import examples, hint, print_table, progress_bar
from feature_store.cli.ranges import chosen_span, range_options

if TYPE_CHECKING:
    from feature_store.definitions.group import FeatureGroup
    from feature_store.partitions import Window
    from feature_store.store import FeatureStore
    from feature_store.transform.materialization import MaterializedPass


@click.command(
    epilog=examples(
        "feature-store materialize plane_delays --from 2013-01-01 --to 2013-01-31", "feature-store materialize --all"
    )
)
@click.argument("group", required=False)
@click.option("--all", "all_groups", is_flag=True, help="All groups of the definitions module.")
@click.option("--partition", metavar="KEY", help="One partition, 2013-01-31 or 2013-01-31-05:00.")
@range_options
@definitions_option
def materialize(
    group: str | None,
    *,
    all_groups: bool,
    partition: str | None,
    first: str | None,
    last: str | None,
    definitions: str | None,
) -> None:
    """Compute partitions into both stores.

    By default all partitions from the group's start to the last that is complete. Running it again gives the same
    stores; after an interruption, that completes the work. The summary counts what went online, what was not the
    newest row of its entity, and what was expired or still in the future.
    """
    if (group is None) != all_groups:
        raise click.UsageError("Name one group, or pass --all.")
    if partition and (first or last):
        raise click.UsageError("--partition is one partition: it does not go with --from and --to.")
    loaded = load(definitions)
    chosen = list(loaded.groups.values()) if group is None else [loaded.group(group)]
    with open_store() as store:
        now = store.clock.now()
        # All ranges are judged before the first is worked on.
        spans = [(each, chosen_span(each, now, partition or first, partition or last)) for each in chosen]
        records = [(each.name, *_materialize(store, each, span).cells()) for each, span in spans]
    columns = ["group", "partitions", "first", "last", "rows", "online", "not newest", "expired", "pending", "seconds"]
    print_table(columns, records)


@dataclass(slots=True)
class _Summary:
    first: str = ""
    last: str = ""
    partitions: int = 0
    rows: int = 0
    written: int = 0
    older: int = 0
    expired: int = 0
    pending: int = 0
    seconds: float = 0.0

    def add(self, done: MaterializedPass) -> None:
        self.first = self.first or done.partitions[0].key
        self.last = done.partitions[-1].key
        self.partitions += len(done.partitions)
        self.rows += sum(part.profile.rows for part in done.partitions)
        self.written += done.online.written
        self.older += done.online.stale + done.online.superseded
        self.expired += done.online.expired
        self.pending += done.online.pending
        self.seconds += done.seconds

    def cells(self) -> tuple[object, ...]:
        online = (self.written, self.older, self.expired, self.pending)
        return self.partitions, self.first, self.last, self.rows, *online, f"{self.seconds:.1f}"


def _materialize(store: FeatureStore, group: FeatureGroup, span: Window) -> _Summary:
    summary = _Summary()
    total = len(list(group.partitioning.windows(span)))
    if not total:
        hint(f"{group.name}: no partition is complete yet, it begins at {group.start.isoformat()}.")
        return summary
    with progress_bar() as bar:
        task = bar.add_task(group.name, total=total)
        for done in store.materialize(group, span, run_id=f"cli-{uuid.uuid4().hex[:12]}"):
            summary.add(done)
            bar.update(task, completed=summary.partitions)
            if bar.disable:
                hint(f"{group.name}: {summary.partitions} of {total} partitions, through {summary.last}")
    return summary
