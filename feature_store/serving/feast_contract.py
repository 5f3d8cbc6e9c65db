"""Feast's HTTP contract: what Feast's own Python client sends to a feature server, and what it expects back.

A feature view is our feature group, or the function of on-demand features, and its fields are the group's columns:
`view:feature` is version 1 of a feature, `view:feature_v2` or `view@v2:feature` version 2, and `view@latest:feature`
the newest that is live. Nothing is decided here that `online_features` and `FeatureStore.ingest` decide: this module
translates.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from feature_store.catalog import Catalog
from feature_store.clock import EPOCH
from feature_store.definitions.names import FeatureRef
from feature_store.errors import DefinitionError, InvalidRequestError, UnknownFeatureError, did_you_mean
from feature_store.online.layout import Status
from feature_store.online.reading.prepared import FeatureState
from feature_store.online.reading.requests import Request
from feature_store.rows.schema import RowSchema
from feature_store.serving.answers import Pieces, encode, spell_infinities, spelled_decimals
from feature_store.serving.calls import Call, Reply
from feature_store.serving.entities import Entities, columns_of, sliced
from feature_store.serving.limits import Limits
from feature_store.serving.metrics import Metrics
from feature_store.serving.online_features import OnlineFeatures
from feature_store.serving.problems import HttpError
from feature_store.serving.served import Served

if TYPE_CHECKING:
    import polars as pl

    from feature_store.definitions.entity import Entity
    from feature_store.definitions.group import FeatureGroup

_STATUSES: dict[Status, str] = {
    "present": "PRESENT",
    "null": "NULL_VALUE",
    "missing": "NOT_FOUND",
    "expired": "OUTSIDE_MAX_AGE",
}
_REFERENCE = re.compile(
    r"(?P<view>[a-z][a-z0-9_]*)(?:@(?P<version>latest|v[1-9][0-9]{0,5}))?:(?P<feature>[a-z][a-z0-9_]*)"
)
_LATEST = "latest"
_NO_TIME = "1970-01-01T00:00:00Z"
_CREATED = "created"


class FeastFeaturesRequest(msgspec.Struct):
    """What Feast's client asks.

    Attributes:
        entities: Join keys and request data: name to one value per row.
        features: References, `view:feature`.
        feature_service: Name of a feature service, in place of features.
        full_feature_names: Whether answers are called `view__feature`.
    """

    entities: dict[str, list[Any]]
    features: list[str] = []
    feature_service: str | None = None
    full_feature_names: bool = False


class FeastVector(msgspec.Struct):
    """The values of one column, one per row."""

    values: list[Any]
    statuses: list[str]
    event_timestamps: list[Any]


class FeastMetadata(msgspec.Struct):
    """What the columns are called."""

    feature_names: list[str]


class FeastFeaturesAnswer(msgspec.Struct):
    """What Feast's client is answered: the join keys, then the features."""

    metadata: FeastMetadata
    results: list[FeastVector]


class PushRequest(msgspec.Struct):
    """Rows to write.

    Attributes:
        push_source_name: The feature group.
        df: Join keys, `event_timestamp` and all features: column to values.
        to: `online` or `online_and_offline`, which mean the same: all rows go to both stores.
    """

    push_source_name: str
    df: dict[str, list[Any]]
    to: str = "online"


class WriteRequest(msgspec.Struct):
    """The same, as Feast's client sends it to a remote online store."""

    feature_view_name: str
    df: dict[str, list[Any]]


class _Column(NamedTuple):
    """One column of the answer: whose feature it is, what it is called, and how the store refers to it."""

    entity: Entity
    view: str
    name: str
    reference: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to answer a list of features.

    Attributes:
        names: What the features are called in the answer.
        references: How the store refers to each.
        parts: What to read: one list of features per entity.
        groups: The feature groups that are read.
        width: Values of one row; an embedding counts as its numbers.
    """

    names: tuple[str, ...]
    references: tuple[str, ...]
    parts: tuple[Request, ...]
    groups: frozenset[str]
    width: int

    def join_keys_of(self, given: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Returns the columns of join keys; what else is given must be request data.

        Raises:
            InvalidRequestError: If a join key is missing, or something is neither.
        """
        join_keys = dict.fromkeys(column for resolved in self.parts for column in resolved.entity.join_keys)
        missing = [column for column in join_keys if column not in given]
        if missing:
            raise InvalidRequestError(
                f"Entities need the join key(s) {', '.join(join_keys)}: {', '.join(missing)} missing."
            )
        if len(given) > len(join_keys):
            request_data = {name for resolved in self.parts for name in resolved.resolution.request}
            unknown = [name for name in given if name not in join_keys and name not in request_data]
            if unknown:
                raise InvalidRequestError(
                    f"{', '.join(map(repr, unknown))}: no join key of the requested features and no request data. "
                    f"Their join key(s) are {', '.join(join_keys)}."
                )
        return {column: given[column] for column in join_keys}


class FeastContract:
    """Answers Feast's client.

    Args:
        served: What is served.
        online: Reads online features.
        metrics: Counts pushed rows.
        limits: What one request may ask for.
    """

    def __init__(self, served: Served, online: OnlineFeatures, metrics: Metrics, limits: Limits) -> None:
        self._limits = limits
        self._served = served
        self._online = online
        self._metrics = metrics
        self._features_decoder = msgspec.json.Decoder(FeastFeaturesRequest)
        self._push_decoder = msgspec.json.Decoder(PushRequest)
        self._write_decoder = msgspec.json.Decoder(WriteRequest)
        # One at a time: ingestion takes seconds and memory, and answers to readers come first.
        self._ingesting = asyncio.Lock()

    async def features(self, call: Call) -> Reply:
        """Answers `POST /get-online-features`."""
        request = await call.json(self._features_decoder)
        self._limits.check_features(request.features)
        plan = await self._plan(request)
        call.access.check_read(plan.groups)
        given = request.entities
        keys = plan.join_keys_of(given)
        rows = _length(given)
        call.notes["entities"] = rows
        call.notes["features"] = len(plan.references)
        self._limits.check_values(rows, plan.width)
        slices = sliced(rows, plan.width)
        if len(slices) == 1:
            results = await self._vectors(plan, keys, given)
        else:
            pieces = [(Pieces(), Pieces(), Pieces()) for _ in range(len(keys) + len(plan.names))]
            async with self._online.slicing:
                for part in slices:
                    vectors = await self._vectors(plan, columns_of(keys, part), columns_of(given, part))
                    for (values, statuses, times), vector in zip(pieces, vectors, strict=True):
                        values.add(vector.values)
                        statuses.add(vector.statuses)
                        times.add(vector.event_timestamps)
            results = [FeastVector(*(each.json() for each in column)) for column in pieces]
        return Reply(encode(FeastFeaturesAnswer(FeastMetadata([*keys, *plan.names]), results)))

    async def _vectors(
        self, plan: _Plan, keys: Mapping[str, Sequence[Any]], given: Mapping[str, Sequence[Any]]
    ) -> list[FeastVector]:
        """Returns the columns of the answer for some rows: the join keys, then the features."""
        # Together, so that the features of several entities share a round trip.
        reads = [self._read(resolved, keys, given) for resolved in plan.parts]
        answers = [await reads[0]] if len(reads) == 1 else await asyncio.gather(*reads)
        vectors = {}
        for resolved, states in zip(plan.parts, answers, strict=True):
            for label in resolved.resolution.labels:
                vectors[label] = _vector([row[label] for row in states])
        echoed = [
            FeastVector([*values], ["PRESENT"] * len(values), [_NO_TIME] * len(values)) for values in keys.values()
        ]
        return [*echoed, *(vectors[reference] for reference in plan.references)]

    async def push(self, call: Call) -> Reply:
        """Answers `POST /push`."""
        request = await call.json(self._push_decoder)
        if request.to not in {"online", "online_and_offline"}:
            raise InvalidRequestError(
                f"Rows cannot be pushed to {request.to!r}: every row goes to both stores. Say 'online_and_offline'."
            )
        return await self._ingest(call, request.push_source_name, request.df)

    async def write(self, call: Call) -> Reply:
        """Answers `POST /write-to-online-store`, which is `/push` by another name."""
        request = await call.json(self._write_decoder)
        frame = {name: values for name, values in request.df.items() if name != _CREATED}
        return await self._ingest(call, request.feature_view_name, frame)

    async def _ingest(self, call: Call, name: str, frame: Mapping[str, list[Any]]) -> Reply:
        call.access.check_write([name])
        definitions = self._served.definitions
        if definitions is None:
            raise HttpError(
                HTTPStatus.NOT_FOUND, "This server takes no rows: start it with --definitions, which hold the groups."
            )
        group = definitions.group(name)
        async with self._ingesting:
            report = await asyncio.to_thread(self._written, group, frame)
        call.notes["rows"] = report
        self._metrics.rows_pushed.inc(report)
        return Reply(b"{}")

    def _written(self, group: FeatureGroup, frame: Mapping[str, list[Any]]) -> int:
        return self._served.store.ingest(group, _rows(group, frame)).rows

    async def _read(
        self, resolved: Request, keys: Mapping[str, Sequence[Any]], given: Mapping[str, Sequence[Any]]
    ) -> list[dict[str, FeatureState]]:
        entities = Entities(resolved.entity, None, {column: keys[column] for column in resolved.entity.join_keys})
        data = {name: given[name] for name in resolved.resolution.request if name in given}
        return await self._online.read(resolved, entities.ids(), data or None, "states")

    async def _plan(self, request: FeastFeaturesRequest) -> _Plan:
        # To plan costs more than to read, and clients ask for the same features again and again.
        key = (FeastFeaturesRequest, *request.features, request.feature_service, request.full_feature_names)
        return await self._served.reads.awork_out(
            key, len(request.features), lambda catalog: self._new_plan(request, catalog)
        )

    def _new_plan(self, request: FeastFeaturesRequest, catalog: Catalog) -> _Plan:
        columns = self._columns(request, catalog)
        names = [f"{column.view}__{column.name}" if request.full_feature_names else column.name for column in columns]
        _refuse_twice(names)
        by_entity: dict[str, list[str]] = {}
        for column in columns:
            by_entity.setdefault(column.entity.name, []).append(column.reference)
        parts = tuple(self._served.reads.request(references) for references in by_entity.values())
        return _Plan(
            tuple(names),
            tuple(column.reference for column in columns),
            parts,
            frozenset(group for resolved in parts for group in resolved.groups),
            sum(resolved.width for resolved in parts),
        )

    def _columns(self, request: FeastFeaturesRequest, catalog: Catalog) -> list[_Column]:
        if request.feature_service is not None:
            return self._service_columns(self._served.features_of(request.feature_service), catalog)
        if not request.features:
            raise InvalidRequestError("No features were asked for: name 'features' or a 'feature_service'.")
        return [self._column(text, catalog) for text in request.features]

    def _column(self, text: str, catalog: Catalog) -> _Column:
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise InvalidRequestError(f"{text!r} is not a feature reference: write view:feature or view@v2:feature.")
        definitions = self._served.definitions
        view, column, version = match["view"], match["feature"], match["version"]
        functions = definitions.on_demand.get(view) if definitions else None
        if functions is None:
            refs = [feature.ref for feature in catalog.group(view).features]
            entity = catalog.groups[view].entity
        else:
            refs = [spec.ref for spec in functions.features]
            entity = catalog.entity_of(catalog.select([*functions.inputs.values()]))
        ref = _chosen(column, version, refs)
        if ref is None:
            raise UnknownFeatureError(
                f"Feature view {view!r} has no feature {text.partition(':')[2]!r}"
                f"{f' of version {version}' if version else ''}. {did_you_mean(column, (r.column for r in refs))}"
            )
        return _Column(entity, view, column, str(ref))

    def _service_columns(self, features: Sequence[str], catalog: Catalog) -> list[_Column]:
        resolution = self._served.resolution(features, catalog)
        groups = catalog.groups
        stored = {selection.label: selection.feature for selection in resolution.selections}
        computed = {label: computation for computation in resolution.computations for label in computation.outputs}
        columns = []
        for label in resolution.labels:
            if label in computed:
                computation = computed[label]
                view, column = computation.functions.name, computation.outputs[label]
                group = next(iter(computation.inputs.values())).feature.group
            else:
                view = group = stored[label].group
                column = stored[label].ref.column
            columns.append(_Column(groups[group].entity, view, column, label))
        return columns


def _chosen(column: str, version: str | None, refs: Sequence[FeatureRef]) -> FeatureRef | None:
    """Returns the feature that a reference means, None if the view has none such."""
    if version is None:
        try:
            named = FeatureRef.from_column(column)
        except DefinitionError:
            return None
    elif version == _LATEST:
        return max((ref for ref in refs if ref.name == column), default=None)
    else:
        named = FeatureRef(column, int(version[1:]))
    return named if named in refs else None


def _length(columns: Mapping[str, list[Any]]) -> int:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidRequestError(f"Entities need one value per row each, got columns of the lengths {lengths}.")
    return next(iter(lengths.values()), 0)


def _refuse_twice(names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InvalidRequestError(
            f"Several requested features would be called {', '.join(twice)}: ask for each once, or for full "
            "feature names."
        )


def _vector(states: Sequence[FeatureState]) -> FeastVector:
    values = [state.value for state in states]
    for place, value in enumerate(values):
        values[place] = _spelled(value)
        if isinstance(value, (float, list, dict)):
            spell_infinities(values, (place,))
    return FeastVector(
        values, [_STATUSES[state.status] for state in states], [state.event_timestamp or _NO_TIME for state in states]
    )


def _spelled(value: Any) -> Any:
    """Returns a value with its instants as Feast spells them, and its decimals as texts."""
    if isinstance(value, datetime):
        return _seconds(value)
    if isinstance(value, list) and value and isinstance(value[0], datetime):
        return [_seconds(moment) for moment in value]
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    return spelled_decimals(value)


def _seconds(moment: datetime) -> int:
    # Feast's timestamps are whole seconds since 1970.
    delta = moment - EPOCH
    return delta.days * 86_400 + delta.seconds


def _rows(group: FeatureGroup, columns: Mapping[str, list[Any]]) -> pl.DataFrame:
    """Returns pushed rows as a frame; what is missing or unknown is for the validation of rows to say."""
    import polars as pl

    from feature_store.definitions.dtypes import TIMESTAMP
    from feature_store.transform.on_demand import series_of

    _length(columns)
    dtypes = RowSchema.of(group).computed
    series = []
    for name, values in columns.items():
        dtype = dtypes.get(name)
        if dtype is None:
            series.append(pl.Series(name, [None] * len(values)))
        elif dtype.scalar == TIMESTAMP:
            series.append(series_of(name, [_moment(value) for value in values], dtype))
        else:
            series.append(series_of(name, values, dtype))
    return pl.DataFrame(series)


def _moment(value: Any) -> Any:
    if isinstance(value, list):
        return [_moment(item) for item in value]
    if isinstance(value, dict):
        return {key: _moment(item) for key, item in value.items()}
    return datetime.fromtimestamp(value, EPOCH.tzinfo) if type(value) is int and abs(value) < 2**36 else value
