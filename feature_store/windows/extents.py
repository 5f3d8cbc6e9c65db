"""The extent of a window: where it begins for a reader at an instant. One rule for training, serving and streams.

At T a window of length w holds the events e with `tail(T) < e <= T`, where `tail(T)` is T - w, rounded down to the hop.
So it is at least w and less than w + hop long. Times are microseconds since 1970 (UTC), as integers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from feature_store.errors import DefinitionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Times = TypeVar("Times", int, npt.NDArray[np.int64])

DAY_MICROS = 86_400_000_000
SECOND_MICROS = 1_000_000
EVER = -(2**62)
"""The tail of a window that never ends: before all events of the calendar."""

_LENGTH = re.compile(r"([1-9][0-9]{0,8})(min|m|h|d|w|s)")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_HALF_DAY, _TWELVE_DAYS = DAY_MICROS // 2, 12 * DAY_MICROS


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """The length of a window and the hop by which its tail moves.

    Attributes:
        length: How far it reaches back, in microseconds; None for the whole life of the entity.
        hop: Its tail moves in these steps, counted from midnight (UTC). None where there is no tail.
    """

    length: int | None
    hop: int | None

    @classmethod
    def of(cls, length: str | timedelta | None, hop: str | timedelta | None = None) -> Extent:
        """Returns the extent of a window.

        Args:
            length: How far it reaches back, as a timedelta or as text, `90s`, `5min`, `1h`, `7d`, `4w`; None for the
                whole life of the entity.
            hop: The step of its tail, likewise; by default 5 minutes below 12 hours, 1 hour below 12 days, else 1 day.

        Raises:
            DefinitionError: If the length is no positive multiple of the hop, or the hop does not divide the day.
        """
        if length is None:
            if hop is not None:
                raise DefinitionError("a window over the whole life of an entity has no hop: leave it out")
            return cls(None, None)
        reach = _micros("window", length)
        if hop is None:
            step = default_hop(reach)
            if reach % step:
                raise DefinitionError(
                    f"the window {_text(length)} is no multiple of its hop, {_text(timedelta(microseconds=step))}: "
                    f"take {_text(timedelta(microseconds=-(-reach // step) * step))}, or a hop that divides it"
                )
            return cls(reach, step)
        step = _micros("hop", hop)
        if DAY_MICROS % step or step % SECOND_MICROS:
            raise DefinitionError(
                f"the hop {_text(hop)} does not divide the day into whole seconds: take a divisor such as 5min, 1h, 1d"
            )
        if reach % step:
            raise DefinitionError(
                f"the window {_text(length)} is no multiple of its hop {_text(hop)}: take "
                f"{_text(timedelta(microseconds=-(-reach // step) * step))}, or another hop"
            )
        return cls(reach, step)

    @property
    def reach(self) -> int:
        """How far back an event can lie that some reader at an instant still sees, at most."""
        return -EVER if self.length is None or self.hop is None else self.length + self.hop

    def tails(self, at: Times) -> Times:
        """Returns the tail of the window for a reader at an instant: events at it are outside, those after it inside.

        Args:
            at: Microseconds since 1970, one or an array.
        """
        if self.length is None or self.hop is None:
            return at * 0 + EVER
        # Floor division rounds down, before 1970 too.
        return (at - self.length) // self.hop * self.hop


def default_hop(length: int) -> int:
    """Returns the hop of a window for which none is declared, in microseconds."""
    if length < _HALF_DAY:
        return 300 * SECOND_MICROS
    return 3600 * SECOND_MICROS if length < _TWELVE_DAYS else DAY_MICROS


def _micros(what: str, span: str | timedelta) -> int:
    if isinstance(span, timedelta):
        micros = span // timedelta(microseconds=1)
    else:
        match = _LENGTH.fullmatch(span) if isinstance(span, str) else None
        if match is None:
            raise DefinitionError(f"{span!r} is no length of a {what}: write 90s, 5min, 1h, 7d, or a timedelta")
        micros = int(match[1]) * _UNITS[match[2]] * SECOND_MICROS
    if micros <= 0:
        raise DefinitionError(f"a {what} is longer than nothing, got {_text(span)}")
    if micros > _LONGEST:
        raise DefinitionError(f"a {what} of {_text(span)} is longer than the calendar: use None for the whole life")
    return micros


_LONGEST = 9998 * 365 * DAY_MICROS


def _text(span: str | timedelta) -> str:
    if isinstance(span, str):
        return span
    from feature_store.durations import duration_text

    return duration_text(span, most_units=4).replace(" ", "")
