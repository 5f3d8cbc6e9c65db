"""Rolling sums, means and deviations of floats whose bits depend on the values of the window, and on nothing else.

A rolling kernel carries its sum from one window to the next, and with it the rounding of every value that it has seen:
the last bits tell where the pass began. Here a window's sum is exact, and rounded once. So a day and a year give the
same bits, whatever the order of the events, the other entities, and the size of the pass.

Method: each float is an integer times a power of two, and is spread over limbs of 24 bits in 64-bit integers (a
superaccumulator: Kulisch, "Computer Arithmetic and Validity", 2008; Neal, "Fast exact summation using small and large
superaccumulators", 2015). Integers are added without error, so a window is the difference of two running sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import InvalidRequestError

__all__ = ["rolling_mean", "rolling_std", "rolling_sum"]

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]

_LIMB = 24
_MASK = (1 << _LIMB) - 1
_MANTISSA = 53
_SPARE = 2  # limbs for the carries of up to 2**38 values
_BLOCK = 1 << 17
_TICK = timedelta(microseconds=1)
_LARGEST_INTEGER = 2**53


def rolling_sum(
    value: str | pl.Expr, period: timedelta, *, over: str | Sequence[str], by: str = EVENT_TIMESTAMP
) -> pl.Expr:
    """Returns the sum of a column over the last `period` of each row's entity: exact, rounded once.

    Args:
        value: Column of floats, or of integers up to 2**53 in size. Nulls do not count.
        period: Length of the window `(t - period, t]`: all rows at `t` are in it, whatever their order.
        over: Join keys of the entity.
        by: Column of times.

    Returns:
        An expression that gives one float per row, in the order of the rows, which need not be sorted: 0 where the
        window holds no value, NaN where it holds NaN or infinities of both signs. Use it where all events are at hand,
        before rows are dropped, in `select` or `with_columns`.

    Raises:
        InvalidRequestError: If the period is not positive.
    """
    return _rolling(_sum, value, period, over, by)


def rolling_mean(
    value: str | pl.Expr, period: timedelta, *, over: str | Sequence[str], by: str = EVENT_TIMESTAMP
) -> pl.Expr:
    """Returns the mean of a column over the last `period`: the exact sum, rounded once, divided by the count.

    Null where the window holds no value; all else as `rolling_sum`.
    """
    return _rolling(_mean, value, period, over, by)


def rolling_std(
    value: str | pl.Expr, period: timedelta, *, over: str | Sequence[str], by: str = EVENT_TIMESTAMP
) -> pl.Expr:
    """Returns the standard deviation of a sample, `sqrt((n Σx² - (Σx)²) / (n (n - 1)))`, over the last `period`.

    The numerator is exact and rounded once, so values that hardly differ lose nothing, and equal ones give 0. Null
    where the window holds fewer than two values; all else as `rolling_sum`.
    """
    return _rolling(_std, value, period, over, by)


@dataclass(frozen=True, slots=True)
class _Values:
    """The values of a run of rows, sorted by entity and time, and the windows of some of them.

    Attributes:
        values: Finite floats, 0 in place of all others.
        present: Rows that hold a value.
        lo: First row of each window.
        hi: Row after the last of each window.
    """

    values: _Floats
    present: _Flags
    lo: _Ints
    hi: _Ints

    def count(self, flags: _Flags) -> _Ints:
        """Returns how many rows of each window are flagged."""
        running = np.concatenate(([0], np.cumsum(flags, dtype=np.int64)))
        return np.asarray(running[self.hi] - running[self.lo], dtype=np.int64)

    def totals(self, limbs: _Ints) -> _Ints:
        """Returns the limbs of each window's sum."""
        running = np.zeros((limbs.shape[0], limbs.shape[1] + 1), dtype=np.int64)
        np.cumsum(limbs, axis=1, out=running[:, 1:])
        return np.asarray(running[:, self.hi] - running[:, self.lo], dtype=np.int64)


_Statistic = Callable[[_Values], tuple[_Floats, _Flags]]
"""Gives a number per window, and where there is one."""


def _sum(rows: _Values) -> tuple[_Floats, _Flags]:
    mantissas, base = _integers(rows.values)
    totals, negative = _magnitudes(rows.totals(_limbs(*mantissas, base)))
    numbers, exponents = _rounded(totals, base)
    return np.ldexp(np.where(negative, -numbers, numbers), exponents), np.ones(len(rows.lo), dtype=np.bool_)


def _mean(rows: _Values) -> tuple[_Floats, _Flags]:
    sums, _ = _sum(rows)
    counts = rows.count(rows.present)
    return sums / np.maximum(counts, 1), counts > 0


def _std(rows: _Values) -> tuple[_Floats, _Flags]:
    (mantissas, exponents), base = _integers(rows.values)
    counts = rows.count(rows.present)
    sums, _ = _magnitudes(rows.totals(_limbs(mantissas, exponents, base)))
    # (h 2**27 + l)**2, each product less than 2**54.
    size = np.abs(mantissas)
    high, low = size >> 27, size & ((1 << 27) - 1)
    twice = 2 * exponents
    squares = _limbs(high * high, twice + 54, 2 * base)
    for product, power in ((2 * high * low, 27), (low * low, 0)):
        part = _limbs(product, twice + power, 2 * base)
        squares[: len(part)] += part
    spread = _carried(rows.totals(squares)) * counts
    used = np.flatnonzero(sums.any(axis=1))
    for number, first in enumerate(used):
        spread[2 * first] -= sums[first] * sums[first]
        for second in used[number + 1 :]:
            spread[first + second] -= 2 * sums[first] * sums[second]
    numbers, powers = _rounded(_carried(spread), 2 * base)
    odd = powers % 2
    pairs = np.maximum(counts * (counts - 1), 1)
    return np.ldexp(np.sqrt(np.ldexp(numbers, odd) / pairs), (powers - odd) // 2), counts > 1


def _integers(values: _Floats) -> tuple[tuple[_Ints, _Ints], int]:
    """Returns floats as integers times powers of two, and an exponent that is a multiple of a limb and below all."""
    fractions, powers = np.frexp(values)
    mantissas = np.ldexp(fractions, _MANTISSA).astype(np.int64)
    exponents = powers.astype(np.int64) - _MANTISSA
    used = exponents[mantissas != 0]
    base = int(used.min()) // _LIMB * _LIMB if used.size else 0
    return (mantissas, np.where(mantissas == 0, base, exponents)), base


def _limbs(numbers: _Ints, exponents: _Ints, base: int) -> _Ints:
    """Returns `numbers * 2**(exponents - base)` in limbs, the lowest first: one row per limb, one column per number."""
    places, shifts = np.divmod(exponents - base, _LIMB)
    limbs = np.zeros((int(places.max(initial=0)) + 4 + _SPARE, len(numbers)), dtype=np.int64)
    columns = np.arange(len(numbers))
    sizes, signs = np.abs(numbers), np.sign(numbers)
    for piece in range(3):
        part = ((sizes >> (piece * _LIMB)) & _MASK) << shifts
        limbs[places + piece, columns] += signs * (part & _MASK)
        limbs[places + piece + 1, columns] += signs * (part >> _LIMB)
    return limbs


def _magnitudes(limbs: _Ints) -> tuple[_Ints, _Flags]:
    """Returns the sizes of numbers in limbs from 0 to 2**24 - 1, and which numbers are negative."""
    negative = _carried(limbs.copy())[-1] < 0
    return _carried(np.where(negative, -limbs, limbs)), negative


def _carried(limbs: _Ints) -> _Ints:
    for place in range(len(limbs) - 1):
        limbs[place + 1] += limbs[place] >> _LIMB
        limbs[place] &= _MASK
    return limbs


def _rounded(limbs: _Ints, base: int) -> tuple[_Floats, _Ints]:
    """Returns numbers of 53 bits and exponents that are nearest to numbers in limbs, halves to even; 0 for 0."""
    width, columns = limbs.shape[0], np.arange(limbs.shape[1])
    used = limbs != 0
    top = width - 1 - np.argmax(used[::-1], axis=0)
    lowest = np.argmax(used, axis=0)

    def taken(below: int) -> _Ints:
        place = top - below
        return np.where(place >= 0, limbs[np.maximum(place, 0), columns], 0)

    high, low = (taken(0) << _LIMB) | taken(1), (taken(2) << _LIMB) | taken(3)
    # 60 bits, the last one set if any below it is: rounded once more, they round as the whole number does.
    shift = 60 - np.frexp(high.astype(np.float64))[1].astype(np.int64)
    rest = 2 * _LIMB - np.minimum(shift, 2 * _LIMB)
    kept = np.where(high > 0, (high << shift) | (low >> rest), 0)
    inexact = ((low & ((np.int64(1) << rest) - 1)) != 0) | (lowest < top - 3)
    return (kept | (inexact & (high > 0))).astype(np.float64), base + _LIMB * (top - 1) - shift


def _rolling(
    statistic: _Statistic, value: str | pl.Expr, period: timedelta, over: str | Sequence[str], by: str
) -> pl.Expr:
    if period <= timedelta(0):
        raise InvalidRequestError(f"The period of a rolling window is above 0, got {period}.")
    keys = [over] if isinstance(over, str) else list(over)
    columns: list[Any] = [pl.col(value) if isinstance(value, str) else value, pl.col(by), *map(pl.col, keys)]
    function = partial(_over_columns, statistic, period // _TICK)
    return pl.map_batches(columns, function, return_dtype=pl.Float64)


def _over_columns(statistic: _Statistic, period: int, columns: Sequence[pl.Series]) -> pl.Series:
    value, time, *keys = columns
    values = _floats(value)
    frame = pl.DataFrame(
        [key.alias(f"key {number}") for number, key in enumerate(keys)]
        + [time.cast(pl.Date).cast(pl.Datetime("us")).alias("time") if time.dtype == pl.Date else time.alias("time")]
    ).with_columns(pl.col("time").dt.epoch("us"))
    named = frame.columns[:-1]
    ordered = frame.with_row_index("row").drop_nulls("time").sort(*named, "time")
    order = ordered["row"].to_numpy()
    entity = ordered.select(pl.struct(named).rle_id()).to_series().to_numpy() if named else np.zeros(len(order), int)
    lo, hi = _windows(entity.astype(np.int64), ordered["time"].to_numpy(), period)
    results = np.full(len(values), np.nan)
    known = np.zeros(len(values), dtype=np.bool_)
    values = values.gather(order)
    present, numbers = values.is_not_null().to_numpy(), values.fill_null(0.0).to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        for begin in range(0, len(order), _BLOCK):
            end = min(begin + _BLOCK, len(order))
            first, last = int(lo[begin]), int(hi[end - 1])
            rows = slice(first, last)
            found = _of_windows(statistic, numbers[rows], present[rows], lo[begin:end] - first, hi[begin:end] - first)
            results[order[begin:end]], known[order[begin:end]] = found
    return pl.select(pl.when(pl.Series(known)).then(pl.Series(results)).alias(value.name)).to_series()


def _floats(value: pl.Series) -> pl.Series:
    if value.dtype.is_integer():
        largest = max((abs(each) for each in (value.min(), value.max()) if isinstance(each, int)), default=0)
        if largest > _LARGEST_INTEGER:
            raise InvalidRequestError(
                f"{value.name!r} holds {largest}, beyond 2**53: sum integers with Polars, which does it exactly."
            )
    elif not value.dtype.is_float() and value.dtype != pl.Null:
        raise InvalidRequestError(f"{value.name!r} holds {value.dtype}: exact rolling sums are of floats.")
    return value.cast(pl.Float64)


def _windows(entity: _Ints, time: _Ints, period: int) -> tuple[_Ints, _Ints]:
    """Returns the first row of the window of each row, and the row after its last; rows are sorted."""
    times, rank = np.unique(time, return_inverse=True)
    place = entity * (len(times) + 1)
    rows = place + rank
    lo = np.searchsorted(rows, place + np.searchsorted(times, time - period, side="right"), side="left")
    return lo, np.searchsorted(rows, rows, side="right")


def _of_windows(
    statistic: _Statistic, numbers: _Floats, present: _Flags, lo: _Ints, hi: _Ints
) -> tuple[_Floats, _Flags]:
    finite = np.isfinite(numbers)
    rows = _Values(np.where(finite, numbers, 0.0), present, lo, hi)
    results, known = statistic(rows)
    if finite.all():
        return results, known
    up, down = rows.count(numbers == np.inf) > 0, rows.count(numbers == -np.inf) > 0
    undefined = (rows.count(np.isnan(numbers)) > 0) | (up & down) | ((up | down) & (statistic is _std))
    results = np.where(up, np.inf, np.where(down, -np.inf, results))
    return np.where(undefined, np.nan, results), known
