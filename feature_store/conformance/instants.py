"""Events after a row, and events before its look-back, must not matter.

Each entity has an instant of its own at which its events are cut: one run judges a row of every entity. Rows are
chosen whose nearest event beyond the cut is as near as can be. Where none is near, one is moved there: an event just
beyond a limit shows a look-back that is too short by a microsecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import polars as pl

from feature_store.conformance.probe import Probe, events_of
from feature_store.conformance.result import BrokenPromiseError, Verdict
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.durations import duration_text
from feature_store.frames import utc_micros
from feature_store.partitions import Window

_ROUNDS = 6
_ROUNDS_WITHOUT_ENTITIES = 10
_EXTRA_HISTORY = timedelta(days=7)
_TICK = timedelta(microseconds=1)
_DISTANCES = (_TICK, timedelta(minutes=1), timedelta(minutes=59))

_ENTITY = "#entity"
_TIME = "#time"
_EVENT = "#event"
_CUT = "#cut"
_ROW = "#row"
_BEYOND = "#beyond"
_ROUND = "#round"
_TO = "#to"

_Side = Literal["before", "after"]


def causality(probe: Probe, verdict: Verdict) -> str:
    """Checks that later events change no row."""
    anywhere = probe.span.start + probe.random().randrange((probe.span.end - probe.span.start) // _TICK) * _TICK
    known = probe.events.filter(probe.event_time <= anywhere)
    until = pl.col(EVENT_TIMESTAMP) <= anywhere
    circumstance = f"Without the events after {anywhere.isoformat()}, rows up to then change:"
    verdict.expect(probe.rows.filter(until), probe.rows_of(known).filter(until), circumstance)
    cuts = _Cuts(probe, probe.events, probe.rows, "after", timedelta(0))
    judged = cuts.judge(verdict, "Without the events after a row, that row or those before it change:")
    moved = cuts.judge_moved(verdict, "If the event after a row comes {} after it, instead of later, rows change:")
    return f"Events after {judged:,} rows, and {moved:,} that are moved right behind one, change no row up to then."


def look_back(probe: Probe, verdict: Verdict) -> str:
    """Checks that events before the look-back change no row."""
    lookback = probe.group.lookback
    span = duration_text(lookback)
    wanted = probe.span.start - lookback - max(lookback, _EXTRA_HISTORY)
    begin = max(wanted, min(probe.group.source.start, probe.span.start - lookback))
    history = events_of(probe.group, Window(begin, probe.span.end))
    rows = probe.rows_of(history)
    verdict.expect(rows, probe.rows, f"With events from {begin.isoformat()} on, the rows are others. Without them:")
    cuts = _Cuts(probe, history, rows, "before", lookback)
    longer = "Declare a longer look-back."
    judged = cuts.judge(verdict, f"Without the events of more than {span} before a row:", longer)
    moved = cuts.judge_moved(
        verdict,
        f"If an event comes {{}} more than the look-back of {span} before a row, that row depends on it:",
        longer,
    )
    said = f"Events before the look-back of {span} change nothing, cut exactly for {judged:,} rows"
    return f"{said}, {moved:,} of them with an event that is moved close to the cut." if moved else f"{said}."


@dataclass(slots=True)
class _Cuts:
    """Cuts of events, at an instant of each entity's own, and rows that must not change by them.

    Attributes:
        probe: The function.
        events: The events that are cut.
        rows: The rows of the span that they give.
        side: Which events are taken away: those `before` a row's time less the distance, or those `after` it.
        distance: Time between a row and its cut.
    """

    probe: Probe
    events: pl.DataFrame
    rows: pl.DataFrame
    side: _Side
    distance: timedelta

    @property
    def _keys(self) -> list[str]:
        return self.probe.entity_keys if self.probe.entity_local else []

    def judge(self, verdict: Verdict, circumstance: str, remedy: str = "") -> int:
        """Compares rows with and without what lies beyond their cuts; returns how many.

        Raises:
            BrokenPromiseError: If one changes.
        """
        return sum(
            self._compare(verdict, self.events, self.rows, chosen, circumstance, remedy)
            for chosen in self._rounds(self._by_nearness())
        )

    def judge_moved(self, verdict: Verdict, circumstance: str, remedy: str = "") -> int:
        """Does the same after an event of each entity was moved close to the cut; returns how many.

        Raises:
            BrokenPromiseError: If a row changes.
        """
        judged = 0
        candidates = self._by_nearness().filter(pl.col(_BEYOND).is_not_null())
        for distance in _DISTANCES:
            if self.side == "before":
                beyond = pl.col(_CUT) - distance
                farther = (pl.col(_BEYOND) < beyond) | (pl.col(_BEYOND) >= pl.col(_CUT))
            else:
                beyond = pl.col(_CUT) + distance
                farther = pl.col(_BEYOND) > beyond
            for chosen in self._rounds(candidates.filter(farther), limit=1):
                moved = self._moved(chosen.select(_EVENT, _BEYOND, beyond.alias(_TO)))
                try:
                    rows = self.probe.rows_of(moved)
                except Exception:  # noqa: BLE001, S112 - such events need not be possible, and the function may say so
                    continue
                judged += self._compare(verdict, moved, rows, chosen, circumstance.format(_shown(distance)), remedy)
        return judged

    def _compare(
        self,
        verdict: Verdict,
        events: pl.DataFrame,
        rows: pl.DataFrame,
        chosen: pl.DataFrame,
        circumstance: str,
        remedy: str,
    ) -> int:
        limits = chosen.select(_ENTITY, _CUT, _ROW)
        keep = pl.col(_TIME) >= pl.col(_CUT) if self.side == "before" else pl.col(_TIME) <= pl.col(_CUT)
        kept = self._numbered(events).join(limits, on=_ENTITY, maintain_order="left").filter(keep)
        judged = pl.col(_TIME) == pl.col(_ROW) if self.side == "before" else pl.col(_TIME) <= pl.col(_ROW)
        expected, actual = (
            self._numbered(frame).join(limits, on=_ENTITY).filter(judged).select(self.rows.columns)
            for frame in (rows, self.probe.rows_of(kept.select(events.columns)))
        )
        try:
            verdict.expect(expected, actual, circumstance)
        except BrokenPromiseError as broken:
            raise BrokenPromiseError(f"{broken} {remedy}".rstrip()) from None
        return chosen.height

    def _by_nearness(self) -> pl.DataFrame:
        """Returns the rows of the span, those first that have an event closest beyond their cut.

        Columns: entity, times of the row, of its cut and of the event beyond it (null for none), the event's number.
        """
        shift = -self.distance if self.side == "before" else self.distance
        rows = self._numbered(self.rows).select(_ENTITY, pl.col(_TIME).alias(_ROW), (pl.col(_TIME) + shift).alias(_CUT))
        events = self._numbered(self.events).select(_ENTITY, pl.col(_TIME).alias(_BEYOND), _EVENT)
        found = (
            rows.drop_nulls(_ROW)
            .unique()
            .sort(_CUT)
            .join_asof(
                events.drop_nulls(_BEYOND).sort(_BEYOND, _EVENT),
                left_on=_CUT,
                right_on=_BEYOND,
                by=_ENTITY,
                strategy="backward" if self.side == "before" else "forward",
                allow_exact_matches=False,
                check_sortedness=False,
            )
        )
        if self.side == "before":
            found = self._with_first_event(found, events)
        gap = (pl.col(_CUT) - pl.col(_BEYOND)).abs()
        return found.sort(gap, _ROW, _ENTITY, nulls_last=True)

    def _with_first_event(self, rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
        """Names an entity's first event for rows that have none before the cut: it can be moved there."""
        first = events.sort(_BEYOND, _EVENT).unique(_ENTITY, keep="first", maintain_order=True)
        joined = rows.join(first, on=_ENTITY, how="left", suffix="?", maintain_order="left")
        usable = pl.col(_BEYOND).is_null() & (pl.col(f"{_BEYOND}?") < pl.col(_ROW))
        return joined.with_columns(
            pl.when(usable).then(pl.col(f"{name}?")).otherwise(pl.col(name)).alias(name) for name in (_BEYOND, _EVENT)
        ).select(rows.columns)

    def _rounds(self, rows: pl.DataFrame, limit: int | None = None) -> Iterator[pl.DataFrame]:
        """Yields rows, best first, such that each time there is one of each entity."""
        allowed = limit or (_ROUNDS if self._keys else _ROUNDS_WITHOUT_ENTITIES)
        numbered = rows.with_columns(pl.int_range(pl.len()).over(_ENTITY).alias(_ROUND))
        for number in range(allowed):
            chosen = numbered.filter(pl.col(_ROUND) == number)
            if chosen.is_empty():
                return
            yield chosen

    def _moved(self, moves: pl.DataFrame) -> pl.DataFrame:
        """Moves events in time, with all of their columns that hold times."""
        by = pl.col(_TO) - pl.col(_BEYOND)
        instants = [name for name, dtype in self.events.schema.items() if isinstance(dtype, pl.Datetime)]
        days = [name for name, dtype in self.events.schema.items() if dtype == pl.Date]
        joined = self._numbered(self.events).join(moves, on=_EVENT, how="left", maintain_order="left")
        # A date keeps its distance from the date of the event.
        dates = (pl.col(_TO).dt.date() - pl.col(_BEYOND).dt.date()).fill_null(timedelta(0))
        return joined.with_columns(
            *((pl.col(name) + by.fill_null(timedelta(0))).cast(self.events.schema[name]) for name in instants),
            *((pl.col(name) + dates).cast(pl.Date) for name in days),
        ).select(self.events.columns)

    def _numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Adds to events or rows the entity as text, the time in UTC, and their number."""
        keys = self._keys
        entity = pl.concat_str([pl.col(key).cast(pl.String).fill_null("\0") for key in keys], separator="\1")
        return frame.with_columns(
            (entity if keys else pl.lit("")).alias(_ENTITY),
            utc_micros(EVENT_TIMESTAMP, frame.schema).alias(_TIME),
        ).with_row_index(_EVENT)


def _shown(distance: timedelta) -> str:
    if distance < timedelta(seconds=1):
        return f"{distance // _TICK} microsecond"
    minutes = distance // timedelta(minutes=1)
    return f"{minutes} minute{'s' if minutes > 1 else ''}"
