"""`Monitoring`: judges what is stored and what is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from feature_store.clock import to_utc
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import SettingsError
from feature_store.monitoring.checks import PartitionMonitor
from feature_store.monitoring.consistency import ConsistencyReport, check_consistency
from feature_store.monitoring.findings import CheckResult
from feature_store.monitoring.freshness import check_freshness, freshness_of
from feature_store.monitoring.online_monitor import OnlineMonitorReport, monitor_online
from feature_store.monitoring.preparing import baselines, prepare_monitor, thresholds_of, trained_baselines
from feature_store.monitoring.replay import ReplayReport, replay_requests
from feature_store.monitoring.window_baselines import window_baselines
from feature_store.offline.latest import sampled_entities
from feature_store.store.current_catalog import CurrentCatalog
from feature_store.store.parts import Parts


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Watches partitions, online values, their agreement, and what was served.

    Attributes:
        parts: The parts of the feature store.
        catalog: What is registered.
    """

    parts: Parts
    catalog: CurrentCatalog

    def partitions(self, group: FeatureGroup, start: datetime) -> PartitionMonitor:
        """Returns what judges a group's partitions from `start` on; see `monitoring.checks`."""
        bound = self.catalog.bind(group)
        return prepare_monitor(bound, start, offline=self.parts.offline, registry=self.parts.registry)

    def check_freshness(self, group: FeatureGroup) -> CheckResult:
        """Compares the newest event of a group with the freshness that it promises; see `monitoring.freshness`."""
        bound = self.catalog.bind(group)
        return check_freshness(freshness_of(bound, offline=self.parts.offline, now=self.parts.clock.now()))

    def check_consistency(
        self, group: str, *, entities: int, turn: int = 0, entity_ids: Sequence[str] | None = None
    ) -> ConsistencyReport:
        """Compares what is online with what the offline store says; see `FeatureStore.check_consistency`."""
        catalog = self.catalog.read()
        return check_consistency(
            catalog.group(group),
            catalog=catalog,
            offline=self.parts.offline,
            online=self.parts.online,
            engine=self.parts.engine,
            clock=self.parts.clock,
            entities=entities,
            turn=turn,
            entity_ids=entity_ids,
        )

    def run(self, group: FeatureGroup, *, entities: int) -> OnlineMonitorReport:
        """Measures, records and judges a sample of a group's online values; see `FeatureStore.run_monitor`."""
        bound = self.catalog.bind(group)
        parts, now = self.parts, self.parts.clock.now()
        catalog = self.catalog.read()
        registered = catalog.group(group.name)
        if group.is_windowed:
            ids = sampled_entities(parts.offline, registered.rows, now, entities)
            thresholds = thresholds_of(group)
            folded = window_baselines(
                registered, ids, now, thresholds, catalog=catalog, offline=parts.offline, engine=parts.engine
            )
            known = {**folded, **trained_baselines(registered, parts.registry, thresholds).baselines}
        else:
            known = baselines(bound, now, offline=parts.offline, registry=parts.registry)
        return monitor_online(
            registered,
            catalog=catalog,
            offline=parts.offline,
            online=parts.online,
            registry=parts.registry,
            engine=parts.engine,
            clock=parts.clock,
            baselines=known,
            thresholds=thresholds_of(group),
            entities=entities,
        )

    def replay_requests(
        self, *, groups: Sequence[str] | None = None, since: datetime | None = None, folder: str | Path | None = None
    ) -> ReplayReport:
        """Compares the answers in the request log with the point-in-time rule; see `FeatureStore.replay_requests`."""
        if folder is None:
            log = self.parts.request_log
            if log is None:
                raise SettingsError(
                    "This feature store keeps no request log: set FEATURE_STORE_REQUEST_LOG to a folder, or pass one."
                )
            log.flush()
            folder = log.folder
        return replay_requests(
            folder,
            catalog=self.catalog.read(),
            offline=self.parts.offline,
            online=self.parts.online,
            engine=self.parts.engine,
            clock=self.parts.clock,
            groups=groups,
            since=None if since is None else to_utc(since),
        )
