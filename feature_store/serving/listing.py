"""`GET /v1/features`: what can be asked for, as far as the caller may read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from feature_store.errors import FeatureStoreError
from feature_store.serving.auth import Access
from feature_store.serving.served import Served


class FeatureRecord(msgspec.Struct):
    """A registered feature.

    Attributes:
        reference: Name and version, `seats:v1`.
        current: Whether the bare name means this version.
        group: Its feature group.
        entity: What it describes.
        join_keys: The entity's join keys with their types, in the order of entity ids.
        dtype: `float`, `int`, `string`, `bool`, `timestamp`, `date`, `decimal[SCALE]`, `embedding[N]`, or `list[T]` or
            `map[T]` of one of those but embeddings.
        default: What answers have for null, as JSON; null where they have null.
        description: What it is, with the unit.
        owner: Who answers for it.
        online_ttl_seconds: How long after its event a value may be used.
        tags: Free key-value pairs.
    """

    reference: str
    current: bool
    group: str
    entity: str
    join_keys: dict[str, str]
    dtype: str
    description: str
    owner: str
    online_ttl_seconds: int
    default: msgspec.Raw
    tags: dict[str, str]


class OnDemandRecord(msgspec.Struct):
    """Features that are computed at the time of the request.

    Attributes:
        name: Stands for all of them.
        features: Reference to dtype.
        inputs: Stored features that are read.
        request_data: Name to dtype of what a request must pass.
        owner: Who answers for them.
        description: What they are.
    """

    name: str
    features: dict[str, str]
    inputs: list[str]
    request_data: dict[str, str]
    owner: str
    description: str


class ServiceRecord(msgspec.Struct):
    """A feature service: features under one name."""

    name: str
    features: list[str]
    owner: str
    description: str


class Listing(msgspec.Struct):
    """All that can be asked for."""

    features: list[FeatureRecord]
    on_demand: list[OnDemandRecord]
    feature_services: list[ServiceRecord]


def listing(served: Served, access: Access) -> Listing:
    """Returns what can be asked for, as far as a token may read it.

    On-demand features and feature services stand in it if the token may read all groups that they need.
    """
    catalog = served.catalog
    definitions = served.definitions
    on_demand: list[Any] = [*definitions.on_demand.values()] if definitions else []

    def may_read(features: Sequence[str]) -> bool:
        if access.read is None:
            return True
        try:
            return access.may_read_all(selection.feature.group for selection in served.resolution(features).selections)
        except FeatureStoreError:
            # Features that are not registered: whose they would be, nobody knows.
            return False

    return Listing(
        [
            FeatureRecord(
                reference=str(feature.ref),
                current=catalog.current(feature.ref.name) == feature,
                group=group.name,
                entity=group.entity.name,
                join_keys={column: str(dtype) for column, dtype in group.entity.key_dtypes.items()},
                dtype=str(feature.dtype),
                description=feature.description,
                owner=feature.owner,
                online_ttl_seconds=feature.online_ttl_seconds,
                default=msgspec.Raw((feature.default_json or "null").encode()),
                tags=dict(feature.tags),
            )
            for group in catalog.groups.values()
            if access.may_read(group.name)
            for feature in group.features
        ],
        [
            OnDemandRecord(
                name=functions.name,
                features={str(spec.ref): str(spec.dtype) for spec in functions.features},
                inputs=[*functions.inputs.values()],
                request_data={name: str(dtype) for name, dtype in functions.request.items()},
                owner=functions.owner,
                description=functions.description,
            )
            for functions in on_demand
            if may_read([functions.name])
        ],
        [
            ServiceRecord(service.name, [*service.features], service.owner, service.description)
            for service in served.services.values()
            if may_read(service.features)
        ],
    )
