"""The command that tells why a feature has its value: explain."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from feature_store.cli.context import open_store
from feature_store.cli.output import examples, hint, print_json, print_properties, print_table

if TYPE_CHECKING:
    from feature_store.explain import ExplainedRow, Explanation


class _Instant(click.ParamType[datetime]):
    """An ISO timestamp or date, naive taken as UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parses the text of the option."""
        try:
            return datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time: write an ISO timestamp such as 2013-07-04T12:00:00Z.", param, ctx)


@click.command(
    epilog=examples(
        "feature-store explain N14228 arr_delay_mean_7d",
        "feature-store explain N14228 arr_delay_mean_7d:v1 --at 2013-07-04T12:00:00Z",
    )
)
@click.argument("entity_id")
@click.argument("feature")
@click.option(
    "--at", type=_Instant(), metavar="TIME", help="The instant, ISO, UTC if it says nothing else. Default: now."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(entity_id: str, feature: str, *, at: datetime | None, as_json: bool) -> None:
    """Tell why a feature has its value.

    The row that decides, with its file, run and code; the rows around it that lost, and why; the time to live that is
    left; and what the online store says now.
    """
    with open_store() as store:
        explanation = store.explain(entity_id, feature, at)
    if as_json:
        print_json(explanation)
        return
    print_properties(f"{explanation.feature} of {entity_id}", _properties(explanation))
    rows = [*([explanation.winner] if explanation.winner else []), *explanation.losers]
    if rows:
        print_table(
            ["outcome", "event time", "ingested", "value", "file", "why"],
            [_cells(row) for row in sorted(rows, key=lambda row: row.event_timestamp, reverse=True)],
        )
    if explanation.window is not None:
        print_table(
            ["place", "event time", "leaves", "values", "ingested", "file"],
            [
                [
                    each.place,
                    each.event_timestamp,
                    each.leaves_at or "never",
                    dict(each.values),
                    each.ingested_at,
                    each.file,
                ]
                for each in explanation.window.events
            ],
        )
    if explanation.online.agrees is False:
        hint("Online and offline disagree: `feature-store materialize` of the row's partition pushes it again.")


def _properties(explanation: Explanation) -> list[tuple[str, object]]:
    winner, online = explanation.winner, explanation.online
    verdict = {True: "agrees", False: "DISAGREES", None: "not compared"}[online.agrees]
    properties: list[tuple[str, object]] = [
        ("value", explanation.value),
        ("status", explanation.status),
        ("at", explanation.at),
        ("why", explanation.reason),
        ("group", explanation.group),
        ("owner", explanation.owner),
    ]
    if explanation.window is None:
        properties.append(("time to live", timedelta(seconds=explanation.ttl_seconds)))
    elif explanation.window.newest is not None:
        properties.append(("newest event ingested", explanation.window.newest))
    if winner is not None and explanation.ttl_left_seconds is not None:
        code = {True: " (as it was last applied)", False: " (not the one that was last applied)", None: ""}
        properties += [
            ("time to live left", timedelta(seconds=explanation.ttl_left_seconds)),
            ("file", winner.file),
            ("written by", f"batch, partition {winner.partition}" if winner.partition else winner.writer),
            ("run", winner.run_id or "outside of a run"),
            ("code version", f"{winner.code_version or 'unknown'}{code[explanation.code_is_current]}"),
            *(sorted(winner.written_with.items())),
        ]
    return [
        *properties,
        ("online value", online.value),
        ("online status", online.status),
        ("online", f"{verdict}: {online.reason}"),
    ]


def _cells(row: ExplainedRow) -> list[object]:
    return [row.outcome, row.event_timestamp, row.ingested_at, row.value, row.file, row.reason]
