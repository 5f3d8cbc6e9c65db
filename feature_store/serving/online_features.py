"""`POST /v1/online-features`: the hot route. It resolves, reads together with others, and encodes; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from feature_store.errors import InvalidRequestError
from feature_store.online.reader import FeatureState
from feature_store.online.shared_reads import SharedRead
from feature_store.serving.answers import encode, spell_infinities
from feature_store.serving.calls import Call, Reply
from feature_store.serving.coalescing import Coalescer
from feature_store.serving.metrics import Metrics
from feature_store.serving.problems import HttpError
from feature_store.serving.served import Resolved, Served, entity_ids_of

Reference = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,62}(:v[1-9][0-9]{0,5})?$")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class OnlineFeaturesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Entities and features; either of the two pairs of fields, each by one of its two fields.

    Attributes:
        entity_ids: Ids as text; those of several join keys are joined by `|`.
        entities: Join key to one value per entity.
        features: References, and names of feature groups and on-demand features.
        feature_service: Name of a feature service.
        request_data: What on-demand features need: name to one value per entity.
        statuses: Whether to answer the status and event time of every value.
    """

    entity_ids: list[str] | UnsetType = UNSET
    entities: dict[str, list[str | int]] | UnsetType = UNSET
    features: list[str] | UnsetType = UNSET
    feature_service: str | UnsetType = UNSET
    request_data: dict[str, list[Any]] | UnsetType = UNSET
    statuses: bool = False


class OnlineFeaturesAnswer(msgspec.Struct, omit_defaults=True):
    """Values: one row per entity in the order of the request, one column per feature.

    Attributes:
        features: What the columns are called.
        values: Rows of values; null for what is null, missing or expired.
        statuses: Rows of `present`, `null`, `missing` or `expired`.
        event_timestamps: Rows of the time that each value became knowable; null where there is none.
    """

    features: Sequence[str]
    values: list[list[Any]]
    statuses: list[list[str]] | UnsetType = UNSET
    event_timestamps: list[list[Any]] | UnsetType = UNSET


class OnlineFeatures:
    """Answers online features.

    Args:
        served: What is served.
        coalescer: Reads the online store.
        metrics: Counts values.
        most_values: Greatest number of entities x features.
    """

    def __init__(self, served: Served, coalescer: Coalescer, metrics: Metrics, most_values: int) -> None:
        self._served = served
        self._coalescer = coalescer
        self._metrics = metrics
        self._most_values = most_values
        self._decoder = msgspec.json.Decoder(OnlineFeaturesRequest)

    async def __call__(self, call: Call) -> Reply:
        """Answers `POST /v1/online-features`."""
        request = await call.json(self._decoder)
        resolved = self._resolved(request)
        call.access.check_read(resolved.groups)
        ids = _entity_ids(resolved, request)
        call.notes["entities"] = len(ids)
        call.notes["features"] = len(resolved.resolution.labels)
        data = None if isinstance(request.request_data, UnsetType) else request.request_data
        rows = await self.read(resolved, ids, data, states=request.statuses)
        labels = resolved.resolution.labels
        if not request.statuses:
            return Reply(encode(OnlineFeaturesAnswer(labels, values_of(resolved, rows))))
        cells: list[list[FeatureState]] = [[row[label] for label in labels] for row in rows]
        return Reply(
            encode(
                OnlineFeaturesAnswer(
                    labels,
                    values_of(resolved, [{label: state.value for label, state in row.items()} for row in rows]),
                    [[state.status for state in row] for row in cells],
                    [[state.event_timestamp for state in row] for row in cells],
                )
            )
        )

    async def read(
        self,
        resolved: Resolved,
        entity_ids: Sequence[str],
        request_data: Mapping[str, Sequence[Any]] | None,
        *,
        states: bool,
    ) -> list[dict[str, Any]]:
        """Returns a value or a `FeatureState` per entity and label, on-demand features included.

        Raises:
            HttpError: 413, if that is too much for one request.
            InvalidRequestError: If an entity id or the request data cannot be used.
            OnlineStoreError: If the store does not answer.
        """
        resolution = resolved.resolution
        values = len(entity_ids) * max(len(resolution.labels), len(resolution.selections))
        self.check_size(values)
        rows = await self._coalescer.read(SharedRead(resolved.prepared, entity_ids, states), values)
        if resolution.computations or request_data:
            from feature_store.transform.on_demand import compute_online

            stored = [{label: state.value for label, state in row.items()} for row in rows] if states else rows
            computed = await asyncio.to_thread(compute_online, resolution, stored, request_data)
            rows = [_with_states(*pair) for pair in zip(computed, rows, strict=True)] if states else computed
        self._metrics.values.inc(values)
        return rows

    def check_size(self, values: int) -> None:
        """Refuses requests of too many values.

        Raises:
            HttpError: 413, if there are more than the limit.
        """
        if values > self._most_values:
            raise HttpError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The request asks for {values:,} values, one answers at most {self._most_values:,}: ask for fewer "
                "entities or features at once.",
            )

    def _resolved(self, request: OnlineFeaturesRequest) -> Resolved:
        features, service = request.features, request.feature_service
        if isinstance(features, UnsetType) and not isinstance(service, UnsetType):
            return self._served.resolve(self._served.features_of(service))
        if isinstance(features, UnsetType) or not isinstance(service, UnsetType):
            raise InvalidRequestError("Say what to read: either 'features' or 'feature_service'.")
        return self._served.resolve(features)


def values_of(resolved: Resolved, rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Returns rows of values in the order of the labels, ready to be encoded."""
    labels, floats = resolved.resolution.labels, resolved.floats
    values = [[row[label] for label in labels] for row in rows]
    if floats:
        for row in values:
            spell_infinities(row, floats)
    return values


def _entity_ids(resolved: Resolved, request: OnlineFeaturesRequest) -> list[str]:
    ids, entities = request.entity_ids, request.entities
    if isinstance(ids, UnsetType) and not isinstance(entities, UnsetType):
        return entity_ids_of(resolved.entity, entities)
    if isinstance(ids, UnsetType) or not isinstance(entities, UnsetType):
        raise InvalidRequestError("Say whose features to read: either 'entity_ids' or 'entities'.")
    return ids


def _with_states(computed: Mapping[str, Any], stored: Mapping[str, FeatureState]) -> dict[str, FeatureState]:
    return {
        label: stored.get(label) or FeatureState(value, "null" if value is None else "present", None, None)
        for label, value in computed.items()
    }
