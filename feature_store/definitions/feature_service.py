"""Feature services: the features that one model reads, under one name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feature_store.definitions.names import check_name
from feature_store.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class FeatureService:
    """The features that one model reads, named once for training, for clients and for the feature server.

    Attributes:
        name: Its name, `[a-z][a-z0-9_]{0,62}`.
        features: References (`seats`, `seats:v1`) and names of feature groups and of on-demand features, of one entity.
        owner: Who answers for it.
        description: What it is for.
    """

    name: str
    features: Sequence[str]
    owner: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "feature service")
        if isinstance(self.features, str) or not self.features:
            raise DefinitionError(
                f"Feature service {self.name!r} needs a list of features or feature groups, got {self.features!r}."
            )
        object.__setattr__(self, "features", tuple(self.features))
