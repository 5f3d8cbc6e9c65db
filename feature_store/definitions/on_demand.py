"""On-demand features: computed while a request waits, from stored features and from what the caller knows.

One function per group of them, as Polars expressions, for online answers and training sets alike. How it is evaluated
belongs to `feature_store.transform.on_demand`, which names are asked for to `feature_store.resolution`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feature_store.definitions.dtypes import Dtype, dtype_of_annotation
from feature_store.definitions.fingerprint import code_version, libraries_of
from feature_store.definitions.names import RESERVED_COLUMNS, FeatureRef, check_name
from feature_store.definitions.values import value_json
from feature_store.errors import DefinitionError, InvalidRequestError

if TYPE_CHECKING:
    import polars as pl

    from feature_store.definitions.schema import FeatureSchema, FeatureSpec

Expressions = Callable[..., "Mapping[str, pl.Expr]"]


@dataclass(frozen=True, slots=True, eq=False)
class OnDemandFeatures:
    """Features that are computed of stored features and of request data, row by row.

    Attributes:
        name: Their common name, which stands for all of them in requests.
        inputs: Column to feature reference: what is read from the store. Version N is the column `name_vN`.
        request: Column to dtype: what the caller passes.
        schema: Declares the features. Times to live, null rates and rules on values do not apply to what is
            computed on demand.
        expressions: Column of the schema to the expression that computes it.
        owner: Who answers for them: an e-mail address or a team.
        description: What they are; the function's docstring.
        code_version: A digest of the function, of all that it computes with, and of its inputs.
        libraries: The distributions that the function uses, each with its version; no part of the code version.
    """

    name: str
    inputs: Mapping[str, str]
    request: Mapping[str, Dtype]
    schema: type[FeatureSchema]
    expressions: Mapping[str, pl.Expr]
    owner: str
    description: str
    code_version: str
    libraries: Mapping[str, str]

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """The features in the schema's order."""
        return self.schema.specs()


def on_demand(
    *,
    inputs: Sequence[str],
    schema: type[FeatureSchema],
    owner: str,
    request: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Callable[[Expressions], OnDemandFeatures]:
    """Makes on-demand features of a function that returns one Polars expression per column of the schema.

    The function is called once, with an expression for each input and each item of request data, by name:

        @on_demand(inputs=["amount_3d"], request={"basket": float}, schema=BasketShare, owner="shop@example.com")
        def basket_share(amount_3d: pl.Expr, basket: pl.Expr) -> dict[str, pl.Expr]:
            return {"share_of_3d": basket / amount_3d}

    A row's values may depend on that row alone: an expression that looks at other rows (`mean()`, `shift()`) is
    refused when it is first used.

    Args:
        inputs: Feature references. `amount_3d` is the current version and comes as `amount_3d`, `amount_3d:v2` comes
            as `amount_3d_v2`.
        schema: Declares the features.
        owner: Who answers for them.
        request: Name to type of what the caller passes: float, int, str, bool, datetime, date, Decimal (of two digits
            after the point), list[T] and dict[str, T] of those, or a `Dtype`, such as `embedding(24)`.
        name: The function's name if None.

    Raises:
        DefinitionError: If a name, type or the function's result is not as described.
    """

    def decorate(function: Expressions) -> OnDemandFeatures:
        own_name = check_name(name or str(getattr(function, "__name__", "")), "group of on-demand features")
        if not owner:
            raise DefinitionError(f"On-demand features {own_name!r} have no owner: name a team or an e-mail address.")
        columns = _input_columns(own_name, inputs)
        data = {column: _request_dtype(own_name, column, kind) for column, kind in (request or {}).items()}
        produced = [spec.ref.column for spec in schema.specs()]
        names = [*columns, *data, *produced]
        twice = sorted({column for column in names if names.count(column) > 1})
        if twice:
            raise DefinitionError(
                f"On-demand features {own_name!r} use {', '.join(twice)} twice: inputs, request data and results need "
                "names of their own."
            )
        if own_name in produced:
            raise DefinitionError(f"On-demand features {own_name!r} hold a feature of the same name: rename one.")
        return OnDemandFeatures(
            name=own_name,
            inputs=columns,
            request=data,
            schema=schema,
            expressions=_expressions(own_name, function, [*columns, *data], produced),
            owner=owner,
            description=inspect.cleandoc(function.__doc__ or ""),
            code_version=_code_version(own_name, function, columns, data, schema),
            libraries=libraries_of(function),
        )

    return decorate


def _input_columns(name: str, inputs: Sequence[str]) -> dict[str, str]:
    if isinstance(inputs, str) or not inputs:
        raise DefinitionError(
            f"On-demand features {name!r} need a list of stored features as inputs, got {inputs!r}. What is computed "
            "of request data alone belongs to the caller."
        )
    columns: dict[str, str] = {}
    for text in inputs:
        try:
            feature, version = FeatureRef.parse(text)
        except InvalidRequestError as error:
            raise DefinitionError(f"On-demand features {name!r}: {error}") from None
        column = feature if version is None else FeatureRef(feature, version).column
        if column in columns:
            raise DefinitionError(f"On-demand features {name!r}: the inputs {columns[column]!r} and {text!r} are one.")
        columns[column] = text
    return columns


def _request_dtype(name: str, column: str, kind: Any) -> Dtype:
    check_name(column, "item of request data")
    if column in RESERVED_COLUMNS:
        raise DefinitionError(f"{column!r} is a column of the store itself and cannot be request data of {name!r}.")
    dtype = kind if isinstance(kind, Dtype) else dtype_of_annotation(kind)
    if dtype is None:
        raise DefinitionError(
            f"Request data {column!r} of on-demand features {name!r} is declared as {kind!r}: use float, int, str, "
            "bool, datetime, date, Decimal, list[T] or dict[str, T] of those, or a Dtype."
        )
    return dtype


def _expressions(
    name: str, function: Expressions, arguments: Sequence[str], produced: Sequence[str]
) -> dict[str, pl.Expr]:
    import polars as pl

    try:
        inspect.signature(function).bind(**dict.fromkeys(arguments))
    except TypeError as error:
        raise DefinitionError(
            f"The function of on-demand features {name!r} must take {', '.join(arguments)}: {error}."
        ) from None
    result = function(**{column: pl.col(column) for column in arguments})
    if not isinstance(result, Mapping) or set(result) != set(produced):
        got = sorted(result) if isinstance(result, Mapping) else type(result).__name__
        raise DefinitionError(
            f"The function of on-demand features {name!r} must return one expression for each of "
            f"{', '.join(produced)}, got {got}."
        )
    for column, expression in result.items():
        if not isinstance(expression, pl.Expr):
            raise DefinitionError(
                f"On-demand feature {column!r} is {expression!r}, no Polars expression: use pl.lit(...) for a constant."
            )
    return {column: result[column] for column in produced}


def _code_version(
    name: str,
    function: Expressions,
    inputs: Mapping[str, str],
    request: Mapping[str, Dtype],
    schema: type[FeatureSchema],
) -> str:
    dtypes = {spec.ref.column: str(spec.dtype) for spec in schema.specs()}
    defaults = {spec.ref.column: value_json(spec.default) for spec in schema.specs() if spec.default is not None}
    data = {column: str(dtype) for column, dtype in request.items()}
    try:
        return code_version(function, dict(inputs), data, dtypes, *([defaults] if defaults else []))
    except DefinitionError as error:
        raise DefinitionError(f"On-demand features {name!r}: {error}") from None
