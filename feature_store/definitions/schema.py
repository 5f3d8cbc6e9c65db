"""FeatureSchema: one class that declares the features of a group.

From this one declaration grow the validation of rows, the registry's records, the Parquet columns, the asset
checks and the column metadata in Dagster. It is a pandera model, so all of pandera's checks work in it.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
from pandera.polars import DataFrameModel

from feature_store.definitions.dtypes import BOOL, FLOAT, INT, STRING, TIMESTAMP, Dtype, embedding
from feature_store.definitions.names import FeatureRef
from feature_store.errors import DefinitionError

DEFAULT_TTL = timedelta(days=1)

Timestamp = Annotated[pl.Datetime, "us", "UTC"]
"""Annotation of a timestamp feature: UTC, microseconds."""

_PYTHON_TYPES: dict[Any, Dtype] = {float: FLOAT, int: INT, str: STRING, bool: BOOL}
_METADATA_KEY = "feature_store"


class Embedding:
    """Annotation of an embedding feature: `profile: Embedding[24] = feature(...)` is a vector of 24 float32."""

    def __class_getitem__(cls, dimension: int) -> Any:
        """Returns the annotation for vectors of one length."""
        return Annotated[pl.Array, pl.Float32(), dimension]


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature as its schema declares it.

    Attributes:
        ref: Name and version.
        dtype: Dtype of its values.
        description: One sentence for people, with the unit.
        ttl: Time to live: how long after its event a value may be used.
        tags: Free key-value pairs for the catalog.
        max_null_rate: Share of nulls in a partition above which the null-rate check fails, 0 to 1.
    """

    ref: FeatureRef
    dtype: Dtype
    description: str
    ttl: timedelta
    tags: Mapping[str, str] = field(default_factory=dict)
    max_null_rate: float = 1.0


def feature(
    description: str,
    *,
    ttl: timedelta | None = None,
    nullable: bool = True,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    isin: Sequence[Any] | None = None,
    tags: Mapping[str, str] | None = None,
    max_null_rate: float | None = None,
) -> Any:
    """Declares one feature in a `FeatureSchema`.

    The attribute's name is the feature's name; a suffix `_v2` makes it version 2 of the feature before it.

    Args:
        description: One sentence for people, with the unit.
        ttl: Time to live after the event; the group's default where it is None.
        nullable: Whether null is a value. A null in a feature that is not nullable refuses the rows.
        ge: Least allowed value.
        gt: Values must exceed this.
        le: Greatest allowed value.
        lt: Values must stay below this.
        isin: The only allowed values.
        tags: Free key-value pairs for the catalog.
        max_null_rate: Share of nulls in a partition above which the null-rate check fails, 0 to 1. By default
            1 for nullable features and 0 for others.
    """
    return pa.Field(
        nullable=nullable,
        ge=ge,
        gt=gt,
        le=le,
        lt=lt,
        isin=isin,
        description=description,
        metadata={
            _METADATA_KEY: {
                "ttl": ttl,
                "tags": dict(tags or {}),
                "max_null_rate": max_null_rate if max_null_rate is not None else float(nullable),
            }
        },
    )


class FeatureSchema(DataFrameModel):
    """Base class of schemas: one attribute per feature, declared with `feature(...)`.

    Attribute types are `float`, `int`, `str`, `bool`, `Timestamp` and `Embedding[N]`.
    """

    @classmethod
    def specs(cls, default_ttl: timedelta = DEFAULT_TTL) -> tuple[FeatureSpec, ...]:
        """Returns the declared features, in order.

        Raises:
            DefinitionError: If there is none, or one is malformed.
        """
        model_schema = cls.to_schema()
        if not model_schema.columns:
            raise DefinitionError(f'{cls.__name__} declares no feature: add `name: float = feature("...")`.')
        hints = typing.get_type_hints(cls, include_extras=True)
        specs = []
        for name, column in model_schema.columns.items():
            declared = (column.metadata or {}).get(_METADATA_KEY)
            if declared is None:
                raise DefinitionError(f"{cls.__name__}.{name} is not declared with feature(...).")
            ttl = declared["ttl"] or default_ttl
            if ttl <= timedelta(0):
                raise DefinitionError(f"{cls.__name__}.{name}: the time to live must be positive, got {ttl}.")
            specs.append(
                FeatureSpec(
                    ref=FeatureRef.from_column(name),
                    dtype=_dtype_of(f"{cls.__name__}.{name}", hints[name]),
                    description=column.description or "",
                    ttl=ttl,
                    tags=declared["tags"],
                    max_null_rate=declared["max_null_rate"],
                )
            )
        return tuple(specs)


def _dtype_of(where: str, annotation: Any) -> Dtype:
    if annotation in _PYTHON_TYPES:
        return _PYTHON_TYPES[annotation]
    if annotation is datetime or annotation == Timestamp:
        return TIMESTAMP
    arguments = typing.get_args(annotation)
    if arguments and arguments[0] is pl.Array and isinstance(arguments[-1], int) and arguments[-1] > 0:
        return embedding(arguments[-1])
    raise DefinitionError(
        f"{where} is annotated {annotation!r}: use float, int, str, bool, Timestamp or Embedding[N] with N >= 1."
    )
