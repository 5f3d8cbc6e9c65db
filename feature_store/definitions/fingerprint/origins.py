"""Whose code it is: the project's own, which is followed, or a library's, which goes by its name."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

_LIBRARY_FOLDERS = {"site-packages", "dist-packages"}
_STANDARD = tuple(
    {str(Path(folder).resolve()) for name in ("stdlib", "platstdlib") if (folder := sysconfig.get_path(name))}
)
_FEATURE_STORE = re.compile(r"feature[-_.]store\b(?![-_.])", re.IGNORECASE)
_OWN = {"feature_store", "dagster_feature_store", __name__.partition(".")[0]}


def is_library(name: str | None) -> bool:
    """Tells whether a module is a library's: of Python itself, of an installed distribution, or of the feature store.

    A distribution that requires the feature store is a project that was installed, and none.

    Args:
        name: The module's dotted name. What has no module was made by the interpreter.
    """
    if name is None:
        return True
    top = name.partition(".")[0]
    if top in _OWN:
        return True
    if top == "__main__":
        return False
    module = sys.modules.get(name) or sys.modules.get(top)
    if module is None:
        return top in sys.stdlib_module_names
    return _is_installed(module) and not _is_project(top)


def is_library_file(file: str) -> bool:
    """Tells whether a source file is one of Python itself or of an installed distribution."""
    path = Path(file)
    if _LIBRARY_FOLDERS & set(path.parts):
        return True
    if not path.is_absolute():
        return False
    return str(path.resolve()).startswith(_STANDARD) or any(
        path.is_relative_to(folder) and path.relative_to(folder).parts[:1] in _installed_in(folder)
        for folder in sys.path
        if folder
    )


@cache
def _installed_in(folder: str) -> frozenset[tuple[str, ...]]:
    """Returns the first parts of all files that are installed in a folder, as `pip install --target` makes one.

    A checkout with an `egg-info` has no record of files: nothing is installed in it.
    """
    found = importlib.metadata.distributions(path=[folder])
    return frozenset(file.parts[:1] for each in found if each.read_text("RECORD") for file in each.files or ())


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """Returns the distributions that modules come from, sorted, each with its version; those of Python have none."""
    tops = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    found = {distribution for top in tops for distribution in _distributions_of(top)}
    return {name: importlib.metadata.version(name) for name in sorted(found)}


@cache
def _distributions_of(top: str) -> tuple[str, ...]:
    try:
        # Nearly all have the name of their package; a look at every installed distribution takes half a second.
        return (importlib.metadata.distribution(top).metadata["Name"],)
    except importlib.metadata.PackageNotFoundError:
        return tuple(_distributions().get(top, ()))


def _is_installed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is not None:
        return is_library_file(file)
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return False
    folders = list(spec.submodule_search_locations or ())
    return spec.origin in {"built-in", "frozen"} or any(is_library_file(folder) for folder in folders)


@cache
def _is_project(top: str) -> bool:
    """Tells whether a package comes from a distribution that requires the feature store, or from its own."""
    if top in sys.stdlib_module_names:
        return False
    names = _distributions_of(top)
    required = [text for name in names for text in importlib.metadata.requires(name) or ()]
    return any(_FEATURE_STORE.match(text) for text in (*names, *required))


@cache
def _distributions() -> dict[str, list[str]]:
    return {package: sorted(set(names)) for package, names in importlib.metadata.packages_distributions().items()}
