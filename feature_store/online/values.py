"""The JSON of feature values: what a client in any language reads with `GET`.

    float      0.1, 1e+22, -0.0   shortest text that is the same float64; infinities as 1e999 and -1e999
    int        9007199254740993   all digits
    string     "text"
    bool       true
    timestamp  "2013-01-31T05:00:00.000000Z"
    date       "2013-01-31"
    decimal    "12.30"            text, with all digits of its scale
    list       ["a","b"]          of any of the above
    map        {"a":1.5}          likewise; keys in the order of their bytes
    embedding  [0.10000000149011612,null]   each float32 written as the float64 that equals it
    null       null, also for NaN and for what holds one: a known null

Columns become text inside Polars, which only `json_expression` imports. Keys and expiry belong elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from feature_store.definitions.dtypes import STRING, Dtype
from feature_store.rows.forms import MAP_KEY, MAP_VALUE, forms_of

if TYPE_CHECKING:
    import polars as pl

_ESCAPED = ['"', "\\", *map(chr, range(0x20))]
_ESCAPES = ['\\"', "\\\\", *(f"\\u{code:04x}" for code in range(0x20))]


def _python_type(dtype: Dtype) -> Any:
    return forms_of(dtype).json | None


@cache
def decoder(dtype: Dtype) -> Callable[[bytes], Any]:
    """Returns the function that reads one value of a dtype, None for null.

    Timestamps become aware datetimes in UTC, decimals `Decimal`, embeddings lists of floats. The function raises
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


def text_reader(dtype: Dtype) -> Callable[[bytes], Any]:
    """Returns the function that reads the text of a value in the row layout; it raises `ValueError` if that is none.

    That of a string or decimal is the value itself, that of a list or map its JSON.
    """
    if dtype.name == "string":
        return bytes.decode
    if dtype.name == "decimal":
        return _decimal
    decode = decoder(dtype)

    def read(raw: bytes) -> Any:
        try:
            return decode(raw)
        except (ValueError, msgspec.MsgspecError):
            return decode_out_of_range(raw, dtype)

    return read


def _decimal(raw: bytes) -> Decimal:
    try:
        return Decimal(raw.decode())
    except InvalidOperation:
        raise ValueError(f"{raw!r} is no decimal number") from None


def text_expression(column: str, dtype: Dtype) -> pl.Expr:
    """Returns the expression of what `text_reader` reads, the empty text for null."""
    import polars as pl

    if dtype.element is not None:
        text = json_expression(column, dtype)
        return pl.when(text != "null").then(text).otherwise(pl.lit(""))
    return pl.col(column).cast(pl.String).fill_null("")


def json_expression(column: str, dtype: Dtype) -> pl.Expr:
    """Returns the expression that turns a column of a feature dtype into the JSON of its values, never null."""
    import polars as pl

    from feature_store.frames import nan_as_null
    from feature_store.rows.polars_schema import polars_type

    return _json(nan_as_null(pl.col(column), polars_type(dtype)), dtype).fill_null("null")


def _json(values: pl.Expr, dtype: Dtype) -> pl.Expr:  # noqa: PLR0911 - one line per dtype
    """Returns the JSON of values without NaN; null for null, but for floats."""
    import polars as pl

    element = pl.element()
    if dtype.name == "float":
        return _float_json(values)
    if dtype.name == "string":
        return pl.concat_str(pl.lit('"'), values.str.replace_many(_ESCAPED, _ESCAPES), pl.lit('"'))
    if dtype.name == "timestamp":
        return values.dt.strftime('"%Y-%m-%dT%H:%M:%S%.6fZ"')
    if dtype.name == "date":
        return values.dt.strftime('"%Y-%m-%d"')
    if dtype.name == "decimal":
        return pl.concat_str(pl.lit('"'), values.cast(pl.String), pl.lit('"'))
    if dtype.name == "embedding":
        elements = values.arr.to_list().list.eval(_float_json(element.cast(pl.Float64)))
        return pl.concat_str(pl.lit("["), elements.list.join(","), pl.lit("]"))
    if dtype.element is None:
        return values.cast(pl.String)
    if dtype.name == "list":
        elements = values.list.eval(_json(element, dtype.element))
        return pl.concat_str(pl.lit("["), elements.list.join(","), pl.lit("]"))
    key, value = _json(element.struct.field(MAP_KEY), STRING), _json(element.struct.field(MAP_VALUE), dtype.element)
    entries = values.list.eval(pl.concat_str(key, pl.lit(":"), value))
    return pl.concat_str(pl.lit("{"), entries.list.join(","), pl.lit("}"))


def _float_json(values: pl.Expr) -> pl.Expr:
    import polars as pl

    text = values.fill_nan(None).cast(pl.String)
    infinite = pl.when(values > 0).then(pl.lit("1e999")).otherwise(pl.lit("-1e999"))
    return pl.when(values.is_infinite()).then(infinite).otherwise(text).fill_null("null")
