"""Values on their way into JSON. Which values they are is decided by the store."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

_INFINITIES = frozenset({math.inf, -math.inf})


def encode(answer: Any) -> bytes:
    """Returns the JSON of an answer."""
    return _encoder.encode(answer)


class Pieces:
    """An array of JSON that is encoded piece by piece, for one that is too long to be encoded in one go."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def add(self, elements: list[Any]) -> None:
        """Adds elements, one at least."""
        self._pieces.append(encode(elements)[1:-1])

    def json(self) -> Any:
        """Returns the array, to stand in an answer where a list would."""
        return msgspec.Raw(b"[" + b",".join(self._pieces) + b"]")


def spell_infinities(values: list[Any], positions: Iterable[int]) -> None:
    """Replaces infinite floats by `1e999` and `-1e999`, the store's spelling, which JSON parsers read as infinite.

    Args:
        values: One entity's values; changed in place.
        positions: Where floats are, and embeddings, lists and maps of floats.
    """
    try:
        if _INFINITIES.isdisjoint(values):
            return
    except TypeError:
        # An embedding, list or map, which has no hash: one value at a time.
        pass
    for position in positions:
        value = values[position]
        if type(value) is list:
            if not _INFINITIES.isdisjoint(value):
                values[position] = [_spelled(item) if item in _INFINITIES else item for item in value]
        elif type(value) is dict:
            if not _INFINITIES.isdisjoint(value.values()):
                values[position] = {key: _spelled(item) if item in _INFINITIES else item for key, item in value.items()}
        elif value in _INFINITIES:
            values[position] = _spelled(value)


def spelled_decimals(value: Any) -> Any:
    """Returns a value with its decimals as texts of all digits: Python's own of small ones have an exponent."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if type(value) is list and value and isinstance(value[0], Decimal):
        return [f"{item:f}" for item in value]
    if type(value) is dict:
        return {key: spelled_decimals(item) for key, item in value.items()}
    return value


def _spelled(value: float) -> msgspec.Raw:
    return msgspec.Raw(b"1e999" if value > 0 else b"-1e999")


_encoder = msgspec.json.Encoder()
