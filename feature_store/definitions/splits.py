"""Splits of training sets: which rows a model is fitted to, and which it is judged by.

Only what a user declares is here; rows are assigned in `feature_store.training_sets.splits`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from feature_store.clock import to_utc
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import check_name
from feature_store.errors import DefinitionError

GAP = "gap"
"""Name of the rows that lie in the gap between two splits by time: kept, and in neither of them."""

_LEAST_SPLITS = 2


@dataclass(frozen=True, slots=True)
class TimeSplits:
    """Splits by label time: the past is learned from, the future is judged by; see `split_by_time`.

    Attributes:
        until: Split name to the end (exclusive, UTC) of its label times, in order; None ends the last.
        gap: How long after each end no row belongs to a split.
    """

    until: Mapping[str, datetime | None]
    gap: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        _check_names(self.until)
        *ends, last = self.until.values()
        if last is not None or None in ends:
            raise DefinitionError(
                f"Splits by time {dict(self.until)!r}: each ends at a time, and the last one, only the last, at None."
            )
        times = [to_utc(end) for end in ends if end is not None]
        if any(later - earlier <= self.gap for earlier, later in pairwise(times)):
            raise DefinitionError(
                f"Splits by time {list(self.until)} must end one after the other, with more than the gap of "
                f"{self.gap} in between, got {', '.join(time.isoformat() for time in times)}."
            )
        if self.gap < timedelta(0):
            raise DefinitionError(f"The gap between splits must not be negative, got {self.gap}.")
        object.__setattr__(self, "until", dict(zip(self.until, [*times, None], strict=True)))

    @property
    def names(self) -> tuple[str, ...]:
        """The splits in order, and `gap` if there is one."""
        return (*self.until, *([GAP] if self.gap else []))


@dataclass(frozen=True, slots=True)
class EntitySplits:
    """Splits by entity: all rows of an entity lie in one split; see `split_by_entity`.

    Attributes:
        entity: The entity; the label frame has its join keys.
        shares: Split name to its share of the entities; the shares add up to 1.
        seed: Chooses which entities go where.
    """

    entity: Entity
    shares: Mapping[str, float]
    seed: int = 0

    def __post_init__(self) -> None:
        _check_names(self.shares)
        if any(not 0 < share < 1 for share in self.shares.values()) or not math.isclose(sum(self.shares.values()), 1):
            raise DefinitionError(f"Shares of splits lie between 0 and 1 and add up to 1, got {dict(self.shares)!r}.")
        object.__setattr__(self, "shares", dict(self.shares))

    @property
    def names(self) -> tuple[str, ...]:
        """The splits in order."""
        return tuple(self.shares)


Splits = TimeSplits | EntitySplits


def split_by_time(until: Mapping[str, datetime | None], *, gap: timedelta = timedelta(0)) -> TimeSplits:
    """Splits by label time, for instance `split_by_time({"train": datetime(2013, 9, 1), "test": None})`.

    Args:
        until: Split name to the end of its label times, exclusive (aware, or naive in UTC); None for the last.
        gap: How long after each end the rows are kept out of every split, in one of their own named `gap`. As long
            as a label takes to become known, no row of a later split lies within reach of an earlier one's outcome.

    Raises:
        DefinitionError: If the ends are not in order, or a name is malformed.
    """
    return TimeSplits(until, gap)


def split_by_entity(entity: Entity, shares: Mapping[str, float], *, seed: int = 0) -> EntitySplits:
    """Splits by entity, for instance `split_by_entity(PLANE, {"train": 0.8, "test": 0.2}, seed=7)`.

    An entity's place depends on its id and the seed alone: the same on every machine, in every version of the set.
    It is `int.from_bytes(sha256(f"{seed}|{entity_id}").digest()[:8], "big") / 2**64`, and the splits cut the span
    from 0 to 1 in their order.

    Raises:
        DefinitionError: If the shares do not add up to 1, or a name is malformed.
    """
    return EntitySplits(entity, shares, seed)


def _check_names(splits: Mapping[str, object]) -> None:
    if len(splits) < _LEAST_SPLITS:
        raise DefinitionError(f"Splits {list(splits)}: name at least {_LEAST_SPLITS} of them.")
    for name in splits:
        if check_name(name, "split") == GAP:
            raise DefinitionError(f"{GAP!r} names the rows between splits by time and cannot name a split.")
