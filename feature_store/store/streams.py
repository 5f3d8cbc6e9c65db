"""`Streams`: streams meet the stores here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.errors import OnlineStoreError
from feature_store.extras import needs_extra
from feature_store.offline.stream_files import StreamFiles
from feature_store.store.current_catalog import CurrentCatalog
from feature_store.store.parts import Parts

if TYPE_CHECKING:
    from datetime import timedelta

    from feature_store.definitions.event_stream import EventStream
    from feature_store.definitions.group import FeatureGroup
    from feature_store.offline.stream_files import CompactionReport
    from feature_store.streaming.drainer import Drainer
    from feature_store.streaming.metrics import StreamMetrics
    from feature_store.streaming.settings import StreamSettings
    from feature_store.streaming.streamer import Streamer


@dataclass(frozen=True, slots=True)
class Streams:
    """Opens streamers and drainers, and folds their files.

    Attributes:
        parts: The parts of the feature store.
        catalog: What is registered.
    """

    parts: Parts
    catalog: CurrentCatalog

    def streamer(
        self,
        group: FeatureGroup,
        stream: EventStream,
        settings: StreamSettings,
        metrics: StreamMetrics | None = None,
    ) -> Streamer:
        """Returns what runs a group on its stream of events; see `FeatureStore.streamer`.

        Raises:
            SettingsError: If the packages that streams need are not installed.
        """
        with needs_extra("stream", "A stream"):
            from feature_store.streaming.streamer import Streamer
        from feature_store.changes.streaming_rows import StreamedRows
        from feature_store.offline.stream_state import StreamStateFiles

        bound = self.catalog.bind(group)
        self.catalog.publish_if_needed()
        clock = self.parts.clock
        return Streamer(
            bound,
            stream,
            settings,
            clock=clock,
            delivery=StreamedRows(bound.registered, self.parts.offline, self.parts.online, clock),
            files=StreamStateFiles(self.parts.offline.root, group.name),
            metrics=metrics,
            may_wait=OnlineStoreError,
        )

    def drainer(self, group: FeatureGroup, settings: StreamSettings) -> Drainer:
        """Returns what carries a group's rows from its topic into the offline store; see `FeatureStore.drainer`.

        Raises:
            SettingsError: If the packages that streams need are not installed.
        """
        with needs_extra("stream", "A stream"):
            from feature_store.streaming.drainer import Drainer
        from feature_store.changes.streaming_rows import DrainedRows

        registered = self.catalog.registered(group)
        notes = DrainedRows(registered, self.parts.offline, self.parts.online, self.parts.clock)
        return Drainer(registered, settings, self.files(group), notes)

    def files(self, group: FeatureGroup) -> StreamFiles:
        """Returns the files that streams have written for a group; see `FeatureStore.stream_files`."""
        return StreamFiles(self.parts.offline, self.catalog.registered(group))

    def compact(self, group: FeatureGroup, *, grace: timedelta) -> CompactionReport:
        """Folds what ingest, pushes and streams have left as files; see `FeatureStore.compact`."""
        return self.files(group).compact(grace_seconds=grace.total_seconds())
