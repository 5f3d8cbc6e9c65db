"""Online reads as `FeatureStore` offers them: by which catalog, and with what has been worked out before.

A request is resolved and prepared once, and remembered until the catalog changes. Reading itself belongs to `online`,
computing on-demand features to `transform.on_demand`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feature_store.catalog import CATALOG_SECONDS, Catalog
from feature_store.definitions.feature_service import FeatureService
from feature_store.errors import FeatureStoreError, InvalidRequestError, OnlineStoreError, UnknownFeatureError
from feature_store.resolution import Resolution

if TYPE_CHECKING:
    import polars as pl

    from feature_store.monitoring.request_log import RequestLog
    from feature_store.online.published_catalog import PublishedCatalog
    from feature_store.online.reader import FeatureState, PreparedRead
    from feature_store.online.store import OnlineStore

Requested = Sequence[str] | FeatureService
RequestData = Mapping[str, Sequence[Any]] | None

MOST_REQUESTS = 512
"""Requests remembered, so that a client which never asks twice for the same does not fill the memory."""


@dataclass(frozen=True, slots=True)
class _Request:
    resolution: Resolution
    prepared: PreparedRead


@dataclass(frozen=True, slots=True)
class _Known:
    """A catalog, and the requests that were resolved by it."""

    catalog: Catalog
    published: PublishedCatalog | None
    requests: dict[object, _Request]


class OnlineReads:
    """Answers requests for online features.

    The catalog is the one that is published in the online store, which is looked at again every few seconds; where
    none is published, the registry's. A feature that the published catalog lacks is looked up in the registry.

    Args:
        online: Gives the online store.
        registered: Gives the registry's catalog; None where there is no registry.
        resolve: Resolves a request against a catalog.
        log: Keeps a sample of what is answered as dicts; None for no log.
    """

    def __init__(
        self,
        online: Callable[[], OnlineStore],
        registered: Callable[[], Catalog] | None,
        resolve: Callable[[Catalog, Requested], Resolution],
        log: RequestLog | None = None,
    ) -> None:
        self._online = online
        self._registered = registered
        self._resolve = resolve
        self._log = log
        self._known: _Known | None = None
        self._looked_at = float("-inf")

    def forget_catalog(self) -> None:
        """Looks at the published catalog again at the next read."""
        self._looked_at = float("-inf")

    def catalog(self) -> Catalog:
        """Returns the catalog that online reads go by.

        Raises:
            OnlineStoreError: If the online store does not answer, or holds no catalog and there is no registry.
        """
        return self._up_to_date().catalog

    def values(self, entity_ids: Sequence[str], features: Requested, request_data: RequestData) -> list[dict[str, Any]]:
        """Returns what is visible now, a dict per entity; see `FeatureStore.get_online_features_batch`."""
        request = self._request(self._up_to_date(), features)
        rows = request.prepared.values(entity_ids)
        if self._log is not None:
            self._log.offer(entity_ids, request.resolution.selections, rows)
        return rows if _as_stored(request, request_data) else _computed(request, rows, request_data)

    async def avalues(
        self, entity_ids: Sequence[str], features: Requested, request_data: RequestData
    ) -> list[dict[str, Any]]:
        """Does what `values` does, without blocking the event loop."""
        request = self._request(await self._aup_to_date(), features)
        rows = await request.prepared.avalues(entity_ids)
        if self._log is not None:
            self._log.offer(entity_ids, request.resolution.selections, rows)
        return rows if _as_stored(request, request_data) else _computed(request, rows, request_data)

    def states(self, entity_ids: Sequence[str], features: Requested) -> list[dict[str, FeatureState]]:
        """Returns values with statuses and times; see `FeatureStore.get_online_statuses`."""
        request = self._request(self._up_to_date(), features)
        _check_stored(request)
        return request.prepared.states(entity_ids)

    async def astates(self, entity_ids: Sequence[str], features: Requested) -> list[dict[str, FeatureState]]:
        """Does what `states` does, without blocking the event loop."""
        request = self._request(await self._aup_to_date(), features)
        _check_stored(request)
        return await request.prepared.astates(entity_ids)

    def frame(self, entity_ids: Sequence[str], features: Requested, request_data: RequestData) -> pl.DataFrame:
        """Returns what is visible now as a frame; see `FeatureStore.get_online_features_frame`."""
        request = self._request(self._up_to_date(), features)
        if _as_stored(request, request_data):
            return request.prepared.frame(entity_ids)
        return _frame(request, entity_ids, _computed(request, request.prepared.values(entity_ids), request_data))

    async def aframe(self, entity_ids: Sequence[str], features: Requested, request_data: RequestData) -> pl.DataFrame:
        """Does what `frame` does, without blocking the event loop."""
        request = self._request(await self._aup_to_date(), features)
        if _as_stored(request, request_data):
            return await request.prepared.aframe(entity_ids)
        rows = await request.prepared.avalues(entity_ids)
        return _frame(request, entity_ids, _computed(request, rows, request_data))

    def _up_to_date(self) -> _Known:
        now = time.monotonic()
        known = self._known
        if known is None or now - self._looked_at > CATALOG_SECONDS:
            published = self._online().published(known.published if known else None)
            known = self._known = self._following(known, published, None if published else self._of_registry())
            self._looked_at = now
        return known

    async def _aup_to_date(self) -> _Known:
        now = time.monotonic()
        known = self._known
        if known is not None and now - self._looked_at <= CATALOG_SECONDS:
            return known
        if known is not None:
            # One looks; who comes meanwhile goes by what is known.
            self._looked_at = now
        published = await self._online().apublished(known.published if known else None)
        registered = None
        if published is None:
            import asyncio

            registered = await asyncio.to_thread(self._of_registry)
        known = self._known = self._following(known, published, registered)
        self._looked_at = now
        return known

    def _following(
        self, known: _Known | None, published: PublishedCatalog | None, registered: Catalog | None
    ) -> _Known:
        catalog = published.catalog if published else registered
        if catalog is None:
            raise OnlineStoreError(
                "The online store holds no catalog, and there is no registry to ask: run `feature-store apply` where "
                "the registry is, with this online store, or pass registry=...."
            )
        if known is not None and known.catalog is catalog:
            return known
        return _Known(catalog, published, {})

    def _of_registry(self) -> Catalog | None:
        return self._registered() if self._registered is not None else None

    def _request(self, known: _Known, features: Requested) -> _Request:
        key = features if isinstance(features, str | FeatureService) else tuple(features)
        try:
            found = known.requests.get(key)
        except TypeError:
            # Something that is no text; resolving says what.
            return self._worked_out(known.catalog, features)
        if found is None:
            found = self._worked_out(known.catalog, features)
            if len(known.requests) >= MOST_REQUESTS:
                known.requests.clear()
            known.requests[key] = found
        return found

    def _worked_out(self, catalog: Catalog, features: Requested) -> _Request:
        try:
            resolution = self._resolve(catalog, features)
        except UnknownFeatureError:
            # Registered where the online store could not be reached, perhaps.
            registered = self._otherwise_registered(catalog)
            if registered is None:
                raise
            catalog = registered
            resolution = self._resolve(catalog, features)
        catalog.entity_of(resolution.selections)
        return _Request(resolution, self._online().prepare(resolution.selections, catalog))

    def _otherwise_registered(self, catalog: Catalog) -> Catalog | None:
        if self._registered is None:
            return None
        try:
            registered = self._registered()
        except FeatureStoreError:
            # Who only reads online need not reach the registry.
            return None
        return None if registered == catalog else registered


def _as_stored(request: _Request, request_data: RequestData) -> bool:
    return not request.resolution.computations and not request_data


def _check_stored(request: _Request) -> None:
    if request.resolution.computations:
        names = sorted({label for computation in request.resolution.computations for label in computation.outputs})
        raise InvalidRequestError(
            f"{', '.join(names)} are computed on demand and have no status: ask for the stored features they need."
        )


def _computed(request: _Request, rows: list[dict[str, Any]], request_data: RequestData) -> list[dict[str, Any]]:
    from feature_store.transform.on_demand import compute_online

    return compute_online(request.resolution, rows, request_data)


def _frame(request: _Request, entity_ids: Sequence[str], rows: list[dict[str, Any]]) -> pl.DataFrame:
    import polars as pl

    from feature_store.definitions.names import ENTITY_ID
    from feature_store.frames import polars_type

    resolution = request.resolution
    dtypes = {selection.label: selection.feature.dtype for selection in resolution.selections}
    for computation in resolution.computations:
        declared = {spec.ref.column: spec.dtype for spec in computation.functions.features}
        dtypes |= {label: declared[column] for label, column in computation.outputs.items()}
    schema = {label: polars_type(dtypes[label]) for label in resolution.labels}
    ids = pl.Series(ENTITY_ID, entity_ids, dtype=pl.String)
    return pl.DataFrame(rows, schema=schema).select(ids, pl.all())
