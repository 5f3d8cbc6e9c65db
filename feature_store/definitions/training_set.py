"""Training sets: labels, and the features that were visible at each label's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from feature_store.clock import EPOCH, to_utc
from feature_store.definitions.entity import Entity
from feature_store.definitions.fingerprint import code_version, libraries_of
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, check_name
from feature_store.definitions.splits import Splits
from feature_store.errors import DefinitionError
from feature_store.partitions import Partitioning

if TYPE_CHECKING:
    import polars as pl

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class EveryEntity:
    """Labels without a label frame: every entity that is visible, at regular instants; see `every_entity`.

    Attributes:
        entity: Whose join keys the labels have.
        group: The feature group in which an entity has to be visible; None for any group of the entity.
        every: Distance of the instants.
        start: The first instant (UTC).
        end: No instant from here on (UTC); None for the store's present.
    """

    entity: Entity
    group: str | None
    every: timedelta
    start: datetime
    end: datetime | None

    def __post_init__(self) -> None:
        if self.every <= timedelta(0):
            raise DefinitionError(f"Labels of every entity need a positive distance in time, got every={self.every}.")
        if self.end is not None and self.end <= self.start:
            raise DefinitionError(
                f"Labels of every entity from {self.start.isoformat()} to {self.end.isoformat()}: the end comes first."
            )


LabelSource = Callable[[], "pl.LazyFrame"] | EveryEntity


def every_entity(
    of: FeatureGroup | Entity,
    *,
    every: timedelta = timedelta(days=1),
    start: datetime,
    end: datetime | None = None,
) -> EveryEntity:
    """Labels of every entity at `start`, `start + every`, ... before `end`, wherever the entity is visible then.

    An entity is visible while a row of it is: from the row's event until the longest time to live of its features is
    over. The labels are the entity's join keys and the training set's time column, sorted by time and keys.

    Args:
        of: A feature group, or an entity: then a row in any of its groups counts.
        every: Distance of the instants.
        start: The first instant (aware, or naive in UTC).
        end: No instant from here on; None for the store's present.

    Raises:
        DefinitionError: If the distance is not positive, or the end comes before the start.
    """
    entity, group = (of.entity, of.name) if isinstance(of, FeatureGroup) else (of, None)
    return EveryEntity(entity, group, every, to_utc(start), None if end is None else to_utc(end))


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A named, versioned training set.

    Attributes:
        name: Its name: asset key and folder.
        labels: Returns the label frame: one row per example with the join keys of the features' entities, the
            time column, and any label columns. Or `every_entity(...)`.
        features: Feature references (`seats`, `seats:v1`) and names of feature groups and of on-demand features;
            `service.features` for what a model reads when it serves.
        as_of: The label frame's time column: each row sees what was visible at that instant.
        owner: Who answers for it.
        description: What it is for.
        splits: Cuts the rows into splits, with `split_by_time` or `split_by_entity`; None for a set in one piece.
        partitioning: Cuts the label times into partitions that are built one by one and appended to the open version;
            None for a set that is built as a whole.
        start: Start of the first partition (aware, or naive in UTC). Needed with, and only with, a partitioning.
        end: End of the last partition, None while it goes on.
        label_delay: How long after a partition's end its labels may still come in. It is not built before.
    """

    name: str
    labels: LabelSource
    features: Sequence[str]
    owner: str
    as_of: str = EVENT_TIMESTAMP
    description: str = ""
    splits: Splits | None = None
    partitioning: Partitioning | None = None
    start: datetime | None = None
    end: datetime | None = None
    label_delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        check_name(self.name, "training set")
        if isinstance(self.features, str) or not self.features:
            raise DefinitionError(f"Training set {self.name!r} has no features: name features or feature groups.")
        object.__setattr__(self, "features", tuple(self.features))
        if (self.partitioning is None) != (self.start is None):
            raise DefinitionError(
                f"Training set {self.name!r}: a partitioning needs the start of its first partition, and a set without "
                "partitions has none."
            )
        if self.partitioning is None and (self.end is not None or self.label_delay):
            raise DefinitionError(
                f"Training set {self.name!r} has no partitions: end and label_delay mean nothing without them."
            )
        if self.label_delay < timedelta(0):
            raise DefinitionError(f"Training set {self.name!r}: label_delay must not be negative: {self.label_delay}.")
        for edge in ("start", "end"):
            moment = getattr(self, edge)
            if moment is not None and self.partitioning is not None:
                object.__setattr__(self, edge, _boundary(self.name, edge, to_utc(moment), self.partitioning))

    @property
    def labels_code_version(self) -> str:
        """A digest of what gives the labels: of the function and all that it computes with, or of the query.

        Raises:
            DefinitionError: If the function uses something whose changes could not be seen.
        """
        if isinstance(self.labels, EveryEntity):
            query = self.labels
            keys = [(column, kind.__name__) for column, kind in query.entity.join_keys.items()]
            return code_version((query.entity.name, keys, query.group, query.every, query.start, query.end))
        return self._told(code_version)

    @property
    def labels_libraries(self) -> dict[str, str]:
        """The distributions that the labels' function uses, each with its version; no part of the code version."""
        return {} if isinstance(self.labels, EveryEntity) else self._told(libraries_of)

    def _told(self, ask: Callable[[object], _Answer]) -> _Answer:
        try:
            return ask(self.labels)
        except DefinitionError as error:
            raise DefinitionError(f"The labels of training set {self.name!r}: {error}") from None


def _boundary(name: str, edge: str, moment: datetime, partitioning: Partitioning) -> datetime:
    if (moment - EPOCH) % partitioning.length:
        raise DefinitionError(
            f"Training set {name!r}: its {edge} {moment.isoformat()} is not the boundary of a {partitioning.value} "
            "partition."
        )
    return moment
