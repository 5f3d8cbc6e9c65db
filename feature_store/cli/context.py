"""What commands share: the settings, the store, and the definitions module."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feature_store.settings import Settings

if TYPE_CHECKING:
    from feature_store.definitions.loading import LoadedDefinitions
    from feature_store.store import FeatureStore


def definitions_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option `--definitions` to a command."""
    return click.option(
        "--definitions",
        metavar="MODULE",
        help="Python module with the feature groups and training sets. Default: FEATURE_STORE_DEFINITIONS.",
    )(command)


def settings_of(definitions: str | None = None) -> Settings:
    """Returns the settings of a command.

    The working directory is importable from then on, as with `python -m`.

    Args:
        definitions: What `--definitions` says; None where it is not given.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return Settings.from_env().overridden({"definitions": definitions})


def open_store(definitions: str | None = None) -> FeatureStore:
    """Returns the store of a command. Close it, or use it in a `with`.

    Args:
        definitions: What `--definitions` says; None where it is not given.
    """
    from feature_store.store import FeatureStore

    return FeatureStore.open(settings_of(definitions))


def load(definitions: str | None) -> LoadedDefinitions:
    """Returns the definitions of a module, of the one that the settings name by default.

    Raises:
        SettingsError: If no module is named, or it cannot be imported.
    """
    from feature_store.definitions.loading import load_definitions

    return load_definitions(settings_of(definitions).definitions)
