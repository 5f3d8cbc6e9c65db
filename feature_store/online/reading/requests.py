"""A request, resolved and prepared once: all that answering it takes, whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feature_store.catalog import Catalog, Selection
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.entity import Entity
from feature_store.definitions.feature_service import FeatureService
from feature_store.errors import InvalidRequestError
from feature_store.online.reading.prepared import PreparedRead
from feature_store.resolution import Resolution

if TYPE_CHECKING:
    from feature_store.online.store import OnlineStore

Features = Sequence[str] | FeatureService
"""What may be asked for: references, names of groups and of on-demand features; or a feature service."""

RequestData = Mapping[str, Sequence[Any]] | None
"""What on-demand features need to know of the request: one value per entity by name."""


@dataclass(frozen=True, slots=True)
class Request:
    """A list of features, resolved.

    Attributes:
        resolution: What is asked for.
        entity: The one entity that the stored features describe.
        groups: The feature groups that are read.
        dtypes: Dtype of each label's values.
        floats: Positions of the labels whose values may be infinite, which JSON has no word for.
        decimals: Positions of the labels whose values are or hold decimals, which JSON has as texts.
        prepared: Reads the stored features.
        defaults: The stored features that declare a default, each with its place among all of them.
        width: Values that are read or answered of one entity; an embedding counts as its numbers.
    """

    resolution: Resolution
    entity: Entity
    groups: frozenset[str]
    dtypes: Mapping[str, Dtype]
    floats: tuple[int, ...]
    decimals: tuple[int, ...]
    prepared: PreparedRead
    width: int
    defaults: tuple[tuple[int, Selection], ...] = ()


def request_of(resolution: Resolution, catalog: Catalog, online: OnlineStore) -> Request:
    """Returns the request for what was resolved by a catalog.

    Raises:
        InvalidRequestError: If its features describe several entities.
    """
    entity = catalog.entity_of(resolution.selections)
    dtypes = {selection.label: selection.feature.dtype for selection in resolution.selections}
    for computation in resolution.computations:
        declared = {spec.ref.column: spec.dtype for spec in computation.functions.features}
        dtypes |= {label: declared[column] for label, column in computation.outputs.items()}
    return Request(
        resolution,
        entity,
        frozenset(selection.feature.group for selection in resolution.selections),
        {label: dtypes[label] for label in resolution.labels},
        tuple(place for place, label in enumerate(resolution.labels) if dtypes[label].holds_floats),
        tuple(place for place, label in enumerate(resolution.labels) if dtypes[label].scalar.name == "decimal"),
        online.prepare(resolution.selections, catalog),
        max(
            sum(dtypes[label].dimension or 1 for label in resolution.labels),
            sum(selection.feature.dtype.dimension or 1 for selection in resolution.selections),
        ),
        tuple(each for each in enumerate(resolution.selections) if each[1].feature.default_json is not None),
    )


def listed(values: Any, what: str) -> tuple[Any, ...]:
    """Returns what was given as a list, whatever can be iterated over.

    Raises:
        InvalidRequestError: If it cannot be, or is a text, which would be taken letter by letter.
    """
    if isinstance(values, str | bytes):
        raise InvalidRequestError(f"{what} are a list, got the text {values!r}: write [{values!r}].")
    try:
        return tuple(values)
    except TypeError:
        raise InvalidRequestError(f"{what} are a list, got {values!r}.") from None
