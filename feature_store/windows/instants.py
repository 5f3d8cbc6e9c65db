"""Instants: the rows of a windowed group, one for each entity and event time, made of events and taken apart again.

A row's columns are those of its first event; the events that share the instant with it lie in `other_events`, a JSON
text that is null for most rows. Which event is the first is decided by the values alone, so that equal events give the
same bytes, in whatever order, batches or engine they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl

from feature_store.clock import nearest_datetime, to_micros
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.definitions.window_spec import OTHER_EVENTS
from feature_store.errors import InvalidRowsError
from feature_store.frames import utc_micros
from feature_store.rows.polars_schema import polars_type

_EXAMPLES = 3


def instants(
    events: pl.LazyFrame, keys: Sequence[str], inputs: Mapping[str, Dtype], conditions: Mapping[str, pl.Expr]
) -> pl.LazyFrame:
    """Returns the rows of events: one for each entity and event time.

    Args:
        events: What a group's function gives: join keys, `event_timestamp` and the columns that windows read.
        keys: The join keys.
        inputs: Columns of the rows and their dtypes; `other_events` is among them.
        conditions: Columns among them that are not the events', but what these expressions say of each.

    Returns:
        Join keys, `event_timestamp` (UTC, microseconds) and `inputs`. In no order.

    Raises:
        InvalidRowsError: If a column is missing, or holds what its dtype cannot: NaN or an infinity, a number that is
            too large, a decimal with too many digits.
    """
    read = [column for column in inputs if column != OTHER_EVENTS]
    schema = events.collect_schema()
    needed = [*keys, EVENT_TIMESTAMP, *(column for column in read if column not in conditions)]
    if missing := [column for column in needed if column not in schema]:
        raise InvalidRowsError(
            "",
            [f"the events have no column {column!r}, only {schema.names()}" for column in missing],
            "Let the group's function give what its windows read.",
        )
    columns = [
        *(pl.col(key) for key in keys),
        utc_micros(EVENT_TIMESTAMP, schema),
        *(pl.col(column) for column in needed[len(keys) + 1 :]),
        *(expression.cast(pl.Boolean).alias(name) for name, expression in conditions.items()),
    ]
    given = events.select(columns).collect()
    frame = given.select(
        *keys,
        EVENT_TIMESTAMP,
        *(_canonical(given[column], inputs[column]).alias(column) for column in read),
    )
    return _grouped(frame, keys, {column: inputs[column] for column in read}).lazy()


def events_of(rows: pl.DataFrame, inputs: Mapping[str, Dtype]) -> pl.DataFrame:
    """Returns the events of rows, all columns but `other_events`; in no order.

    Args:
        rows: Rows of a windowed group; columns that files lack are null.
        inputs: Columns that the rows' events have, with their dtypes.
    """
    if OTHER_EVENTS not in rows.columns:
        return rows
    firsts = rows.drop(OTHER_EVENTS)
    several = rows.filter(pl.col(OTHER_EVENTS).is_not_null())
    if several.is_empty():
        return firsts
    read = {name: dtype for name, dtype in inputs.items() if name in firsts.columns and name != OTHER_EVENTS}
    others = [msgspec.json.decode(text) for text in several[OTHER_EVENTS].to_list()]
    repeated = several.drop(OTHER_EVENTS, *read)
    places = [place for place, events in enumerate(others) for _ in events]
    flat = [event for events in others for event in events]
    values = pl.DataFrame(
        [
            pl.Series(name, [restored(event.get(name), dtype) for event in flat], dtype=polars_type(dtype))
            for name, dtype in read.items()
        ]
    )
    rest = repeated[places]
    return pl.concat([firsts, rest.hstack(values).select(firsts.columns)])


def _grouped(frame: pl.DataFrame, keys: Sequence[str], inputs: Mapping[str, Dtype]) -> pl.DataFrame:
    identity = [*keys, EVENT_TIMESTAMP]
    nothing = pl.lit(None, dtype=pl.String).alias(OTHER_EVENTS)
    # Equal keys have equal hashes: where no two hashes are equal, which is quickly seen, each instant has one event.
    if frame.height <= 1 or frame.select(pl.struct(identity).hash()).to_series().n_unique() == frame.height:
        return frame.with_columns(nothing)
    is_shared = frame.select(pl.struct(identity).is_duplicated()).to_series()
    alone = frame.filter(~is_shared).with_columns(nothing)
    shared = frame.filter(is_shared).sort([*identity, *inputs], nulls_last=True)
    firsts = shared.unique(identity, keep="first", maintain_order=True)
    if not inputs:
        members = shared.group_by(identity, maintain_order=True).len("_count")
        texts = [_encoded([{}] * (count - 1)) for count in members["_count"].to_list()]
    else:
        lists = shared.group_by(identity, maintain_order=True).agg(pl.struct(*inputs).alias("_events"))
        texts = [_encoded(events[1:]) for events in lists["_events"].to_list()]
    return pl.concat([alone, firsts.with_columns(pl.Series(OTHER_EVENTS, texts, dtype=pl.String))])


def _encoded(events: Sequence[Mapping[str, Any]]) -> str:
    plain = [{name: _plain(value) for name, value in sorted(event.items()) if value is not None} for event in events]
    return msgspec.json.encode(plain).decode()


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it: times are integers, of microseconds; decimals are texts."""
    if isinstance(value, datetime):
        return to_micros(value)
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def restored(value: Any, dtype: Dtype) -> Any:
    """Returns a value of `other_events` as Python has it: times as instants in UTC."""
    if value is None:
        return None
    if dtype.name == "decimal":
        return Decimal(value)
    if dtype.name == "date":
        return date.fromisoformat(value)
    if dtype.name == "timestamp":
        return nearest_datetime(value)
    return float(value) if dtype.name == "float" else value


def _canonical(values: pl.Series, dtype: Dtype) -> pl.Series:  # noqa: C901, PLR0911 - one line per dtype
    """Returns a column in its dtype, without losing anything of it."""
    name, actual = values.name, values.dtype
    target = polars_type(dtype)
    if actual == pl.Null:
        return values.cast(target)
    if dtype.name == "timestamp":
        if not isinstance(actual, pl.Datetime):
            raise _other(name, actual, dtype)
        return pl.DataFrame(values).select(utc_micros(name, {name: actual})).to_series()
    if dtype.name == "float":
        if not actual.is_numeric():
            raise _other(name, actual, dtype)
        return _finite(values.cast(pl.Float64))
    try:
        if dtype.name == "decimal":
            return _decimal(values, dtype)
        if dtype.name == "int":
            if not actual.is_integer():
                raise _other(name, actual, dtype)
            return values.cast(pl.Int64)
    except pl.exceptions.PolarsError as error:
        raise InvalidRowsError(
            "", [f"column {name!r} ({actual}) holds what {dtype} cannot: {str(error).splitlines()[0]}"], _REMEDY
        ) from None
    if dtype.name == "string":
        if isinstance(actual, pl.Float32 | pl.Float64):
            values = _finite(values)
        return values if actual == pl.String else values.cast(pl.String)
    if actual != target:
        raise _other(name, actual, dtype)
    return values


_REMEDY = "Correct it in the group's function, or annotate the windows that read it with another type."


def _finite(values: pl.Series) -> pl.Series:
    wrong = (~values.is_finite()).fill_null(value=False)
    if count := int(wrong.sum()):
        examples = ", ".join(str(value) for value in values.filter(wrong).unique().head(_EXAMPLES).to_list())
        raise InvalidRowsError(
            "",
            [f"column {values.name!r} is not a finite number in {count:,} of {len(values):,} events: {examples}"],
            f"A window over it would be lost for good: let the group's function drop these events, or make them null, "
            f"pl.col({values.name!r}).fill_nan(None), say.",
        )  # fmt: skip
    # Two zeros would make the answer depend on which of them is met first.
    return values + 0.0


def _decimal(values: pl.Series, dtype: Dtype) -> pl.Series:
    name, actual = values.name, values.dtype
    target = pl.Decimal(38, dtype.scale)
    if actual.is_float():
        # By way of its shortest text: 12.34 is 12.34, as it was written.
        exact = _finite(values).cast(pl.String).str.to_decimal(scale=18)
        found = exact.cast(target)
        lost = (found.cast(pl.Decimal(38, 18)) != exact).fill_null(value=False) | (
            found.is_null() & values.is_not_null()
        )
    elif actual.is_decimal() or actual.is_integer():
        found = values.cast(target)
        lost = found.is_null() & values.is_not_null()
        if actual.is_decimal():
            lost |= (found.cast(actual) != values).fill_null(value=False)
    else:
        raise _other(name, actual, dtype)
    if count := int(lost.sum()):
        examples = ", ".join(str(value) for value in values.filter(lost).head(_EXAMPLES).to_list())
        raise InvalidRowsError(
            "",
            [f"column {name!r} has more digits than {dtype} in {count:,} of {len(values):,} events: {examples}"],
            "Round it in the group's function, or declare more digits: window(..., scale=4).",
        )  # fmt: skip
    return found


def _other(name: str, actual: pl.DataType, dtype: Dtype) -> InvalidRowsError:
    return InvalidRowsError("", [f"column {name!r} holds {actual}, the windows read it as {dtype}"], _REMEDY)
