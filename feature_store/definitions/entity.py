"""Entities: what features describe, and how their keys become one text, the entity id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from feature_store.definitions.dtypes import PYTHON_DTYPES, Dtype
from feature_store.definitions.names import RESERVED_COLUMNS, check_name
from feature_store.errors import DefinitionError, InvalidRequestError

_SEPARATOR = "|"
_ESCAPE = "\\"
_KEY_DTYPES: dict[type, Dtype] = {kind: PYTHON_DTYPES[kind] for kind in (str, int, date)}

KeyValue = str | int | date
"""A value of a join key."""


@dataclass(frozen=True, slots=True)
class Entity:
    """What features describe: a user, an item, a plane, a route.

    Attributes:
        name: Its name, `[a-z][a-z0-9_]{0,62}`.
        join_keys: Column name to Python type (`str`, `int` or `date`), in the order that entity ids use.
        description: One sentence for the catalog.
    """

    name: str
    join_keys: Mapping[str, type]
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "entity")
        if not self.join_keys:
            raise DefinitionError(f"Entity {self.name!r} has no join keys: give it at least one column.")
        for column, key_type in self.join_keys.items():
            check_name(column, "join key")
            if column in RESERVED_COLUMNS:
                raise DefinitionError(f"{column!r} is a column of the store itself and cannot be a join key.")
            if key_type not in _KEY_DTYPES:
                raise DefinitionError(
                    f"Join key {column!r} of entity {self.name!r} is declared as {key_type!r}: use str, int or "
                    "date, whose values have one spelling each."
                )

    @property
    def key_dtypes(self) -> dict[str, Dtype]:
        """Join key to dtype, in order."""
        return {column: _KEY_DTYPES[key_type] for column, key_type in self.join_keys.items()}

    def entity_id(self, /, **keys: KeyValue) -> str:
        r"""Returns the entity id of one entity.

        A single key's id is its value, a date in ISO format (which may be given so, too). The values of several keys
        are joined by `|` in the declared order, each with `\` and `|` escaped by `\`.

        Raises:
            InvalidRequestError: If a key is missing, unknown, null or of the wrong type.
        """
        if keys.keys() != self.join_keys.keys():
            raise InvalidRequestError(
                f"Entity {self.name!r} has the join keys {list(self.join_keys)}, got {list(keys)}."
            )
        values = [_checked(self.name, column, key_type, keys[column]) for column, key_type in self.join_keys.items()]
        return values[0] if len(values) == 1 else _joined(values)

    def keys_of(self, entity_id: str) -> dict[str, KeyValue]:
        """Returns the join keys that an entity id stands for: the inverse of `entity_id`.

        Raises:
            InvalidRequestError: If the id has another number of keys, an int key is not a number, a date not one in
                ISO format, or the id is not the one that `entity_id` gives of these values: one entity has one id.
        """
        if not isinstance(entity_id, str):
            raise InvalidRequestError(
                f"Entity ids are text, got {entity_id!r} for entity {self.name!r}. Use {self.name}.entity_id(...)."
            )
        texts = [entity_id] if len(self.join_keys) == 1 else _split(entity_id)
        if len(texts) != len(self.join_keys):
            raise InvalidRequestError(
                f"Entity id {entity_id!r} has {len(texts)} key(s), entity {self.name!r} has "
                f"{len(self.join_keys)}: {_SEPARATOR.join(self.join_keys)}."
            )
        if len(texts) > 1 and (canonical := _joined(texts)) != entity_id:
            raise InvalidRequestError(
                f"Entity id {entity_id!r} of entity {self.name!r} is spelled {canonical!r}: only \\ and | inside of a "
                f"value are escaped. Use {self.name}.entity_id(...)."
            )
        keys: dict[str, KeyValue] = {}
        for (column, key_type), text in zip(self.join_keys.items(), texts, strict=True):
            if key_type is str:
                keys[column] = text
                continue
            if key_type is date:
                keys[column] = self._date(column, text)
                continue
            try:
                number = int(text)
            except ValueError:
                number = None
            if number is None or str(number) != text or not -(2**63) <= number < 2**63:
                raise InvalidRequestError(
                    f"Entity id {entity_id!r}: join key {column!r} of entity {self.name!r} is an int64, "
                    f"{text!r} is not."
                )
            keys[column] = number
        return keys

    def _date(self, column: str, text: str) -> date:
        day = _iso_date(text)
        if day is None:
            raise InvalidRequestError(
                f"Join key {column!r} of entity {self.name!r} is a date such as 2024-03-01, {text!r} is not."
            )
        return day


def _iso_date(text: str) -> date | None:
    """Returns the date that is spelled so and in no other way; None where it is none."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.isoformat() == text else None


def _checked(entity: str, column: str, key_type: type, value: Any) -> str:
    if key_type is date and type(value) is str and _iso_date(value) is not None:
        return value
    if type(value) is not key_type:
        raise InvalidRequestError(
            f"Join key {column!r} of entity {entity!r} is declared as {key_type.__name__}, got {value!r}."
        )
    return str(value)


def _joined(values: Iterable[str]) -> str:
    return _SEPARATOR.join(map(_escaped, values))


def _escaped(value: str) -> str:
    return value.replace(_ESCAPE, _ESCAPE * 2).replace(_SEPARATOR, _ESCAPE + _SEPARATOR)


def _split(entity_id: str) -> list[str]:
    if _ESCAPE not in entity_id:
        return entity_id.split(_SEPARATOR)
    parts = [""]
    characters = iter(entity_id)
    for character in characters:
        if character == _SEPARATOR:
            parts.append("")
        else:
            parts[-1] += next(characters, "") if character == _ESCAPE else character
    return parts
