"""`CurrentCatalog`: what is registered now, read or followed, published for readers, and bound to definitions.

To change what is registered belongs to `store.registration`; which catalog online reads go by to `online.reading`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from feature_store.catalog import CATALOG_SECONDS, BoundGroup, Catalog, RegisteredGroup
from feature_store.definitions.feature_service import FeatureService
from feature_store.errors import OnlineStoreError, RegistryConflictError, UnknownFeatureError
from feature_store.resolution import Resolution
from feature_store.store.parts import Parts

if TYPE_CHECKING:
    from feature_store.definitions.group import FeatureGroup

_LOG = logging.getLogger(__name__)


class CurrentCatalog:
    """The catalog that writes and offline reads go by.

    Args:
        parts: The parts of the feature store.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._catalog: Catalog | None = None
        self._read_at = float("-inf")
        self._is_published = False
        self._followed: Callable[[], Catalog] | None = None

    def read(self) -> Catalog:
        """Returns what is registered, read again from the registry every few seconds."""
        if self._followed is not None:
            return self._followed()
        now = time.monotonic()
        if self._catalog is None or now - self._read_at > CATALOG_SECONDS:
            self._catalog = self._parts.registry.catalog()
            self._read_at = now
        return self._catalog

    def refresh(self) -> Catalog:
        """Reads the catalog again at once, where it is read here and not followed."""
        self._catalog = None
        return self.read()

    def follow(self, catalog: Callable[[], Catalog]) -> None:
        """Goes by a catalog that another keeps up to date: from now on reads and writes never wait for the registry.

        Args:
            catalog: Returns it at once.
        """
        self._followed = catalog

    def resolve(self, features: Sequence[str] | FeatureService) -> Resolution:
        """Returns what a list of features, or a feature service, stands for now.

        Raises:
            InvalidRequestError: If nothing is asked for, or a reference is malformed.
            UnknownFeatureError: If a feature is neither registered nor defined on demand.
        """
        return self._parts.resolve(self.read(), features)

    def bind(self, group: FeatureGroup) -> BoundGroup:
        """Binds a declared group to what is registered of it: the door through which definitions come in.

        Raises:
            UnknownFeatureError: If the group, or one of its features, has not been applied.
            RegistryConflictError: If its schema lacks a live feature: what is not computed would overwrite history.
        """
        from feature_store.registry.records import lacking_features

        declared = {spec.ref for spec in group.features}
        for attempt in range(2):
            registered = (self.read() if attempt == 0 else self.refresh()).group(group.name)
            live = {feature.ref for feature in registered.features}
            if declared == live:
                return BoundGroup(group.rows, registered.rows)
        if lacking := sorted(live - declared):
            raise RegistryConflictError(lacking_features(group.name, lacking))
        raise UnknownFeatureError(
            f"Feature group {group.name!r} declares {', '.join(map(str, sorted(declared - live)))}, not registered "
            "(or retired): run `feature-store apply`."
        )

    def registered(self, group: FeatureGroup | str) -> RegisteredGroup:
        """Returns the rows of a registered group, found by its name or by its declaration; errors as for `bind`."""
        return self.read().group(group).rows if isinstance(group, str) else self.bind(group).registered

    def publish(self) -> None:
        """Puts the registry's catalog into the online store, for readers without a registry.

        `apply`, `retire` and the first write of a process do it. Where several do at once, the newest catalog stays.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        published = None
        # Whoever writes last looks once more at what is registered then.
        while (catalog := self.refresh()) != published:
            self._parts.online.publish(catalog)
            published = catalog
        self._is_published = True
        self._parts.online_reads.followed.forget()

    def publish_if_needed(self) -> None:
        """Publishes the catalog if this process has not, or the online store has lost it since."""
        try:
            # What is followed may be older than what is published: it only takes the place of none.
            is_published = self._is_published or self._followed is not None
            if not is_published or not self._parts.online.has_catalog():
                self.publish()
        except OnlineStoreError as error:
            # What is registered stays so. Readers with a registry ask it; the others wait for the next apply or write.
            _LOG.warning("The catalog was not published to the online store: %s", error)

    def publish_changes(self) -> None:
        """Forgets what was read before the registry was changed, and publishes what it holds now."""
        self._catalog = None
        self._is_published = False
        self._parts.online_reads.followed.forget()
        # To register something is no reason to start a server; its first write publishes.
        if not self._parts.would_start_server():
            self.publish_if_needed()
