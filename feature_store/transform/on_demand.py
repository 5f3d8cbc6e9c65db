"""Evaluates on-demand features: the same expressions, the same bits, for one request and for a million labels.

Polars takes another road for a chunk of one row, or for a column of one repeated value, than for many rows, and the
roads round differently: `x / 3.7` is a division on one of them and `x * (1 / 3.7)` on the other. So nothing is ever
evaluated on a single row, and columns are laid out in full, in one chunk, before they are evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any

import polars as pl

from feature_store.clock import EPOCH
from feature_store.conversion import UnfitTypeError, conversion, misfits_of
from feature_store.definitions.dtypes import TIMESTAMP, Dtype
from feature_store.definitions.on_demand import OnDemandFeatures
from feature_store.definitions.values import value_of
from feature_store.errors import DefinitionError, InvalidRequestError
from feature_store.frames import to_polars
from feature_store.resolution import Computation, Resolution
from feature_store.rows.polars_schema import polars_type, series_of_values, values_of_series, with_default
from feature_store.transform.forked import check_polars

_LEAST_ROWS = 2
_SAMPLES: dict[str, list[Any]] = {
    "float": [0.0, 1.5, -2.25, 1e9, 3.7, None],
    "int": [0, 1, -3, 1_000_000, 7, None],
    "string": ["", "a", "2013-01-31", "7", "Zürich", None],
    "bool": [True, False, True, True, False, None],
    "date": [date(1970, 1, 1), date(2024, 2, 29), date(1900, 1, 1), date(2000, 12, 31), date(9999, 12, 31), None],
    "timestamp": [EPOCH.replace(year=1999 + 3 * step, month=1 + step, hour=4 * step) for step in range(5)] + [None],
}


def compute_online(
    resolution: Resolution, rows: Sequence[Mapping[str, Any]], request_data: Mapping[str, Sequence[Any]] | None
) -> list[dict[str, Any]]:
    """Returns the answers to a request that has on-demand features.

    Args:
        resolution: What was asked for.
        rows: Per entity, the stored values by label.
        request_data: One value per entity for each item.

    Returns:
        Per entity, the values by label in the order of the request.

    Raises:
        InvalidRequestError: If request data are missing, unknown, of another length or type, or make an expression
            fail.
        DefinitionError: If an expression is not what its definition promises.
        SettingsError: If Polars cannot compute in this process, see `forked`.
    """
    check_polars()
    data = request_series(resolution, request_data or {}, len(rows))
    computed: dict[str, list[Any]] = {}
    for computation in resolution.computations:
        inputs = {
            column: series_of_values(column, [row[selection.label] for row in rows], selection.feature.dtype)
            for column, selection in computation.inputs.items()
        }
        results = _evaluated(computation, inputs, data)
        dtypes = {spec.ref.column: spec.dtype for spec in computation.functions.features}
        computed |= {
            label: values_of_series(results[column], dtypes[column]) for label, column in computation.outputs.items()
        }
    return [
        {label: computed[label][position] if label in computed else row[label] for label in resolution.labels}
        for position, row in enumerate(rows)
    ]


def compute_offline(resolution: Resolution, labels: Any, joined: pl.DataFrame) -> pl.DataFrame:
    """Returns a training set with on-demand features.

    Args:
        resolution: What was asked for.
        labels: The label frame; its columns of the names of request data are the request data.
        joined: The label frame joined with the stored features of the resolution.

    Returns:
        The label columns untouched, then one column per label of the request.

    Raises:
        InvalidRequestError: If a label column with request data is missing, of another type, makes an expression
            fail, or has the name of a requested feature.
        DefinitionError: If an expression is not what its definition promises.
    """
    frame = to_polars(labels)
    taken = sorted(set(resolution.labels) & set(frame.columns))
    if taken:
        raise InvalidRequestError(
            f"The label frame has columns with the names of requested features: {', '.join(taken)}. "
            "Rename or drop them, labels are returned untouched."
        )
    missing = sorted(set(resolution.request) - set(frame.columns))
    if missing:
        raise InvalidRequestError(
            f"The label frame has no column(s) {', '.join(missing)}: on-demand features take their request data from "
            f"label columns of the same name, with the dtype that they declare ({_declared(resolution)})."
        )
    data = {column: _label_series(frame[column], dtype) for column, dtype in resolution.request.items()}
    return frame.with_columns(_answers(resolution, joined, data))


def answer_offline(
    resolution: Resolution, joined: pl.DataFrame, request_data: Mapping[str, Sequence[Any]]
) -> list[pl.Series]:
    """Returns the answers to a point-in-time read, in the order of the request.

    Args:
        resolution: What was asked for.
        joined: The stored features of the resolution, by label.
        request_data: One value per row for each item.

    Raises:
        InvalidRequestError: If request data are missing, unknown, of another length or type, or make an expression
            fail.
        DefinitionError: If an expression is not what its definition promises.
    """
    return _answers(resolution, joined, request_series(resolution, request_data, joined.height))


def _answers(resolution: Resolution, joined: pl.DataFrame, data: Mapping[str, pl.Series]) -> list[pl.Series]:
    computed: dict[str, pl.Series] = {}
    for computation in resolution.computations:
        inputs = {column: joined[selection.label] for column, selection in computation.inputs.items()}
        results = _evaluated(computation, inputs, data)
        computed |= {label: results[column].alias(label) for label, column in computation.outputs.items()}
    return [computed[label] if label in computed else joined[label] for label in resolution.labels]


def request_series(
    resolution: Resolution, request_data: Mapping[str, Sequence[Any]], rows: int
) -> dict[str, pl.Series]:
    """Returns a request's data in the declared dtypes; arguments and errors as for `compute_online`."""
    missing = [column for column in resolution.request if column not in request_data]
    unknown = [column for column in request_data if column not in resolution.request]
    if missing:
        raise InvalidRequestError(
            f"Request data {', '.join(missing)} are missing: the on-demand features that were asked for need "
            f"{_declared(resolution)}."
        )
    if unknown:
        needed = _declared(resolution) or "none"
        raise InvalidRequestError(
            f"Request data {', '.join(map(repr, unknown))} are of no use here: needed are {needed}."
        )
    series = {}
    for column, dtype in resolution.request.items():
        values = request_data[column]
        if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != rows:
            got = len(values) if isinstance(values, Sequence) and not isinstance(values, str) else repr(values)
            raise InvalidRequestError(f"Request data {column!r} need one value per entity, {rows} in all, got {got}.")
        series[column] = series_of(column, values, dtype)
    return series


def series_of(column: str, values: Sequence[Any], dtype: Dtype) -> pl.Series:
    """Returns Python or JSON values as a series of a feature dtype.

    See `definitions.values.value_of` for what may stand for what.

    Raises:
        InvalidRequestError: If a value is of another type, or too great.
    """
    try:
        return series_of_values(column, [value_of(dtype, value) for value in values], dtype)
    except ValueError as error:
        raise InvalidRequestError(f"{column!r} is declared as {dtype}, {error}.") from None


def check_row_wise(functions: OnDemandFeatures, dtypes: Mapping[str, Dtype]) -> None:
    """Checks on made-up rows that every row's values depend on that row alone.

    Args:
        functions: The on-demand features.
        dtypes: Column to dtype of their inputs and request data.

    Raises:
        DefinitionError: If they depend on other rows, or cannot be computed from columns of these dtypes.
    """
    _check_row_wise(functions, tuple(dtypes.items()))


@lru_cache(maxsize=256)
def _check_row_wise(functions: OnDemandFeatures, dtypes: tuple[tuple[str, Dtype], ...]) -> None:
    samples = {column: _samples(column, dtype, offset) for offset, (column, dtype) in enumerate(dtypes)}
    rows = len(next(iter(samples.values())))
    try:
        whole = evaluate(functions, samples)
        alone = [
            evaluate(functions, {name: series[row : row + 1] for name, series in samples.items()})
            for row in range(rows)
        ]
    except InvalidRequestError:
        # Not every text is a number, and some expressions insist. Nulls must do for all.
        try:
            evaluate(functions, {name: series.clear(rows) for name, series in samples.items()})
        except InvalidRequestError as error:
            raise DefinitionError(f"{error} Inputs and request data are {dict(dtypes)}.") from None
        return
    for column, series in whole.items():
        each = pl.concat([results[column] for results in alone])
        if not series.equals(each, check_dtypes=True, null_equal=True):
            raise DefinitionError(
                f"On-demand feature {column!r} of {functions.name!r} depends on other rows: online, every request is "
                "alone. Use expressions that work on each row by itself (no mean(), shift(), len(), over(), ...)."
            )


def evaluate(functions: OnDemandFeatures, columns: Mapping[str, pl.Series]) -> dict[str, pl.Series]:
    """Computes on-demand features, one value per row.

    Args:
        functions: The features.
        columns: Their inputs and request data by column, in the declared dtypes and of equal length.

    Returns:
        One series per feature by column, in the declared dtype; NaN is null, and null the default that is declared.

    Raises:
        InvalidRequestError: If an expression fails on these values.
        DefinitionError: If an expression gives another dtype or number of rows than declared.
    """
    rows = len(next(iter(columns.values())))
    frame = pl.DataFrame([_laid_out(series.alias(column)) for column, series in columns.items()])
    try:
        frame = frame.with_columns(expression.alias(name) for name, expression in functions.expressions.items())
    except pl.exceptions.ShapeError:
        raise DefinitionError(
            f"On-demand features {functions.name!r} change the number of rows: "
            "use expressions that give one value per row."
        ) from None
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InvalidRequestError(f"On-demand features {functions.name!r} cannot be computed: {reason}.") from None
    return {
        spec.ref.column: with_default(
            _declared_dtype(functions, frame[spec.ref.column], spec.dtype)[:rows], spec.dtype, spec.default
        )
        for spec in functions.features
    }


def _evaluated(
    computation: Computation, inputs: Mapping[str, pl.Series], data: Mapping[str, pl.Series]
) -> dict[str, pl.Series]:
    functions = computation.functions
    dtypes = {column: selection.feature.dtype for column, selection in computation.inputs.items()}
    check_row_wise(functions, {**dtypes, **functions.request})
    return evaluate(functions, {**inputs, **{column: data[column] for column in functions.request}})


def _laid_out(series: pl.Series) -> pl.Series:
    """Returns a series in one chunk and of two rows at least: a single row comes twice, none as nulls."""
    if len(series) < _LEAST_ROWS:
        series = pl.concat([series] * _LEAST_ROWS) if len(series) else series.clear(_LEAST_ROWS)
    return series.rechunk()


def _declared_dtype(functions: OnDemandFeatures, series: pl.Series, dtype: Dtype) -> pl.Series:
    where = f"On-demand feature {series.name!r} of {functions.name!r}"
    try:
        return _in_dtype(series, dtype, aware=True)
    except UnfitTypeError as error:
        remedy = str(error) or f"add .cast(pl.{polars_type(dtype)})"
        raise DefinitionError(
            f"{where} gives {series.dtype}, its schema declares {dtype}: {remedy}, or correct the schema."
        ) from None
    except ValueError as error:
        raise InvalidRequestError(f"{where} does not fit {dtype}: {error}.") from None


def _label_series(series: pl.Series, dtype: Dtype) -> pl.Series:
    try:
        return _in_dtype(series, dtype)
    except UnfitTypeError as error:
        remedy = str(error) or "cast it first"
        raise InvalidRequestError(
            f"Label column {series.name!r} holds {series.dtype}, on-demand features declare it as {dtype}: {remedy}."
        ) from None
    except ValueError as error:
        raise InvalidRequestError(f"Label column {series.name!r} cannot be read as {dtype}: {error}.") from None


def _in_dtype(series: pl.Series, dtype: Dtype, *, aware: bool = False) -> pl.Series:
    """Returns a series as one of a dtype.

    Args:
        series: The series.
        dtype: The dtype.
        aware: Whether times must have a zone.

    Raises:
        UnfitTypeError: If values of the dtype do not come in the series' type.
        ValueError: If a value does not fit.
    """
    actual = series.dtype
    if aware and dtype == TIMESTAMP and (isinstance(actual, pl.Date) or getattr(actual, "time_zone", "") is None):
        raise UnfitTypeError
    frame = series.to_frame()
    converted = conversion(series.name, series.dtype, dtype)
    for misfit, mask in misfits_of(frame, converted):
        raise ValueError(f"{series.filter(mask)[0]} has {misfit.reason}")
    try:
        return frame.select(converted.expression.alias(series.name)).to_series()
    except pl.exceptions.PolarsError as error:
        raise ValueError(str(error).splitlines()[0]) from None


def _samples(column: str, dtype: Dtype, offset: int) -> pl.Series:
    values = _sample_values(dtype)
    turned = values[offset % len(values) :] + values[: offset % len(values)]
    return series_of_values(column, turned, dtype)


def _sample_values(dtype: Dtype) -> list[Any]:
    if dtype.name == "embedding":
        return [[float(row * 7 + step) for step in range(dtype.dimension)] for row in range(5)] + [None]
    if dtype.name == "decimal":
        return [Decimal(value).scaleb(-dtype.scale) for value in (0, 150, -225, 1, 37)] + [None]
    if dtype.element is None:
        return _SAMPLES[dtype.name]
    elements = [value for value in _sample_values(dtype.element) if value is not None]
    lists: list[Any] = [[], elements[:1], elements, elements[::-1], elements[2:], None]
    if dtype.name == "list":
        return lists
    return [None if each is None else {str(key): item for key, item in enumerate(each)} for each in lists]


def _declared(resolution: Resolution) -> str:
    return ", ".join(f"{column} ({dtype})" for column, dtype in resolution.request.items())
