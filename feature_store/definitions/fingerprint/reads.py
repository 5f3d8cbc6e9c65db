"""What a code object reads from around it: names of its module, captured variables, modules that it imports."""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Literal

_PASSED_OVER = {"CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN", "PRECALL", "PUSH_NULL", "RESUME"}
_OUTSIDE = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_ENCLOSING = {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
_IN_PAIRS = {"LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "STORE_FAST_LOAD_FAST"}
_WITHIN_IMPORTS = {"POP_TOP", "SWAP", "COPY"}


@dataclass(frozen=True, slots=True, order=True)
class Read:
    """A value that code takes from outside of itself.

    Attributes:
        kind: `global`, `cell` (a captured variable) or `module` (an import inside the code).
        name: Name of the variable, or of the module.
        chain: Attributes that are taken from it, one after the other.
        level: Leading dots of a relative import.
    """

    kind: Literal["global", "cell", "module"]
    name: str
    chain: tuple[str, ...] = ()
    level: int = 0

    def then(self, attribute: str) -> Read:
        """Returns the read of an attribute of what this reads."""
        return Read(self.kind, self.name, (*self.chain, attribute), self.level)


@lru_cache(maxsize=4096)
def reads_of(code: CodeType) -> tuple[Read, ...]:
    """Returns what a code object, and those inside it, read; sorted."""
    return tuple(sorted(set(_reads(code, {}))))


def _reads(code: CodeType, outer: Mapping[str, Read]) -> Iterator[Read]:
    scope = _Scope(code, dict(outer))
    current: Read | None = None
    for instruction in dis.get_instructions(code):
        operation, argument = instruction.opname, instruction.argval
        if operation in _PASSED_OVER:
            continue
        if operation in _ATTRIBUTES and current is not None:
            current = current.then(str(argument))
            continue
        if current is not None:
            yield current
        yield from scope.imports(operation, argument)
        *others, last = argument if isinstance(argument, tuple) and operation in _IN_PAIRS else (argument,)
        yield from filter(None, (scope.start(operation, name) for name in others))
        current = scope.start(operation, last)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _reads(constant, scope.imported)


@dataclass(slots=True)
class _Scope:
    """The variables of a code object, as far as they come from outside.

    Attributes:
        code: The code object.
        imported: Variable to the module, or the item of a module, that an import inside the code has put there.
    """

    code: CodeType
    imported: dict[str, Read]
    _module: Read | None = None
    _item: Read | None = None
    _before: tuple[object, object] = (None, None)

    def imports(self, operation: str, argument: object) -> Iterator[Read]:
        """Follows an import statement, instruction by instruction; yields the items that it takes."""
        if operation == "IMPORT_NAME":
            level, items = self._before
            relative = level if isinstance(level, int) else 0
            # `import a.b` gives a, `from a.b import c` looks into a.b.
            name = str(argument) if items or relative else str(argument).partition(".")[0]
            self._module, self._item = Read("module", name, (), relative), None
        elif operation == "IMPORT_FROM" and self._module is not None:
            self._item = (self._item or self._module).then(str(argument))
            yield self._item
        elif operation.startswith("STORE_") and self._module is not None:
            variable = argument[0] if isinstance(argument, tuple) else argument
            self.imported[str(variable)] = self._item or self._module
            self._item = None
        elif operation not in _WITHIN_IMPORTS:
            self._module = None
        self._before = (self._before[1], argument)

    def start(self, operation: str, name: object) -> Read | None:
        """Returns what an instruction reads, None if it reads nothing from outside."""
        if not isinstance(name, str) or not operation.startswith(("LOAD_", "STORE_FAST_LOAD_")):
            return None
        if operation == "LOAD_CONST" or operation in _ATTRIBUTES:
            return None
        if operation in _OUTSIDE:
            return self.imported.get(name) or Read("global", name)
        if operation in _ENCLOSING and name not in self.imported:
            return Read("cell", name) if name in self.code.co_freevars else None
        return self.imported.get(name)
