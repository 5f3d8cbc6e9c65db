"""Exact sums over ranges of a column: each rounded once, whatever the order, the batches or the tiles.

A column of floats is scaled by a power of two to integers, and these are cut into limbs, columns of int64. The sum over
a range is the difference of two prefix sums of each limb: prefix sums may wrap around, their difference is right modulo
2^64, and limbs are so short that no range fills more. Then limbs are carried, added, and the sum is rounded once.
Columns whose exponents lie too far apart for four limbs are summed range by range with `math.fsum`.

Two limbs need one addition, of two floats that are exact. More are added with their errors (D. Knuth's TwoSum); where
these leave a doubt about the last bit, Python's integers decide.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_LIMBS = 4
_LONGEST_LIMB = 44
_EXACT_BITS = 53
_POWER_OF_TWO = 0.5
_FRACTION_BITS = 52
_EXPONENT_MASK = 0x7FF
_BIAS = 1023
_DOUBT = 2.0**-30
"""Share of the last bit by which errors of errors could move what is left over; they are far smaller."""


class SumOverflowError(OverflowError):
    """A sum, or what follows from it, is greater than its type can hold.

    Attributes:
        place: Number of the range.
    """

    def __init__(self, place: int) -> None:
        self.place = place
        super().__init__(f"What range {place} comes to is too large.")


class ExactSums:
    """The sums of a column over ranges of its positions.

    Args:
        values: Finite numbers.
        longest: The most values that a range has.
    """

    def __init__(self, values: Floats, longest: int) -> None:
        self._values = values
        self._low, high = _bits(values)
        count = max(1, longest).bit_length()
        # So many limbs in one range fill at most 62 bits and the sign.
        self._width = min(_LONGEST_LIMB, 62 - count)
        limbs = 1 + max(0, -(-(high - self._low + count - _EXACT_BITS) // self._width))
        self._sums: list[Ints] | None = None
        if limbs <= MOST_LIMBS:
            self._sums = [_prefix_sums(limb) for limb in _limbs(values, self._low, self._width, limbs)]

    def over(self, begins: Ints, ends: Ints) -> Floats:
        """Returns the sum of `values[begin:end]` for each range, correctly rounded; 0.0 for an empty one.

        Raises:
            SumOverflowError: If a sum is greater than any float.
        """
        if self._sums is None:
            return _one_by_one(self._values, begins, ends)
        return _scaled(_rounded([sums[ends] - sums[begins] for sums in self._sums], self._width), self._low)

    def exact(self, begins: Ints, ends: Ints) -> tuple[list[int], int]:
        """Returns the sums as integers of a unit, and the unit's power of two."""
        if self._sums is None:
            unit = self._low
            scaled = [int(Fraction(value) / Fraction(2) ** unit) for value in self._values.tolist()]
            pairs = zip(begins.tolist(), ends.tolist(), strict=True)
            return [sum(scaled[begin:end]) for begin, end in pairs], unit
        limbs = [(sums[ends] - sums[begins]).tolist() for sums in self._sums]
        width = self._width
        return [
            sum(limb << (width * place) for place, limb in enumerate(parts)) for parts in zip(*limbs, strict=True)
        ], (self._low)


def sums_of_whole(values: Ints, begins: Ints, ends: Ints) -> Ints:
    """Returns the sum of integers over each range.

    Raises:
        SumOverflowError: If one does not fit into 64 bits.
    """
    high, low = _whole_halves(values, begins, ends)
    is_long = (high >= 2**31) | (high < -(2**31))
    if is_long.any():
        raise SumOverflowError(int(np.argmax(is_long)))
    sums: Ints = (high << 32) + low
    return sums


def mean_of_whole(values: Ints, begins: Ints, ends: Ints, scale: int) -> Floats:
    """Returns the mean of integers over each range, divided by a scale and rounded once; 0.0 for empty ranges."""
    high, low = _whole_halves(values, begins, ends)
    divisors = np.maximum(ends - begins, 1)
    found: Floats = ((high << 32) + low).astype(np.float64) / (divisors.astype(np.float64) * scale)
    # Both sides are exact as floats where they are short; elsewhere Python divides integers, and rounds once as well.
    is_long = (np.abs(high) >= 2**20) | (divisors >= 2**53 // scale)
    for place in np.flatnonzero(is_long).tolist():
        found[place] = ((int(high[place]) << 32) + int(low[place])) / (int(divisors[place]) * scale)
    return found


def variances(values: Floats | Ints, begins: Ints, ends: Ints, scale: int) -> Floats:
    """Returns the variance of the samples in ranges, correctly rounded: `(n * sum(x^2) - sum(x)^2) / (n * (n - 1))`.

    Args:
        values: Finite numbers, or integers.
        begins: First position of each range.
        ends: Position after its last.
        scale: What integers are to be divided by.

    Returns:
        One per range; 0.0 for ranges of less than two values.

    Raises:
        SumOverflowError: If one is greater than any float.
    """
    counts = (ends - begins).tolist()
    sums, unit, squares, unit_of_squares = _moments(values, begins, ends)
    lowest = min(2 * unit, unit_of_squares)
    found = np.zeros(len(counts))
    for place, (count, total, square) in enumerate(zip(counts, sums, squares, strict=True)):
        if count > 1:
            over = (count * square << (unit_of_squares - lowest)) - (total * total << (2 * unit - lowest))
            under = count * (count - 1) * scale * scale
            try:
                found[place] = (over << lowest) / under if lowest > 0 else over / (under << -lowest)
            except OverflowError:
                raise SumOverflowError(place) from None
    return found


_SHORT_WHOLE = 2**53
_SQUARABLE = (1e-140, 1e150)


def _moments(values: Floats | Ints, begins: Ints, ends: Ints) -> tuple[list[int], int, list[int], int]:
    """Returns exact sums of values and of their squares over ranges, each with the power of two of its unit."""
    is_whole = values.dtype.kind == "i"
    if is_whole and len(values) and max(abs(int(values.min())), abs(int(values.max()))) >= _SHORT_WHOLE:
        plain = values.tolist()
        pairs = list(zip(begins.tolist(), ends.tolist(), strict=True))
        sums = [sum(plain[begin:end]) for begin, end in pairs]
        return sums, 0, [sum(value * value for value in plain[begin:end]) for begin, end in pairs], 0
    floats = values.astype(np.float64)
    longest = len(floats)
    sums, unit = ExactSums(floats, longest).exact(begins, ends)
    magnitudes = np.abs(floats[floats != 0])
    if len(magnitudes) and not (magnitudes.min() > _SQUARABLE[0] and magnitudes.max() < _SQUARABLE[1]):
        exact = [Fraction(value) / Fraction(2) ** unit for value in floats.tolist()]
        pairs = list(zip(begins.tolist(), ends.tolist(), strict=True))
        squares = [int(sum(value * value for value in exact[begin:end])) for begin, end in pairs]
        return sums, unit, squares, 2 * unit
    # A square is the sum of two floats: T. Dekker, "A floating-point technique for extending the available precision".
    square = floats * floats
    cut = floats * 134_217_729.0
    high = cut - (cut - floats)
    low = floats - high
    rest = ((high * high - square) + 2 * high * low) + low * low
    highs, unit_high = ExactSums(square, longest).exact(begins, ends)
    lows, unit_low = ExactSums(rest, longest).exact(begins, ends)
    lowest = min(unit_high, unit_low)
    both = [
        (above << (unit_high - lowest)) + (below << (unit_low - lowest))
        for above, below in zip(highs, lows, strict=True)
    ]
    return sums, unit, both, lowest


def _whole_halves(values: Ints, begins: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Returns sums over ranges as `high * 2^32 + low`, `low` being 32 bits."""
    high, low = _prefix_sums(values >> 32), _prefix_sums(values & 0xFFFFFFFF)
    below = low[ends] - low[begins]
    return high[ends] - high[begins] + (below >> 32), below & 0xFFFFFFFF


def _bits(values: Floats) -> tuple[int, int]:
    """Returns a position at or below the lowest bit that is set in any value, and that above the highest."""
    exponents = (values.view(np.int64) >> _FRACTION_BITS) & _EXPONENT_MASK
    # Zero has the exponent of the smallest numbers, but no bit of theirs.
    least = int(exponents.min(initial=_EXPONENT_MASK, where=values != 0)) if len(values) else _EXPONENT_MASK
    if least == _EXPONENT_MASK:
        return 0, 1
    greatest = int(exponents.max())
    # A subnormal number has the exponent 0, and is scaled as if it were 1.
    return max(least, 1) - _BIAS - _FRACTION_BITS, max(greatest, 1) - _BIAS + 1


def _limbs(values: Floats, low: int, width: int, limbs: int) -> list[Ints]:
    """Returns the limbs of all values, the lowest first; each has the value's sign."""
    columns = []
    rest = values
    for number in range(limbs - 1, 0, -1):
        unit = low + number * width
        # Towards zero: what is left has fewer bits, and is exact.
        whole = np.trunc(_times_power(rest, -unit))
        columns.append(whole.astype(np.int64))
        rest = rest - _times_power(whole, unit)
    columns.append(_times_power(rest, -low).astype(np.int64))
    return columns[::-1]


def _times_power(values: Floats, power: int) -> Floats:
    """Returns values times a power of two."""
    # A product is five times faster, and as exact while the power is a float and nothing comes near the smallest ones.
    found: Floats = values * 2.0**power if abs(power) < 900 else np.ldexp(values, power)  # noqa: PLR2004
    return found


def _prefix_sums(column: Ints) -> Ints:
    sums = np.zeros(len(column) + 1, dtype=np.int64)
    np.cumsum(column, out=sums[1:])
    return sums


def _rounded(sums: list[Ints], width: int) -> Floats:
    """Returns `sum(limb[i] * 2^(width * i))`, rounded once."""
    mask, base = np.int64((1 << width) - 1), float(1 << width)
    for number in range(len(sums) - 1):
        carry = sums[number] >> width
        sums[number] = sums[number] & mask
        sums[number + 1] = sums[number + 1] + carry
    total, error = sums[-1].astype(np.float64), np.zeros(len(sums[-1]))
    has_lost = np.zeros(len(total), dtype=bool)
    for limb in reversed(sums[:-1]):
        rest = error * base
        has_lost |= rest != 0
        added, lost = _two_sum(total * base, limb.astype(np.float64))
        total, error = _two_sum(added, lost + rest)
    # Up to half of the last bit is rounded away; below a power of two, up to a quarter.
    last_bit = np.spacing(np.abs(total))
    near = np.abs(np.abs(error) - last_bit / 2) <= last_bit * _DOUBT
    in_doubt = has_lost & (near | (np.abs(np.frexp(total)[0]) == _POWER_OF_TWO))
    for position in np.flatnonzero(in_doubt).tolist():
        total[position] = float(sum(int(limb[position]) << (width * number) for number, limb in enumerate(sums)))
    return total


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Returns the rounded sum of two columns, and what rounding has lost, exactly."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _scaled(total: Floats, low: int) -> Floats:
    with np.errstate(over="ignore"):
        scaled: Floats = np.ldexp(total, low)
    if np.isinf(scaled).any():
        raise SumOverflowError(int(np.argmax(np.isinf(scaled))))
    return scaled


def _one_by_one(values: Floats, begins: Ints, ends: Ints) -> Floats:
    found = np.zeros(len(begins))
    for place, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        try:
            found[place] = math.fsum(values[begin:end].tolist())
        except OverflowError:
            # `fsum` gives up where a part of the sum is too large, though the whole may not be.
            found[place] = _from_fractions(values[begin:end], place)
    return found


def _from_fractions(values: Floats, place: int) -> float:
    try:
        return float(sum(map(Fraction, values.tolist())))
    except OverflowError:
        raise SumOverflowError(place) from None
