"""Whether the online store has lost keys: some entities are looked up that must be visible by the offline store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import polars as pl

from feature_store.catalog import Catalog, Feature, RegisteredGroup, Selection
from feature_store.clock import Clock, to_micros
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.frames import entity_id_expression
from feature_store.hash_sampling import least_hashed
from feature_store.offline.footers import load_footers, read_footer
from feature_store.offline.layout import PartitionFile
from feature_store.offline.store import OfflineStore
from feature_store.offline.unfinished import left_behind
from feature_store.online.reading.prepared import FeatureState
from feature_store.online.store import OnlineStore
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


def sample_online(
    group: RegisteredGroup, *, catalog: Catalog, offline: OfflineStore, online: OnlineStore, clock: Clock, turn: int = 0
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
    group = group.rows
    if not group.windows:
        online.pending.promote(group)
    now = clock.now()
    # Rows that a stream has taken back are in the files until the retraction is drained.
    retracted = {each.entity_id for each in online.retractions.undrained(group.name)}
    expected = {each: row for each, row in _expected(group, offline, now, turn).items() if each not in retracted}
    features = group.windows or group.features
    selections = [Selection(str(feature.ref), feature) for feature in features]
    soon = to_micros(now + _EXPIRING)
    ids = list(expected)
    states = online.read_states(ids, selections, catalog) if ids else []
    lost = [
        entity_id
        for entity_id, state in zip(ids, states, strict=True)
        if any(
            _is_seen(feature, to_micros(expected[entity_id].event), expected[entity_id].columns, soon)
            and _is_lost(state[str(feature.ref)], expected[entity_id].event)
            for feature in features
        )
    ]
    unfinished = len(left_behind(offline.root, group.name))
    return OnlineSample(group.name, len(ids), len(lost), tuple(lost[:_EXAMPLES]), unfinished)


class _Expected(NamedTuple):
    """A row that must be visible: its event time, and the columns that its file has."""

    event: datetime
    columns: frozenset[str]


def _is_seen(feature: Feature, event: int, columns: frozenset[str], at: int) -> bool:
    """Tells whether a row is seen at an instant: by its time to live, or in the window."""
    if feature.window is not None:
        return feature.window.extent.tails(at) < event
    return feature.ref.column in columns and Visibility.of([feature]).verdict(event, at) == "visible"


def _expected(group: RegisteredGroup, offline: OfflineStore, now: datetime, turn: int) -> dict[str, _Expected]:
    """Returns entities with the event time of a visible row, and the columns that the row's file has."""
    window = Visibility.of(group.features).window(now)
    newest = sorted(files_with_rows(group, offline, window), reverse=True)
    older = newest[NEWEST_FILES:]
    rotated = [older[(turn * OTHER_FILES + step) % len(older)] for step in range(min(OTHER_FILES, len(older)))]
    expected: dict[str, _Expected] = {}
    for file in [*rotated, *reversed(newest[:NEWEST_FILES])]:
        rows = scan_files(file.path)
        columns = frozenset(rows.collect_schema().names())
        latest = (
            rows.filter(pl.col(EVENT_TIMESTAMP).is_between(window.start, window.end, closed="left"))
            .group_by(entity_id_expression(group.entity))
            .agg(pl.col(EVENT_TIMESTAMP).max())
        )
        for entity_id, event in least_hashed(latest, ENTITIES_PER_FILE, turn).collect().rows():
            known = expected.get(entity_id)
            if known is None or known.event < event:
                expected[entity_id] = _Expected(event, columns)
    return expected


def files_with_rows(group: RegisteredGroup, offline: OfflineStore, window: Window) -> list[PartitionFile]:
    """Returns the files with rows of a time window; one whose footer is damaged counts as one with rows."""
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
