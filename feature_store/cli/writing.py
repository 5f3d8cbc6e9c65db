"""The command that computes features: materialize."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import click

from feature_store.cli.context import definitions_option, load, open_store
from feature_store.cli.observers import Observers
from feature_store.cli.output import examples, hint, print_table, progress_bar
from feature_store.cli.ranges import chosen_span, range_options

if TYPE_CHECKING:
    from feature_store.definitions.group import FeatureGroup
    from feature_store.partitions import Window
    from feature_store.store import FeatureStore
    from feature_store.transform.reports import MaterializationReport


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
    stores; after an interruption, that completes the work. The summary counts the rows that changed and those that
    are gone; of the changed ones, those that went online, were not the newest of their entity, were expired, or
    wait for their time.
    """
    if (group is None) != all_groups:
        raise click.UsageError("Name one group, or pass --all.")
    if partition and (first or last):
        raise click.UsageError("--partition is one partition: it does not go with --from and --to.")
    loaded = load(definitions)
    chosen = list(loaded.groups.values()) if group is None else [loaded.group(group)]
    with open_store(definitions) as store:
        now = store.clock.now()
        # All ranges are judged before the first is worked on.
        spans = [(each, chosen_span(each, now, partition or first, partition or last)) for each in chosen]
        observers = Observers()
        records = [(each.name, *materialize_span(store, each, span, observers)) for each, span in spans]
    columns = ["group", "partitions", "first", "last", "rows", "changed", "withdrawn"]
    columns += ["online", "not newest", "expired", "pending", "seconds"]
    print_table(columns, records)


def materialize_span(
    store: FeatureStore, group: FeatureGroup, span: Window, observers: Observers
) -> tuple[object, ...]:
    """Materializes a span of partitions with a progress bar; returns the cells of its line in the summary."""
    if span.start == span.end:
        hint(f"{group.name}: no partition is complete yet, it begins at {group.start.isoformat()}.")
        return 0, "", "", 0, 0, 0, 0, 0, 0, 0, "0.0"
    with progress_bar() as bar:
        task = bar.add_task(group.name, total=sum(1 for _ in group.partitioning.windows(span)))

        def show(report: MaterializationReport) -> None:
            bar.update(task, completed=len(report.partitions))
            if bar.disable:
                hint(str(report))

        last = span.end - group.partitioning.length
        run_id = f"cli-{uuid.uuid4().hex[:12]}"
        done = store.materialize(group, span.start, last, run_id=run_id, progress=show)
    observers.materialized(store, group, done)
    online = done.online
    brought = (done.rows, done.changed, done.gone)
    counts = (online.written, online.stale + online.superseded, online.expired, online.pending)
    return (
        len(done.partitions),
        *(done.partitions[end].key for end in (0, -1)),
        *brought,
        *counts,
        f"{done.seconds:.1f}",
    )
