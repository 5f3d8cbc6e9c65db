"""Commands that read values: get (online, now) and history (offline, all times)."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from feature_store.cli.context import open_store
from feature_store.cli.output import examples, hint, print_json, print_table
from feature_store.errors import InvalidRequestError
from feature_store.visibility import seconds_left

if TYPE_CHECKING:
    from feature_store.catalog import Feature, RegisteredGroup
    from feature_store.store import FeatureStore


@click.command(
    epilog=examples(
        "feature-store get N14228 seats arr_delay_mean_7d:v1", "feature-store get 'EWR|IAH' route_delays --json"
    )
)
@click.argument("entity_id")
@click.argument("features", nargs=-1, required=True, metavar="FEATURE...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def get(entity_id: str, features: tuple[str, ...], *, as_json: bool) -> None:
    """Read an entity's online values.

    As a model server sees them now, with their times and the time that the read took. A feature is a name (its current
    version), name:v2, or the name of a group for all of its features. Entity ids of several keys are joined by |.
    """
    with open_store() as store:
        request = store.online_reads.request(features)
        store.online.ping()  # connects, so that the timing is the read's alone
        started = time.perf_counter()
        [states] = store.get_online_statuses([entity_id], features)
        milliseconds = (time.perf_counter() - started) * 1000
        now = store.clock.now()
    records = []
    for selection in request.resolution.selections:
        state = states[selection.label]
        event = state.event_timestamp
        ttl = selection.feature.online_ttl_seconds
        # Windows move on, and events have no time to live in them.
        has_ttl = event is not None and selection.feature.window is None
        records.append(
            {
                "feature": selection.label,
                "value": state.value,
                "status": state.status,
                "event_timestamp": event,
                "age_seconds": None if event is None else (now - event).total_seconds(),
                "ttl_left_seconds": seconds_left(ttl, event, now) if has_ttl and event is not None else None,
            }
        )
    if as_json:
        print_json({"entity_id": entity_id, "at": now, "milliseconds": milliseconds, "features": records})
        return
    print_table(
        ["feature", "value", "status", "event time", "age", "ttl left"],
        [(*list(record.values())[:4], *map(_span, list(record.values())[4:])) for record in records],
    )
    hint(f"Read in {milliseconds:.2f} ms, at {now.isoformat()}.")


def _span(seconds: object) -> timedelta | None:
    return timedelta(seconds=seconds) if isinstance(seconds, float) else None


@click.command(epilog=examples("feature-store history N14228 arr_delay_mean_7d --limit 5"))
@click.argument("entity_id")
@click.argument("feature")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Greatest number of rows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(entity_id: str, feature: str, *, limit: int, as_json: bool) -> None:
    """Show an entity's past values.

    All rows of one feature in the offline store, newest first, each with the file that holds it. Of a windowed feature,
    its value at each event, and whenever events leave the window.
    """
    with open_store() as store:
        catalog = store.catalog()
        selections = catalog.select([feature])
        if len(selections) != 1:
            raise InvalidRequestError(
                f"{feature!r} is a feature group with {len(selections)} features: name one of them, "
                f"such as {selections[0].label}."
            )
        selected = selections[0].feature
        if selected.window is not None:
            _show_course(store, entity_id, selected, catalog.group(selected.group), limit=limit, as_json=as_json)
            return
        rows = store.offline.history(catalog.group(selected.group), entity_id).head(limit)
    columns = ["value", "event_timestamp", "ingested_at", "file"]
    cells = rows.select(selected.ref.column, "event_timestamp", "ingested_at", "_file").rows()
    if as_json:
        print_json(
            {
                "entity_id": entity_id,
                "feature": str(selected.ref),
                "rows": [dict(zip(columns, row, strict=True)) for row in cells],
            }
        )
        return
    print_table(columns, cells, title=f"{selected.ref} of {entity_id}")


def _show_course(
    store: FeatureStore, entity_id: str, feature: Feature, group: RegisteredGroup, *, limit: int, as_json: bool
) -> None:
    from feature_store.explain_window import window_course

    steps = window_course(entity_id, feature, group, store.clock.now(), store.offline, limit=limit)
    if as_json:
        print_json({"entity_id": entity_id, "feature": str(feature.ref), "steps": steps})
        return
    columns = ["since", "value", "events inside", "happened"]
    cells = [(step.since, step.value, step.inside, step.happened) for step in steps]
    print_table(columns, cells, title=f"{feature.ref} of {entity_id}")
