"""The six dtypes of feature values, and of join keys.

Their mapping to Polars lives in `feature_store.frames`, so that this module stays importable without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from feature_store.errors import DefinitionError

DtypeName = Literal["float", "int", "string", "bool", "timestamp", "embedding"]

_EMBEDDING = re.compile(r"embedding\[([1-9][0-9]{0,5})\]")


@dataclass(frozen=True, slots=True)
class Dtype:
    """The dtype of a feature.

    Attributes:
        name: One of `float` (float64), `int` (int64), `string` (UTF-8), `bool`, `timestamp`
            (UTC, microseconds) and `embedding` (float32 vector).
        dimension: Length of an embedding; 0 for all other dtypes.
    """

    name: DtypeName
    dimension: int = 0

    def __str__(self) -> str:
        """Returns the registry's spelling: the name, or `embedding[24]`."""
        return f"embedding[{self.dimension}]" if self.name == "embedding" else self.name

    @classmethod
    def parse(cls, text: str) -> Dtype:
        """Reads the registry's spelling.

        Raises:
            DefinitionError: If `text` is not the spelling of a dtype.
        """
        for scalar in (FLOAT, INT, STRING, BOOL, TIMESTAMP):
            if text == scalar.name:
                return scalar
        match = _EMBEDDING.fullmatch(text)
        if match:
            return embedding(int(match[1]))
        raise DefinitionError(f"{text!r} is not a dtype. Use float, int, string, bool, timestamp or embedding[N].")


FLOAT = Dtype("float")
INT = Dtype("int")
STRING = Dtype("string")
BOOL = Dtype("bool")
TIMESTAMP = Dtype("timestamp")

PYTHON_DTYPES: Mapping[Any, Dtype] = {float: FLOAT, int: INT, str: STRING, bool: BOOL, datetime: TIMESTAMP}
"""What Python's own types mean wherever a user writes them: in schemas, request data and join keys."""


def embedding(dimension: int) -> Dtype:
    """Returns the dtype of float32 vectors of one fixed length."""
    return Dtype("embedding", dimension)
