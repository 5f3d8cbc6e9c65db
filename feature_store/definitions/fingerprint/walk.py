"""Follows a value through all that it is computed by, and describes it in nested tuples of text.

Functions, classes and modules of the project are entered where they are first met and numbered; whatever meets them
again gives the number. So cycles end, and nothing depends on where things lie: a helper that moves to another module
is the same helper. What a library defines goes by its name.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import importlib.util
import inspect
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CellType, CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any

from feature_store.definitions.fingerprint import texts, values
from feature_store.definitions.fingerprint.origins import is_library
from feature_store.definitions.fingerprint.reads import Read, reads_of
from feature_store.errors import DefinitionError

_ABSENT = object()
_OF_THE_MODULE = {
    "__builtins__",
    "__cached__",
    "__doc__",
    "__file__",
    "__loader__",
    "__name__",
    "__package__",
    "__spec__",
}


@dataclass(frozen=True, slots=True)
class Binding:
    """A name that was looked up, and what it stood for: while this holds, so does the description."""

    holder: Mapping[str, Any] | CellType
    name: str
    value: object

    def holds(self) -> bool:
        """Tells whether the name still stands for the same object."""
        return _bound(self.holder, self.name) is self.value


@dataclass
class Walk:
    """One description of a value and of all that it reaches.

    Attributes:
        named: Id of an object to the name that stands for it, instead of a description.
        bindings: All names that were looked up.
        libraries: Modules of libraries that were met.
    """

    named: Mapping[int, str] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)
    libraries: set[str] = field(default_factory=set)
    _numbers: dict[int, int] = field(default_factory=dict)
    _met: list[object] = field(default_factory=list)
    _waiting: deque[tuple[object, tuple[str, ...]]] = field(default_factory=deque)
    _open: list[int] = field(default_factory=list)
    _path: tuple[str, ...] = ()

    def description(self, value: object) -> Any:
        """Returns the description of a value, and of everything of the project that it reaches.

        Raises:
            DefinitionError: If something that it reaches has no lasting form.
        """
        return (self.of(value), self._entered())

    def of(self, value: object) -> Any:
        """Returns the description of a value; what it reaches of the project's code is numbered, and entered later."""
        if id(value) in self.named:
            return ("named", self.named[id(value)])
        plain = values.plain(value)
        if plain is not None:
            return plain
        if isinstance(value, type | FunctionType | ModuleType):
            return self._reference(value)
        if id(value) in self._open:
            return ("within", str(len(self._open) - self._open.index(id(value))))
        self._open.append(id(value))
        try:
            return values.compound(value, self)
        finally:
            self._open.pop()

    def unordered(self, items: Iterator[object]) -> tuple[Any, ...]:
        """Returns the descriptions of items whose order means nothing."""
        described = [(repr(self._fork().description(item)), item) for item in items]
        return tuple(self.of(item) for _, item in sorted(described, key=lambda pair: pair[0]))

    def library(self, module: str | None, name: str) -> Any:
        """Returns the description of what a library defines: its name."""
        self.libraries.add(module or "builtins")
        return ("library", module or "builtins", name)

    @contextmanager
    def at(self, step: str) -> Iterator[None]:
        """Names where the walk is, for errors."""
        before = self._path
        self._path = (*before, step)
        try:
            yield
        finally:
            self._path = before

    def untellable(self, value: object, reason: str) -> DefinitionError:
        """Returns the error about a value that has no lasting form."""
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        return DefinitionError(
            f"{' -> '.join(self._path) or 'The definition'} holds a {kind}, whose changes could not be seen: {reason}. "
            "Make it inside the function that uses it, or hold the plain values that it is made of (numbers, text, "
            "dates, lists, dicts, frames)."
        )

    def _fork(self) -> Walk:
        return Walk(
            self.named, self.bindings, self.libraries,
            dict(self._numbers), self._met, deque(), list(self._open), self._path,
        )  # fmt: skip

    def _reference(self, value: type | FunctionType | ModuleType) -> Any:
        if isinstance(value, ModuleType):
            if is_library(value.__name__):
                return self.library(value.__name__, "")
        elif isinstance(value, FunctionType):
            if _is_library_code(value):
                return self._library_function(value)
        elif is_library(value.__module__):
            return self.library(value.__module__, value.__qualname__)
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._numbers)
            self._met.append(value)
            self._waiting.append((value, self._path))
        return ("see", str(self._numbers[id(value)]))

    def _library_function(self, function: FunctionType) -> Any:
        """A function of a library; of one that was made at run time, such as a decorator's, also what it holds."""
        module, name = function.__globals__.get("__name__"), function.__code__.co_qualname
        described = self.library(module, name)
        if "<locals>" not in name:
            return described
        registry = vars(function).get("registry")
        if isinstance(registry, MappingProxyType):
            # `functools.singledispatch`: its functions, without its memory of what it was called with.
            return (*described, self.unordered(iter(registry.items())))
        if id(function) in self._open:
            return described
        self._open.append(id(function))
        try:
            held = [*self._cells(function), *self._defaults(function)]
            inner = vars(function).get("__wrapped__")
            return (*described, tuple(held), self.of(inner))
        finally:
            self._open.pop()

    def _entered(self) -> tuple[Any, ...]:
        found = []
        while self._waiting:
            value, path = self._waiting.popleft()
            self._path = path
            match value:
                case FunctionType():
                    found.append(self._function(value))
                case ModuleType():
                    found.append(self._module(value))
                case type():
                    found.append(self._class(value))
        return tuple(found)

    def _function(self, function: FunctionType) -> Any:
        code = function.__code__
        with self.at(f"{function.__qualname__}()"):
            return (
                "function",
                texts.function_text(code, function.__globals__, function.__doc__),
                tuple(self._defaults(function)),
                tuple(self._read(code, function.__globals__, cells_of(function))),
            )

    def _defaults(self, function: FunctionType) -> Iterator[Any]:
        with self.at("a default"):
            yield tuple(self.of(value) for value in function.__defaults__ or ())
            named = function.__kwdefaults__ or {}
            yield tuple((name, self.of(named[name])) for name in sorted(named))

    def _cells(self, function: FunctionType) -> Iterator[Any]:
        for name, cell in sorted(cells_of(function).items()):
            with self.at(f"{name!r}"):
                value = _bound(cell, name)
                yield (name, "empty" if value is _ABSENT else self.of(value))

    def _module(self, module: ModuleType) -> Any:
        with self.at(module.__name__):
            source = texts.source_of(getattr(module, "__file__", None) or "", vars(module))
            if source is None:
                raise self.untellable(module, "its source cannot be read")
            return ("module", texts.tree_text(source.tree), tuple(self._read(source.code, vars(module), {})))

    def _class(self, kind: type) -> Any:
        with self.at(kind.__qualname__):
            bases = tuple(self.of(base) for base in kind.__bases__)
            methods = list(_methods(kind))
            namespace = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
            file = next((each.__code__.co_filename for each in methods), namespace.get("__file__"))
            source = texts.source_of(file, namespace) if file else None
            codes = frozenset(each.__code__ for each in methods if each.__code__.co_filename == file)
            found = texts.class_code(kind.__qualname__, codes, source)
            if found is None:
                return ("class", kind.__name__, bases, tuple(self._members(kind)))
            node, code = found
            cells = {name: cell for each in methods for name, cell in cells_of(each).items()}
            read = [self._read(code, namespace, cells)]
            read += [self._read(decorator, namespace, cells) for decorator in map(_compiled, node.decorator_list)]
            return ("class", texts.tree_text(node), bases, *map(tuple, read), tuple(self._constants(kind)))

    def _members(self, kind: type) -> Iterator[Any]:
        """What a class holds that no source tells of, such as one that was made by a call."""
        for name, value in sorted(vars(kind).items()):
            generated = isinstance(value, FunctionType) and texts.source_of(value.__code__.co_filename, {}) is None
            is_internal = name.startswith("__") and not isinstance(value, FunctionType)
            if generated or (is_internal and name != "__annotations__") or name.startswith("_abc_"):
                continue
            if inspect.ismemberdescriptor(value) or inspect.isgetsetdescriptor(value):
                continue
            with self.at(name):
                yield (name, self.of(value))

    def _constants(self, kind: type) -> Iterator[Any]:
        """Plain values that a class holds, as they are now."""
        for name, value in sorted(vars(kind).items()):
            if not name.startswith("_") and values.is_constant(value):
                with self.at(name):
                    yield (name, self.of(value))

    def _read(self, code: CodeType, namespace: dict[str, Any], cells: Mapping[str, CellType]) -> Iterator[Any]:
        for read in reads_of(code):
            with self.at(".".join((read.name, *read.chain))):
                start = self._started(read, namespace, cells)
                if start is not _ABSENT:
                    yield (read.kind, read.name, read.chain, self.of(self._followed(start, list(read.chain))))

    def _started(self, read: Read, namespace: dict[str, Any], cells: Mapping[str, CellType]) -> object:
        if read.kind == "module":
            return self._imported(read, namespace)
        if read.kind == "cell":
            return self._looked_up(cells[read.name], read.name) if read.name in cells else _ABSENT
        if read.name in _OF_THE_MODULE:
            return _ABSENT
        found = self._looked_up(namespace, read.name)
        return _ABSENT if found is getattr(builtins, read.name, None) else found

    def _imported(self, read: Read, namespace: dict[str, Any]) -> object:
        name = read.name
        if read.level:
            name = importlib.util.resolve_name("." * read.level + name, namespace.get("__package__") or "")
        if is_library(name):
            self.libraries.add(name)
            return _ABSENT
        try:
            return importlib.import_module(name)
        except ImportError:
            # The function may do without it; it would fail here as well.
            return _ABSENT

    def _followed(self, value: object, chain: list[str]) -> object:
        """Returns what attributes lead to: as far as it is data, or a name of one of the project's modules."""
        while chain and id(value) not in self.named and not values.is_source(value):
            holder = self._holder(value, chain[0])
            if holder is None:
                break
            name, *chain = chain
            value = holder(value) if callable(holder) else self._looked_up(holder, name)
        return value

    def _holder(self, value: object, name: str) -> Mapping[str, Any] | Callable[[object], object] | None:
        """Returns the namespace that holds an attribute as it is, or what gives it; None where it is not data."""
        if isinstance(value, ModuleType):
            return None if is_library(value.__name__) else self._namespace(value, name)
        if isinstance(value, type):
            owner = next((each for each in value.__mro__ if name in vars(each)), None)
            if owner is None or is_library(owner.__module__) or not values.is_data(vars(owner)[name]):
                return None
            return vars(owner)
        of_class = inspect.getattr_static(type(value), name, None)
        if inspect.ismemberdescriptor(of_class):
            return lambda instance: getattr(instance, name, None)
        computed = inspect.isdatadescriptor(of_class) or isinstance(of_class, functools.cached_property)
        own = None if computed else getattr(value, "__dict__", None)
        return own if isinstance(own, dict) and name in own else None

    def _namespace(self, module: ModuleType, name: str) -> dict[str, Any] | None:
        if name not in vars(module):
            self._submodule(module, name)
        return vars(module) if name in vars(module) else None

    def _submodule(self, module: ModuleType, name: str) -> None:
        if hasattr(module, "__path__") and importlib.util.find_spec(f"{module.__name__}.{name}") is not None:
            importlib.import_module(f"{module.__name__}.{name}")

    def _looked_up(self, holder: Mapping[str, Any] | CellType, name: str) -> object:
        value = _bound(holder, name)
        self.bindings.append(Binding(holder, name, value))
        return value


def _is_library_code(function: FunctionType) -> bool:
    """Tells whether a function was written in a library, whatever module it gives as its own."""
    module = function.__globals__.get("__name__")
    return isinstance(module, str) and is_library(module)


def cells_of(function: FunctionType) -> dict[str, CellType]:
    """Returns the variables that a function has captured."""
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def _bound(holder: Mapping[str, Any] | CellType, name: str) -> object:
    if not isinstance(holder, CellType):
        return holder.get(name, _ABSENT)
    try:
        return holder.cell_contents
    except ValueError:
        return _ABSENT


def _methods(kind: type) -> Iterator[FunctionType]:
    for value in vars(kind).values():
        function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        function = inspect.unwrap(function) if callable(function) else function
        if not isinstance(function, FunctionType) or function.__code__.co_filename.startswith("<"):
            continue  # a generated one, of a dataclass for instance, has no file
        if function.__qualname__.startswith(f"{kind.__qualname__}."):
            yield function


def _compiled(expression: ast.expr) -> CodeType:
    return compile(ast.Expression(expression), "<decorator>", "eval")
