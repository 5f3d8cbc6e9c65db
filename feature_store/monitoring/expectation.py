"""What the next number of a series should be, learnt from the numbers before it. Nothing here knows features.

Rows of one day are not independent, days differ, and weeks repeat: a test that counts rows alone is alarmed every
day. The yardstick is the series itself: how well simple forecasts have done over the last weeks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import sqrt

WINDOW = 28
"""Partitions that a forecast looks back on."""

LEAST = 14
"""Forecast errors that a yardstick needs."""

NEW_NORMAL = 21
"""Partitions in a row that may be left out as failed; what lasts longer is how things are now."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a number should be.

    Attributes:
        value: The expected value.
        spread: How far off such forecasts have been, root mean square.
        by: The forecast that has done best: `last`, `season` or `mean`.
    """

    value: float
    spread: float
    by: str


class Series:
    """One number per partition, and the forecast of the next.

    Three forecasts compete: the last value (for what moves slowly), the value one season ago (for what repeats weekly,
    or daily in hourly groups), and the mean of the window. The one with the least root mean square error over the
    window is used, and that error, raised by 3 / number of errors for having been chosen, is the yardstick.

    Args:
        season: Partitions after which the series repeats: 7 days, or 24 hours.
    """

    def __init__(self, season: int) -> None:
        self._season = season
        self._values: deque[float | None] = deque(maxlen=max(WINDOW, season))
        self._errors: dict[str, deque[float | None]] = {
            name: deque(maxlen=WINDOW) for name in ("last", "season", "mean")
        }
        self._rejected = 0

    def forecast(self) -> Forecast | None:
        """Returns what the next value should be, None while too little is known."""
        best: Forecast | None = None
        for name, value in self._forecasts().items():
            errors = [error for error in self._errors[name] if error is not None]
            if value is None or len(errors) < LEAST:
                continue
            spread = sqrt(sum(error * error for error in errors) / len(errors)) * (1 + 3 / len(errors))
            if best is None or spread < best.spread:
                best = Forecast(value, spread, name)
        return best

    def push(self, value: float | None, *, failed: bool = False) -> None:
        """Adds the next value.

        Args:
            value: None where there is none: no rows, no partition.
            failed: Whether it is known to be wrong. It is then no yardstick for what follows, unless such values have
                come for `NEW_NORMAL` partitions on end.
        """
        if failed:
            self._rejected += 1
            if self._rejected < NEW_NORMAL:
                value = None
        elif value is not None:
            self._rejected = 0
        for name, expected in self._forecasts().items():
            self._errors[name].append(None if value is None or expected is None else value - expected)
        self._values.append(value)

    def recent(self) -> list[float]:
        """Returns the known values of the window, in order."""
        return [value for value in list(self._values)[-WINDOW:] if value is not None]

    def _forecasts(self) -> dict[str, float | None]:
        known = self.recent()
        season = self._values[-self._season] if len(self._values) >= self._season else None
        if not known:
            return {"last": None, "season": season, "mean": None}
        return {"last": known[-1], "season": season, "mean": sum(known) / len(known)}
