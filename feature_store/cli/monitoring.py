"""Commands that watch: monitor run, check, repair, replay."""

from __future__ import annotations

from datetime import datetime

import click

from feature_store.cli.context import definitions_option, load, open_store
from feature_store.cli.output import examples, hint, print_properties, print_table


@click.group()
def monitor() -> None:
    """Compare what is online with baselines and with the offline store, and repair it."""


@monitor.command(name="run", epilog=examples("feature-store monitor run", "feature-store monitor run plane_delays"))
@click.argument("group", required=False)
@click.option("--entities", type=click.IntRange(min=1), default=1000, show_default=True, help="Entities to sample.")
@definitions_option
def run(group: str | None, *, entities: int, definitions: str | None) -> None:
    """Measure a sample of the values online.

    Records mean, standard deviation, null rate and the distance from the baseline of every feature, of one group or of
    all, and judges them by the nights before. Exit code 1 if something is off its course.
    """
    loaded = load(definitions)
    chosen = list(loaded.groups.values()) if group is None else [loaded.group(group)]
    rows: list[tuple[object, ...]] = []
    failed = []
    with open_store(definitions) as store:
        for each in chosen:
            report = store.run_monitor(each, entities=entities)
            columns = [feature.ref for feature in store.catalog().group(each.name).features]
            for ref, record in zip(columns, report.records, strict=True):
                numbers = (record.mean, record.stddev, record.null_rate, record.psi)
                rows.append((each.name, str(ref), record.n, *map(_rounded, numbers)))
            hint(f"{each.name}: {report.result.summary}")
            if not report.result.passed:
                failed.append(each.name)
    print_table(["group", "feature", "entities", "mean", "stddev", "null rate", "psi"], rows)
    if failed:
        raise click.ClickException(f"Online values are off their course in {', '.join(failed)}: see above.")


@monitor.command(name="check", epilog=examples("feature-store monitor check plane_delays --entities 5000"))
@click.argument("group")
@click.option("--entities", type=click.IntRange(min=1), default=1000, show_default=True, help="Entities to sample.")
@click.option(
    "--entity", "entity_ids", multiple=True, metavar="ID", help="This entity instead of a sample; repeatable."
)
@click.option("--turn", default=0, show_default=True, help="Another number draws another sample.")
def check(group: str, *, entities: int, entity_ids: tuple[str, ...], turn: int) -> None:
    """Compare the online with the offline store.

    For a sample of entities, what is online now has to be what the offline store says of the same instant. Exit code 1
    if it is not.
    """
    with open_store() as store:
        report = store.check_consistency(group, entities=entities, turn=turn, entity_ids=list(entity_ids) or None)
    print_table(
        ["feature", "compared", "other value", "missing", "too many"],
        [(each.feature, each.compared, each.mismatched, each.missing, each.extra) for each in report.features],
    )
    if report.in_flight:
        hint(f"{report.in_flight} entities were left out: they are being written.")
    if report.passed:
        return
    print_table(
        ["entity", "feature", "fault", "online", "offline", "online event time"],
        [
            (each.entity_id, each.feature, each.fault, each.online, each.offline, each.online_event)
            for each in report.offenders
        ],
    )
    raise click.ClickException(
        f"The online store does not answer what the offline store says of {group!r}: "
        f"run `feature-store monitor repair {group}`."
    )


@monitor.command(name="repair", epilog=examples("feature-store monitor repair plane_delays"))
@click.argument("group")
def repair(group: str) -> None:
    """Make the online store answer what the offline store says now.

    Removes what the offline store does not have and writes what it has, beside running writers. Running it again
    changes nothing.
    """
    with open_store() as store:
        report = store.repair_online(group)
    print_properties(
        "repair",
        [
            ("group", report.group),
            ("entities looked at", report.entities),
            ("rows removed", report.removed),
            ("rows written", report.written.written),
            ("rows beaten by a newer one", report.written.stale),
            ("rows left alone, just ingested", report.in_flight),
            ("rows left alone, written meanwhile", report.moved_on),
        ],
    )


@monitor.command(
    name="replay", epilog=examples("feature-store monitor replay", "feature-store monitor replay --since 2013-12-31")
)
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Only this feature group; repeatable.")
@click.option("--since", type=click.DateTime(), help="Only what was served from then on, UTC.")
@click.option("--folder", metavar="PATH", help="The request log. Default: FEATURE_STORE_REQUEST_LOG.")
def replay(groups: tuple[str, ...], *, since: datetime | None, folder: str | None) -> None:
    """Compare what was served with what a training set says.

    Replays the sample of requests that the log has kept. Exit code 1 if a served value has no reason.
    """
    with open_store() as store:
        report = store.replay_requests(groups=list(groups) or None, since=since, folder=folder)
    print_properties(
        "replay",
        [
            ("values", report.values),
            ("wrong", report.wrong),
            ("right by what was online then", report.late),
            ("in streams that are not drained", report.undrained),
            ("of features registered no more", report.skipped),
            ("first", report.first),
            ("last", report.last),
        ],
    )
    if report.deviations:
        print_table(
            ["entity", "feature", "served at", "served", "replayed", "kind"],
            [
                (each.entity_id, each.feature, each.served_at, each.served, each.replayed, each.kind)
                for each in report.deviations
            ],
        )
    if not report.passed:
        raise click.ClickException(f"{report.wrong} of {report.values} served values are not what a training set says.")


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"
