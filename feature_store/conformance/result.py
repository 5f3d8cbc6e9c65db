"""What a check has found, in words and as a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from feature_store.errors import MissingSourceError
from feature_store.transform.comparison import difference

_ROUNDING = (
    "Only the last bits of floats differ: they round by where a pass begins. feature_store.exact has rolling sums, "
    "means and deviations that do not."
)


@dataclass(frozen=True, slots=True)
class ConformanceResult:
    """The outcome of one check.

    Attributes:
        name: The check's name.
        passed: Whether the promise holds; None where the events at hand cannot show it.
        detail: What was compared, or the first rows that differ.
        exact: Whether rows were equal bit for bit; False where floats differ by their rounding alone.
    """

    name: str
    passed: bool | None
    detail: str
    exact: bool = True


class BrokenPromiseError(Exception):
    """A circumstance that must not matter has changed rows."""


class NotShownError(Exception):
    """The events at hand, or the way the group is defined, do not allow the check."""


@dataclass(slots=True)
class Verdict:
    """Collects what the comparisons of one check find.

    Attributes:
        keys: Columns that identify a row.
        rounding: The first difference that is one of rounding.
    """

    keys: Sequence[str]
    rounding: str | None = field(default=None, init=False)

    def expect(self, expected: pl.DataFrame, actual: pl.DataFrame, circumstance: str) -> None:
        """Compares rows with those that should be the same.

        Raises:
            BrokenPromiseError: If they differ by more than rounding.
        """
        found = difference(expected, actual, self.keys)
        if found is None:
            return
        sentence = f"{circumstance} {found.text}"
        if not found.rounding:
            raise BrokenPromiseError(sentence)
        self.rounding = self.rounding or sentence


def judged(name: str, keys: Sequence[str], check: Callable[[Verdict], str]) -> ConformanceResult:
    """Returns the result of a check, which returns what it has compared, or raises what it has found."""
    verdict = Verdict(keys)
    try:
        detail = check(verdict)
    except BrokenPromiseError as broken:
        return ConformanceResult(name, passed=False, detail=str(broken))
    except (MissingSourceError, NotShownError) as reason:
        return ConformanceResult(name, None, str(reason))
    except Exception as error:  # noqa: BLE001  the function under test is the user's and may raise anything
        return ConformanceResult(name, passed=False, detail=f"The function raised {type(error).__name__}: {error}")
    if verdict.rounding is not None:
        return ConformanceResult(name, passed=True, detail=f"{verdict.rounding} {_ROUNDING}", exact=False)
    return ConformanceResult(name, passed=True, detail=detail)
