"""Writes the scaffold's files: a new folder at once or not at all, or what a project lacks, and nothing over a file."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from feature_store.errors import InvalidRequestError

DEFINITIONS = "feature_assets.shop"
"""The module of the scaffold's feature groups."""

_PLACEHOLDER = b"project-name"
_NAMED = ("pyproject.toml", "README.md")
_RENAMED = {"dot_env": ".env", "dot_gitignore": ".gitignore"}
_FRAME = (".gitignore", "Makefile", "README.md", "pyproject.toml", "resources/dagster.yaml", "workspace.yaml")
"""Files that say what a project is, and how it runs."""
_SAY_WHAT_A_PROJECT_IS = ("pyproject.toml", "setup.py", "setup.cfg", "workspace.yaml", "dagster.yaml", "dg.toml")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_NAME_WITHOUT_ONE = "features"


@dataclass(frozen=True, slots=True)
class Added:
    """What has come to a project that was there.

    Attributes:
        written: Paths of new files.
        left: Paths of the scaffold's files that were there already, and are as they were.
        own: Paths that were not written, though they are missing: the project says otherwise what it is.
    """

    written: tuple[str, ...]
    left: tuple[str, ...]
    own: tuple[str, ...]


def create_project(name: str, parent: Path) -> list[str]:
    """Makes a project in a folder of its own, which appears whole or not at all.

    Args:
        name: Of the folder, and of the project in its `pyproject.toml`.
        parent: Holds the folder.

    Returns:
        The paths of its files, in order.

    Raises:
        InvalidRequestError: If the name cannot be one, there is something of that name that is not an empty folder,
            or the folder cannot be written.
    """
    _check_name(name)
    target = parent / name
    _refuse_what_is_there(target)
    contents = _contents(name)
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}.", ignore_cleanup_errors=True) as scratch:
            whole = Path(scratch) / name
            _write_below(whole, contents)
            # Puts itself in the place of an empty folder, and fails if another has filled it meanwhile.
            whole.rename(target)
    except OSError as error:
        _refuse_what_is_there(target)
        raise _unwritable(target, error) from error
    return list(contents)


def add_to_project(folder: Path) -> Added:
    """Adds to a project the files of the scaffold that it lacks. All of them come, or none.

    Files that say what a project is come only where none of them is there: a `workspace.yaml` beside a project's own
    `pyproject.toml` would change what Dagster loads.

    Raises:
        InvalidRequestError: If there is no such folder, a file stands where a folder has to be, a new package would
            hide a module, or a file cannot be written.
    """
    if not folder.is_dir():
        raise InvalidRequestError(
            f"There is no folder {str(folder)!r} to add to: name one that exists, or begin a new one with "
            "`feature-store init NAME`."
        )
    own_name = folder.resolve().name
    contents = _contents(own_name if _NAME.fullmatch(own_name) else _NAME_WITHOUT_ONE)
    left = [path for path in contents if os.path.lexists(folder / path)]
    has_frame = any(os.path.lexists(folder / path) for path in _SAY_WHAT_A_PROJECT_IS)
    own = [path for path in _FRAME if has_frame and path not in left]
    wanted = {path: content for path, content in contents.items() if path not in left and path not in own}
    _refuse_obstacles(folder, wanted)
    try:
        written = _add(folder, wanted)
    except OSError as error:
        raise _unwritable(folder, error) from error
    came_meanwhile = [path for path in wanted if path not in written]
    return Added(tuple(written), tuple(sorted([*left, *came_meanwhile])), tuple(own))


def _check_name(name: str) -> None:
    if name in (".", ".."):
        raise InvalidRequestError(
            f"{name!r} is no name for a new project. To add to a project that is there: `feature-store init --into "
            f"{name}`."
        )
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{name!r} is no name for a project: at most 100 letters (a to z), digits, '-', '_' and '.', with a letter "
            "or digit at both ends, such as my-shop. It is made in the working directory: go to the folder that "
            "shall hold it."
        )
    if _canonical(name) in _taken_names():
        raise InvalidRequestError(
            f"{name!r} is the name of a package that the project needs, and pip could not tell the two apart: choose "
            f"another name, such as {name}-features."
        )


def _taken_names() -> set[str]:
    try:
        required = requires("feature-store") or []
    except PackageNotFoundError:
        # The library without its metadata, as in an archive that a cluster was given.
        required = []
    return {"feature-store", *(_canonical(re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0]) for each in required)}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _refuse_what_is_there(target: Path) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise InvalidRequestError(
            f"There is a {'link' if target.is_symlink() else 'file'} {target.name!r} already: choose another name, or "
            "move it away. Nothing was changed."
        )
    try:
        is_empty = not any(target.iterdir())
    except OSError as error:
        raise _unwritable(target, error) from error
    if not is_empty:
        raise InvalidRequestError(
            f"The folder {target.name!r} exists and is not empty: choose another name, or add to it with "
            f"`feature-store init --into {target.name}`. Nothing was changed."
        )


def _refuse_obstacles(folder: Path, wanted: Mapping[str, bytes]) -> None:
    """Refuses what would be hidden, or is in the way, before anything is written."""
    for path in wanted:
        for above in PurePosixPath(path).parents:
            place = folder / above
            if os.path.lexists(place) and not place.is_dir():
                raise InvalidRequestError(
                    f"{str(above)!r} is not a folder, and {path!r} would lie in it: rename it. Nothing was changed."
                )
    for package in sorted({path.partition("/")[0] for path in wanted if path.endswith("/__init__.py")}):
        if os.path.lexists(folder / f"{package}.py"):
            raise InvalidRequestError(
                f"The package {package}/ would hide the module {package}.py of the project: rename the module, or make "
                "a project of its own with `feature-store init NAME`. Nothing was changed."
            )


def _contents(name: str) -> dict[str, bytes]:
    """Returns the content of each file of a project, by its path."""
    found = {}
    for path, file in _walk(files("feature_store.scaffold") / "project"):
        content = file.read_bytes()
        found[path] = content.replace(_PLACEHOLDER, name.encode()) if path in _NAMED else content
    return dict(sorted(found.items()))


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        path = f"{prefix}{_RENAMED.get(entry.name, entry.name)}"
        if entry.is_file():
            yield path, entry
        elif entry.name != "__pycache__":  # pip compiles all that it installs
            yield from _walk(entry, f"{path}/")


def _write_below(root: Path, contents: Mapping[str, bytes]) -> None:
    for path, content in contents.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _add(folder: Path, contents: Mapping[str, bytes]) -> list[str]:
    """Adds files, and takes all of them back if one fails. Returns the paths of those that were not there."""
    files_made: list[str] = []
    folders_made: list[Path] = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".feature-store-init.", ignore_cleanup_errors=True) as scratch:
        _write_below(Path(scratch), contents)
        try:
            for path in contents:
                for above in reversed(PurePosixPath(path).parents):
                    if not (folder / above).is_dir():
                        (folder / above).mkdir()
                        folders_made.append(folder / above)
                if _appears(Path(scratch) / path, folder / path):
                    files_made.append(path)
        except BaseException:
            for path in files_made:
                (folder / path).unlink(missing_ok=True)
            for made in reversed(folders_made):
                with suppress(OSError):  # someone else has put something there
                    made.rmdir()
            raise
    return files_made


def _appears(whole: Path, target: Path) -> bool:
    """Shows a file that is written under its name, unless one is there; tells whether it did."""
    try:
        # Unlike a rename, a link never takes the place of a file.
        os.link(whole, target)
    except FileExistsError:
        return False
    except OSError:
        # File systems without links.
        if os.path.lexists(target):
            return False
        whole.rename(target)
    return True


def _unwritable(target: Path, error: OSError) -> InvalidRequestError:
    return InvalidRequestError(
        f"{str(target)!r} cannot be written: {error.strerror or error}. Nothing was changed. Make its folder writable, "
        "or work in another one."
    )
