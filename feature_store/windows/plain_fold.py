"""The value of one window from its events, in plain Python: slow, exact, and short enough to be believed.

The second opinion on every faster way, and what explains a value to people.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_functions import UNITS
from feature_store.definitions.window_spec import WindowSpec
from feature_store.errors import WindowOverflowError
from feature_store.windows.sketches import bucket_values, buckets_of, estimate, place_of_quantile, registers_of, text_of


class Event(NamedTuple):
    """One event as a window sees it.

    Attributes:
        time: Microseconds since 1970.
        values: Its columns.
    """

    time: int
    values: dict[str, Any]


def inside(spec: WindowSpec, events: Sequence[Event], at: int, *, inclusive: bool = True) -> list[Event]:
    """Returns the events that a window holds for a reader at an instant, in order of time.

    Args:
        spec: The window.
        events: Events of one entity, in any order.
        at: The instant, microseconds since 1970.
        inclusive: Whether an event at the instant itself is seen.
    """
    tail = spec.extent.tails(at)
    seen = [event for event in events if tail < event.time and (event.time <= at if inclusive else event.time < at)]
    return sorted(
        (event for event in seen if spec.condition is None or event.values.get(spec.condition)),
        key=lambda event: event.time,
    )


def value_of(spec: WindowSpec, dtype: Dtype, events: Sequence[Event], at: int, *, inclusive: bool = True) -> Any:
    """Returns the value of a windowed feature for a reader at an instant.

    Args:
        spec: The window.
        dtype: Dtype of the feature.
        events: Events of one entity, in any order; their columns in plain Python, null as None.
        at: The instant, microseconds since 1970.
        inclusive: Whether an event at the instant itself is seen.

    Raises:
        WindowOverflowError: If a total is greater than its dtype can hold.
    """
    held = inside(spec, events, at, inclusive=inclusive)
    if spec.column is not None:
        held = [event for event in held if event.values.get(spec.column) is not None]
    if spec.category is None:
        return _folded(spec, dtype, held, at)
    by_category: dict[str, list[Event]] = {}
    for event in held:
        category = event.values.get(spec.category)
        if category is not None:
            by_category.setdefault(category, []).append(event)
    inner = dtype.element or dtype
    found = {category: _folded(spec, inner, members, at) for category, members in by_category.items()}
    return {category: found[category] for category in sorted(found, key=str.encode) if found[category] is not None}


def _folded(spec: WindowSpec, dtype: Dtype, held: Sequence[Event], at: int) -> Any:  # noqa: PLR0911, C901, PLR0912
    name = spec.function
    if name == "count":
        return len(held)
    if name == "age":
        return (at - held[-1].time) / UNITS[spec.unit or "seconds"] if held else None
    column = spec.column or ""
    values = [event.values[column] for event in held]
    if name == "total":
        return _total(values, dtype)
    if name == "distinct":
        different = sorted(set(values), key=_order)[: spec.size]
        return different if dtype.name == "list" else len(different)
    if name == "approx_distinct":
        ranks: dict[int, int] = {}
        for packed in registers_of(map(text_of, values)).tolist():
            ranks[packed // 64] = max(ranks.get(packed // 64, 0), packed % 64)
        return estimate(len(ranks), sum(1 << (64 - rank) for rank in ranks.values()))
    if name == "histogram":
        counted = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0].encode()))[: spec.size]
        return dict(sorted(counted, key=lambda item: item[0].encode()))
    if name in {"top", "bottom"}:
        return sorted(values, key=_order, reverse=name == "top")[: spec.size]
    if name in {"first", "last"}:
        ordered = [event.values[column] for event in sorted(held, key=lambda e: (e.time, _order(e.values[column])))]
        if spec.size is not None:
            return ordered[: spec.size] if name == "first" else ordered[-spec.size :]
        return (ordered[0] if name == "first" else ordered[-1]) if ordered else None
    if not values:
        return None
    if name in {"minimum", "maximum"}:
        return (min if name == "minimum" else max)(values, key=_order)
    if name == "mean":
        return _mean(values)
    if name in {"variance", "stddev"}:
        return _variance(values, root=name == "stddev")
    return _quantile(values, spec.quantile or 0.5)


def _total(values: Sequence[Any], dtype: Dtype) -> Any:
    if dtype.name == "float":
        return float(sum(map(Fraction, values)))
    found = sum(values, Decimal(0).scaleb(-dtype.scale) if dtype.name == "decimal" else 0)
    whole = int(found.scaleb(dtype.scale)) if isinstance(found, Decimal) else found
    if not -(2**63) <= whole < 2**63:
        raise WindowOverflowError("", [f"a total of {found} does not fit into 64 bits"], "Use a float.")
    return found


def _mean(values: Sequence[Any]) -> float:
    if isinstance(values[0], float):
        return float(sum(map(Fraction, values))) / len(values)
    return float(sum(map(Fraction, values)) / len(values))


def _variance(values: Sequence[Any], *, root: bool) -> float | None:
    count = len(values)
    if count < 2:  # noqa: PLR2004
        return None
    exact = [Fraction(value) for value in values]
    over = count * sum(value * value for value in exact) - sum(exact) ** 2
    found = float(over / (count * (count - 1)))
    return math.sqrt(found) if root else found


def _quantile(values: Sequence[Any], quantile: float) -> float:
    import numpy as np

    buckets = np.sort(buckets_of(np.array([float(value) for value in values])))
    place = place_of_quantile(quantile, len(values))
    return float(bucket_values(buckets[place : place + 1])[0])


def _order(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
