"""Which catalog reads go by: the one that is published in the online store, else the registry's.

A client looks again every few seconds, in the course of a read. A server has it done in the background, so that no
request waits for the registry; while neither answers, what was last known serves on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.catalog import CATALOG_SECONDS, Catalog
from feature_store.errors import FeatureStoreError, OnlineStoreError
from feature_store.online.reading.memo import Memo

if TYPE_CHECKING:
    from feature_store.online.published_catalog import PublishedCatalog
    from feature_store.online.store import OnlineStore


@dataclass(frozen=True, slots=True)
class Known:
    """A catalog, and what has been worked out by it.

    Attributes:
        catalog: The catalog.
        published: Where it was read in the online store; None if it is the registry's.
        memo: What was worked out by it.
    """

    catalog: Catalog
    published: PublishedCatalog | None
    memo: Memo

    def memo_of(self, catalog: Catalog) -> Memo:
        """Returns what was worked out by a catalog: what this one's memo holds, if it is the same."""
        return self.memo if catalog is self.catalog else Memo()


class FollowedCatalog:
    """The catalog that reads go by.

    Args:
        online: Gives the online store.
        registered: Reads the registry's catalog; None where there is no registry.
    """

    def __init__(self, online: Callable[[], OnlineStore], registered: Callable[[], Catalog] | None) -> None:
        self._online = online
        self._registered = registered
        self._known: Known | None = None
        self._looked_at = float("-inf")
        self._in_background = False
        self._of_registry: Catalog | None = None
        self._registry_read_at = float("-inf")

    def forget(self) -> None:
        """Looks again at the next read."""
        self._looked_at = self._registry_read_at = float("-inf")

    def known(self) -> Known:
        """Returns what reads go by; looks again if that was long ago and nobody does it in the background.

        Raises:
            OnlineStoreError: If the online store does not answer, or holds no catalog and there is no registry.
            RegistryError: If the registry is needed and does not answer.
        """
        known = self._known
        if known is None or (not self._in_background and time.monotonic() - self._looked_at > CATALOG_SECONDS):
            now = time.monotonic()
            published = self._published()
            if published is None and self._registered is not None:
                self._read_registry()
            known = self._follow(published)
            self._looked_at = now
        return known

    def due(self) -> Known | None:
        """Returns what reads go by where nothing needs to be looked at, else None; for who must not wait here."""
        known = self._known
        if known is not None and (self._in_background or time.monotonic() - self._looked_at <= CATALOG_SECONDS):
            return known
        return None

    async def look(self) -> Known:
        """Looks again without blocking the event loop; errors as for `known`."""
        import asyncio

        now = time.monotonic()
        known = self._known
        if known is not None:
            # One looks; who comes meanwhile goes by what is known.
            self._looked_at = now
        try:
            published = await self._online().apublished(known.published if known else None)
            if published is None and self._registered is not None:
                await asyncio.to_thread(self._read_registry)
            followed = self._follow(published)
        except BaseException:
            self._looked_at = float("-inf")
            raise
        self._looked_at = now
        return followed

    def refresh(self) -> None:
        """Looks in the background, at the online store and at the registry; reads do not look themselves any more.

        What answers is taken, also where the other does not. That the online store does not answer is for reads to
        say, which need it themselves.

        Raises:
            OnlineStoreError: If no catalog is known, and there is no registry to ask.
            RegistryError: If the registry does not answer.
        """
        self._in_background = True
        published = self._known.published if self._known else None
        try:
            published = self._published()
        except OnlineStoreError:
            if self._registered is None and self._known is None:
                raise
        if published is not None:
            # Before the registry is asked, which may take its time.
            self._follow(published)
        if self._registered is not None:
            self._read_registry()
        if published is None:
            self._follow(None)

    def otherwise(self, catalog: Catalog) -> Catalog | None:
        """Returns the registry's catalog for what another lacks: registered while the online store was not there.

        Args:
            catalog: The other.

        Returns:
            None if there is no registry, if it does not answer, or knows nothing else.
        """
        if self._registered is None:
            return None
        try:
            registered = self._of_registry if self._in_background else self._recent()
        except FeatureStoreError:
            # Who only reads online need not reach the registry.
            return None
        return None if registered is None or registered is catalog else registered

    def _published(self) -> PublishedCatalog | None:
        return self._online().published(self._known.published if self._known else None)

    def _follow(self, published: PublishedCatalog | None) -> Known:
        catalog = self._of_registry if published is None else published.catalog
        if catalog is None:
            raise OnlineStoreError(
                "The online store holds no catalog, and there is no registry to ask: run `feature-store apply` where "
                "the registry is, with this online store, or pass registry=...."
            )
        known = self._known
        if known is None or known.catalog is not catalog or known.published is not published:
            known = self._known = Known(catalog, published, Memo() if known is None else known.memo_of(catalog))
        return known

    def _recent(self) -> Catalog | None:
        if self._of_registry is None or time.monotonic() - self._registry_read_at > CATALOG_SECONDS:
            self._read_registry()
        return self._of_registry

    def _read_registry(self) -> None:
        assert self._registered is not None
        now = time.monotonic()
        catalog = self._registered()
        # What has not changed stays the same object, and with it all that was worked out by it. What is registered
        # and what is published are mostly the same.
        known = self._known.catalog if self._known else None
        same = next((one for one in (self._of_registry, known) if one == catalog), None)
        self._of_registry = catalog if same is None else same
        self._registry_read_at = now
