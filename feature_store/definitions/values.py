"""Python and JSON values as values of a dtype: defaults of features, and what callers pass with a request.

Columns are converted by `feature_store.frames` and validated by `feature_store.changes.validation`; here is one value
at a time, by the same rules.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from feature_store.clock import to_utc
from feature_store.definitions.dtypes import DECIMAL_DIGITS, Dtype

_INT64 = range(-(2**63), 2**63)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_FLOAT32 = struct.Struct("<f")


def value_of(dtype: Dtype, value: Any) -> Any:
    """Returns a Python or JSON value in the form that answers have: None where it is null.

    Integers may stand for floats and decimals; ISO texts for timestamps (naive ones are UTC) and dates; texts of digits
    for decimals. NaN is null, and so is a list, map or embedding that holds NaN or a list or map that holds None. Keys
    of maps are put in order.

    Raises:
        ValueError: If it is no value of the dtype; the message goes on from "it must be a ..., ".
    """
    if value is None:
        return None
    return _CONVERSIONS[dtype.name](dtype, value)


def value_json(value: Any) -> str:  # noqa: PLR0911 - one line per kind
    """Returns the JSON of a value as answers have it, spelled as in the online store: infinities as 1e999."""
    match value:
        case float() if math.isinf(value):
            return "1e999" if value > 0 else "-1e999"
        case datetime():
            return f'"{to_utc(value).replace(tzinfo=None).isoformat(timespec="microseconds")}Z"'
        case date():
            return f'"{value.isoformat()}"'
        case Decimal():
            return f'"{value:f}"'
        case list():
            return f"[{','.join(map(value_json, value))}]"
        case dict():
            return f"{{{','.join(f'{value_json(key)}:{value_json(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


def value_of_json(dtype: Dtype, text: str) -> Any:
    """Returns the value that `value_json` has written.

    Raises:
        ValueError: If the text is not the JSON of a value of the dtype.
    """
    return value_of(dtype, json.loads(text))


def _float(_: Dtype, value: Any) -> float | None:
    if type(value) not in {float, int}:
        raise _unfit(value)
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"got {value!r}: it is too great") from None
    return None if math.isnan(number) else number


def _int(_: Dtype, value: Any) -> int:
    if type(value) is not int or value not in _INT64:
        raise _unfit(value)
    return value


def _string(_: Dtype, value: Any) -> str:
    if type(value) is not str:
        raise _unfit(value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"got {value!r}: it is no Unicode text") from None
    return value


def _bool(_: Dtype, value: Any) -> bool:
    if type(value) is not bool:
        raise _unfit(value)
    return value


def _timestamp(_: Dtype, value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if type(value) is str else value
        if not isinstance(moment, datetime):
            raise _unfit(value)
        return to_utc(moment)
    except (ValueError, OverflowError):
        raise _unfit(value) from None


def _date(_: Dtype, value: Any) -> date:
    if type(value) is date:
        return value
    if type(value) is not str or not _DAY.fullmatch(value):
        raise _unfit(value)
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise _unfit(value) from None


def _decimal(dtype: Dtype, value: Any) -> Decimal:
    if type(value) is str and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if type(value) is int:
        value = Decimal(value)
    if type(value) is not Decimal or not value.is_finite():
        raise _unfit(value)
    return exact_decimal(value, dtype.scale)


def exact_decimal(value: Decimal, scale: int) -> Decimal:
    """Returns a finite decimal with so many digits after the point.

    Raises:
        ValueError: If it has more of them, or more than 38 in all.
    """
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # of a finite number
    if not any(digits):  # zero has no sign: the stores keep numbers, and -0 is 0
        return Decimal((0, (0,), -scale))
    shift = exponent + scale
    if shift < 0 and any(digits[shift:]):
        raise ValueError(
            f"got {value}: it has more digits than decimal[{scale}] keeps, declare feature(..., scale=...) with "
            "a greater scale or round it"
        )
    unscaled = int("".join(map(str, digits)))
    if shift <= DECIMAL_DIGITS:
        unscaled = unscaled * 10**shift if shift >= 0 else unscaled // 10**-shift
    if shift > DECIMAL_DIGITS or unscaled >= 10**DECIMAL_DIGITS:
        raise ValueError(f"got {value}: it has more than the {DECIMAL_DIGITS} digits that decimal[{scale}] has in all")
    return Decimal((sign, tuple(map(int, str(unscaled))), -scale))


def _embedding(dtype: Dtype, value: Any) -> list[float | None] | None:
    if not isinstance(value, list | tuple) or len(value) != dtype.dimension:
        raise _unfit(value)
    numbers: list[float | None] = []
    for item in value:
        if item is None:
            numbers.append(None)
            continue
        number = _float(dtype, item)
        if number is None:
            return None
        try:
            numbers.append(_FLOAT32.unpack(_FLOAT32.pack(number))[0])
        except OverflowError:
            numbers.append(math.copysign(math.inf, number))
    return numbers


def _list(dtype: Dtype, value: Any) -> list[Any] | None:
    if not isinstance(value, list | tuple):
        raise _unfit(value)
    assert dtype.element is not None
    items = [value_of(dtype.element, item) for item in value]
    return None if None in items else items


def _map(dtype: Dtype, value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        raise _unfit(value)
    assert dtype.element is not None
    items = {_string(dtype, key): value_of(dtype.element, item) for key, item in value.items()}
    if None in items.values():
        return None
    return {key: items[key] for key in sorted(items, key=str.encode)}


_CONVERSIONS: Mapping[str, Callable[[Dtype, Any], Any]] = {
    "float": _float,
    "int": _int,
    "string": _string,
    "bool": _bool,
    "timestamp": _timestamp,
    "date": _date,
    "decimal": _decimal,
    "embedding": _embedding,
    "list": _list,
    "map": _map,
}


def _unfit(value: Any) -> ValueError:
    return ValueError(f"got {value!r}")
