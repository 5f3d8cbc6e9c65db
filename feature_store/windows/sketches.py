"""Sketches: registers that tell how many values differ, and buckets that tell where quantiles lie.

Both are sets of small integers, one or a few for each value. They are merged by maximum and by addition, so that their
answer depends on the values alone, not on order, batches or tiles. No logarithm is taken of a value: its bits decide.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

REGISTER_BITS = 11
REGISTERS = 1 << REGISTER_BITS
_RANK_BITS = 64 - REGISTER_BITS
_ALPHA = 0.7213 / (1 + 1.079 / REGISTERS)
# How many values differ where so many registers are empty. (K.-Y. Whang and others, "linear counting", 1990.)
_LINEAR = [0.0, *(REGISTERS * math.log(REGISTERS / empty) for empty in range(1, REGISTERS + 1))]
_FEW = 2.5 * REGISTERS

BUCKET_BITS = 7
_BUCKET_SHIFT = 52 - BUCKET_BITS
_MAGNITUDE = (1 << 63) - 1


def registers_of(texts: Iterable[str]) -> Ints:
    """Returns, for each text, its register and rank as one integer, `register * 64 + rank`.

    The hash is BLAKE2b with 8 bytes of digest, little endian, of the text's UTF-8; its lowest 11 bits are the register,
    the rank is 1 and the number of zeros below the lowest one of the other bits.
    """
    found = []
    for text in texts:
        digest = int.from_bytes(
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
        )
        rest = digest >> REGISTER_BITS
        rank = (rest & -rest).bit_length() if rest else _RANK_BITS + 1
        found.append((digest & (REGISTERS - 1)) * 64 + rank)
    return np.array(found, dtype=np.int64)


def estimate(used: int, weight: int) -> int:
    """Returns about how many values differ.

    Args:
        used: Registers that are not empty.
        weight: Sum of `2^(64 - rank)` over them.
    """
    empty = REGISTERS - used
    about = _ALPHA * REGISTERS * REGISTERS / (empty + weight / 2.0**64)
    if about <= _FEW and empty:
        about = _LINEAR[empty]
    return math.floor(about + 0.5)


def buckets_of(values: npt.NDArray[np.float64]) -> Ints:
    """Returns the bucket of each finite number; buckets are in the order of the numbers that they hold."""
    bits = (values + 0.0).view(np.int64)
    magnitudes = (bits & _MAGNITUDE) >> _BUCKET_SHIFT
    return np.where(bits < 0, -magnitudes - 1, magnitudes)


def bucket_values(buckets: Ints) -> npt.NDArray[np.float64]:
    """Returns the middle of each bucket: half of its width is at most 0.4 % of any number in it; 0 for that of 0."""
    magnitudes = np.where(buckets < 0, -buckets - 1, buckets)
    middle = (magnitudes << _BUCKET_SHIFT) | np.where(magnitudes == 0, 0, 1 << (_BUCKET_SHIFT - 1))
    found = middle.view(np.float64)
    return np.where(buckets < 0, -found, found) + 0.0


def place_of_quantile(quantile: float, count: int) -> int:
    """Returns which value in order, from 0 on, is the least with at least this share of `count` at or below it."""
    numerator, denominator = quantile.as_integer_ratio()
    return max(0, -(-numerator * count // denominator) - 1)


def text_of(value: Any) -> str:
    """Returns the text of a value that is hashed: the same for the same value, on every machine."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)
