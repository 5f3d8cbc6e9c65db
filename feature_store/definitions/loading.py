"""Finds the definitions that a Python module holds, for the command line and the Dagster project."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.feature_service import FeatureService
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.on_demand import OnDemandFeatures
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import DefinitionError, SettingsError, UnknownFeatureError, did_you_mean

_Definition = TypeVar("_Definition", FeatureGroup, TrainingSet, OnDemandFeatures, FeatureService, EventStream)


@dataclass(frozen=True, slots=True)
class LoadedDefinitions:
    """What a module defines, by name: groups, training sets, on-demand features, feature services, streams by topic."""

    module: ModuleType
    groups: Mapping[str, FeatureGroup]
    training_sets: Mapping[str, TrainingSet]
    on_demand: Mapping[str, OnDemandFeatures]
    services: Mapping[str, FeatureService]
    streams: Mapping[str, EventStream]

    def group(self, name: str) -> FeatureGroup:
        """Returns a feature group by name.

        Raises:
            UnknownFeatureError: If the module defines none of that name.
        """
        return _named(self.groups, name, "feature group")

    def training_set(self, name: str) -> TrainingSet:
        """Returns a training set by name.

        Raises:
            UnknownFeatureError: If the module defines none of that name.
        """
        return _named(self.training_sets, name, "training set")

    def service(self, name: str) -> FeatureService:
        """Returns a feature service by name.

        Raises:
            UnknownFeatureError: If the module defines none of that name.
        """
        return _named(self.services, name, "feature service")


def load_definitions(module: str | ModuleType | None) -> LoadedDefinitions:
    """Returns all definitions among a module's attributes, sorted by name.

    Args:
        module: A module or its dotted name, for instance `feature_assets.flights`.

    Raises:
        SettingsError: If no module is named, or it cannot be imported.
        DefinitionError: If it defines two things of one kind and name, a feature both stored and on demand, or two
            of a source, a group and a training set by one name.
    """
    if not module:
        raise SettingsError(
            "Which feature groups? Name the Python module that defines them: set FEATURE_STORE_DEFINITIONS, "
            "for instance FEATURE_STORE_DEFINITIONS=feature_assets.flights."
        )
    if isinstance(module, str):
        try:
            module = importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"The definitions module {module!r} cannot be imported: {error}. Run from the project's folder, or "
                "correct FEATURE_STORE_DEFINITIONS."
            ) from error
    loaded = LoadedDefinitions(
        module=module,
        groups=_of_kind(module, FeatureGroup, "feature groups"),
        training_sets=_of_kind(module, TrainingSet, "training sets"),
        on_demand=_of_kind(module, OnDemandFeatures, "groups of on-demand features"),
        services=_of_kind(module, FeatureService, "feature services"),
        streams=_of_kind(module, EventStream, "streams"),
    )
    _refuse_shared_names(module.__name__, loaded)
    _refuse_shared_assets(module.__name__, loaded)
    return loaded


def _of_kind(module: ModuleType, kind: type[_Definition], plural: str) -> dict[str, _Definition]:
    found: dict[str, _Definition] = {}
    for value in vars(module).values():
        if isinstance(value, kind) and found.setdefault(value.name, value) is not value:
            raise DefinitionError(f"{module.__name__} defines two {plural} named {value.name!r}.")
    return dict(sorted(found.items()))


def _refuse_shared_names(module: str, loaded: LoadedDefinitions) -> None:
    stored = {name for group in loaded.groups.values() for name in (group.name, *(s.ref.name for s in group.features))}
    taken: dict[str, str] = {}
    for functions in loaded.on_demand.values():
        for name in {functions.name, *(spec.ref.name for spec in functions.features)}:
            if name in stored or taken.setdefault(name, functions.name) != functions.name:
                raise DefinitionError(
                    f"{module}: {name!r} of the on-demand features {functions.name!r} is the name of something else "
                    "that can be asked for. Rename one of them."
                )


def _refuse_shared_assets(module: str, loaded: LoadedDefinitions) -> None:
    """Sources, groups and training sets are assets of one lineage: each has a name of its own.

    But for a source that has the name of a group: its asset gets another one.
    """
    sources = {group.source.name for group in loaded.groups.values()}
    kinds = {"a source": sources, "a feature group": loaded.groups, "a training set": loaded.training_sets}
    taken: dict[str, str] = {}
    for kind, names in kinds.items():
        for name in names:
            other = taken.setdefault(name, kind)
            if other != kind and kind == "a training set":
                raise DefinitionError(f"{module}: {name!r} is {other} and {kind}. Rename one of them.")


def _named(known: Mapping[str, _Definition], name: str, what: str) -> _Definition:
    try:
        return known[name]
    except KeyError:
        raise UnknownFeatureError(f"No {what} {name!r} is defined. {did_you_mean(name, known)}") from None
