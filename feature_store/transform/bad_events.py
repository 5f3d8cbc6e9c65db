"""Which of many new events lead to bad rows: found for all entities together, at the cost of a few computations."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP

SEQUENCE = "_sequence"
"""Column of new events: their position in the micro-batch. No column of events begins with an underscore."""
GONE = "_gone"
"""Column of new events: whether this event is no more."""
Faults = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame | None]
"""Given new events and the past: keys, event time and `_reason` of the bad rows; None where it cannot be said."""

_TURN, _COPY = "_turn", "_copy"
_PATIENCE = 3
_MOST_COPIED = 500_000


class BadEvents:
    """Sorts new events into those that lead to bad rows and those that do not.

    Args:
        group: The feature group.
        faults: Says which rows are bad.
        past: The events of the entities that were there before.
    """

    def __init__(self, group: FeatureGroup, faults: Faults, past: pl.DataFrame) -> None:
        self._keys = list(group.entity.join_keys)
        self._types = group.entity.join_keys
        self._faults = faults
        self._past = past
        self.rejected: dict[int, str] = {}

    def sorted_out(self, new: pl.DataFrame) -> pl.DataFrame | None:
        """Returns the events that are good, None where it cannot be said which are.

        Rows depend on what was before them, so an entity's earliest bad row is laid to the events of its time. What is
        left then is looked at again. Where that names no event, or several, the entity's events are tried in turn: one
        of them came late, or they share a time.

        Args:
            new: New events, with `_sequence` and `_gone`.
        """
        pending, waiting = new, new.select(self._keys).clear()
        turn = 0
        while True:
            faults = self._faults(pending.join(waiting, on=self._keys, how="anti"), self._past)
            if faults is None:
                return None
            if faults.is_empty():
                break
            turn += 1
            if turn == _PATIENCE + 1:
                pending = self._without_bad_by_themselves(pending, faults)
                # What was found was found of all of them: of two events of one time, the good one may be left.
                continue
            earliest = faults.unique(self._keys, keep="first", maintain_order=True)
            own = pending.filter(~pl.col(GONE)).join(earliest, on=[*self._keys, EVENT_TIMESTAMP], how="inner")
            # Of two events of one time it is not said which one it is.
            own = own.filter(~pl.struct(self._keys).is_duplicated())
            pending = self._without(pending, own)
            waiting = pl.concat([waiting, earliest.select(self._keys).join(own, on=self._keys, how="anti")])
        if waiting.is_empty():
            return pending
        accepted = self._in_turn(pending.join(waiting, on=self._keys, how="semi", maintain_order="left"))
        if accepted is None:
            return None
        others = pending.join(waiting, on=self._keys, how="anti", maintain_order="left")
        return pl.concat([others, accepted]).sort(SEQUENCE)

    def _without(self, pending: pl.DataFrame, bad: pl.DataFrame) -> pl.DataFrame:
        self.rejected |= dict(bad.select(SEQUENCE, "_reason").iter_rows())
        return pending.join(bad.select(SEQUENCE), on=SEQUENCE, how="anti", maintain_order="left")

    def _in_turn(self, events: pl.DataFrame) -> pl.DataFrame | None:
        turns = events.sort(SEQUENCE).with_columns(pl.int_range(pl.len()).over(self._keys).alias(_TURN))
        accepted = events.clear()
        for turn in turns.partition_by(_TURN, maintain_order=True, include_key=False):
            faults = self._faults(pl.concat([accepted, turn]), self._past)
            if faults is None:
                return None
            bad = turn.join(faults.unique(self._keys, keep="first"), on=self._keys, how="inner")
            accepted = pl.concat([accepted, self._without(turn, bad)])
        return accepted

    def _without_bad_by_themselves(self, pending: pl.DataFrame, faults: pl.DataFrame) -> pl.DataFrame:
        """Returns events without those that lead to a bad row beside nothing but the past.

        Where an entity has many, each is given to a copy of the entity, all in one computation. A function may look at
        keys themselves, and treat a copy in another way: a copy that has all of the events shows whether it does.
        """
        keys = self._keys
        events = pending.filter(~pl.col(GONE)).join(faults.select(keys).unique(), on=keys, how="semi")
        sizes = self._past.group_by(keys).len().with_columns(pl.col("len").cast(pl.Int64))
        sizes = events.select(SEQUENCE, *keys).join(sizes, on=keys, how="left")
        within = sizes.with_columns((pl.col("len").fill_null(0) + 1).cum_sum().alias("_rows"))
        events = events.join(within.filter(pl.col("_rows") <= _MOST_COPIED).select(SEQUENCE), on=SEQUENCE, how="semi")
        if events.is_empty():
            return pending
        alone = events.with_columns(pl.col(SEQUENCE).alias(_COPY))
        beside = self._past.join(events.select(*keys, pl.col(SEQUENCE).alias(_COPY)), on=keys, how="inner")
        found = self._faults(self._copied(alone), self._copied(beside))
        controls = pending.join(events.select(keys).unique(), on=keys, how="semi").with_columns(
            pl.lit(-1, dtype=pl.Int64).alias(_COPY)
        )
        past = self._past.join(events.select(keys).unique(), on=keys, how="semi")
        copied = self._faults(self._copied(controls), self._copied(past.with_columns(pl.lit(-1).alias(_COPY))))
        real = self._faults(controls.drop(_COPY), past)
        times = [EVENT_TIMESTAMP, "_reason"]
        if (
            found is None
            or copied is None
            or real is None
            or not copied.select(times).sort(times).equals(real.select(times).sort(times))
        ):
            return pending
        named = self._copied(alone).select(*keys, SEQUENCE)
        bad = named.join(found.unique(keys, keep="first"), on=keys, how="inner")
        return self._without(pending, bad)

    def _copied(self, events: pl.DataFrame) -> pl.DataFrame:
        """Returns events of copies: entities of their own, told apart by the number of the copy."""
        first = self._keys[0]
        if self._types[first] is str:
            name = pl.concat_str(pl.col(first), pl.lit("\N{SYMBOL FOR UNIT SEPARATOR}"), pl.col(_COPY).cast(pl.String))
        else:
            # Numbers that no honest key has.
            name = pl.lit(-(2**62), dtype=pl.Int64) + pl.struct(first, _COPY).hash().mod(2**61).cast(pl.Int64)
        return events.with_columns(name.alias(first)).drop(_COPY)
