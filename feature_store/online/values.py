"""The JSON of feature values: what a client in any language reads with `GET`.

    float      0.1, 1e+22, -0.0   shortest text that is the same float64; infinities as 1e999 and -1e999
    int        9007199254740993   all digits
    string     "text"
    bool       true
    timestamp  "2013-01-31T05:00:00.000000Z"
    embedding  [0.10000000149011612,null]   each float32 written as the float64 that equals it
    null       null, also for NaN and for an embedding that holds one: a known null

Columns become text inside Polars, which only `json_expression` imports. Keys and expiry belong elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from feature_store.definitions.dtypes import Dtype
from feature_store.rows.forms import forms_of

if TYPE_CHECKING:
    import polars as pl

_ESCAPED = ['"', "\\", *map(chr, range(0x20))]
_ESCAPES = ['\\"', "\\\\", *(f"\\u{code:04x}" for code in range(0x20))]


def _python_type(dtype: Dtype) -> Any:
    return forms_of(dtype).json | None


@cache
def decoder(dtype: Dtype) -> Callable[[bytes], Any]:
    """Returns the function that reads one value of a dtype, None for null.

    Timestamps become aware datetimes in UTC, embeddings lists of floats. The function raises
    `msgspec.MsgspecError` or `ValueError` for all that it cannot read, infinities among it: ask
    `decode_out_of_range` then.
    """
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(_python_type(dtype)).decode
    return decode


def row_decoder(dtypes: tuple[Dtype, ...]) -> Callable[[bytes], Sequence[Any]]:
    """Returns the function that reads a JSON array of one value per dtype; it raises what `decoder` raises."""
    values: Any = tuple.__class_getitem__(tuple(_python_type(dtype) for dtype in dtypes))
    decode: Callable[[bytes], Sequence[Any]] = msgspec.json.Decoder(values).decode
    return decode


@cache
def column_decoder(dtype: Dtype) -> Callable[[bytes], list[Any]]:
    """Returns the function that reads a JSON array of values of a dtype; it raises what `decoder` raises."""
    values: Any = list.__class_getitem__(_python_type(dtype))
    decode: Callable[[bytes], list[Any]] = msgspec.json.Decoder(values).decode
    return decode


def decode_out_of_range(raw: bytes, dtype: Dtype) -> Any:
    """Reads a value with numbers beyond float64, which is how infinities are written.

    The fast parser refuses them; the standard library's reads them as infinities.

    Raises:
        ValueError: If the bytes are not the JSON of such a value.
    """
    try:
        return msgspec.convert(json.loads(raw), _python_type(dtype))
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def json_expression(column: str, dtype: Dtype) -> pl.Expr:
    """Returns the expression that turns a column of a feature dtype into the JSON of its values, never null."""
    import polars as pl

    from feature_store.frames import nan_as_null
    from feature_store.rows.polars_schema import polars_type

    values = pl.col(column)
    if dtype.name == "float":
        return _float_json(values)
    if dtype.name == "string":
        escaped = values.str.replace_many(_ESCAPED, _ESCAPES)
        text = pl.concat_str(pl.lit('"'), escaped, pl.lit('"'))
    elif dtype.name == "timestamp":
        text = values.dt.strftime('"%Y-%m-%dT%H:%M:%S%.6fZ"')
    elif dtype.name == "embedding":
        values = nan_as_null(values, polars_type(dtype))
        elements = values.arr.to_list().list.eval(_float_json(pl.element().cast(pl.Float64)))
        text = pl.concat_str(pl.lit("["), elements.list.join(","), pl.lit("]"))
    else:
        text = values.cast(pl.String)
    return text.fill_null("null")


def _float_json(values: pl.Expr) -> pl.Expr:
    import polars as pl

    text = values.fill_nan(None).cast(pl.String)
    infinite = pl.when(values > 0).then(pl.lit("1e999")).otherwise(pl.lit("-1e999"))
    return pl.when(values.is_infinite()).then(infinite).otherwise(text).fill_null("null")
