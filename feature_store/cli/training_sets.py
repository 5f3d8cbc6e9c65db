"""Commands on training sets: build, show, diff, verify."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from feature_store.cli.context import definitions_option, load, open_store
from feature_store.cli.observers import Observers
from feature_store.cli.output import examples, hint, print_json, print_properties, print_table, progress_bar
from feature_store.cli.ranges import range_options
from feature_store.errors import InvalidRequestError
from feature_store.partitions import Window

if TYPE_CHECKING:
    from feature_store.definitions.training_set import TrainingSet
    from feature_store.offline.point_in_time.engine import Progress
    from feature_store.training_sets.comparison import ColumnChange, TrainingSetDiff
    from feature_store.training_sets.manifest import StoredFeature
    from feature_store.training_sets.versions import TrainingSetVersion

_PREVIEW_ROWS = 5


@click.group(name="training-set", epilog=examples("feature-store training-set build departure_delays"))
def training_set() -> None:
    """Build, show, compare and verify training sets."""


@training_set.command(
    epilog=examples(
        "feature-store training-set build departure_delays",
        "feature-store training-set build daily_churn --from 2024-03-01 --to 2024-03-09",
    )
)
@click.argument("name")
@range_options
@click.option(
    "--new-version", is_flag=True, help="Of a set in partitions: build what has changed since, as the next version."
)
@definitions_option
def build(name: str, *, first: str | None, last: str | None, new_version: bool, definitions: str | None) -> None:
    """Build a training set as an immutable version.

    Each label sees what was visible at its time. Equal inputs give the version that exists. A set in partitions gets
    those that its open version lacks, by default all whose labels are complete.
    """
    definition = load(definitions).training_set(name)
    with open_store(definitions) as store:
        span = _span(definition, store.clock.now(), first, last)
        with _progress() as progress:
            written = store.write_training_set(definition, span, new_version=new_version, progress=progress)
    Observers().built(definition, written)
    if written.created:
        outcome = "created"
    elif written.built:
        outcome = "partitions added"
    else:
        outcome = "exists: nothing is missing" if definition.partitioning else "exists: equal inputs"
    extra: list[tuple[str, object]] = [("outcome", outcome)]
    if definition.partitioning:
        extra.append(("partitions built", len(written.built)))
    _show_version(written, extra)
    _preview(written)
    for partition, changes in written.stale.items():
        hint(f"Partition {partition} stays as it is, its inputs have changed since: {'; '.join(changes)}.")
    if written.stale:
        hint(f"`feature-store training-set build {name} --new-version` builds them anew, and takes the others over.")


@training_set.command(epilog=examples("feature-store training-set show departure_delays:v2"))
@click.argument("reference", metavar="NAME[:vN]")
@click.option("--json", "as_json", is_flag=True, help="Print the manifests as JSON.")
def show(reference: str, *, as_json: bool) -> None:
    """Show a version: features, splits, partitions, inputs.

    The latest version by default.
    """
    from feature_store.training_sets.versions import parse_reference

    name, number = parse_reference(reference)
    with open_store() as store:
        version = store.open_training_set(name, number)
        if as_json:
            print_json({"manifest": version.manifest, "parts": version.parts})
            return
        _show_version(version, [])
        manifest = version.manifest
        print_table(
            ["column", "feature", "dtype", "null rate", "ttl"],
            [
                (
                    label,
                    feature,
                    manifest.columns[label],
                    f"{version.null_rates[label]:.1%}",
                    _life(manifest.stored.get(label)),
                )
                for label, feature in manifest.features.items()
            ],
            title="Features",
        )
        if version.split_rows:
            rows = [(split, count, f"{count / version.rows:.1%}") for split, count in version.split_rows.items()]
            print_table(["split", "rows", "share"], rows, title="Splits")
        if version.partitions:
            parts = [(part.partition, part.rows, len(part.source_files), part.created_at) for part in version.parts]
            print_table(["partition", "rows", "source files", "built"], parts, title="Partitions")
        _preview(version)


@training_set.command(epilog=examples("feature-store training-set diff departure_delays:v1 departure_delays:v2"))
@click.argument("before", metavar="NAME[:vN]")
@click.argument("after", metavar="NAME[:vN]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(before: str, after: str, *, as_json: bool) -> None:
    """Compare two versions: features, rows, distributions.

    Rows are told apart by join keys and label time. PSI is on the first version's deciles.
    """
    with open_store() as store:
        found = store.compare_training_sets(before, after)
    if as_json:
        print_json(found)
        return
    print_properties("compared", _facts(found))
    print_table(
        ["column", "rows changed", "null rate", "null rate after", "mean", "mean after", "psi"],
        [_cells(change) for change in found.columns],
        title="Columns",
    )


@training_set.command(epilog=examples("feature-store training-set verify departure_delays --rows 5000"))
@click.argument("reference", metavar="NAME[:vN]")
@click.option("--rows", default=1000, show_default=True, help="How many rows to sample.")
@click.option("--seed", default=0, show_default=True, help="Chooses the rows.")
@click.option("--rebuild", is_flag=True, help="Rebuild it from its manifest too, and compare every byte.")
def verify(reference: str, *, rows: int, seed: int, rebuild: bool) -> None:
    """Prove on a sample that no value comes from the future.

    Compares sampled rows with the rule of visibility, from the raw files and in plain Python. Exit code 1 if a value is
    younger than its label, older than its time to live, or another than the rule gives.
    """
    from feature_store.training_sets.leaks import KINDS
    from feature_store.training_sets.versions import parse_reference

    name, number = parse_reference(reference)
    with open_store() as store:
        report = store.verify_training_set(name, number, rows=rows, seed=seed)
        print_properties(
            "verified",
            [
                ("training set", f"{report.name}:v{report.version}"),
                ("outcome", "passed" if report.passed else "FAILED"),
                ("rows", report.rows),
                ("rows sampled", report.rows_sampled),
                ("values checked", report.values_checked),
                ("values skipped", report.values_skipped),
                *((kind, report.violations.get(kind, 0)) for kind in KINDS),
            ],
        )
        for offender in report.offenders:
            hint(str(offender))
        if not report.passed:
            raise click.ClickException(report.summary())
        if rebuild:
            rebuilt = store.training_sets.rebuild(name, report.version)
            print_properties(
                "rebuilt",
                [
                    ("files", rebuilt.files),
                    ("outcome", "the same bytes" if rebuilt.same_bytes else "the same rows, by another Parquet writer"),
                    ("restored", len(rebuilt.restored)),
                ],
            )


def _span(definition: TrainingSet, now: datetime, first: str | None, last: str | None) -> Window | None:
    """Returns the partitions that the options name, None for all that are complete."""
    if first is None and last is None:
        return None
    if definition.partitioning is None:
        raise InvalidRequestError(
            f"Training set {definition.name!r} has no partitions: it is built as a whole, without --from and --to."
        )
    from feature_store.training_sets.partitioned import partition_span

    partitioning = definition.partitioning
    if first is not None and last is not None:
        return partitioning.span(first, last)
    complete = partition_span(definition, partitioning, now, None)
    return Window(
        partitioning.window(first).start if first else complete.start,
        partitioning.window(last).end if last else complete.end,
    )


def _show_version(version: TrainingSetVersion, extra: list[tuple[str, object]]) -> None:
    manifest = version.manifest
    print_properties(
        "training set",
        [
            ("name", version.name),
            ("version", version.version),
            *extra,
            ("path", str(version.path)),
            ("rows", version.rows),
            ("columns", len(version.columns)),
            ("features", ", ".join(version.features)),
            ("label times", f"{_first(version)} to {_last(version)}"),
            ("source files", len({path for part in version.parts for path in part.source_files})),
            ("built", manifest.created_at),
            ("libraries", _libraries(version)),
            *([("partitions", len(version.partitions))] if version.partitions else []),
            *([("splits", version.split_rows)] if version.split_rows else []),
        ],
    )


def _libraries(version: TrainingSetVersion) -> str:
    """Returns what the functions were written with, each version of it that some part was built with."""
    used = {f"{name} {number}" for part in version.parts for name, number in part.libraries.items()}
    return ", ".join(sorted(used)) or "none"


def _first(version: TrainingSetVersion) -> str:
    return min(part.first_label for part in version.parts).isoformat()


def _last(version: TrainingSetVersion) -> str:
    return max(part.last_label for part in version.parts).isoformat()


def _preview(version: TrainingSetVersion) -> None:
    rows = version.scan().head(_PREVIEW_ROWS).collect()
    # One line per column: a training set has more columns than a terminal is wide.
    columns = [f"row {number}" for number in range(1, rows.height + 1)]
    print_table(["column", *columns], [(series.name, *series.to_list()) for series in rows], title="First rows")


def _facts(found: TrainingSetDiff) -> Iterator[tuple[str, object]]:
    yield "before", f"{found.before}, {found.rows_before:,} rows"
    yield "after", f"{found.after}, {found.rows_after:,} rows"
    yield "rows are told apart by", ", ".join(found.row_keys)
    yield "rows added", found.rows_added
    yield "rows removed", found.rows_removed
    yield "features added", ", ".join(found.features_added) or "none"
    yield "features removed", ", ".join(found.features_removed) or "none"
    changed = [f"{label}: {one} to {other}" for label, (one, other) in found.features_changed.items()]
    yield "feature versions changed", ", ".join(changed) or "none"


def _cells(change: ColumnChange) -> tuple[object, ...]:
    means = (change.mean_before, change.mean_after)
    return (
        change.column,
        "another dtype" if change.changed is None else change.changed,
        f"{change.null_rate_before:.2%}",
        f"{change.null_rate_after:.2%}",
        *("" if mean is None else f"{mean:.6g}" for mean in means),
        "" if change.psi is None else f"{change.psi:.4f}",
    )


@contextmanager
def _progress() -> Iterator[Progress]:
    """Gives what shows the progress of a build: one bar per feature group, on a terminal."""
    with progress_bar() as bar:
        tasks = {}

        def update(group: str, share: float) -> None:
            if group not in tasks:
                tasks[group] = bar.add_task(group, total=100)
            bar.update(tasks[group], completed=round(100 * share))

        yield update


def _life(feature: StoredFeature | None) -> object:
    """Returns how long a value is visible, or how far a window reaches back."""
    if feature is None:
        return "on demand"
    return feature.window.reach_text if feature.window else timedelta(seconds=feature.ttl_seconds)
