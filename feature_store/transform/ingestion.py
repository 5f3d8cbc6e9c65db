"""Rows that were computed elsewhere, into both stores, by the same steps as a materialization but the transform."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from feature_store.catalog import Group
from feature_store.clock import Clock
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import to_polars
from feature_store.offline.layout import PartitionFile
from feature_store.offline.store import OfflineStore
from feature_store.online.store import OnlineStore
from feature_store.online.writer import WriteReport
from feature_store.transform.validation import stored_rows, validate


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingestion did.

    Attributes:
        rows: Rows accepted.
        files: Files of the offline store that hold them, one per UTC day.
        online: What the push to the online store did.
    """

    rows: int
    files: tuple[PartitionFile, ...]
    online: WriteReport


def ingest(
    group: FeatureGroup, frame: Any, *, record: Group, offline: OfflineStore, online: OnlineStore, clock: Clock
) -> IngestReport:
    """Validates rows and writes them offline, then online; see `FeatureStore.ingest`.

    The rows of a day go to a file of their own, named by a digest of their content: ingesting them again finds the
    file and changes nothing.
    """
    ingested_at = clock.now()
    rows = validate(group, to_polars(frame))
    rows = rows.sort([EVENT_TIMESTAMP, *group.entity.join_keys])
    metadata = {"code_version": group.code_version, INGESTED_AT: ingested_at.isoformat()}
    files = []
    for (day,), part in rows.group_by(rows[EVENT_TIMESTAMP].dt.date().alias("_day"), maintain_order=True):
        content = hashlib.sha256(part.write_ipc(None, compression="uncompressed").getvalue()).hexdigest()[:16]
        stored = stored_rows(part.select(rows.columns), record, ingested_at)
        written = offline.write_stream_file(record, day, f"ingest-{content}", stored, metadata=metadata)
        files.append(written.file)
    report = online.write(record, stored_rows(rows, record, ingested_at))
    return IngestReport(rows.height, tuple(files), report)
