"""The catalog: what is registered, as plain records, and the one resolution of feature references.

The registry fills it, the stores are driven by it. It holds no connection and needs neither SQLAlchemy nor Polars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.values import value_of_json
from feature_store.definitions.window_spec import WindowSpec, longest_life, stored_inputs
from feature_store.errors import InvalidRequestError, UnknownFeatureError, did_you_mean

if TYPE_CHECKING:
    from feature_store.definitions.group import FeatureGroup

CATALOG_SECONDS = 10.0
"""How long a process trusts the catalog that it has read, before it looks again which versions are current."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A registered feature.

    Attributes:
        id: The registry's number for this name and version.
        ref: Name and version.
        entity: Name of its entity.
        dtype: Dtype of its values.
        description: What it is, with the unit.
        owner: Who answers for it.
        online_ttl_seconds: Time to live after the event, in seconds.
        tags: Free key-value pairs.
        group: Name of the group that computes it.
        created_at: When it was registered, UTC.
        retired_at: When it was retired, UTC; None while it is live.
        default_json: What every reader gets for null, as JSON; None where they get null.
        window: What it is folded from, if it is a windowed feature.
    """

    id: int
    ref: FeatureRef
    entity: str
    dtype: Dtype
    description: str
    owner: str
    online_ttl_seconds: int
    tags: Mapping[str, str]
    group: str
    created_at: datetime
    retired_at: datetime | None = None
    default_json: str | None = None

    @property
    def default(self) -> Any:
        """What every reader gets for null, in the form that answers have, a new object each time; or None."""
        return None if self.default_json is None else value_of_json(self.dtype, self.default_json)

    window: WindowSpec | None = None


@dataclass(frozen=True, slots=True)
class RegisteredGroup:
    """A registered feature group.

    Attributes:
        name: Its name.
        entity: The entity, with its join keys.
        features: All of its features that are not retired, in the schema's order.
        owner: Who answers for it.
        description: What it is.
        online_layout: `feature`, `row`, or `window` for groups of windowed features.
        partitioning: `daily` or `hourly`.
        lookback_seconds: How far back a row's events reach.
        code_version: Digest of the transform when it was last applied.
        created_at: When it was registered, UTC.
        freshness_seconds: How old the newest event may be; None if nothing is promised.
        windows: Where these are the `rows` of a windowed group: the windows that readers fold them to.
    """

    name: str
    entity: Entity
    features: tuple[Feature, ...]
    owner: str
    description: str
    online_layout: Literal["feature", "row", "window"]
    partitioning: Literal["daily", "hourly"]
    lookback_seconds: int
    code_version: str
    created_at: datetime
    freshness_seconds: int | None = None
    windows: tuple[Feature, ...] = ()

    @property
    def rows(self) -> RegisteredGroup:
        """The group as both stores keep it: its features are the columns of its rows.

        Those of a plain group are its features. A windowed group keeps the events that its windows are folded from: a
        row for each entity and instant, whose columns are what the windows read.
        """
        specs = [feature.window for feature in self.features if feature.window is not None]
        if not specs:
            return self
        life = int(longest_life(specs).total_seconds())
        inputs = tuple(
            Feature(
                id=0,
                ref=FeatureRef.from_column(column),
                entity=self.entity.name,
                dtype=dtype,
                description=f"Column of the events of {self.name}.",
                owner=self.owner,
                online_ttl_seconds=life,
                tags={},
                group=self.name,
                created_at=self.created_at,
            )
            for column, dtype in stored_inputs(specs).items()
        )
        return replace(self, features=inputs, windows=self.features)


@dataclass(frozen=True, slots=True)
class BoundGroup:
    """The rows of a feature group, as they are declared, bound to what is registered of them.

    Both list the same columns: its features, or what its windows are folded from.

    It is bound once, where a declared group comes in; see `store.current_catalog`.

    Attributes:
        declared: What a user has written: its function, source and schema; see `FeatureGroup.rows`.
        registered: What the registry holds: its features with their numbers, in the registry's order; likewise.
    """

    declared: FeatureGroup
    registered: RegisteredGroup

    @property
    def name(self) -> str:
        """Its name."""
        return self.registered.name


@dataclass(frozen=True, slots=True)
class Selection:
    """One requested feature: what the caller calls it, and what it is."""

    label: str
    feature: Feature


@dataclass(frozen=True)
class Catalog:
    """All registered groups and features, at one instant."""

    groups: Mapping[str, RegisteredGroup]

    @classmethod
    def of(cls, groups: Iterable[RegisteredGroup]) -> Catalog:
        """Returns the catalog of some groups."""
        return cls({group.name: group for group in groups})

    @cached_property
    def features(self) -> Mapping[FeatureRef, Feature]:
        """All features that are not retired, by reference."""
        return {feature.ref: feature for group in self.groups.values() for feature in group.features}

    @cached_property
    def _current(self) -> Mapping[str, Feature]:
        ascending = sorted(self.features.values(), key=lambda feature: feature.ref.version)
        return {feature.ref.name: feature for feature in ascending}

    def group(self, name: str) -> RegisteredGroup:
        """Returns a group by name.

        Raises:
            UnknownFeatureError: If it is not registered.
        """
        try:
            return self.groups[name]
        except KeyError:
            raise UnknownFeatureError(
                f"Feature group {name!r} is not registered. {did_you_mean(name, self.groups)}"
            ) from None

    def current(self, name: str) -> Feature | None:
        """Returns the current version of a feature: the greatest that is not retired; None if there is none."""
        return self._current.get(name)

    def select(self, requested: Sequence[str]) -> list[Selection]:
        """Resolves feature references and group names, in order.

        `name` is the registry's current version, `name:vN` that version; a group's name stands for all of its
        features, each labelled by its bare name where it is the current version. What is asked for twice is
        answered once.

        Raises:
            InvalidRequestError: If nothing is asked for, or a reference is malformed.
            UnknownFeatureError: If a name or version is not registered.
        """
        if isinstance(requested, str):
            raise InvalidRequestError(f"Features are a list of references, got the text {requested!r}.")
        selections: dict[str, Selection] = {}
        for text in requested:
            name, version = FeatureRef.parse(text)
            if version is None and name in self.groups:
                for feature in self.groups[name].features:
                    is_current = self.current(feature.ref.name) == feature
                    label = feature.ref.name if is_current else str(feature.ref)
                    selections.setdefault(label, Selection(label, feature))
                continue
            found = self.current(name) if version is None else self.features.get(FeatureRef(name, version))
            if found is None:
                raise UnknownFeatureError(self._unknown(text, name))
            selections.setdefault(text, Selection(text, found))
        if not selections:
            raise InvalidRequestError("No features were asked for: name features or feature groups.")
        return list(selections.values())

    def entity_of(self, selections: Sequence[Selection]) -> Entity:
        """Returns the one entity that the selected features describe.

        Raises:
            InvalidRequestError: If they describe several.
        """
        entities = sorted({selection.feature.entity for selection in selections})
        if len(entities) > 1:
            raise InvalidRequestError(
                f"The requested features describe several entities, {', '.join(entities)}: one entity id names one of "
                "them. Ask for each entity's features by itself, or use a training set, whose labels carry all keys."
            )
        return self.groups[selections[0].feature.group].entity

    def _unknown(self, text: str, name: str) -> str:
        versions = sorted(ref.version for ref in self.features if ref.name == name)
        if versions:
            known = ", ".join(f"v{version}" for version in versions)
            return f"Feature {text!r} is not registered: {name!r} has the live version(s) {known}."
        names = [*self.groups, *(ref.name for ref in self.features)]
        return f"Feature {text!r} is not registered. {did_you_mean(name, names)}"
