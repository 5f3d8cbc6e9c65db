"""Finds out whether the online store has lost keys, and fills it again from the offline store.

Nothing is computed: the offline store has every row. Online, the newest row wins, so a refill beside running writers
is harmless, and one that was cut off is completed by the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import polars as pl

from feature_store.catalog import Catalog, Group, Selection
from feature_store.changes.settling import Settler
from feature_store.clock import Clock, to_micros
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP
from feature_store.definitions.source import day_window
from feature_store.frames import entity_id_expression
from feature_store.offline.footers import load_footers, read_footer
from feature_store.offline.latest import without_retracted
from feature_store.offline.layout import PartitionFile
from feature_store.offline.store import OfflineStore
from feature_store.offline.unfinished import left_behind
from feature_store.online.reader import FeatureState
from feature_store.online.store import OnlineStore
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.storage.parquet import scan_files
from feature_store.visibility import Visibility

ENTITIES_PER_FILE = 50
"""Entities that are looked up of each file."""

NEWEST_FILES = 2
OTHER_FILES = 2
"""Files that a sample looks into: the newest, and some of the older ones, other ones each turn."""

_EXPIRING = timedelta(minutes=1)
"""What expires within this time is not looked up: it may be gone by the time that the store answers."""

_EXAMPLES = 5
_FOOTERS_KEPT = 16_384


@dataclass(frozen=True, slots=True)
class OnlineSample:
    """What of a feature group was looked up online.

    Attributes:
        group: The feature group.
        entities: Entities that were looked up, all of them visible by the offline store.
        lost: Those of which a visible feature is missing online, or stands there in an older row.
        examples: The first lost entities.
        unfinished: Writes of which the online part is left to be done: their writers have died.
    """

    group: str
    entities: int
    lost: int
    examples: tuple[str, ...]
    unfinished: int = 0


def push_online(group: Group, *, offline: OfflineStore, online: OnlineStore, clock: Clock) -> WriteReport:
    """Writes the latest visible row of each entity to the online store; see `FeatureStore.push_online`."""
    window = Visibility.of(group.features).window(clock.now())
    keys = list(group.entity.join_keys)
    settler = Settler(group, offline, online, clock)
    settler.left_behind()
    retracted = settler.retracted()
    total = WriteReport()
    seen: pl.DataFrame | None = None
    # The newest day first: what is read most is back first, and older rows of the same entities need no writing.
    for day in sorted({file.date for file in _files_with_rows(group, offline, window)}, reverse=True):
        of_day = day_window(day)
        of_window = offline.scan(group, Window(max(window.start, of_day.start), min(window.end, of_day.end)))
        if retracted is not None:
            of_window = without_retracted(of_window.with_columns(entity_id_expression(group.entity)), retracted)
        rows = of_window.collect().drop(ENTITY_ID, strict=False)
        if seen is not None:
            rows = rows.join(seen, on=keys, how="anti", maintain_order="left")
        report = online.write(group, rows)
        total += report
        new = rows.select(keys).unique()
        seen = new if seen is None else pl.concat([seen, new])
    # What is seen when its time comes, and by readers whose clocks stand a little behind.
    near = settler.near_rows(clock.now()).filter(pl.col(EVENT_TIMESTAMP) > clock.now()).drop(ENTITY_ID)
    return total + online.write(group, near) if near.height else total


def sample_online(
    group: Group, *, catalog: Catalog, offline: OfflineStore, online: OnlineStore, clock: Clock, turn: int = 0
) -> OnlineSample:
    """Looks up some entities online that must be visible now by the offline store.

    Rows whose time has come are brought online before.

    Entities are taken by a hash of their keys, and files in turns, so that every entity has its turn while one look
    stays cheap: the keys of a few files, and one batch read.

    Args:
        group: The feature group.
        catalog: What is registered.
        offline: Tells what must be visible.
        online: Is asked.
        clock: Tells the present.
        turn: Another number looks at other entities and files.

    Raises:
        OnlineStoreError: If the online store does not answer.
    """
    online.pending.promote(group)
    now = clock.now()
    # Rows that a stream has taken back are in the files until the retraction is drained.
    retracted = {each.entity_id for each in online.retractions.undrained(group.name)}
    expected = {each: row for each, row in _expected(group, offline, now, turn).items() if each not in retracted}
    selections = [Selection(str(feature.ref), feature) for feature in group.features]
    visibilities = [Visibility.of([feature]) for feature in group.features]
    soon = to_micros(now + _EXPIRING)
    ids = list(expected)
    states = online.read_states(ids, selections, catalog) if ids else []
    lost = []
    for entity_id, state in zip(ids, states, strict=True):
        event, columns = expected[entity_id]
        if any(
            selection.feature.ref.column in columns
            and visibility.verdict(to_micros(event), soon) == "visible"
            and _is_lost(state[selection.label], event)
            for selection, visibility in zip(selections, visibilities, strict=True)
        ):
            lost.append(entity_id)
    unfinished = len(left_behind(offline.root, group.name))
    return OnlineSample(group.name, len(ids), len(lost), tuple(lost[:_EXAMPLES]), unfinished)


def _expected(
    group: Group, offline: OfflineStore, now: datetime, turn: int
) -> dict[str, tuple[datetime, frozenset[str]]]:
    """Returns entities with the event time of a visible row, and the columns that the row's file has."""
    window = Visibility.of(group.features).window(now)
    newest = sorted(_files_with_rows(group, offline, window), reverse=True)
    older = newest[NEWEST_FILES:]
    rotated = [older[(turn * OTHER_FILES + step) % len(older)] for step in range(min(OTHER_FILES, len(older)))]
    expected: dict[str, tuple[datetime, frozenset[str]]] = {}
    for file in [*rotated, *reversed(newest[:NEWEST_FILES])]:
        rows = scan_files(file.path)
        columns = frozenset(rows.collect_schema().names())
        sample = (
            rows.filter(pl.col(EVENT_TIMESTAMP).is_between(window.start, window.end, closed="left"))
            .group_by(entity_id_expression(group.entity))
            .agg(pl.col(EVENT_TIMESTAMP).max())
            .bottom_k(ENTITIES_PER_FILE, by=pl.col(ENTITY_ID).hash(turn))
            .collect()
        )
        for entity_id, event in sample.rows():
            known = expected.get(entity_id)
            if known is None or known[0] < event:
                expected[entity_id] = event, columns
    return expected


def _files_with_rows(group: Group, offline: OfflineStore, window: Window) -> list[PartitionFile]:
    files = offline.files(group.name, window)
    load_footers(files)
    return [file for file in files if _rows(file)]


@lru_cache(maxsize=_FOOTERS_KEPT)
def _rows(file: PartitionFile) -> int:
    # A replaced file has another time, size or tag: what tells its content apart is in the argument.
    try:
        return read_footer(file).rows
    except (OSError, pl.exceptions.PolarsError):
        # Whoever reads its rows says what is wrong with it.
        return 1


def _is_lost(state: FeatureState, event: datetime) -> bool:
    return state.status == "missing" or state.event_timestamp is None or state.event_timestamp < event
