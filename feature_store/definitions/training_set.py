"""Training sets: labels, and the features that were visible at each label's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.definitions.names import EVENT_TIMESTAMP, check_name
from feature_store.errors import DefinitionError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A named, versioned training set.

    Attributes:
        name: Its name: asset key and folder.
        labels: Returns the label frame: one row per example with the join keys of the features' entities, the
            time column, and any label columns.
        features: Feature references (`seats`, `seats:v1`) and names of feature groups.
        as_of: The label frame's time column: each row sees what was visible at that instant.
        owner: Who answers for it.
        description: What it is for.
    """

    name: str
    labels: Callable[[], pl.LazyFrame]
    features: Sequence[str]
    owner: str
    as_of: str = EVENT_TIMESTAMP
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "training set")
        if not self.features:
            raise DefinitionError(f"Training set {self.name!r} has no features: name features or feature groups.")
