"""What a look at a query has found, day by day, and what of it the next look has to ask for again.

A look remembers, in its process, the figures of each day. The next one asks for what can have changed since: for
nothing, where the database says so; for the days of rows with a late version; for the latest days; or for all.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Literal

from feature_store.sources.sql_session import State

RECENT = timedelta(days=7)
"""Where no version is declared, days so near to the latest one are asked for at each look, others at full ones."""

_LATE_COMMITS = 900.0
"""A transaction may show rows so many seconds after it has given them their version."""

_SHARE = 0.01
_CHEAP_SECONDS = 1.0
"""Where rows are removed all the time, full looks take this share of the time at most, unless they are so short."""

Figures = tuple[tuple[str, Any], ...]
Extent = Literal["nothing", "versions", "recent days", "all"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a query's events.

    Attributes:
        state: What the database said before it was asked for them.
        days: The figures of each day that has events.
        greatest: The greatest version, as text, with the time (monotonic, seconds) of the look that saw it first; the
            latest is the last.
        odd: Events without a time, or ahead of the clock, at the last full look.
        full_at: When the last full look began (monotonic, seconds).
        full_seconds: How long it took.
    """

    state: State
    days: Mapping[date, Figures]
    greatest: tuple[tuple[float, str], ...]
    odd: int
    full_at: float
    full_seconds: float

    @property
    def settled_version(self) -> str | None:
        """The greatest version up to which all rows have been shown; None if there is none."""
        if not self.greatest:
            return None
        before = time.monotonic() - _LATE_COMMITS
        settled = [version for seen, version in self.greatest if seen <= before]
        return settled[-1] if settled else self.greatest[0][1]

    def to_ask(self, state: State, *, versioned: bool, full_every: timedelta) -> Extent:
        """Returns what has to be asked for.

        Args:
            state: What the database says now.
            versioned: Whether rows have versions.
            full_every: How often everything is asked for.
        """
        age = time.monotonic() - self.full_at
        if age >= full_every.total_seconds():
            return "all"
        if state.content is not None and state == self.state:
            return "nothing"
        removed = state.removals is not None and state.removals != self.state.removals
        is_cheap = state.is_local or self.full_seconds <= _CHEAP_SECONDS
        if removed and (is_cheap or age >= self.full_seconds / _SHARE):
            return "all"
        return "versions" if versioned and self.greatest else "recent days"

    def with_days(self, state: State, days: Mapping[date, Figures], greatest: str | None) -> Seen:
        """Returns what is known after a look at some of the days.

        Args:
            state: What the database said before.
            days: All days that have events.
            greatest: The greatest version among those asked for; None if there is none.
        """
        # What was removed is still to be looked for.
        pending = replace(state, removals=self.state.removals)
        return replace(self, state=pending, days=days, greatest=self._versions(greatest))

    def _versions(self, greatest: str | None) -> tuple[tuple[float, str], ...]:
        if greatest is None or (self.greatest and self.greatest[-1][1] == greatest):
            return self.greatest
        # Of those that are old enough, only the last one is asked for.
        before = time.monotonic() - _LATE_COMMITS
        old = [each for each in self.greatest if each[0] <= before][-1:]
        late = [each for each in self.greatest if each[0] > before]
        return (*old, *late, (time.monotonic(), greatest))


@dataclass(slots=True)
class Memory:
    """What looks of this process have found, by query."""

    _seen: dict[Hashable, Seen] = field(default_factory=dict)

    def get(self, query: Hashable) -> Seen | None:
        """Returns what was seen of a query, None if it was not looked at."""
        return self._seen.get(query)

    def keep(self, query: Hashable, seen: Seen) -> None:
        """Keeps what was seen of a query."""
        self._seen[query] = seen


MEMORY = Memory()
