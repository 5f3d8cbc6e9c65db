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


def open_store() -> FeatureStore:
    """Returns the store that the settings name. Close it, or use it in a `with`."""
    from feature_store.store import FeatureStore

    return FeatureStore.from_env()


def load(definitions: str | None) -> LoadedDefinitions:
    """Returns the definitions of a module, of the one that the settings name by default.

    The working directory is importable, as with `python -m`.

    Raises:
        SettingsError: If no module is named, or it cannot be imported.
    """
    from feature_store.definitions.loading import load_definitions

    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return load_definitions(definitions or Settings.from_env().definitions)
