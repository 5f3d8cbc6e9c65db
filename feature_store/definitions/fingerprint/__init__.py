"""One fingerprint for everything that computes: group functions, labels, on-demand features, rules of schemas.

See docs/code-versions.md for what counts as a change. Nothing here knows what the functions are for.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from feature_store.definitions.fingerprint.origins import versions_of
from feature_store.definitions.fingerprint.walk import Binding, Walk

__all__ = ["code_version", "libraries_of"]

_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """What was found of an object, which is held so that its id stays its own."""

    of: object
    digest: str
    bindings: tuple[Binding, ...]
    libraries: frozenset[str]


_known: OrderedDict[int, _Fingerprint] = OrderedDict()


def code_version(function: object, *rest: object) -> str:
    """Returns a digest of all that a function computes with: another one as soon as its results may be others.

    Its code counts, that of the project's functions and classes that it uses, constants, defaults, captured and bound
    values. Comments, formatting, docstrings, annotations, places and names of the functions do not, nor do the
    versions of libraries. It is the same in every process and on every machine.

    A value is told as it is when the version is first asked for; a name that stands for another object since is seen.

    Args:
        function: A function, `functools.partial`, bound method, callable object or class.
        rest: Further values that it goes with.

    Raises:
        DefinitionError: If something that the function uses has no lasting form, such as an open file.
    """
    parts = [_fingerprint(function).digest, *(_digest(Walk().description(value)) for value in rest)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def libraries_of(function: object) -> dict[str, str]:
    """Returns the distributions that a function and what it uses are written with, sorted, each with its version.

    Python itself has none. Libraries that only a library uses are left out.

    Raises:
        DefinitionError: As `code_version` does.
    """
    return versions_of(_fingerprint(function).libraries)


def _fingerprint(function: object) -> _Fingerprint:
    known = _known.get(id(function))
    if known is not None and all(binding.holds() for binding in known.bindings):
        return known
    walk = Walk()
    digest = _digest(walk.description(function))
    found = _Fingerprint(function, digest, tuple(walk.bindings), frozenset(walk.libraries))
    _known[id(function)] = found
    if len(_known) > _REMEMBERED:
        _known.popitem(last=False)
    return found


def _digest(description: Any) -> str:
    return hashlib.sha256(repr(description).encode("utf-8", "surrogatepass")).hexdigest()
