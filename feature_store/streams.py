"""Streams meet the stores here: wiring, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.changes.streaming_rows import StreamedRows
from feature_store.errors import OnlineStoreError
from feature_store.extras import needs_extra

with needs_extra("stream", "A stream"):
    from feature_store.streaming.streamer import Streamer

if TYPE_CHECKING:
    from feature_store.catalog import Group
    from feature_store.clock import Clock
    from feature_store.definitions.event_stream import EventStream
    from feature_store.definitions.group import FeatureGroup
    from feature_store.offline.store import OfflineStore
    from feature_store.online.store import OnlineStore
    from feature_store.streaming.metrics import StreamMetrics
    from feature_store.streaming.settings import StreamSettings


def open_streamer(
    group: FeatureGroup,
    stream: EventStream,
    settings: StreamSettings,
    *,
    record: Group,
    offline: OfflineStore,
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
        delivery=StreamedRows(record, offline, online, clock),
        metrics=metrics,
        may_wait=OnlineStoreError,
    )
