"""FeatureSchema: one class that declares the features of a group.

From this one declaration grow the validation of rows, the registry's records, the Parquet columns, the asset
checks and the column metadata in Dagster. All of pandera's checks work in it: the model that pandera validates with is
made when the first rows are, because importing pandera costs more than all that a declaration needs.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, Any

import polars as pl

from feature_store.definitions.declared_feature import DeclaredFeature, members_of
from feature_store.definitions.dtypes import Dtype, dtype_of_annotation, embedding, without_none
from feature_store.definitions.monitor import Monitor
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.values import value_of
from feature_store.definitions.window_functions import WindowFunction
from feature_store.definitions.window_spec import DeclaredWindow, WindowSpec, longest_life, with_column_dtypes
from feature_store.errors import DefinitionError

DEFAULT_TTL = timedelta(days=1)

NAMES_OF_MODELS = frozenset(
    {
        *("Config", "build_schema_", "empty", "example", "from_json", "from_yaml", "get_metadata", "pydantic_validate"),
        *("strategy", "to_json", "to_json_schema", "to_schema", "to_yaml", "validate"),
    }
)
"""Public names of pandera's models, which features cannot have."""

Timestamp = Annotated[pl.Datetime, "us", "UTC"]
"""What a timestamp feature is annotated with in the end: UTC, microseconds. In a schema, `datetime` means it."""

Embedding = pl.Array
"""Annotation of an embedding feature: `profile: Embedding = feature("...", dimension=24)` holds 24 float32."""


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
        monitor: Thresholds of its checks.
        default: What every reader gets for null, in the form that answers have; None where they get null.
    """

    ref: FeatureRef
    dtype: Dtype
    description: str
    ttl: timedelta
    tags: Mapping[str, str] = field(default_factory=dict)
    max_null_rate: float = 1.0
    monitor: Monitor = field(default_factory=Monitor)
    default: Any = None
    window: WindowSpec | None = None


def feature(
    description: str,
    *,
    dimension: int | None = None,
    scale: int | None = None,
    default: Any = None,
    ttl: timedelta | None = None,
    nullable: bool = True,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    isin: Sequence[Any] | None = None,
    tags: Mapping[str, str] | None = None,
    max_null_rate: float | None = None,
    monitor: Monitor | None = None,
) -> Any:
    """Declares one feature in a `FeatureSchema`.

    The attribute's name is the feature's name; a suffix `_v2` makes it version 2 of the feature before it.

    Args:
        description: One sentence for people, with the unit.
        dimension: Length of an `Embedding`; None for all other types.
        scale: Digits after the point of `Decimal`s, alone or in a list or map: 0 to 38, and 2 where it is None.
        default: What every reader gets for null, for an entity that is unknown and for a value past its time to live,
            online and in training sets alike; stored values stay as they are, and statuses still say null, missing or
            expired. None for null. It may change on a live feature.
        ttl: Time to live after the event, in whole seconds; the group's default where it is None.
        nullable: Whether null is a value. A null in a feature that is not nullable refuses the rows.
        ge: Least allowed value.
        gt: Values must exceed this.
        le: Greatest allowed value.
        lt: Values must stay below this.
        isin: The only allowed values.
        tags: Free key-value pairs for the catalog.
        max_null_rate: Share of nulls in a partition above which the null-rate check fails, 0 to 1. By default
            1 for nullable features and 0 for others.
        monitor: Thresholds of the checks that compare partitions; `Monitor()` where it is None.
    """
    return DeclaredFeature(
        description=description,
        dimension=dimension,
        scale=scale,
        default=default,
        ttl=ttl,
        nullable=nullable,
        bounds={
            name: bound
            for name, bound in {"gt": gt, "ge": ge, "lt": lt, "le": le, "isin": isin}.items()
            if bound is not None
        },
        tags=dict(tags or {}),
        max_null_rate=max_null_rate if max_null_rate is not None else float(nullable),
        monitor=monitor or Monitor(),
    )


def window(
    description: str,
    function: WindowFunction,
    over: str | timedelta | None,
    *,
    hop: str | timedelta | None = None,
    where: pl.Expr | None = None,
    by: str | None = None,
    scale: int | None = None,
    default: Any = None,
    tags: Mapping[str, str] | None = None,
    max_null_rate: float = 1.0,
    monitor: Monitor | None = None,
) -> Any:
    """Declares a windowed feature in a `FeatureSchema`: true at every instant, not only when an event happens.

    A reader at T sees the entity's events with `tail(T) < event_timestamp <= T`, where `tail(T)` is `T - over`, rounded
    down to the hop. With no event inside, counts and totals are 0, lists and maps empty, all else is null or the
    default. The group's function gives the events, one by one; there is nothing to roll.

    Args:
        description: One sentence for people, with the unit.
        function: What the events come to: `count()`, `total("amount")`, `last("merchant_id", 5)`, ...
        over: How far it reaches back: `"90s"`, `"5min"`, `"1h"`, `"7d"`, a timedelta, or None for the whole life.
        hop: The step by which its tail moves, a divisor of the day; by default 5 minutes for windows below 12 hours, 1
            hour below 12 days, else 1 day.
        where: Only events for which this expression on their columns is true.
        by: A column by whose text events are told apart: the feature is a map, `dict[str, ...]`.
        scale: Digits after the point of `Decimal`s: 2 where it is None.
        default: What every reader gets for null. It may change on a live feature.
        tags: Free key-value pairs for the catalog.
        max_null_rate: Share of nulls among sampled values above which the null-rate check fails, 0 to 1.
        monitor: Thresholds of its checks; `Monitor()` where it is None.

    Raises:
        DefinitionError: If `where` or `by` is given here and in the function.
    """
    if not isinstance(function, WindowFunction):
        raise DefinitionError(
            f'window({description!r}, {function!r}): name a function, count() or total("amount"), say.'
        )
    for name, given, own in (("where", where, function.where), ("by", by, function.by)):
        if given is not None and own is not None:
            raise DefinitionError(f"window({description!r}): {name}= is given twice, once in {function.name}(...).")
    if where is not None or by is not None:
        function = replace(
            function, where=function.where if where is None else where, by=function.by if by is None else by
        )
    return DeclaredFeature(
        description=description,
        dimension=None,
        scale=scale,
        default=default,
        ttl=None,
        nullable=True,
        bounds={},
        tags=dict(tags or {}),
        max_null_rate=max_null_rate,
        monitor=monitor or Monitor(),
        window=DeclaredWindow(function, over, hop),
    )


class FeatureSchema:
    """Base class of schemas: one attribute per feature, declared with `feature(...)`.

    Attribute types are `float`, `int`, `str`, `bool`, `datetime` (an instant: UTC, microseconds), `date`, `Decimal`
    (exact; `scale=` digits after the point), `list[T]` and `dict[str, T]` of those, and `Embedding`. Each may be
    written `... | None`, which says no more than it does without: values may be null unless `nullable=False`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        own = inspect.get_annotations(cls)
        for name in own:
            if hasattr(FeatureSchema, name) or name in NAMES_OF_MODELS:
                raise DefinitionError(
                    f"{cls.__name__}.{name}: {name!r} is a method of every schema and cannot name a feature, "
                    f"call it {name}_value, say."
                )
        cls.__annotations__ = own | _plain_annotations(cls)
        super().__init_subclass__(**kwargs)

    @classmethod
    def validate(cls, check_obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Checks columns and values against the schema, as `pandera` does where none of its checks is switched off."""
        from feature_store.definitions.schema_library import full_validation

        with full_validation():
            return cls.to_schema().validate(check_obj, *args, **kwargs)

    @classmethod
    def to_schema(cls) -> Any:
        """Returns what pandera validates with: its `DataFrameSchema` for Polars."""
        from feature_store.definitions.schema_library import model_of

        # mypy takes the `__hash__` of instances for that of their class, here and below.
        return model_of(cls, FeatureSchema).to_schema()  # type: ignore[arg-type]

    @classmethod
    def specs(cls, default_ttl: timedelta = DEFAULT_TTL) -> tuple[FeatureSpec, ...]:
        """Returns the declared features, in order.

        Raises:
            DefinitionError: If there is none, or one is malformed.
        """
        return _specs(cls, default_ttl)  # type: ignore[arg-type]


def _plain_annotations(cls: type[FeatureSchema]) -> dict[str, Any]:
    """Returns the annotations of a class that can be written in several ways, each in the one that counts."""
    try:
        written = inspect.get_annotations(cls, eval_str=True)
    except (NameError, TypeError):
        return {}  # one that is not known yet, and is judged when the features are asked for
    plain = {}
    for name, annotation in written.items():
        kind = without_none(annotation)
        if kind is not annotation and not getattr(vars(cls).get(name), "nullable", True):
            raise DefinitionError(
                f"{cls.__name__}.{name} is annotated with None and declared nullable=False: leave one of them out."
            )
        plain[name] = Timestamp if _is_timestamp(kind) else kind
    return plain


def _is_timestamp(annotation: Any) -> bool:
    """Tells whether an annotation means an instant in UTC and microseconds; one without a zone is taken as UTC."""
    if annotation in (datetime, pl.Datetime, Timestamp):
        return not isinstance(annotation, pl.Datetime) or annotation in (pl.Datetime("us"), pl.Datetime("us", "UTC"))
    return False


@functools.lru_cache(maxsize=4096)
def _specs(cls: type[FeatureSchema], default_ttl: timedelta) -> tuple[FeatureSpec, ...]:
    hints = {name: hint for name, hint in typing.get_type_hints(cls, include_extras=True).items() if _is_public(name)}
    members = members_of(cls)
    for name, value in members.items():
        if (
            _is_public(name)
            and name not in hints
            and (isinstance(value, DeclaredFeature) or not inspect.isroutine(value))
        ):
            raise DefinitionError(f"{cls.__name__}.{name} is annotated with no type, and no method: features are.")
    if not hints:
        raise DefinitionError(f'{cls.__name__} declares no feature: add `name: float = feature("...")`.')
    specs = []
    windows = _windows(cls.__name__, hints, members)
    for name, hint in hints.items():
        declared = members.get(name)
        if not isinstance(declared, DeclaredFeature):
            raise DefinitionError(f"{cls.__name__}.{name} is not declared with feature(...).")
        ttl = longest_life([windows[name]]) if windows else declared.ttl or default_ttl
        if ttl <= timedelta(0) or ttl % timedelta(seconds=1):
            raise DefinitionError(f"{cls.__name__}.{name}: the time to live is whole seconds above 0, got {ttl}.")
        dtype = declared_dtype(f"{cls.__name__}.{name}", hint, declared)
        specs.append(
            FeatureSpec(
                ref=FeatureRef.from_column(name),
                dtype=dtype,
                description=declared.description,
                ttl=ttl,
                tags=declared.tags,
                max_null_rate=declared.max_null_rate,
                monitor=declared.monitor,
                default=_checked_default(f"{cls.__name__}.{name}", dtype, declared.default),
                window=windows.get(name),
            )
        )
    return tuple(specs)


def _windows(cls: str, hints: Mapping[str, Any], members: Mapping[str, Any]) -> dict[str, WindowSpec]:
    """Returns the windows of a schema by name; none of a schema of plain features."""
    specs, plain = {}, []
    for name, hint in hints.items():
        declared = members.get(name)
        if isinstance(declared, DeclaredFeature) and declared.window is not None:
            specs[name] = declared.window.spec(cls, name, declared_dtype(f"{cls}.{name}", hint, declared))
        else:
            plain.append(name)
    if specs and plain:
        raise DefinitionError(
            f"{cls} declares windows ({', '.join(specs)}) and plain features ({', '.join(plain)}): the rows of a "
            "windowed group are its events, folded by who reads. Declare the plain ones in a group of their own."
        )
    return with_column_dtypes(cls, specs)


def _is_public(name: str) -> bool:
    return not name.startswith("_") and name != "Config"


def declared_dtype(where: str, annotation: Any, declared: DeclaredFeature) -> Dtype:
    """Returns the dtype that an annotation of a schema means.

    Args:
        where: What is annotated, for errors.
        annotation: One that `FeatureSchema` has made plain.
        declared: What `feature(...)` says beside it.

    Raises:
        DefinitionError: If it means none, or length or scale do not fit.
    """
    dimension, scale = declared.dimension, declared.scale
    if annotation is Embedding:
        if dimension is None or dimension < 1:
            raise DefinitionError(f"{where} is an embedding: give its length, feature(..., dimension=24).")
        if scale is not None:
            raise DefinitionError(f"{where} has a scale but holds no decimals: leave it out, or use Decimal.")
        return embedding(dimension)
    if dimension is not None:
        raise DefinitionError(f"{where} has a dimension but is no Embedding.")
    # A `datetime` that is left was not known when the class was made: pandera would check it without its zone.
    if annotation is not datetime:
        try:
            dtype = dtype_of_annotation(datetime if annotation == Timestamp else annotation, scale=scale)
        except DefinitionError as error:
            raise DefinitionError(f"{where}: {error}") from None
        if dtype is not None:
            return dtype
    raise DefinitionError(
        f"{where} is annotated {annotation!r}: use float, int, str, bool, datetime (UTC, microseconds), date, Decimal, "
        "list[T] or dict[str, T] of one of those, or Embedding."
    )


def _checked_default(where: str, dtype: Dtype, default: Any) -> Any:
    if default is None:
        return None
    try:
        value = value_of(dtype, default)
    except ValueError as error:
        raise DefinitionError(f"{where}: the default must be a value of {dtype}, {error}.") from None
    if value is None:
        raise DefinitionError(f"{where}: the default {default!r} means null: give a value, or leave it out.")
    return value
