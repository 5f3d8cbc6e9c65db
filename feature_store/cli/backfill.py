"""The commands on what is to be computed: status shows it, backfill does it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from feature_store.cli.context import definitions_option, load, open_store
from feature_store.cli.observers import Observers
from feature_store.cli.output import examples, hint, print_json, print_table
from feature_store.cli.writing import materialize_span
from feature_store.errors import FeatureStoreError, InvalidRowsError, TransformError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from feature_store.definitions.group import FeatureGroup
    from feature_store.partitions import Window
    from feature_store.reconcile.coverage import Coverage
    from feature_store.reconcile.due import DuePartitions
    from feature_store.store import FeatureStore

TRIED_PARTITIONS = 10
"""A plan computes so many partitions to foresee how long all take."""


@click.command(epilog=examples("feature-store status", "feature-store status plane_punctuality --json"))
@click.argument("group", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@definitions_option
def status(group: str | None, *, as_json: bool, definitions: str | None) -> None:
    """Show how far groups are computed.

    By the files and the sources alone, as the sensors see it: partitions that are there; that have landed and are
    missing; whose source days have changed since they were computed; whose files lack a feature; that come from another
    version of the function; and those that are held, as their rows or their function fail.
    """
    chosen = _chosen(group, definitions)
    with open_store(definitions) as store:
        found = {each.name: _seen(store, each) for each in chosen}
    records = [
        {
            "group": name,
            "partitions": len(there.present),
            "last": _key(each, there.present[-1]) if there.present else None,
            "missing": len(due.missing),
            "changed": len(due.changed),
            "lacking": len(due.lacking),
            "other_code": len(there.other_code),
            "held": len(due.held),
        }
        for each, (name, (there, due)) in zip(chosen, found.items(), strict=True)
    ]
    if as_json:
        held = {name: {each.start.isoformat(): each.reason for each in due.held} for name, (_, due) in found.items()}
        print_json({"groups": [{**record, "reasons": held[str(record["group"])]} for record in records]})
        return
    print_table(list(records[0]), [["" if value is None else value for value in each.values()] for each in records])
    for name, (_, due) in found.items():
        for failure in due.held[-3:]:
            hint(f"{name}: held is {failure.start:%Y-%m-%dT%H:%M}: {failure.reason}")


@click.command(epilog=examples("feature-store backfill --all --plan", "feature-store backfill plane_punctuality"))
@click.argument("group", required=False)
@click.option("--all", "all_groups", is_flag=True, help="All groups of the definitions module.")
@click.option("--changed-code", is_flag=True, help="Those too that come from another version of the function.")
@click.option("--plan", is_flag=True, help="Print what would be computed, and end.")
@definitions_option
def backfill(group: str | None, *, all_groups: bool, changed_code: bool, plan: bool, definitions: str | None) -> None:
    """Compute what is missing, late or changed.

    Exactly the partitions that `feature-store status` counts, the newest first, so that what is served is right
    soonest. It can be stopped at any time: run again, it goes on with what is left.
    """
    if (group is None) != all_groups:
        raise click.UsageError("Name one group, or pass --all.")
    with open_store(definitions) as store:
        work = [
            (each, span)
            for each in _chosen(group, definitions)
            for span in _spans(each, *_seen(store, each), changed_code=changed_code)
        ]
        trials = {each.name: _trial(each, span) for each, span in reversed(work)} if plan else {}
        columns = ["group", "first", "last", "partitions", "rows foreseen", *(["seconds foreseen"] if plan else [])]
        planned = [_planned(store, each, span, trials.get(each.name)) for each, span in work]
        print_table(columns, [row[: len(columns)] for row in planned])
        if not work:
            hint("Nothing is to be computed: all that has landed is there, or held; `feature-store status` shows it.")
        elif plan:
            hint(
                f"Seconds are those of the function, as it has just computed the newest {TRIED_PARTITIONS} partitions "
                "or less of each group; nothing was written, and writing comes on top."
            )
        if plan or not work:
            return
        observers, failures = Observers(), []
        for each, span in work:
            try:
                materialize_span(store, each, span, observers)
            except (InvalidRowsError, TransformError) as error:
                # Of one partition; all others are computed first.
                failures.append(str(error))
    if failures:
        raise FeatureStoreError("\n".join(failures))


def _chosen(group: str | None, definitions: str | None) -> list[FeatureGroup]:
    loaded = load(definitions)
    return list(loaded.groups.values()) if group is None else [loaded.group(group)]


def _seen(store: FeatureStore, group: FeatureGroup) -> tuple[Coverage, DuePartitions]:
    from feature_store.clock import SystemClock
    from feature_store.definitions.source import fingerprints
    from feature_store.offline.failed_partitions import failed_partitions
    from feature_store.reconcile.coverage import coverage
    from feature_store.reconcile.due import LandedDays, due_partitions

    found = coverage(group, store.offline)
    failed = failed_partitions(store.offline.root, group.name)
    landed = LandedDays(fingerprints(group.source))
    now = store.clock.now()
    return found, due_partitions(group, found, landed, failed, now=now, tried_until=SystemClock().now())


def _spans(group: FeatureGroup, found: Coverage, due: DuePartitions, *, changed_code: bool) -> Iterator[Window]:
    """Yields spans of at most one pass, the newest first."""
    from feature_store.partitions import Window
    from feature_store.reconcile.coverage import spans
    from feature_store.transform.materialization import PARTITIONS_PER_PASS

    wanted = sorted({*due.missing, *due.changed, *due.lacking, *(found.other_code if changed_code else ())})
    most = PARTITIONS_PER_PASS * group.partitioning.length
    for span in reversed(list(spans(wanted))):
        end = span.end
        while end > span.start:
            start = max(span.start, end - most)
            yield Window(start, end)
            end = start


def _trial(group: FeatureGroup, span: Window) -> tuple[float, float] | None:
    """Computes the newest partitions of a span and writes nothing; returns seconds and rows of one partition.

    None where the function fails on them: a backfill says why.
    """
    from feature_store.partitions import Window
    from feature_store.transform.compute import compute

    tried = list(group.partitioning.windows(span))[-TRIED_PARTITIONS:]
    begin = time.perf_counter()
    try:
        rows = compute(group, Window(tried[0].start, tried[-1].end)).height
    except Exception:  # noqa: BLE001 - the function is the user's and may raise anything
        return None
    return (time.perf_counter() - begin) / len(tried), rows / len(tried)


def _planned(
    store: FeatureStore, group: FeatureGroup, span: Window, trial: tuple[float, float] | None
) -> Sequence[object]:
    from feature_store.offline.footers import load_footers, read_footer
    from feature_store.reconcile.coverage import batch_files

    files = batch_files(group, store.offline)[-100:]
    load_footers(files)
    count = sum(1 for _ in group.partitioning.windows(span))
    rows = sum(read_footer(file).rows for file in files) / len(files) if files else trial[1] if trial else None
    foreseen = "unknown" if rows is None else f"{round(rows * count):,}"
    seconds = "unknown" if trial is None else f"{trial[0] * count:,.1f}"
    last = group.partitioning.key(span.end - group.partitioning.length)
    return group.name, _key(group, span), last, count, foreseen, seconds


def _key(group: FeatureGroup, window: Window) -> str:
    return group.partitioning.key(window.start)
