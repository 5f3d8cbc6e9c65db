"""`OnlineRepair`: brings the online store to what the offline store says."""

from __future__ import annotations

from dataclasses import dataclass

from feature_store.changes.settling import SettlingReport
from feature_store.definitions.group import FeatureGroup
from feature_store.online.writer import WriteReport
from feature_store.reconcile.online_sample import OnlineSample, sample_online
from feature_store.reconcile.refill import push_online
from feature_store.reconcile.repair import repair_online
from feature_store.store.current_catalog import CurrentCatalog
from feature_store.store.parts import Parts


@dataclass(frozen=True, slots=True)
class OnlineRepair:
    """Looks for what the online store lacks, fills it, and takes away what it has too much.

    Attributes:
        parts: The parts of the feature store.
        catalog: What is registered.
    """

    parts: Parts
    catalog: CurrentCatalog

    def sample(self, group: FeatureGroup | str, *, turn: int = 0) -> OnlineSample:
        """Looks up some entities online that must be visible now; see `FeatureStore.sample_online`."""
        return sample_online(
            self.catalog.registered(group),
            catalog=self.catalog.read(),
            offline=self.parts.offline,
            online=self.parts.online,
            clock=self.parts.clock,
            turn=turn,
        )

    def push(self, group: FeatureGroup | str) -> WriteReport:
        """Fills the online store from the offline store; see `FeatureStore.push_online`."""
        self.catalog.publish_if_needed()
        registered = self.catalog.registered(group)
        return push_online(registered, offline=self.parts.offline, online=self.parts.online, clock=self.parts.clock)

    def repair(self, group: str) -> SettlingReport:
        """Makes the online store answer what the offline store says now; see `FeatureStore.repair_online`."""
        registered = self.catalog.registered(group)
        return repair_online(registered, offline=self.parts.offline, online=self.parts.online, clock=self.parts.clock)
