"""`Registration`: changes what is registered, and tells the online store of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.catalog import Catalog
from feature_store.errors import RegistryError
from feature_store.store.current_catalog import CurrentCatalog
from feature_store.store.parts import Parts

if TYPE_CHECKING:
    from feature_store.definitions.group import FeatureGroup
    from feature_store.definitions.names import FeatureRef
    from feature_store.registry.records import ApplyReport


@dataclass(frozen=True, slots=True)
class Registration:
    """Registers and retires.

    Attributes:
        parts: The parts of the feature store.
        catalog: What is registered.
    """

    parts: Parts
    catalog: CurrentCatalog

    def apply(self, groups: Sequence[FeatureGroup]) -> ApplyReport:
        """Registers feature groups; see `FeatureStore.apply`."""
        before = self._catalog_if_any()
        report = self.parts.registry.apply(groups)
        self.catalog.publish_changes()
        self._refill_later(before, [group.name for group in groups])
        return report

    def retire(self, ref: FeatureRef) -> None:
        """Retires a version of a feature; see `FeatureStore.retire`."""
        self.parts.registry.retire(ref)
        self.catalog.publish_changes()

    def _catalog_if_any(self) -> Catalog | None:
        """Returns what is registered; None where nothing was ever applied. What else is wrong, `apply` says."""
        try:
            return self.parts.registry.catalog()
        except RegistryError:
            return None

    def _refill_later(self, before: Catalog | None, groups: Sequence[str]) -> None:
        """Marks groups of which rows are visible from now on that the online store no longer holds.

        The next write, repair or look of a sensor brings them online, before any older row could take their place.
        """
        if before is None:
            return
        from feature_store.reconcile.refill import shows_more

        after = self.catalog.refresh()
        for name in groups:
            former, group = before.groups.get(name), after.groups.get(name)
            if former is not None and group is not None and shows_more(former, group):
                from feature_store.offline.unfinished import leave_unfinished

                leave_unfinished(self.parts.offline.root, name, self.parts.clock.now())
