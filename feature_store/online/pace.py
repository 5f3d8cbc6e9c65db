"""Pacing: how fast a write may go, so that who reads at the same time is not held up."""

from __future__ import annotations

import time

PORTIONS_PER_SECOND = 20
"""A slow pace goes in many small portions, not in a rush and a rest."""


class Pace:
    """Spreads rows evenly over time.

    Args:
        rows_per_second: The greatest pace, more than 0; None for no limit.
    """

    def __init__(self, rows_per_second: float | None) -> None:
        self._rows_per_second = rows_per_second
        self._due = time.monotonic()

    def portion(self, at_most: int) -> int:
        """Returns how many rows to send at once."""
        if self._rows_per_second is None:
            return at_most
        return max(1, min(at_most, int(self._rows_per_second / PORTIONS_PER_SECOND)))

    def wait(self, rows: int) -> None:
        """Waits until it is the turn of so many rows."""
        if self._rows_per_second is None:
            return
        now = time.monotonic()
        if self._due > now:
            time.sleep(self._due - now)
        # A server that was slow for a while is not caught up with in a rush.
        self._due = max(self._due, now) + rows / self._rows_per_second
