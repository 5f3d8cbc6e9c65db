"""Rows that were computed elsewhere: checked, then brought into both stores by the write path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from feature_store.catalog import BoundGroup
from feature_store.changes.admission import admit
from feature_store.changes.write_path import WritePath
from feature_store.clock import Clock
from feature_store.definitions.window_spec import OTHER_EVENTS
from feature_store.frames import to_polars
from feature_store.offline.layout import PartitionFile
from feature_store.offline.store import OfflineStore
from feature_store.online.store import OnlineStore
from feature_store.online.writer import WriteReport
from feature_store.transform.compute import rows_of_events


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingestion did.

    Attributes:
        rows: Rows accepted.
        changed: Those that are new or differ from what the store held.
        files: Files of the offline store that hold them.
        online: What the push of changed rows to the online store did.
    """

    rows: int
    changed: int
    files: tuple[PartitionFile, ...]
    online: WriteReport


def ingest(group: BoundGroup, frame: Any, *, offline: OfflineStore, online: OnlineStore, clock: Clock) -> IngestReport:
    """Admits rows and writes those that changed offline, then online; see `FeatureStore.ingest`."""
    maps = [feature.ref.column for feature in group.registered.features if feature.dtype.name == "map"]
    given = to_polars(frame, maps)
    if OTHER_EVENTS not in given.columns:
        # Of a windowed group these are events, as its function gives them.
        given = rows_of_events(group.declared, given.lazy()).collect()
    rows = admit(group.declared, given, clock.now(), online)
    if rows.frame.is_empty():
        return IngestReport(0, 0, (), WriteReport())
    metadata = {"code_version": group.declared.code_version}
    accepted = WritePath(group.registered, offline, online, clock).add_rows(rows, metadata)
    [changes] = accepted.changes
    return IngestReport(rows.frame.height, changes.rows.height, tuple(changes.files), accepted.online)
