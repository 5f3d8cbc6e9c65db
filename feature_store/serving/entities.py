"""The entities of a request: counted at once, their ids built slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feature_store.definitions.entity import Entity
from feature_store.errors import InvalidRequestError

SLICE = 1_500
"""Values that are read, decoded and encoded in one go: a few milliseconds for which all other requests wait."""

_ALL = [slice(None)]
Keys = Mapping[str, Sequence["str | int"]]


class Entities:
    """Some entities of one kind, given by their ids or by columns of their join keys.

    Args:
        entity: What they are.
        ids: Their ids; None if they are given by keys.
        keys: Join key to one value per entity.

    Raises:
        InvalidRequestError: If a join key is missing or unknown, or the columns differ in length.
    """

    def __init__(self, entity: Entity, ids: Sequence[str] | None, keys: Keys) -> None:
        self._entity = entity
        self._ids = ids
        self._keys = keys
        if ids is not None:
            self._length = len(ids)
            return
        if keys.keys() != entity.join_keys.keys():
            raise InvalidRequestError(
                f"Entity {entity.name!r} has the join key(s) {', '.join(entity.join_keys)}, "
                f"got {', '.join(keys) or 'none'}."
            )
        lengths = {column: len(values) for column, values in keys.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidRequestError(
                f"Join keys need one value per entity each, got columns of the lengths {lengths}."
            )
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def ids(self, rows: slice = slice(None)) -> Sequence[str]:
        """Returns the ids of some of them.

        Raises:
            InvalidRequestError: If a key is of another type than declared.
        """
        if self._ids is not None:
            return self._ids if rows == slice(None) else self._ids[rows]
        columns = [values[rows] for values in self._keys.values()]
        return [self._entity.entity_id(**dict(zip(self._keys, row, strict=True))) for row in zip(*columns, strict=True)]


def sliced(entities: int, width: int) -> list[slice]:
    """Returns slices of rows that hold `SLICE` values at most, and one row at least; a single one for all if they fit.

    Args:
        entities: Number of entities.
        width: Values of one entity.
    """
    if entities * width <= SLICE:
        return _ALL
    step = max(1, SLICE // width)
    return [slice(start, start + step) for start in range(0, entities, step)]


def columns_of(columns: Mapping[str, Sequence[Any]], rows: slice) -> Mapping[str, Sequence[Any]]:
    """Returns some rows of columns."""
    return columns if rows == slice(None) else {name: values[rows] for name, values in columns.items()}
