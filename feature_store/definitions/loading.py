"""Finds the definitions that a Python module holds, for the command line and the Dagster project."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import DefinitionError, SettingsError, UnknownFeatureError, did_you_mean


@dataclass(frozen=True, slots=True)
class LoadedDefinitions:
    """The feature groups and training sets of a module, by name."""

    groups: Mapping[str, FeatureGroup]
    training_sets: Mapping[str, TrainingSet]

    def group(self, name: str) -> FeatureGroup:
        """Returns a feature group by name.

        Raises:
            UnknownFeatureError: If the module defines none of that name.
        """
        try:
            return self.groups[name]
        except KeyError:
            raise UnknownFeatureError(
                f"No feature group {name!r} is defined. {did_you_mean(name, self.groups)}"
            ) from None

    def training_set(self, name: str) -> TrainingSet:
        """Returns a training set by name.

        Raises:
            UnknownFeatureError: If the module defines none of that name.
        """
        try:
            return self.training_sets[name]
        except KeyError:
            raise UnknownFeatureError(
                f"No training set {name!r} is defined. {did_you_mean(name, self.training_sets)}"
            ) from None


def load_definitions(module: str | ModuleType | None) -> LoadedDefinitions:
    """Returns all feature groups and training sets among a module's attributes, sorted by name.

    Args:
        module: A module or its dotted name, for instance `feature_assets.flights`.

    Raises:
        SettingsError: If no module is named, or it cannot be imported.
        DefinitionError: If it defines two groups or two training sets of one name.
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
    groups: dict[str, FeatureGroup] = {}
    training_sets: dict[str, TrainingSet] = {}
    for value in vars(module).values():
        if isinstance(value, FeatureGroup):
            if groups.setdefault(value.name, value) is not value:
                raise DefinitionError(f"{module.__name__} defines two feature groups named {value.name!r}.")
        elif isinstance(value, TrainingSet) and training_sets.setdefault(value.name, value) is not value:
            raise DefinitionError(f"{module.__name__} defines two training sets named {value.name!r}.")
    return LoadedDefinitions(dict(sorted(groups.items())), dict(sorted(training_sets.items())))
