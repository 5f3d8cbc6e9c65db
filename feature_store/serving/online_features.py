"""`POST /v1/online-features`: the hot route. It decodes a request, has it answered, and encodes; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from feature_store.errors import InvalidRequestError
from feature_store.online.reading.prepared import FeatureState, Form
from feature_store.online.reading.requests import Request, RequestData
from feature_store.serving.answers import Pieces, encode, spell_infinities, spelled_decimals
from feature_store.serving.calls import Call, Reply
from feature_store.serving.entities import Entities, columns_of, sliced
from feature_store.serving.limits import Limits
from feature_store.serving.metrics import Metrics
from feature_store.serving.served import Served

_SLICED_AT_ONCE = 2
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

    Requests of many values are answered in slices, one after another, so that all other requests go on.

    Args:
        served: What is served.
        metrics: Counts values.
        limits: What one request may ask for.

    Attributes:
        slicing: Held by requests that are answered in slices.
    """

    def __init__(self, served: Served, metrics: Metrics, limits: Limits) -> None:
        self._served = served
        self._metrics = metrics
        self._limits = limits
        self._decoder = msgspec.json.Decoder(OnlineFeaturesRequest)
        self.slicing = asyncio.Semaphore(_SLICED_AT_ONCE)

    async def __call__(self, call: Call) -> Reply:
        """Answers `POST /v1/online-features`."""
        request = await call.json(self._decoder)
        resolved = self._remembered(request) or await self._resolved(request)
        call.access.check_read(resolved.groups)
        entities = _entities(resolved, request)
        count = len(entities)
        labels = resolved.resolution.labels
        call.notes["entities"] = count
        call.notes["features"] = len(labels)
        self._limits.check_values(count, resolved.width)
        data = None if isinstance(request.request_data, UnsetType) else request.request_data
        form: Form = "states" if request.statuses else "rows"
        slices = sliced(count, resolved.width)
        if len(slices) == 1:
            rows = await self.read(resolved, entities.ids(), data, form)
            return Reply(encode(OnlineFeaturesAnswer(labels, *_columns(resolved, rows, form))))
        check_lengths(data, count)
        columns = [Pieces() for _ in range(3 if request.statuses else 1)]
        async with self.slicing:
            for part in slices:
                of_part = None if data is None else columns_of(data, part)
                rows = await self.read(resolved, entities.ids(part), of_part, form)
                for column, piece in zip(columns, _columns(resolved, rows, form), strict=True):
                    column.add(piece)
        return Reply(encode(OnlineFeaturesAnswer(labels, *(column.json() for column in columns))))

    async def read(
        self, request: Request, entity_ids: Sequence[str], request_data: RequestData, form: Form
    ) -> list[Any]:
        """Returns rows of values or of `FeatureState`s in a form, one per entity, on-demand features included.

        Raises:
            InvalidRequestError: If an entity id or the request data cannot be used.
            OnlineStoreError: If the store does not answer.
        """
        resolution = request.resolution
        values = len(entity_ids) * max(len(resolution.labels), len(resolution.selections))
        rows: list[Any] = await self._served.reads.answer(request, entity_ids, request_data, form)
        self._metrics.values.inc(values)
        return rows

    def _remembered(self, request: OnlineFeaturesRequest) -> Request | None:
        """Returns what was resolved before, so that neither the names are looked at again, nor the event loop asked."""
        features = request.features
        if isinstance(features, UnsetType) or not isinstance(request.feature_service, UnsetType):
            return None
        # Others may have asked for as many, by a feature service.
        return self._served.reads.remembered(features) if len(features) <= self._limits.columns else None

    async def _resolved(self, request: OnlineFeaturesRequest) -> Request:
        features, service = request.features, request.feature_service
        if isinstance(features, UnsetType) and not isinstance(service, UnsetType):
            return await self._served.reads.arequest(self._served.features_of(service))
        if isinstance(features, UnsetType) or not isinstance(service, UnsetType):
            raise InvalidRequestError("Say what to read: either 'features' or 'feature_service'.")
        self._limits.check_features(features)
        return await self._served.reads.arequest(features)


def spelled(resolved: Request, rows: list[list[Any]]) -> list[list[Any]]:
    """Returns rows of values in the order of the labels, ready to be encoded; they are changed in place."""
    floats, decimals = resolved.floats, resolved.decimals
    if floats:
        for row in rows:
            spell_infinities(row, floats)
    for place in decimals:
        for row in rows:
            row[place] = spelled_decimals(row[place])
    return rows


def check_lengths(request_data: RequestData, entities: int) -> None:
    """Checks that request data can be cut into slices.

    Raises:
        InvalidRequestError: If there is not one value per entity.
    """
    for name, values in (request_data or {}).items():
        if len(values) != entities:
            raise InvalidRequestError(
                f"Request data {name!r} need one value per entity, {entities} in all, got {len(values)}."
            )


def _columns(resolved: Request, rows: list[Any], form: Form) -> list[list[Any]]:
    """Returns rows of values and, if asked for, of statuses and event times."""
    if form == "rows":
        return [spelled(resolved, rows)]
    labels = resolved.resolution.labels
    cells: list[list[FeatureState]] = [[row[label] for label in labels] for row in rows]
    return [
        spelled(resolved, [[state.value for state in row] for row in cells]),
        [[state.status for state in row] for row in cells],
        [[state.event_timestamp for state in row] for row in cells],
    ]


def _entities(resolved: Request, request: OnlineFeaturesRequest) -> Entities:
    ids, entities = request.entity_ids, request.entities
    if isinstance(ids, UnsetType) and not isinstance(entities, UnsetType):
        return Entities(resolved.entity, None, entities)
    if isinstance(ids, UnsetType) or not isinstance(entities, UnsetType):
        raise InvalidRequestError("Say whose features to read: either 'entity_ids' or 'entities'.")
    return Entities(resolved.entity, ids, {})
