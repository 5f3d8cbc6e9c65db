"""What the tiles of a group hold: fields of fixed width for numbers, and states for all else, each once.

Free of NumPy, as all that readers of single entities need.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from functools import cached_property
from typing import Literal, NamedTuple

import msgspec

from feature_store.definitions.window_spec import WindowSpec
from feature_store.windows.states import StateKey

FINGERPRINT_BYTES = 8

Kind = Literal["rows", "nulls", "sum", "rest", "minimum", "maximum", "first", "last", "time"]

_NUMBERS = frozenset({"float", "int", "decimal"})
_ENDS = frozenset({"minimum", "maximum", "first", "last"})
_CODES = {"float": "d", "int": "q", "decimal": "q", "timestamp": "q", "date": "i", "bool": "b"}

WIDE = 63
"""The bit of a value's fields that says that starts of tiles are 8 bytes long, not 4."""
_MOST_FIELDS = 63


class Field(NamedTuple):
    """A field of each tile.

    Attributes:
        kind: `rows`, how many events meet the condition; `nulls`, in how many of these the column is null; `sum` and
            `rest`, floats that add up to the sum, or `sum` alone for integers and decimals (of their last digit);
            `minimum`, `maximum`, `first`, `last` value; `time` of the last event, microseconds since 1970.
        column: The column; None for the events themselves.
        dtype: The name of its dtype, None likewise.
        condition: The column that says which events count; None for all.
    """

    kind: Kind
    column: str | None
    dtype: str | None
    condition: str | None

    @property
    def code(self) -> str:
        """Its form, as `struct` spells it."""
        if self.kind in {"rows", "nulls"}:
            return "I"
        return "q" if self.kind == "time" else _CODES[self.dtype or "int"]

    @property
    def zero(self) -> float:
        """What it is where nothing is said."""
        return 0.0 if self.code == "d" else 0


def fields_of(spec: WindowSpec) -> list[Field]:
    """Returns the fields that a window is folded from; none where it is folded from states."""
    name, column, condition = spec.function, spec.column, spec.condition
    dtype = None if spec.column_dtype is None else spec.column_dtype.partition("[")[0]
    counts = [Field("rows", None, None, condition)]
    if column is not None:
        counts.append(Field("nulls", column, dtype, condition))
    if spec.category is not None or (spec.size is not None and name in {"first", "last"}):
        return []
    if name == "count":
        return counts
    if name == "age":
        return [*counts, Field("time", column, dtype, condition)]
    if name in {"total", "mean"} and dtype in _NUMBERS:
        sums = [Field("sum", column, dtype, condition)]
        return [*counts, *sums, *([Field("rest", column, dtype, condition)] if dtype == "float" else [])]
    if name in _ENDS and dtype in _CODES:
        return [*counts, Field(name, column, dtype, condition)]  # type: ignore[arg-type] # one of `_ENDS`
    return []


class TileSchema:
    """The fields and states of each tile, in order.

    Its text is JSON without spaces, `[[[kind, column, dtype, condition], ...], [[function, column, dtype, condition,
    category, size], ...]]`; the fingerprint is the first 8 bytes of the text's SHA-256.

    Args:
        fields: Fields of fixed width.
        keys: What the states say.
    """

    def __init__(self, fields: Iterable[Field], keys: Iterable[StateKey]) -> None:
        self.fields = tuple(fields)
        self.keys = tuple(keys)
        self._structs: dict[int, tuple[struct.Struct, tuple[int, ...]]] = {}

    @classmethod
    def of(cls, windows: Iterable[WindowSpec]) -> TileSchema:
        """Returns the schema of tiles that these windows can be folded from."""
        fields: set[Field] = set()
        keys = set()
        for spec in sorted(windows, key=str):
            needed = fields_of(spec)
            if needed and len(fields | set(needed)) < _MOST_FIELDS:
                fields |= set(needed)
            else:
                keys.add(StateKey.of(spec))
        return cls(sorted(fields, key=_by_text), sorted(keys, key=_by_text))

    @classmethod
    def parse(cls, text: bytes) -> TileSchema:
        """Reads a schema's text.

        Raises:
            ValueError: If it is none.
        """
        try:
            return cls(*msgspec.json.decode(text, type=tuple[list[Field], list[StateKey]]))
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None

    @cached_property
    def text(self) -> bytes:
        """The schema as JSON."""
        return msgspec.json.encode((self.fields, self.keys))

    @cached_property
    def fingerprint(self) -> bytes:
        """Eight bytes that stand for the text."""
        return hashlib.sha256(self.text).digest()[:FINGERPRINT_BYTES]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of events that some field or state reads, in order."""
        found: dict[str, None] = {}
        for field in self.fields:
            found |= dict.fromkeys(column for column in (field.column, field.condition) if column is not None)
        for key in self.keys:
            parts = (key.column, key.condition, key.category)
            found |= dict.fromkeys(column for column in parts if column is not None)
        return tuple(found)

    @cached_property
    def positions(self) -> dict[Field, int]:
        """Each field's place."""
        return {field: position for position, field in enumerate(self.fields)}

    @cached_property
    def key_positions(self) -> dict[StateKey, int]:
        """Each state's place."""
        return {key: position for position, key in enumerate(self.keys)}

    def record(self, bits: int) -> tuple[struct.Struct, tuple[int, ...]]:
        """Returns the form of records with some of the fields, and which they have, in order.

        Args:
            bits: Bit i is set where the records have field i; bit `WIDE` where their start is 8 bytes long.
        """
        known = self._structs.get(bits)
        if known is None:
            places = tuple(place for place in range(len(self.fields)) if bits >> place & 1)
            codes = "".join(self.fields[place].code for place in places)
            known = struct.Struct(f"<{'q' if bits >> WIDE & 1 else 'I'}{codes}"), places
            self._structs[bits] = known
        return known


def _by_text(parts: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(str(part) for part in parts)
