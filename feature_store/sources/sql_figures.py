"""Figures of a query's events by day, and the SQL that asks for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from feature_store.clock import SystemClock
from feature_store.day_windows import day_window
from feature_store.errors import MissingSourceError
from feature_store.sources.sql_look import RECENT, Extent, Figures, Seen
from feature_store.sources.sql_session import Session, State

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.sql.compiler import IdentifierPreparer

_LOG = logging.getLogger(__name__)
_ALLOWED_AHEAD = timedelta(minutes=5)
_MOST_RANGES = 50


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and what its columns mean; see `QuerySource`.

    Attributes:
        source: Name of the source.
        query: The query.
        time_column: When each event became knowable.
        version_column: What grows with each change of a row, None if nothing does.
        start: First instant of the events.
        quote: Quotes names of columns.
    """

    source: str
    query: str
    time_column: str
    version_column: str | None
    start: datetime
    quote: IdentifierPreparer

    def asked(self, selected: str, where: str = "", group: str = "") -> str:
        """Returns the statement that asks for something of the query's events."""
        # On lines of its own: the query may end in a comment.
        asked = f"SELECT {selected} FROM (\n{self.query}\n) AS events"  # noqa: S608  # quoted names around the user's own query
        return f"{asked}{f' WHERE {where}' if where else ''}{f' GROUP BY {group}' if group else ''}"


class Moments:
    """Literals and conditions of the time column.

    Raises:
        MissingSourceError: If there is no such column, or it holds no times.
    """

    def __init__(self, question: Question, schema: pa.Schema, *, knows_types: bool) -> None:
        import pyarrow as pa

        name = question.time_column
        for needed in filter(None, (name, question.version_column)):
            if needed not in schema.names:
                raise MissingSourceError(
                    f"Source {question.source!r} has no column {needed!r}, only {', '.join(schema.names)}."
                )
        kind = schema.field(name).type
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            raise MissingSourceError(
                f"Column {name!r} of source {question.source!r}, the time of its events, is of type {kind}: cast it to "
                "a timestamp in the query."
            )
        self.column = question.quote.quote_identifier(name)
        self._is_naive = knows_types and not (pa.types.is_timestamp(kind) and kind.tz is not None)

    def of(self, moment: datetime) -> str:
        """Returns the literal of an instant, of the column's own type, so that an index is used."""
        text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", timespec="microseconds")
        if self._is_naive:
            return f"TIMESTAMP '{text}'"
        return f"CAST('{text}+00:00' AS TIMESTAMP WITH TIME ZONE)"

    def inside(self, start: datetime, end: datetime) -> str:
        """Returns the condition that the time lies in a span."""
        return f"{self.column} >= {self.of(start)} AND {self.column} < {self.of(end)}"


class Look:
    """Asks for the figures of days: how many events they have, their first and last, what tells their contents."""

    def __init__(self, question: Question, session: Session, began: float) -> None:
        self._question = question
        self._began = began
        self._session = session
        schema = session.schema(question.asked("*"))
        self._moments = Moments(question, schema, knows_types=session.knows_types)
        self._present = present()

    def at(self, extent: Extent, state: State, before: Seen | None) -> Seen:
        """Returns what is known after a look at as much as has to be asked for."""
        seen = None
        if before is not None and extent == "versions":
            seen = self._at_versions(state, before)
        elif before is not None and extent == "recent days":
            seen = self._at_recent_days(state, before)
        return seen or self._at_all(state, before)

    def _at_all(self, state: State, before: Seen | None) -> Seen:
        days, greatest, odd = self._figures(None)
        if odd and (before is None or before.odd != odd):
            _LOG.warning(
                "Source %r has %s events without a time, or ahead of the clock (%s): they are in no day.",
                self._question.source,
                f"{odd:,}",
                self._question.time_column,
            )
        empty = Seen(state, {}, (), 0, self._began, 0.0) if before is None else before
        seen = empty.with_days(state, days, greatest)
        return Seen(state, seen.days, seen.greatest, odd, self._began, time.monotonic() - self._began)

    def _at_versions(self, state: State, before: Seen) -> Seen | None:
        """Looks at the days of rows with a late version; None if they are so many that all days are to be looked at."""
        question, moments = self._question, self._moments
        version = question.quote.quote_identifier(question.version_column or "")
        since = "'" + (before.settled_version or "").replace("'", "''") + "'"
        day = f"CAST({moments.column} AS DATE)"
        inside = moments.inside(question.start, self._present)
        rows = self._session.fetch(question.asked(f"{day} AS day", f"{version} >= {since} AND {inside}", "1"))
        return self._at_days(state, before, sorted(rows.column(0).to_pylist()))

    def _at_recent_days(self, state: State, before: Seen) -> Seen:
        """Looks at the latest days, and what has come after them."""
        latest = max(before.days, default=self._question.start.date())
        since = max(self._question.start, day_window(latest).start - RECENT)
        days, greatest, _ = self._figures([(since, self._present)])
        old = {day: figures for day, figures in before.days.items() if day_window(day).start < since}
        # The day in which the span begins is whole: spans begin with days, or with the source.
        return before.with_days(state, {**old, **days}, greatest)

    def _at_days(self, state: State, before: Seen, changed: list[date]) -> Seen | None:
        spans = list(_spans(changed))
        if len(spans) > _MOST_RANGES:
            return None
        start = self._question.start
        within = [(max(start, day_window(first).start), day_window(last).end) for first, last in spans]
        if not within:
            return before.with_days(state, before.days, None)
        days, greatest, _ = self._figures([(low, min(high, self._present)) for low, high in within])
        kept = {day: figures for day, figures in before.days.items() if day not in set(changed)}
        return before.with_days(state, {**kept, **days}, greatest)

    def _figures(self, spans: list[tuple[datetime, datetime]] | None) -> tuple[dict[date, Figures], str | None, int]:
        """Returns the figures of days, the greatest version, and how many events are in no day.

        Args:
            spans: Where to look; None for everywhere.
        """
        question, moments = self._question, self._moments
        column, day = moments.column, f"CAST({moments.column} AS DATE)"
        everywhere = moments.inside(question.start, self._present)
        if spans is None:
            day = f"CASE WHEN {everywhere} THEN {day} END"
            where = f"{column} IS NULL OR {column} >= {moments.of(question.start)}"
        else:
            where = " OR ".join(f"({moments.inside(*span)})" for span in spans)
        asked = [f"{day} AS day", "count(*) AS n", f"min({column}) AS first", f"max({column}) AS last"]
        if question.version_column is not None:
            version = question.quote.quote_identifier(question.version_column)
            start, end = moments.of(question.start), moments.of(self._present)
            known = f"min({column}) >= {start} AND max({column}) < {end}"
            asked += [
                f"CAST(max({version}) AS VARCHAR) AS version",
                # Not of events that are in no day: of theirs, nothing can be expected.
                f"CAST(max(CASE WHEN {known} THEN max({version}) END) OVER () AS VARCHAR) AS greatest",
            ]
        if self._session.checksum:
            asked.append(f"{self._session.checksum} AS content")
        rows = self._session.fetch(question.asked(", ".join(asked), where, "1"))
        greatest = None
        days: dict[date, Figures] = {}
        # Of events that are in no day, the first and last may have no place in Python's calendar.
        inside = rows.filter(rows.column("day").is_valid())
        odd = sum(rows.filter(rows.column("day").is_null()).column("n").to_pylist())
        for row in inside.to_pylist():
            greatest = row.pop("greatest", None)
            days[row.pop("day")] = tuple(sorted(row.items()))
        return days, greatest, odd


def present() -> datetime:
    """Returns the time from which on events are ahead of the clock."""
    return SystemClock().now() + _ALLOWED_AHEAD


def _spans(ordered: list[date]) -> Iterator[tuple[date, date]]:
    """Yields days that follow one another as spans, each by its first and last day."""
    starts = [0, *(n for n, (one, other) in enumerate(pairwise(ordered), 1) if (other - one).days > 1), len(ordered)]
    yield from ((ordered[first], ordered[end - 1]) for first, end in pairwise(starts) if end > first)
