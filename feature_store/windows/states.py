"""States: what the events of a tile come to for one function, so that states of several tiles make the window's value.

A state is made of plain values that msgpack can write: a number, a text, a list or a map of them. It depends on the set
of the events alone. States are merged in the order of time of their tiles; what is merged is exact, so that any way to
cut a window into tiles gives the same value, to the bit.

Values of columns are plain, too: decimals are integers of their last digit, times are microseconds since 1970, dates
days since 1970.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from feature_store.clock import EPOCH, to_micros
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.window_functions import UNITS
from feature_store.definitions.window_spec import WindowSpec
from feature_store.errors import WindowOverflowError

Columns = Mapping[str, Any]
"""The columns of one event, in plain values."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FAMILIES = {"stddev": "variance"}
_SIZED = frozenset({"first", "last", "top", "bottom", "distinct"})


class StateKey(NamedTuple):
    """What a state says: which function of which events. Windows of all extents share one.

    Attributes:
        function: The function; `variance` stands for `stddev` as well.
        column: The column, None for the events themselves.
        dtype: Its dtype, as the registry spells it.
        condition: The column that says which events count.
        category: The column that tells them apart.
        size: How many values it keeps; None for one, or all.
    """

    function: str
    column: str | None
    dtype: str | None
    condition: str | None
    category: str | None
    size: int | None

    @classmethod
    def of(cls, spec: WindowSpec) -> StateKey:
        """Returns the key of the state that a window is folded from."""
        function = _FAMILIES.get(spec.function, spec.function)
        size = spec.size if function in _SIZED else None
        return cls(function, spec.column, spec.column_dtype, spec.condition, spec.category, size)


class Member(NamedTuple):
    """An event that counts: its time, and its value, plain; the value is None where no column is read."""

    time: int
    value: Any


def plain_value(value: Any, dtype: Dtype) -> Any:
    """Returns a value of a column as states hold it.

    Raises:
        OverflowError: If a decimal does not fit into 64 bits.
    """
    if value is None:
        return None
    if dtype.name == "decimal":
        whole = int(Decimal(value).scaleb(dtype.scale))
        if not -(2**63) <= whole < 2**63:
            raise OverflowError(f"the amount {value} does not fit into 64 bits")
        return whole
    if isinstance(value, datetime):
        return to_micros(value)
    return value.toordinal() - _EPOCH_DAY if isinstance(value, date) else value


def user_value(value: Any, dtype: Dtype) -> Any:
    """Returns a value as readers get it, from what states hold."""
    if value is None:
        return None
    if dtype.name == "decimal":
        return Decimal(value).scaleb(-dtype.scale)
    if dtype.name == "timestamp":
        return EPOCH + timedelta(microseconds=value)
    return date.fromordinal(_EPOCH_DAY + value) if dtype.name == "date" else value


def state_of(key: StateKey, events: Sequence[tuple[int, Mapping[str, Any]]]) -> Any:
    """Returns the state of some events, in any order; None where none counts.

    Args:
        key: What it says.
        events: Their times, and columns in plain values.
    """
    members: dict[str | None, list[Member]] = {}
    for time, columns in events:
        if key.condition is not None and not columns.get(key.condition):
            continue
        value = None if key.column is None else columns.get(key.column)
        if key.column is not None and value is None:
            continue
        category = None
        if key.category is not None:
            category = columns.get(key.category)
            if category is None:
                continue
        members.setdefault(category, []).append(Member(time, value))
    if not members:
        return None
    made = _MAKE[key.function]
    if key.category is None:
        return made(key, sorted(members[None], key=_in_time))
    return {str(name): made(key, sorted(those, key=_in_time)) for name, those in members.items()}


def merged(key: StateKey, states: Sequence[Any]) -> Any:
    """Returns the state of all events of some states, these being in the order of time; None where none counts."""
    known = [state for state in states if state is not None]
    if len(known) <= 1:
        return known[0] if known else None
    merge = _MERGE[key.function]
    if key.category is None:
        return merge(key, known)
    by_category: dict[str, list[Any]] = {}
    for state in known:
        for name, inner in state.items():
            by_category.setdefault(name, []).append(inner)
    return {name: inner[0] if len(inner) == 1 else merge(key, inner) for name, inner in by_category.items()}


def value_of_state(spec: WindowSpec, dtype: Dtype, state: Any, at: int) -> Any:
    """Returns a window's value from the state of its events, as readers get it.

    Args:
        spec: The window.
        dtype: Dtype of its values.
        state: The state; None where no event counts.
        at: The reader's instant, microseconds since 1970.

    Raises:
        WindowOverflowError: If a total is greater than its dtype can hold.
    """
    if state is None:
        return spec.empty(dtype)
    finish = _FINISH[spec.function]
    if spec.category is None:
        return finish(spec, dtype, state, at)
    inner = dtype.element or dtype
    found = {name: finish(spec, inner, state[name], at) for name in sorted(state)}
    return {name: value for name, value in found.items() if value is not None}


def expansion(values: Sequence[float]) -> list[float]:
    """Returns the sum of floats as the shortest list of floats whose sum it is, exactly: each is what is left, rounded.

    It depends on the sum alone. Nearly always it has one or two.
    """
    found: list[float] = []
    rest = list(values)
    while (most := math.fsum(rest)) != 0.0:
        found.append(most)
        rest.append(-most)
    return found


def packed_whole(value: int) -> bytes:
    """Returns an integer of any size as little-endian bytes."""
    return value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)


def whole_of(packed: bytes) -> int:
    """Returns the integer of `packed_whole`."""
    return int.from_bytes(packed, "little", signed=True)


def _in_time(member: Member) -> Any:
    # At one instant by value; events without a column do not differ.
    return (member.time, member.value) if member.value is not None else (member.time, 0)


def _is_float(key: StateKey) -> bool:
    return key.dtype == "float"


def _values(members: Sequence[Member]) -> list[Any]:
    return [member.value for member in members]


def _make_sum(key: StateKey, members: Sequence[Member]) -> Any:
    values = _values(members)
    return expansion(values) if _is_float(key) else packed_whole(sum(values))


def _merge_sums(key: StateKey, states: Sequence[Any]) -> Any:
    if _is_float(key):
        return expansion([part for state in states for part in state])
    return packed_whole(sum(map(whole_of, states)))


def _make_mean(key: StateKey, members: Sequence[Member]) -> Any:
    return [len(members), _make_sum(key, members)]


def _merge_means(key: StateKey, states: Sequence[Any]) -> Any:
    return [sum(state[0] for state in states), _merge_sums(key, [state[1] for state in states])]


def _make_moments(key: StateKey, members: Sequence[Member]) -> Any:  # noqa: ARG001 - one signature for all
    exact = [Fraction(value) for value in _values(members)]
    return [len(exact), *_dyadic(sum(exact, Fraction())), *_dyadic(sum((each * each for each in exact), Fraction()))]


def _merge_moments(key: StateKey, states: Sequence[Any]) -> Any:  # noqa: ARG001
    sums = sum((_fraction(state[1], state[2]) for state in states), Fraction())
    squares = sum((_fraction(state[3], state[4]) for state in states), Fraction())
    return [sum(state[0] for state in states), *_dyadic(sums), *_dyadic(squares)]


def _dyadic(value: Fraction) -> tuple[bytes, int]:
    """Returns a sum of floats, or of their squares, as an odd integer and a power of two."""
    whole, power = value.numerator, 1 - value.denominator.bit_length()
    if whole and power == 0:
        power = (whole & -whole).bit_length() - 1
        whole >>= power
    return packed_whole(whole), power


def _fraction(whole: bytes, power: int) -> Fraction:
    return Fraction(whole_of(whole)) * (Fraction(2) ** power)


def _least(bound: int | None, values: Sequence[Any], *, greatest: bool = False) -> list[Any]:
    return sorted(values, reverse=greatest)[:bound]


def _make_ranks(key: StateKey, members: Sequence[Member]) -> Any:
    from feature_store.windows.sketches import registers_of, text_of

    dtype = Dtype.parse(key.dtype or "string")
    texts = [text_of(user_value(value, dtype)) for value in set(_values(members))]
    return _greatest_ranks(registers_of(texts).tolist())


def _greatest_ranks(packed: Sequence[int]) -> list[int]:
    ranks: dict[int, int] = {}
    for each in packed:
        ranks[each >> 6] = max(ranks.get(each >> 6, 0), each & 63)
    return sorted((register << 6) + rank for register, rank in ranks.items())


def _make_buckets(key: StateKey, members: Sequence[Member]) -> Any:
    import numpy as np

    from feature_store.windows.sketches import buckets_of

    dtype = Dtype.parse(key.dtype or "float")
    floats = np.array([float(user_value(value, dtype)) for value in _values(members)])
    return dict(sorted(Counter(buckets_of(floats).tolist()).items()))


def _merge_counts(key: StateKey, states: Sequence[Any]) -> Any:  # noqa: ARG001
    counted: Counter[Any] = Counter()
    for state in states:
        counted.update(state)
    return dict(sorted(counted.items()))


def _heads(key: StateKey, states: Sequence[Any]) -> Any:
    found: list[Any] = []
    for state in states:
        found += state
        if len(found) >= (key.size or 0):
            break
    return found[: key.size]


def _tails(key: StateKey, states: Sequence[Any]) -> Any:
    found: list[Any] = []
    for state in reversed(states):
        found = [*state, *found]
        if len(found) >= (key.size or 0):
            break
    return found[-(key.size or 0) :]


def _end(key: StateKey, members: Sequence[Member]) -> Any:
    values = _values(members)
    if key.size is None:
        return values[0] if key.function == "first" else values[-1]
    return values[: key.size] if key.function == "first" else values[-key.size :]


def _merge_ends(key: StateKey, states: Sequence[Any]) -> Any:
    if key.size is None:
        return states[0] if key.function == "first" else states[-1]
    return _heads(key, states) if key.function == "first" else _tails(key, states)


_Make = Callable[[StateKey, Sequence[Member]], Any]
_MAKE: Mapping[str, _Make] = {
    "count": lambda _, members: len(members),
    "total": _make_sum,
    "mean": _make_mean,
    "variance": _make_moments,
    "minimum": lambda _, members: min(_values(members)),
    "maximum": lambda _, members: max(_values(members)),
    "first": _end,
    "last": _end,
    "top": lambda key, members: _least(key.size, _values(members), greatest=True),
    "bottom": lambda key, members: _least(key.size, _values(members)),
    "distinct": lambda key, members: _least(key.size, list(set(_values(members)))),
    "approx_distinct": _make_ranks,
    "approx_quantile": _make_buckets,
    "histogram": lambda _, members: dict(sorted(Counter(_values(members)).items())),
    "age": lambda _, members: members[-1].time,
}
_Merge = Callable[[StateKey, Sequence[Any]], Any]
_MERGE: Mapping[str, _Merge] = {
    "count": lambda _, states: sum(states),
    "total": _merge_sums,
    "mean": _merge_means,
    "variance": _merge_moments,
    "minimum": lambda _, states: min(states),
    "maximum": lambda _, states: max(states),
    "first": _merge_ends,
    "last": _merge_ends,
    "top": lambda key, states: list(heapq.merge(*states, reverse=True))[: key.size],
    "bottom": lambda key, states: list(heapq.merge(*states))[: key.size],
    "distinct": lambda key, states: _least(key.size, list({value for state in states for value in state})),
    "approx_distinct": lambda _, states: _greatest_ranks([rank for state in states for rank in state]),
    "approx_quantile": _merge_counts,
    "histogram": _merge_counts,
    "age": lambda _, states: states[-1],
}


def total_of_whole(whole: int, dtype: Dtype) -> Any:
    """Returns a total of integers, or of decimals as integers of their last digit, as readers get it.

    Raises:
        WindowOverflowError: If it does not fit into 64 bits.
    """
    if not -(2**63) <= whole < 2**63:
        shown = user_value(whole, dtype)
        raise WindowOverflowError(
            "", [f"a total of {shown} does not fit into 64 bits"], "Annotate the window as float."
        )
    return user_value(whole, dtype)


def _scale(spec: WindowSpec) -> int:
    dtype = Dtype.parse(spec.column_dtype or "float")
    return 10**dtype.scale if dtype.name == "decimal" else 1


def _total(spec: WindowSpec, dtype: Dtype, state: Any, at: int) -> Any:
    del spec, at
    return math.fsum(state) if dtype.name == "float" else total_of_whole(whole_of(state), dtype)


def _mean(spec: WindowSpec, dtype: Dtype, state: Any, at: int) -> Any:
    del dtype, at
    count, total = state
    # Python divides integers of any size, and rounds once.
    return math.fsum(total) / count if spec.column_dtype == "float" else whole_of(total) / (count * _scale(spec))


def _variance(spec: WindowSpec, dtype: Dtype, state: Any, at: int) -> Any:
    del dtype, at
    count, whole, power, whole_of_squares, power_of_squares = state
    if count < 2:  # noqa: PLR2004
        return None
    over = count * _fraction(whole_of_squares, power_of_squares) - _fraction(whole, power) ** 2
    found = float(over / (count * (count - 1) * _scale(spec) ** 2))
    return math.sqrt(found) if spec.function == "stddev" else found


def _distinct(spec: WindowSpec, dtype: Dtype, state: Any, at: int) -> Any:
    return _listed(spec, dtype, state, at) if dtype.name == "list" else len(state)


def _listed(spec: WindowSpec, dtype: Dtype, state: Any, at: int) -> Any:
    del at
    if dtype.name != "list" or dtype.element is None:
        return user_value(state, dtype)
    element = dtype.element
    del spec
    return [user_value(value, element) for value in state]


def _about(spec: WindowSpec, dtype: Dtype, state: Any, at: int) -> Any:
    from feature_store.windows.sketches import estimate

    del spec, dtype, at
    return estimate(len(state), sum(1 << (64 - (each & 63)) for each in state))


def _quantile(spec: WindowSpec, dtype: Dtype, state: Any, at: int) -> Any:
    import numpy as np

    from feature_store.windows.sketches import bucket_values, place_of_quantile

    del dtype, at
    place = place_of_quantile(spec.quantile or 0.5, sum(state.values()))
    for bucket in sorted(state):
        place -= state[bucket]
        if place < 0:
            return float(bucket_values(np.array([bucket], dtype=np.int64))[0])
    raise AssertionError


def _histogram(spec: WindowSpec, dtype: Dtype, state: Any, at: int) -> Any:
    del dtype, at
    most = sorted(state.items(), key=lambda item: (-item[1], item[0]))[: spec.size]
    return dict(sorted(most))


_Finish = Callable[[WindowSpec, Dtype, Any, int], Any]
_FINISH: Mapping[str, _Finish] = {
    "count": lambda _, __, state, ___: state,
    "total": _total,
    "mean": _mean,
    "variance": _variance,
    "stddev": _variance,
    "minimum": _listed,
    "maximum": _listed,
    "first": _listed,
    "last": _listed,
    "top": _listed,
    "bottom": _listed,
    "distinct": _distinct,
    "approx_distinct": _about,
    "approx_quantile": _quantile,
    "histogram": _histogram,
    "age": lambda spec, _, state, at: (at - state) / UNITS[spec.unit or "seconds"],
}
