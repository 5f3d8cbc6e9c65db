"""Describes values by what they are made of: never by where they lie, nor by how their type happens to print them."""

from __future__ import annotations

import copyreg
import dataclasses
import datetime as dt
import enum
import functools
import logging
import re
import sys
import threading
import types
import typing
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from types import BuiltinFunctionType, MappingProxyType, MethodType
from typing import Any

from feature_store.definitions.fingerprint.origins import is_library
from feature_store.errors import DefinitionError


class Walk(typing.Protocol):
    """Describes what a value is made of: `walk.Walk`."""

    @property
    def libraries(self) -> set[str]:
        """Modules of libraries that were met."""
        ...

    def of(self, value: object) -> Any:
        """Returns the description of a value."""
        ...

    def at(self, step: str) -> AbstractContextManager[None]:
        """Remembers where the walk is, for errors."""
        ...

    def untellable(self, value: object, reason: str) -> DefinitionError:
        """Returns the error of a value that cannot be described."""
        ...

    def unordered(self, items: Iterator[object]) -> tuple[Any, ...]:
        """Returns the descriptions of items whose order means nothing."""
        ...

    def library(self, module: str | None, name: str) -> Any:
        """Returns the description of what a library defines."""
        ...


_BY_REPR = {
    *(type(None), type(Ellipsis), type(NotImplemented), bool, int, float, complex, str, bytes, bytearray, range),
    *(Decimal, Fraction, dt.date, dt.timedelta, dt.timezone, zoneinfo.ZoneInfo, uuid.UUID),
}
_SEQUENCES = (list, tuple, deque)
_MAPPINGS = (dict, OrderedDict, defaultdict, Counter, MappingProxyType)
_SETS = (set, frozenset)
_OF_A_SOURCE = ("scan", "fingerprint", "landed_days")
_WITHOUT_VALUE = (
    *(type(threading.Lock()), type(threading.RLock()), threading.local),
    *(threading.Condition, threading.Event, threading.Semaphore),
)
_REDUCED_BY = {copyreg.__newobj__, copyreg.__newobj_ex__}  # type: ignore[attr-defined]


def plain(value: object) -> Any:
    """Returns the description of a value without parts, None for all others."""
    if type(value) in _BY_REPR:
        return (type(value).__name__, repr(value))
    if isinstance(value, re.Pattern):
        return ("pattern", repr(value.pattern), str(value.flags))
    if isinstance(value, logging.Logger):
        # A logger tells what is computed, and takes no part in it.
        return ("logger",)
    if isinstance(value, _WITHOUT_VALUE):
        return ("lock", type(value).__name__)
    return None


def is_constant(value: object) -> bool:
    """Tells whether a value is plain, or a built-in container of such values."""
    if type(value) in _SEQUENCES or type(value) in _SETS:
        return all(map(is_constant, typing.cast("Any", value)))
    if type(value) in _MAPPINGS:
        return all(is_constant(part) for pair in typing.cast("Any", value).items() for part in pair)
    return plain(value) is not None


def is_data(value: object) -> bool:
    """Tells whether an attribute of a class is taken as it is: no function, and nothing that computes it."""
    return not callable(value) and not hasattr(type(value), "__get__")


def is_source(value: object) -> bool:
    """Tells whether a value is a source of events, the project's or a user's own; see `Source`."""
    return not isinstance(value, type) and all(hasattr(type(value), name) for name in _OF_A_SOURCE)


def compound(value: object, walk: Walk) -> Any:  # noqa: PLR0911, PLR0912, C901 - one line per kind
    """Returns the description of a value that is made of others.

    Raises:
        DefinitionError: If it has no lasting form.
    """
    kind = type(value)
    if isinstance(value, dt.datetime | dt.time) and kind.__module__ == "datetime":
        return (kind.__name__, value.replace(tzinfo=None).isoformat(), str(value.fold), walk.of(value.tzinfo))
    if is_source(value):
        # The events that lie in it are data, and where they lie is a matter of the machine.
        return ("source", walk.of(kind), str(typing.cast("Any", value).name))
    if kind.__module__.startswith("feature_store.") and not dataclasses.is_dataclass(value):
        # A store, or another handle of what lies outside.
        return walk.library(kind.__module__, kind.__qualname__)
    if isinstance(value, PurePath):
        return ("path", _path_text(value))
    if kind in _SEQUENCES:
        return (kind.__name__, *_items(typing.cast("Any", value), walk))
    if kind in _SETS:
        return (kind.__name__, *walk.unordered(iter(typing.cast("Any", value))))
    if kind in _MAPPINGS:
        factory = walk.of(value.default_factory) if isinstance(value, defaultdict) else ""
        return (kind.__name__, factory, *_pairs(typing.cast("Any", value), walk))
    if isinstance(value, enum.Enum):
        return ("member", walk.of(kind), value.name, walk.of(value.value))
    if isinstance(value, MethodType):
        return ("method", walk.of(value.__func__), walk.of(value.__self__))
    if isinstance(value, functools.partial | functools.partialmethod):
        named = tuple((name, walk.of(value.keywords[name])) for name in sorted(value.keywords))
        return ("partial", walk.of(value.func), tuple(walk.of(each) for each in value.args), named)
    if isinstance(value, staticmethod | classmethod):
        return (kind.__name__, walk.of(value.__func__))
    if isinstance(value, property):
        return ("property", *(walk.of(each) for each in (value.fget, value.fset, value.fdel)))
    if isinstance(value, functools.cached_property):
        return ("property", walk.of(value.func))
    if isinstance(value, functools._lru_cache_wrapper):  # noqa: SLF001 - it has no other name
        return ("cached", walk.of(value.__wrapped__))
    if isinstance(value, types.GenericAlias | types.UnionType) or kind.__module__ == "typing":
        return _annotation(value, walk)
    if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, types.ModuleType | type | None):
        return ("bound", value.__name__, walk.of(value.__self__))
    known = _importable(value)
    if known is not None and is_library(known[0]):
        return walk.library(*known)
    return _frame(value, walk) or _array(value, walk) or _instance(value, walk)


def _items(value: Any, walk: Walk) -> tuple[Any, ...]:
    return tuple(walk.of(item) for item in value)


def _pairs(value: Mapping[Any, Any], walk: Walk) -> tuple[Any, ...]:
    found = []
    for key, item in value.items():
        with walk.at(f"[{key!r}]" if isinstance(key, str | int) else "[...]"):
            found.append((walk.of(key), walk.of(item)))
    return tuple(found)


def _path_text(path: PurePath) -> str:
    """A path inside of a folder that Python imports from is told from there on: the project may lie anywhere."""
    for folder in sorted((entry for entry in sys.path if entry), key=len, reverse=True):
        if path.is_absolute() and path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.as_posix()


def _annotation(value: Any, walk: Walk) -> Any:
    arguments = typing.get_args(value)
    if not arguments:
        return ("annotation", repr(value))
    origin = typing.get_origin(value)
    return ("annotation", walk.of(origin), *(walk.of(each) for each in arguments))


def _importable(value: object) -> tuple[str, str] | None:
    """Returns the module and name by which a function or an object of a library can be imported."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if not isinstance(name, str):
        # An object that answers to any name, such as `pl.col`, has something else for it.
        name = getattr(value, "__name__", None)
    if isinstance(value, BuiltinFunctionType) and module is None:
        owner = value.__self__
        module = owner.__module__ if isinstance(owner, type) else "builtins"
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if isinstance(value, BuiltinFunctionType):
        return module, name
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is value else None


def _frame(value: Any, walk: Walk) -> Any:  # noqa: PLR0911 - one line per kind
    """Frames, columns, expressions and dtypes of Polars."""
    if not type(value).__module__.startswith("polars."):
        return None
    import polars as pl

    from feature_store.frame_fingerprint import fingerprint

    walk.libraries.add("polars")
    try:
        match value:
            case pl.DataFrame():
                return ("frame", fingerprint(value))
            case pl.Series():
                return ("series", fingerprint(value.to_frame()))
            case pl.DataType():
                return ("dtype", repr(value))
            case pl.Expr():
                return ("expression", value.meta.serialize(format="json"))
            case pl.LazyFrame():
                return ("lazy frame", value.serialize().hex())
    except (pl.exceptions.PolarsError, DefinitionError, ValueError, TypeError) as error:
        raise walk.untellable(value, str(error).partition("\n")[0].rstrip(".")) from None
    return None


def _array(value: Any, walk: Walk) -> Any:
    if type(value).__module__.partition(".")[0] != "numpy":
        return None
    import numpy as np

    walk.libraries.add("numpy")
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            return ("array", str(value.shape), walk.of(value.tolist()))
        return ("array", value.dtype.str, str(value.dtype.descr), str(value.shape), value.tobytes().hex())
    return None


def _instance(value: object, walk: Walk) -> Any:
    """Any other object: its class, and the state that it would be copied with."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = [(each.name, getattr(value, each.name, None)) for each in dataclasses.fields(value)]
        return ("object", walk.of(type(value)), *(_named(name, part, walk) for name, part in named))
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:  # noqa: BLE001 - objects say in many ways that they cannot be copied
        raise walk.untellable(value, str(error).rstrip(".") or type(error).__name__) from None
    if isinstance(reduced, str):
        return walk.library(type(value).__module__, reduced)
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    described = [walk.of(arguments) if make in _REDUCED_BY else (walk.of(make), walk.of(arguments))]
    described.append(_state(value, state, walk))
    described.append(_items(items or (), walk))
    described.append(tuple((walk.of(key), walk.of(item)) for key, item in pairs or ()))
    return ("object", walk.of(type(value)), *described)


def _state(value: object, state: object, walk: Walk) -> Any:
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)  # noqa: PLR2004 - attributes, slots
    described = []
    for part in parts:
        if isinstance(part, dict):
            cached = {
                name for name in part if isinstance(getattr(type(value), str(name), None), functools.cached_property)
            }
            names = sorted(part.keys() - cached, key=str)
            described.append(tuple(_named(str(name), part[name], walk) for name in names))
        else:
            described.append(walk.of(part))
    return tuple(described)


def _named(name: str, value: object, walk: Walk) -> Any:
    with walk.at(f".{name}"):
        return (name, walk.of(value))
