"""What the server serves: a snapshot of the catalog, the definitions, and requests resolved against them.

The snapshot is renewed in the background, so that no request waits for the registry; while the registry does not
answer, the last one serves on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from feature_store.catalog import Catalog
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.entity import Entity
from feature_store.definitions.feature_service import FeatureService
from feature_store.errors import FeatureStoreError, InvalidRequestError, UnknownFeatureError, did_you_mean
from feature_store.online.reader import PreparedRead
from feature_store.resolution import Resolution, resolve
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    # What it holds needs Polars and pandera: a server without definitions does without them.
    from feature_store.definitions.loading import LoadedDefinitions

_MOST_REMEMBERED = 512
_LONGEST_REMEMBERED = 2_000
_INEXACT = frozenset({"float", "embedding"})


@dataclass(frozen=True, slots=True)
class Resolved:
    """A list of features, resolved, and what answering it takes.

    Attributes:
        resolution: What is asked for.
        entity: The one entity that the stored features describe.
        groups: The feature groups that are read.
        floats: Positions of the labels whose values may be infinite.
        prepared: Reads the stored features.
    """

    resolution: Resolution
    entity: Entity
    groups: frozenset[str]
    floats: tuple[int, ...]
    prepared: PreparedRead


class _Snapshot(NamedTuple):
    catalog: Catalog
    resolved: dict[tuple[str, ...], Resolved]


class Served:
    """The feature store behind the server.

    Args:
        store: The feature store.
        definitions: Its on-demand features, feature services, and the groups that may be pushed to; None for none.

    Raises:
        RegistryError: If the registry does not answer.
    """

    def __init__(self, store: FeatureStore, definitions: LoadedDefinitions | None) -> None:
        self.store = store
        self.definitions = definitions
        self._snapshot = _Snapshot(store.registry.catalog(), {})
        self._read_at = time.monotonic()

    @property
    def catalog(self) -> Catalog:
        """The snapshot of the catalog."""
        return self._snapshot.catalog

    def refresh(self) -> None:
        """Reads the catalog from the registry.

        Raises:
            RegistryError: If the registry does not answer; the snapshot stays.
        """
        catalog = self.store.registry.catalog()
        # An unchanged catalog stays the same object, and with it all that was resolved and planned against it.
        if catalog != self.catalog:
            self._snapshot = _Snapshot(catalog, {})
        self._read_at = time.monotonic()

    def age(self) -> float:
        """Returns the seconds since the snapshot was last found to be the registry's."""
        return time.monotonic() - self._read_at

    @property
    def services(self) -> Mapping[str, FeatureService]:
        """The feature services, by name."""
        return self.definitions.services if self.definitions else {}

    def features_of(self, service: str) -> tuple[str, ...]:
        """Returns the features of a feature service.

        Raises:
            UnknownFeatureError: If there is none of that name.
        """
        found = self.services.get(service)
        if found is None:
            known = did_you_mean(service, self.services) if self.services else "This server has no feature services."
            raise UnknownFeatureError(f"Feature service {service!r} is not defined. {known}")
        return tuple(found.features)

    def resolve(self, features: Sequence[str]) -> Resolved:
        """Resolves features of one entity; the same list is resolved once per catalog.

        Raises:
            InvalidRequestError: If the list is empty, a reference malformed, or there are several entities.
            UnknownFeatureError: If a feature is not known.
        """
        key = tuple(features)
        # One look at the snapshot: another thread may exchange it.
        catalog, known = self._snapshot
        resolved = known.get(key)
        if resolved is None:
            resolution = self._resolution(catalog, key)
            resolved = Resolved(
                resolution,
                catalog.entity_of(resolution.selections),
                frozenset(selection.feature.group for selection in resolution.selections),
                floats_of(resolution),
                self.store.online.prepare(resolution.selections, catalog),
            )
            if len(key) <= _LONGEST_REMEMBERED:
                if len(known) >= _MOST_REMEMBERED:
                    known.clear()
                known[key] = resolved
        return resolved

    def promote(self) -> None:
        """Brings rows of all groups online whose time has come.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        for group in self.catalog.groups.values():
            self.store.online.pending.promote(group)

    def warm_up(self) -> list[FeatureStoreError]:
        """Connects to the online store and checks all on-demand features, before the first request needs them.

        Returns:
            What is wrong with some of it; all else can be served.
        """
        errors: list[FeatureStoreError] = []
        try:
            self.store.online.ping()
        except FeatureStoreError as error:
            errors.append(error)
        if self.definitions and self.definitions.on_demand:
            from feature_store.transform.on_demand import check_row_wise

            for functions in self.definitions.on_demand.values():
                try:
                    [computation] = self.resolution([functions.name]).computations
                    inputs = {column: selection.feature.dtype for column, selection in computation.inputs.items()}
                    check_row_wise(functions, {**inputs, **functions.request})
                except FeatureStoreError as error:
                    errors.append(error)
        return errors

    def resolution(self, features: Sequence[str]) -> Resolution:
        """Resolves features of any number of entities; errors as for `resolve`."""
        return self._resolution(self.catalog, features)

    def _resolution(self, catalog: Catalog, features: Sequence[str]) -> Resolution:
        on_demand = self.definitions.on_demand.values() if self.definitions else ()
        return resolve(catalog, features, on_demand)


def floats_of(resolution: Resolution) -> tuple[int, ...]:
    """Returns the positions of the labels whose values may be infinite, which JSON has no word for."""
    dtypes: dict[str, Dtype] = {selection.label: selection.feature.dtype for selection in resolution.selections}
    for computation in resolution.computations:
        specs = {spec.ref.column: spec.dtype for spec in computation.functions.features}
        dtypes |= {label: specs[column] for label, column in computation.outputs.items()}
    return tuple(place for place, label in enumerate(resolution.labels) if dtypes[label].name in _INEXACT)


def entity_ids_of(entity: Entity, keys: Mapping[str, Sequence[str | int]]) -> list[str]:
    """Returns the entity ids of columns of join keys.

    Raises:
        InvalidRequestError: If a join key is missing, unknown, of another type, or the columns differ in length.
    """
    if keys.keys() != entity.join_keys.keys():
        raise InvalidRequestError(
            f"Entity {entity.name!r} has the join key(s) {', '.join(entity.join_keys)}, "
            f"got {', '.join(keys) or 'none'}."
        )
    lengths = {column: len(values) for column, values in keys.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidRequestError(f"Join keys need one value per entity each, got columns of the lengths {lengths}.")
    return [entity.entity_id(**dict(zip(keys, row, strict=True))) for row in zip(*keys.values(), strict=True)]
