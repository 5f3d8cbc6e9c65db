"""The text of code without its looks: a syntax tree without comments, formatting, docstrings and places.

The tree is that of the source file, once it is certain that the file still gives the code that runs. Where there is
no such source (code of a prompt, a file that was edited after its import), the code object stands for it.
"""

from __future__ import annotations

import ast
import linecache
import threading
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef | ast.Module

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_LOOKS = {"lineno", "col_offset", "end_lineno", "end_col_offset", "type_comment", "kind", "type_ignores"}
_OWN_BY_VALUE = {"name", "decorator_list", "returns", "annotation", "defaults", "kw_defaults"}
"""Of a function itself: its name means nothing, and defaults and decorators are told by what they have given."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source file, parsed.

    Attributes:
        tree: Its syntax tree.
        code: What it compiles to.
    """

    tree: ast.Module
    code: CodeType


def function_text(code: CodeType, module: dict[str, Any], docstring: str | None) -> Any:
    """Returns what a function's code says, in nested tuples of text; equal where only its looks differ."""
    source = source_of(code.co_filename, module)
    node = _node_of(code, source) if source is not None else None
    return ("code", _plain(code, docstring)) if node is None else ("syntax", _tree(node, own=True))


def class_code(name: str, codes: frozenset[CodeType], source: Source | None) -> tuple[ast.ClassDef, CodeType] | None:
    """Returns the syntax and the code of a class's body, None where the source does not have it.

    Args:
        name: Its qualified name.
        codes: Code objects of its methods, which tell it from others of its name.
        source: The file that it is defined in.
    """
    if source is None:
        return None
    found = [code for code in _codes(source.code) if code.co_qualname == name]
    plain = {_plain(code) for code in codes}
    for code in reversed(found):
        if plain <= {_plain(inner) for inner in _codes(code)}:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.ClassDef) and node.name == code.co_name and _starts(node, code):
                    return node, code
    return None


def tree_text(node: ast.AST) -> Any:
    """Returns a syntax tree without its looks, in nested tuples of text."""
    return _tree(node)


def source_of(file: str, module: dict[str, Any]) -> Source | None:
    """Returns a source file as it is now, None where there is none that can be read.

    Args:
        file: Its path, or the name that the interpreter gives to what was typed in.
        module: The namespace of the module, by whose loader a file in an archive is read.
    """
    if Path(file).is_file():
        try:
            with tokenize.open(file) as opened:
                text = opened.read()
        except (OSError, SyntaxError, UnicodeDecodeError):
            return None
    else:
        text = "".join(linecache.getlines(file, module))
    return _parsed(file, text) if text else None


_PARSING = threading.Lock()
"""Python 3.11 counts the depth of all threads' trees in one place: of two that are made at once, one fails."""


@lru_cache(maxsize=256)
def _parsed(file: str, text: str) -> Source | None:
    try:
        with _PARSING:
            tree = ast.parse(text)
        return Source(tree, compile(text, file, "exec", dont_inherit=True))
    except (SyntaxError, ValueError):
        return None


def _node_of(code: CodeType, source: Source) -> Definition | None:
    """Returns the definition that gives this very code; the one at its line, if several do."""
    plain = _plain(code)
    same = [each for each in _codes(source.code) if each.co_qualname == code.co_qualname and _plain(each) == plain]
    if not same:
        return None
    nearest = min(same, key=lambda each: (each != code, abs(each.co_firstlineno - code.co_firstlineno)))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Lambda):
            body = node.body
            place = (body.lineno, body.end_lineno, body.col_offset, body.end_col_offset)
            if nearest.co_name == "<lambda>" and place in set(nearest.co_positions()):
                return node
        elif isinstance(node, _FUNCTIONS) and node.name == nearest.co_name and _starts(node, nearest):
            return node
    return None


def _starts(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, code: CodeType) -> bool:
    return code.co_firstlineno in {node.lineno, *(decorator.lineno for decorator in node.decorator_list[:1])}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _plain(code: CodeType, docstring: str | None = None) -> tuple[Any, ...]:
    """Returns what a code object does, without where it stands."""
    constants = code.co_consts
    if docstring is not None and constants and constants[0] == docstring:
        constants = constants[1:]
    return (
        code.co_code.hex(),
        code.co_exceptiontable.hex(),
        tuple(_constant(each) for each in constants),
        *(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
    )


def _constant(value: object) -> tuple[Any, ...]:
    match value:
        case CodeType():
            return _plain(value)
        case tuple():
            return ("tuple", *map(_constant, value))
        case frozenset():
            return ("set", *sorted(map(_constant, value), key=repr))
        case _:
            return (type(value).__name__, repr(value))


def _tree(node: ast.AST, *, own: bool = False) -> tuple[Any, ...]:
    fields: list[Any] = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if name in _LOOKS or value is None or (own and name in _OWN_BY_VALUE):
            continue
        if own and isinstance(value, ast.arguments):
            fields.append((name, _tree(value, own=True)))
        elif isinstance(value, ast.AST):
            fields.append((name, _tree(value, own=own and isinstance(node, ast.arguments))))
        elif isinstance(value, list):
            items = tuple(
                _tree(item, own=own and isinstance(node, ast.arguments)) if isinstance(item, ast.AST) else repr(item)
                for item in value
                if not _says_nothing(item)
            )
            if items:
                fields.append((name, items))
        else:
            fields.append((name, f"{type(value).__name__} {value!r}"))
    return tuple(fields)


def _says_nothing(node: object) -> bool:
    """A docstring, another literal that stands alone, or `pass`."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
