"""From what was read to what is answered: on-demand features, and the three forms of an answer.

Computing on-demand features is given as a function: the online store knows no transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from feature_store.definitions.names import ENTITY_ID
from feature_store.online.reading.prepared import FeatureState, Form
from feature_store.online.reading.requests import Request, RequestData
from feature_store.resolution import Resolution

if TYPE_CHECKING:
    import polars as pl

Row = dict[str, Any]
_UNLABELLED = frozenset({"frame", "rows"})
Compute = Callable[[Resolution, Sequence[Row], RequestData], list[Row]]
"""Gives the answers of on-demand features: per entity, all values by label in the order of the request."""


def form_read(form: Form) -> Form:
    """Returns the form in which stored features are read, to compute an answer in another."""
    return "values" if form in _UNLABELLED else form


def is_computed(request: Request, request_data: RequestData) -> bool:
    """Returns whether there is something to compute, or request data to be refused."""
    return bool(request.resolution.computations or request_data)


def with_defaults(request: Request, read: Any, form: Form) -> Any:
    """Returns what was read in a form, with the defaults of features in place of null; it may be changed in place."""
    for place, selection in request.defaults:
        feature, label = selection.feature, selection.label
        if form == "frame":
            from feature_store.rows.polars_schema import with_default

            read = read.with_columns(with_default(read[label], feature.dtype, feature.default))
            continue
        key: Any = place if form == "rows" else label
        for row in read:
            value = row[key]
            if form != "states":
                row[key] = feature.default if value is None else value
            elif value.value is None:
                row[key] = replace(value, value=feature.default)
    return read


def values_read(request: Request, answer: Any, form: Form) -> list[Row]:
    """Returns the values of what was read in a form, by label, one dict per entity."""
    if form == "states":
        return [{label: state.value for label, state in row.items()} for row in answer]
    if form == "frame":
        from feature_store.rows.polars_schema import python_rows

        dtypes = {selection.label: selection.feature.dtype for selection in request.resolution.selections}
        return list(python_rows(answer.drop(ENTITY_ID), dtypes))
    if form == "rows":
        labels = [selection.label for selection in request.resolution.selections]
        return [dict(zip(labels, row, strict=True)) for row in answer]
    values: list[Row] = answer
    return values


def computed(
    compute: Compute, request: Request, form: Form, entity_ids: Sequence[str], read: Any, request_data: RequestData
) -> Any:
    """Returns the answer with on-demand features.

    Args:
        compute: Computes them.
        request: What was asked for.
        form: The form of the answer.
        entity_ids: The entities.
        read: The stored features, in the form that `form_read` gives.
        request_data: What on-demand features need.

    Raises:
        InvalidRequestError: If request data are missing, unknown, of another length or type, or make an expression
            fail.
        DefinitionError: If an expression is not what its definition promises.
    """
    values = values_read(request, read, form_read(form))
    rows = compute(request.resolution, values, request_data)
    if form == "states":
        return [_with_states(row, states) for row, states in zip(rows, read, strict=True)]
    if form == "rows":
        return [[row[label] for label in request.resolution.labels] for row in rows]
    return _frame(request, entity_ids, rows) if form == "frame" else rows


def _with_states(row: Row, states: dict[str, FeatureState]) -> dict[str, FeatureState]:
    # What was computed is there, or null, and stands in no row that could have a time.
    return {
        label: states.get(label) or FeatureState(value, "null" if value is None else "present", None, None)
        for label, value in row.items()
    }


def _frame(request: Request, entity_ids: Sequence[str], rows: Sequence[Row]) -> pl.DataFrame:
    import polars as pl

    from feature_store.rows.polars_schema import series_of_values

    ids = pl.Series(ENTITY_ID, entity_ids, dtype=pl.String)
    columns = [series_of_values(label, [row[label] for row in rows], dtype) for label, dtype in request.dtypes.items()]
    return pl.DataFrame([ids, *columns])
