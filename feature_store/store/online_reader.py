"""`OnlineReader`: what a model server asks of a feature store, from threads and from event loops.

Nothing here needs Polars before a frame is asked for, or something is computed on demand. How a request is answered
belongs to `online.reading`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from feature_store.definitions.feature_service import FeatureService
from feature_store.store.opening import OpenedStore

if TYPE_CHECKING:
    import polars as pl

    from feature_store.online.reading.prepared import FeatureState


class OnlineReader(OpenedStore):
    """A feature store that answers requests for online features; see `FeatureStore`."""

    def get_online_features(
        self, entity_id: str, features: Sequence[str] | FeatureService, *, request_data: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Returns what is visible now of one entity.

        Args:
            entity_id: The entity's id; see `Entity.entity_id`.
            features: References (`seats`, `seats:v1`), names of feature groups and of on-demand features, of one
                entity; or a feature service.
            request_data: What on-demand features need to know of the request, by name.

        Returns:
            Value by label, in order: the reference as given; for a group the names of its features. None where
            the value is null, unknown, or past its time to live. Timestamps are aware UTC datetimes, embeddings
            lists of floats.

        Raises:
            UnknownFeatureError: If a feature is not registered.
            InvalidRequestError: If the features describe several entities, the id is malformed, or request data are
                missing or of another type.
            OnlineStoreError: If the online store does not answer.
        """
        return self.online_reads.values((entity_id,), features, _one_each(request_data))[0]

    def get_online_features_batch(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """Returns what is visible now of several entities, one dict each, in order; see `get_online_features`.

        Request data are one value per entity.
        """
        return self.online_reads.values(entity_ids, features, request_data)

    def get_online_features_frame(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> pl.DataFrame:
        """Returns the same as a Polars frame: one row per entity id, in order, `entity_id` and a column per label.

        Columns have the types of their features, whatever is null. `.to_arrow()` gives an Arrow table without a copy,
        `.to_numpy()` an array.
        """
        return self.online_reads.frame(entity_ids, features, request_data)

    def get_online_statuses(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[dict[str, FeatureState]]:
        """Returns the values with the reason for each: present, null, missing or expired, and the row's times.

        On-demand features are `present`, or `null`, and have no times: they are computed, and stand in no row.
        """
        return self.online_reads.states(entity_ids, features, request_data)

    async def aget_online_features(
        self, entity_id: str, features: Sequence[str] | FeatureService, *, request_data: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Does what `get_online_features` does, without blocking the event loop."""
        return (await self.online_reads.avalues((entity_id,), features, _one_each(request_data)))[0]

    async def aget_online_features_batch(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """Does what `get_online_features_batch` does, without blocking the event loop."""
        return await self.online_reads.avalues(entity_ids, features, request_data)

    async def aget_online_features_frame(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> pl.DataFrame:
        """Does what `get_online_features_frame` does, without blocking the event loop."""
        return await self.online_reads.aframe(entity_ids, features, request_data)

    async def aget_online_statuses(
        self,
        entity_ids: Sequence[str],
        features: Sequence[str] | FeatureService,
        *,
        request_data: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[dict[str, FeatureState]]:
        """Does what `get_online_statuses` does, without blocking the event loop."""
        return await self.online_reads.astates(entity_ids, features, request_data)


def _one_each(request_data: Mapping[str, Any] | None) -> dict[str, list[Any]] | None:
    return None if request_data is None else {name: [value] for name, value in request_data.items()}
