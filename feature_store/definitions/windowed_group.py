"""The rows of a windowed group: its events, one row for each entity and instant, with the columns that windows read.

So to every part that computes, stores or sends rows it is a group like any other; only who reads folds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from feature_store.definitions.declared_feature import DeclaredFeature, members_of
from feature_store.definitions.dtypes import PYTHON_DTYPES, Dtype
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.definitions.window_spec import stored_inputs

if TYPE_CHECKING:
    import polars as pl


_ANNOTATIONS: Mapping[str, Any] = {"decimal": Decimal, **{dtype.name: kind for kind, dtype in PYTHON_DTYPES.items()}}


@dataclass(frozen=True, slots=True, eq=False)
class InstantsOf:
    """What the rows of a windowed group are: its function's events, those of one entity and instant in one row.

    Called, it gives the events; `transform.compute` makes rows of them.

    Attributes:
        transform: The group's function: source events in, the events that count out.
        keys: Join keys.
        inputs: Columns that windows read, `other_events` last.
        conditions: Expressions of those among them that say which events count.
    """

    transform: Callable[[pl.LazyFrame], pl.LazyFrame]
    keys: tuple[str, ...]
    inputs: Mapping[str, Dtype]
    conditions: Mapping[str, pl.Expr]

    def __call__(self, events: pl.LazyFrame) -> pl.LazyFrame:
        """Returns the events that count."""
        return self.transform(events)


@cache
def rows_schema(schema: type[FeatureSchema]) -> type[FeatureSchema]:
    """Returns the schema of the rows of groups whose windows a schema declares."""
    annotations: dict[str, Any] = {}
    members: dict[str, Any] = {"__module__": schema.__module__, "__annotations__": annotations}
    for column, dtype in _inputs(schema).items():
        annotations[column] = _ANNOTATIONS[dtype.name]
        scale = dtype.scale if dtype.name == "decimal" else None
        members[column] = feature(f"Column {column!r} of the events.", scale=scale)
    return type(f"{schema.__name__}Rows", (FeatureSchema,), members)


@cache
def instants_of(
    transform: Callable[[pl.LazyFrame], pl.LazyFrame], schema: type[FeatureSchema], keys: tuple[str, ...]
) -> InstantsOf:
    """Returns what computes the rows of a windowed group."""
    conditions = {}
    members = members_of(schema)
    for spec in schema.specs():
        declared = members[spec.ref.column]
        if spec.window is None or spec.window.condition is None or not isinstance(declared, DeclaredFeature):
            continue
        where = None if declared.window is None else declared.window.function.where
        if where is not None:
            conditions[spec.window.condition] = where
    return InstantsOf(transform, keys, _inputs(schema), conditions)


def _inputs(schema: type[FeatureSchema]) -> dict[str, Dtype]:
    return stored_inputs(spec.window for spec in schema.specs() if spec.window is not None)
