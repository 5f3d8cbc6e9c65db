"""How long what has failed is left alone before it is tried again."""

from __future__ import annotations

from datetime import timedelta

FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)


def pause(attempts: int, first: timedelta = FIRST_PAUSE, longest: timedelta = LONGEST_PAUSE) -> timedelta:
    """Returns the pause before the next attempt: the first one, doubled with each attempt after it.

    Args:
        attempts: How often it has failed.
        first: The pause after the first attempt.
        longest: It grows no further.
    """
    return min(first * (1 << min(max(0, attempts - 1), 16)), longest)
