"""What a function keeps between calls: globals, captured variables, defaults, attributes, caches.

The state is taken before the first call and can be set back, so that a call is like the first one of a process.
"""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from feature_store.definitions.fingerprint.origins import is_library
from feature_store.definitions.fingerprint.reads import reads_of


@dataclass(slots=True)
class State:
    """The state of a function and of the project's functions and objects that it uses, as it was at one time.

    Build it with `State.of`.
    """

    _restorers: list[Callable[[], object]] = field(default_factory=list)
    _seen: dict[int, object] = field(default_factory=dict)

    @classmethod
    def of(cls, function: object) -> State:
        """Takes the state of a function as it is now."""
        state = cls()
        state._visit(function)
        return state

    def reset(self) -> None:
        """Sets everything back."""
        for restore in self._restorers:
            restore()

    def _visit(self, value: Any) -> None:
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        match value:
            case functools.partial():
                self._visit_all(value.func, *value.args, *value.keywords.values())
            case MethodType():
                self._visit_all(value.__func__, value.__self__)
            case dict():
                self._restorers.append(_contents(value))
                self._visit_all(*value.values())
            case list() | set() | deque() | bytearray():
                self._restorers.append(_contents(value))
                self._visit_all(*value)
            case ModuleType():
                pass
            case _ if not is_library(_module_of(value)):
                self._visit_own(value)

    def _visit_all(self, *values: object) -> None:
        for value in values:
            self._visit(value)

    def _visit_own(self, value: Any) -> None:
        """Takes a function, class or object of the project's own."""
        match value:
            case functools._lru_cache_wrapper():  # noqa: SLF001 - it has no other name
                self._restorers.append(value.cache_clear)
                self._visit(value.__wrapped__)
            case FunctionType():
                self._visit_function(value)
            case type():
                self._visit_class(value)
            case _:
                self._visit_all(getattr(value, "__dict__", None), type(value))

    def _visit_function(self, function: FunctionType) -> None:
        self._restorers.append(_attributes(function, ("__defaults__", "__kwdefaults__")))
        self._visit_all(function.__dict__, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        for cell in function.__closure__ or ():
            self._visit_cell(cell)
        for read in reads_of(function.__code__):
            if read.kind == "global":
                self._visit_names(function.__globals__, read.name, read.chain)

    def _visit_cell(self, cell: CellType) -> None:
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet
            return
        self._restorers.append(lambda: setattr(cell, "cell_contents", value))
        self._visit(value)

    def _visit_names(self, names: dict[str, Any], name: str, chain: tuple[str, ...]) -> None:
        """Takes a global variable, and what is read from it where it is one of the project's modules."""
        if name not in names:
            self._restorers.append(lambda: names.pop(name, None))
            return
        value = names[name]
        if isinstance(value, ModuleType):
            if chain and chain[0] in vars(value) and not is_library(value.__name__):
                self._visit_names(vars(value), chain[0], chain[1:])
            return
        if not isinstance(value, type):
            self._restorers.append(lambda: names.__setitem__(name, value))
        self._visit(value)

    def _visit_class(self, value: type) -> None:
        held = {name: part for name, part in vars(value).items() if not name.startswith("__")}
        data = [name for name, part in held.items() if not hasattr(type(part), "__get__")]
        self._restorers.append(_attributes(value, data))
        self._visit_all(*(getattr(part, "__func__", part) for part in held.values()))


def _module_of(value: Any) -> str | None:
    named = isinstance(value, FunctionType | type | functools._lru_cache_wrapper)  # noqa: SLF001
    return getattr(value if named else type(value), "__module__", None)


def _contents(container: Any) -> Callable[[], object]:
    """Returns what puts a container's present contents back, shared parts as they are: each is put back by itself."""
    before = copy.copy(container)

    def restore() -> None:
        if not _same(container, before):
            container.clear()
            container.extend(before) if hasattr(container, "extend") else container.update(before)

    return restore


def _same(container: Any, before: Any) -> bool:
    if len(container) != len(before) or isinstance(container, set | bytearray):
        return bool(container == before)
    if isinstance(container, dict):
        return all(key in container and container[key] is value for key, value in before.items())
    return all(one is other for one, other in zip(container, before, strict=True))


def _attributes(value: object, names: Any) -> Callable[[], None]:
    before = {name: getattr(value, name) for name in names}

    def restore() -> None:
        for name, part in before.items():
            if getattr(value, name) is not part:
                setattr(value, name, part)

    return restore
