"""Streams meet the stores here: a streamer that writes online, a drainer that writes offline.

Wiring, and the one thing that needs both: to take back a row online.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import OnlineStoreError, SettingsError
from feature_store.frames import entity_id_expression

try:
    from feature_store.streaming.streamer import Streamer
except ModuleNotFoundError as missing:  # pragma: no cover - an installation without the extra
    raise SettingsError(f"Streams need the package {missing.name!r}: pip install 'feature-store[stream]'.") from None

if TYPE_CHECKING:
    from datetime import datetime

    from feature_store.catalog import Catalog, Group
    from feature_store.clock import Clock
    from feature_store.definitions.event_stream import EventStream
    from feature_store.definitions.group import FeatureGroup
    from feature_store.online.store import OnlineStore
    from feature_store.streaming.metrics import StreamMetrics
    from feature_store.streaming.settings import StreamSettings


def open_streamer(
    group: FeatureGroup,
    stream: EventStream,
    settings: StreamSettings,
    *,
    record: Group,
    catalog: Catalog,
    online: OnlineStore,
    clock: Clock,
    metrics: StreamMetrics | None = None,
) -> Streamer:
    """Returns the streamer of a group, writing to an online store."""
    return Streamer(
        group,
        record,
        stream,
        settings,
        clock=clock,
        write_online=lambda rows: online.write(record, rows),
        remove_online=lambda rows: remove_online(online, catalog, record, rows),
        metrics=metrics,
        may_wait=OnlineStoreError,
    )


def remove_online(online: OnlineStore, catalog: Catalog, record: Group, rows: pl.DataFrame) -> int:
    """Removes rows, given with join keys and event times, where they are what stands online; returns how many.

    A row of another time, or one that is written meanwhile, stays.

    Raises:
        OnlineStoreError: If the server refuses, or does not answer.
    """
    from feature_store.online.repair import Remover

    times: dict[str, set[datetime]] = {}
    for entity_id, time in rows.select(entity_id_expression(record.entity), EVENT_TIMESTAMP).iter_rows():
        times.setdefault(entity_id, set()).add(time)
    remover = Remover(online, record)
    # Looked at first, read then: a row that changes in between is not removed.
    seen = remover.look(list(times))
    selections = catalog.select([record.name])[:1]
    states = online.read_states(list(seen), selections, catalog)
    gone = {
        entity_id: raw
        for (entity_id, raw), state in zip(seen.items(), states, strict=True)
        if next(iter(state.values())).event_timestamp in times[entity_id]
    }
    return remover.remove(gone)
