"""Which columns the rows of a group have, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from feature_store.definitions.dtypes import TIMESTAMP, Dtype
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT, FeatureRef


class _Feature(Protocol):
    @property
    def ref(self) -> FeatureRef: ...
    @property
    def dtype(self) -> Dtype: ...


class RowGroup(Protocol):
    """A feature group, as a user declares it or as the registry holds it."""

    @property
    def entity(self) -> Entity:
        """The entity that its features describe."""
        ...

    @property
    def features(self) -> Iterable[_Feature]:
        """Its features, in order."""
        ...


@dataclass(frozen=True, slots=True)
class RowSchema:
    """Columns and dtypes of a group's rows.

    Attributes:
        keys: The join keys, in the entity's order.
        features: The features' columns, in the group's order.
    """

    keys: Mapping[str, Dtype]
    features: Mapping[str, Dtype]

    @classmethod
    def of(cls, group: RowGroup) -> Self:
        """Returns the schema of a group's rows."""
        return cls(group.entity.key_dtypes, {feature.ref.column: feature.dtype for feature in group.features})

    @property
    def computed(self) -> dict[str, Dtype]:
        """Columns of rows before they are written: join keys, `event_timestamp`, features."""
        return {**self.keys, EVENT_TIMESTAMP: TIMESTAMP, **self.features}

    @property
    def stored(self) -> dict[str, Dtype]:
        """Columns of rows as the stores keep them: the same, and `ingested_at`."""
        return {**self.computed, INGESTED_AT: TIMESTAMP}
