"""Whose code it is: the project's own, which is followed, or a library's, which goes by its name."""

from __future__ import annotations

import importlib.metadata
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
_OWN = {"feature_store", "dagster_feature_store", __name__.partition(".")[0]}


def is_library(name: str | None, home: frozenset[str] = frozenset()) -> bool:
    """Tells whether a module is a library's: of Python itself, of an installed distribution, or of the feature store.

    Args:
        name: The module's dotted name. What has no module was made by the interpreter.
        home: Top-level packages that are the project's wherever they are installed.
    """
    if name is None:
        return True
    top = name.partition(".")[0]
    if top in _OWN:
        return True
    if top in home or top == "__main__":
        return False
    module = sys.modules.get(name) or sys.modules.get(top)
    if module is None:
        return top in sys.stdlib_module_names
    return _is_installed(module)


def is_library_file(file: str) -> bool:
    """Tells whether a source file is one of Python itself or of an installed distribution."""
    path = Path(file)
    if _LIBRARY_FOLDERS & set(path.parts):
        return True
    return path.is_absolute() and str(path.resolve()).startswith(_STANDARD)


def home_of(name: str | None) -> frozenset[str]:
    """Returns the top-level packages that belong to a module's project.

    A project that is itself installed is still followed: all packages of the distribution that the module is of.
    """
    top = (name or "").partition(".")[0]
    module = sys.modules.get(top)
    if module is None or top in _OWN or top in sys.stdlib_module_names or not _is_installed(module):
        return frozenset()
    distributions = set(_distributions().get(top, ()))
    return frozenset(package for package, known in _distributions().items() if distributions & set(known)) | {top}


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """Returns the distributions that modules come from, sorted, each with its version; those of Python have none."""
    tops = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    found = {distribution for top in tops for distribution in _distributions().get(top, ())}
    return {name: importlib.metadata.version(name) for name in sorted(found)}


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
def _distributions() -> dict[str, list[str]]:
    return {package: sorted(set(names)) for package, names in importlib.metadata.packages_distributions().items()}
