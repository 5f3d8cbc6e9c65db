"""Why a feature has the value that it has: the row that wins, the rows that lose, who wrote them, what is online.

The rule itself is applied by the point-in-time engines and by the online reader; this is its slow, talkative twin for
one entity and one feature, and a test holds it to the same answers. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from feature_store.catalog import Catalog, Feature, RegisteredGroup, Selection
from feature_store.clock import Clock, to_micros, to_utc
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.durations import duration_text
from feature_store.errors import InvalidRequestError, OnlineStoreError
from feature_store.explain_window import ExplainedWindow, explain_window
from feature_store.monitoring.stored import PROFILE
from feature_store.offline.digests import CONTENT
from feature_store.offline.footers import metadata_of
from feature_store.offline.layout import PartitionFile, file_at
from feature_store.offline.store import SOURCE_FILE, OfflineStore
from feature_store.online.reading.prepared import FeatureState
from feature_store.partitions import Window
from feature_store.rows.polars_schema import python_rows
from feature_store.rows.schema import RowSchema
from feature_store.visibility import Visibility, expires_at, seconds_left

MARGIN = timedelta(days=1)
"""How far around the time to live rows are looked up: what came just after the instant, and what just ran out."""

ROWS_SHOWN = 20
"""Rows in an explanation: the nearest to the instant."""

_MARGIN_MICROS = MARGIN // timedelta(microseconds=1)
_NOT_SHOWN = {CONTENT, INGESTED_AT, PROFILE, "run_id", "code_version"}

Outcome = Literal["wins", "expired", "later", "older", "tie"]
Status = Literal["present", "null", "expired", "missing"]


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """One stored row of the entity, and what became of it.

    Attributes:
        outcome: `wins` (the latest at or before the instant, and alive); `expired` (the latest, but its time to live
            is over); `later` (its event comes after the instant); `older` (a newer row decides); `tie` (another row
            has the same event time and was ingested later).
        reason: The same as one sentence, with the times.
        value: Its value of the feature; None for null.
        event_timestamp: When it became knowable (UTC).
        ingested_at: When the store wrote it (UTC).
        file: Its file, below the offline store's root.
        partition: Key of the partition that a batch wrote; None for rows of a stream or an ingestion.
        writer: Who wrote the file: `batch`, or the stream writer's name, which tells topic and offsets.
        run_id: The run that wrote it, empty where none is known.
        code_version: Digest of the function that computed it, None where none is known.
        written_with: All else that the file says of its making, such as offsets.
    """

    outcome: Outcome
    reason: str
    value: Any
    event_timestamp: datetime
    ingested_at: datetime
    file: str
    partition: str | None
    writer: str
    run_id: str
    code_version: str | None
    written_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnlineAnswer:
    """What the online store says of the feature now.

    Attributes:
        status: `present`, `null`, `missing`, `expired`; or `unreachable` where the store does not answer.
        value: The stored value.
        event_timestamp: Event time of the stored row (UTC).
        ingested_at: When that row was ingested (UTC).
        agrees: Whether readers get what the offline store says; None where the two cannot be compared: the instant
            is not now, or the store does not answer.
        reason: Why, as one sentence.
    """

    status: str
    value: Any
    event_timestamp: datetime | None
    ingested_at: datetime | None
    agrees: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a feature of an entity has its value at an instant.

    Attributes:
        entity_id: The entity.
        feature: The feature with its version.
        group: The group that computes it.
        owner: Who answers for it.
        at: The instant (UTC).
        status: `present`, `null` (known to be null), `expired` (the latest row's time to live is over) or `missing`
            (no row at or before the instant).
        value: The visible value; None unless the status is `present`.
        default: What readers get in place of None, where the feature declares it; None where they get null.
        reason: Why, as one sentence.
        winner: The row that decides, also where it has expired; None where there is none.
        losers: Other rows around the instant, the newest first, at most `ROWS_SHOWN`.
        ttl_seconds: The feature's time to live.
        ttl_left_seconds: What is left of it at the instant; 0 where it is over, None where no row decides.
        expires_at: When it is over (UTC), likewise; None, too, where that is after the year 9999.
        code_is_current: Whether the row that decides was computed by the function as it was last applied; None where
            that is unknown.
        online: What the online store says now.
        window: Which events it comes from, if it is a windowed feature: then there is neither winner nor time to live.
    """

    entity_id: str
    feature: str
    group: str
    owner: str
    at: datetime
    status: Status
    value: Any
    default: Any
    reason: str
    winner: ExplainedRow | None
    losers: tuple[ExplainedRow, ...]
    ttl_seconds: int
    ttl_left_seconds: float | None
    expires_at: datetime | None
    code_is_current: bool | None
    online: OnlineAnswer
    window: ExplainedWindow | None = None


def explain(
    entity_id: str,
    feature: str,
    at: datetime | None,
    *,
    catalog: Catalog,
    offline: OfflineStore,
    online: Callable[[str, str], FeatureState],
    clock: Clock,
) -> Explanation:
    """Explains one feature of one entity at one instant; see `FeatureStore.explain`.

    Args:
        entity_id: The entity.
        feature: One feature.
        at: The instant; None for now.
        catalog: What is registered.
        offline: The offline store.
        online: Reads an entity's feature, by its reference, as any reader does.
        clock: Tells the present.
    """
    selection = _selected(catalog, feature)
    found = selection.feature
    group = catalog.group(found.group)
    now = clock.now()
    instant = now if at is None else to_utc(at)
    if found.window is not None:
        return _explained_window(entity_id, found, group, instant, offline, online, is_now=instant == now)
    ttl_seconds = found.online_ttl_seconds
    visibility = Visibility.of([found])
    question = _Question(entity_id, found, group, instant, timedelta(seconds=ttl_seconds), visibility)
    winner, losers = _judged(_rows_around(offline, question), question, offline)
    status, value, reason = _answer(winner, question)
    try:
        state = online(entity_id, str(found.ref))
        agrees, why = (None, "It answers for now, the question is about another instant.")
        if instant == now:
            agrees, why = _comparison(state, value, winner)
        answer = OnlineAnswer(state.status, state.value, state.event_timestamp, state.ingested_at, agrees, why)
    except OnlineStoreError as error:
        answer = OnlineAnswer("unreachable", None, None, None, None, str(error))
    return Explanation(
        entity_id=entity_id,
        feature=str(found.ref),
        group=group.name,
        owner=found.owner,
        at=instant,
        status=status,
        value=value,
        default=found.default,
        reason=reason,
        winner=winner,
        losers=losers,
        ttl_seconds=ttl_seconds,
        ttl_left_seconds=None if winner is None else seconds_left(ttl_seconds, winner.event_timestamp, instant),
        expires_at=None if winner is None else expires_at(ttl_seconds, winner.event_timestamp),
        code_is_current=winner.code_version == group.code_version if winner and winner.code_version else None,
        online=answer,
    )


def _explained_window(
    entity_id: str,
    feature: Feature,
    group: RegisteredGroup,
    instant: datetime,
    offline: OfflineStore,
    online: Callable[[str, str], FeatureState],
    *,
    is_now: bool,
) -> Explanation:
    found = explain_window(entity_id, feature, group, instant, offline)
    value = found.value
    try:
        state = online(entity_id, str(feature.ref))
        agrees, why = (None, "It answers for now, the question is about another instant.")
        if is_now:
            agrees = state.value == value
            why = "It answers what the events come to." if agrees else "It answers something else than its events say."
            if not agrees and feature.window is not None and feature.window.function == "age":
                agrees, why = None, "An age grows while it is asked for."
        answer = OnlineAnswer(state.status, state.value, state.event_timestamp, state.ingested_at, agrees, why)
    except OnlineStoreError as error:
        answer = OnlineAnswer("unreachable", None, None, None, None, str(error))
    since = "its whole life" if found.tail is None else f"after {found.tail.isoformat()}"
    reason = f"The {found.function} of {found.inside:,} event(s), {since}, up to {instant.isoformat()}."
    if found.next_change is not None:
        reason += f" The first of them leaves at {found.next_change.isoformat()}."
    status: Status = "present" if found.value is not None else "null" if found.inside else "missing"
    return Explanation(
        entity_id=entity_id,
        feature=str(feature.ref),
        group=group.name,
        owner=feature.owner,
        at=instant,
        status=status,
        value=value,
        default=feature.default,
        reason=reason,
        winner=None,
        losers=(),
        ttl_seconds=feature.online_ttl_seconds,
        ttl_left_seconds=None,
        expires_at=None,
        code_is_current=None,
        online=answer,
        window=found,
    )


@dataclass(frozen=True, slots=True)
class _Question:
    entity_id: str
    feature: Feature
    group: RegisteredGroup
    instant: datetime
    ttl: timedelta
    visibility: Visibility

    def is_over(self, event: datetime) -> bool:
        """Tells whether the time to live of a row at or before the instant is over."""
        return self.visibility.verdict(to_micros(event), to_micros(self.instant)) == "expired"


def _selected(catalog: Catalog, feature: str) -> Selection:
    selections = catalog.select([feature])
    if len(selections) != 1:
        raise InvalidRequestError(
            f"{feature!r} is a feature group with {len(selections)} features, and each has its own story: name one of "
            f"them, such as {selections[0].label}."
        )
    return selections[0]


def _rows_around(offline: OfflineStore, question: _Question) -> list[dict[str, Any]]:
    """Returns the entity's rows around the instant, newest first; if none is at or before it, back to the last one."""
    group, entity_id, instant = question.group, question.entity_id, question.instant
    middle = to_micros(instant)
    near = question.visibility.window_of_micros(middle - _MARGIN_MICROS, middle + _MARGIN_MICROS)
    dtypes = RowSchema.of(group).features
    rows = list(python_rows(offline.history(group, entity_id, near), dtypes))
    if any(row[EVENT_TIMESTAMP] <= instant for row in rows):
        return rows
    for window in _windows_back(offline, group, near.start):
        older = list(python_rows(offline.history(group, entity_id, window).head(1), dtypes))
        if older:
            return rows + older
    return rows


def _windows_back(offline: OfflineStore, group: RegisteredGroup, end: datetime) -> Iterator[Window]:
    """Yields windows back to the group's first file, each twice as long as the one before."""
    first = min((file.window.start for file in offline.files(group.name)), default=end)
    length = timedelta(days=32)
    while end > first:
        start = end - min(length, end - first)
        yield Window(start, end)
        end, length = start, 2 * length


def _judged(
    rows: list[dict[str, Any]], question: _Question, offline: OfflineStore
) -> tuple[ExplainedRow | None, tuple[ExplainedRow, ...]]:
    """Returns the row that decides, and the others: those nearest to the instant, newest first."""
    position = next((index for index, row in enumerate(rows) if row[EVENT_TIMESTAMP] <= question.instant), None)
    deciding = None if position is None else rows[position]
    # Rows are sorted by time: the nearest ones stand around the one that decides.
    middle = len(rows) if position is None else position
    first = max(0, min(middle - ROWS_SHOWN // 2, len(rows) - ROWS_SHOWN - 1))
    made: dict[str, tuple[PartitionFile, Mapping[str, str]]] = {}
    winner = None
    losers = []
    for index, row in enumerate(rows[first : first + ROWS_SHOWN + 1], start=first):
        if row[SOURCE_FILE] not in made:
            found = file_at(offline.root / row[SOURCE_FILE])
            made[row[SOURCE_FILE]] = found, metadata_of(found)
        file, metadata = made[row[SOURCE_FILE]]
        outcome, reason = _outcome(row, deciding, question)
        explained = ExplainedRow(
            outcome=outcome,
            reason=reason,
            value=row[question.feature.ref.column],
            event_timestamp=row[EVENT_TIMESTAMP],
            ingested_at=row[INGESTED_AT],
            file=row[SOURCE_FILE],
            partition=file.partition_key,
            writer=file.writer,
            run_id=metadata.get("run_id", ""),
            code_version=metadata.get("code_version"),
            written_with={key: text for key, text in metadata.items() if key not in _NOT_SHOWN},
        )
        if index == position:
            winner = explained
        else:
            losers.append(explained)
    return winner, tuple(losers)


def _outcome(row: Mapping[str, Any], deciding: Mapping[str, Any] | None, question: _Question) -> tuple[Outcome, str]:
    event, instant, ttl = row[EVENT_TIMESTAMP], question.instant, question.ttl
    if event > instant:
        return "later", f"Its event is {duration_text(event - instant)} after the instant."
    assert deciding is not None
    if row is deciding:
        if question.is_over(event):
            over_for = duration_text(instant - event - ttl)
            return "expired", f"The latest row, but its time to live ended {over_for} before."
        return "wins", f"The latest row at or before the instant, {duration_text(instant - event)} old."
    if event < deciding[EVENT_TIMESTAMP]:
        over = " Its own time to live is over, too." if question.is_over(event) else ""
        before = duration_text(deciding[EVENT_TIMESTAMP] - event)
        return "older", f"Its event is {before} before that of the latest row.{over}"
    if row[INGESTED_AT] < deciding[INGESTED_AT]:
        earlier = duration_text(deciding[INGESTED_AT] - row[INGESTED_AT])
        return "tie", f"Same event time, but ingested {earlier} earlier."
    return "tie", "Same event time, ingested at the same time: the row that was written last counts."


def _answer(winner: ExplainedRow | None, question: _Question) -> tuple[Status, Any, str]:
    instant, ttl = question.instant, question.ttl
    if winner is None:
        return "missing", None, f"The offline store has no row of this entity at or before {instant.isoformat()}."
    age = instant - winner.event_timestamp
    latest = f"The latest row, of {winner.event_timestamp.isoformat()},"
    if winner.outcome == "expired":
        ended = f"{latest} lived for {duration_text(ttl)}, until {duration_text(age - ttl)} before the instant."
        return "expired", None, f"{ended} An older row never stands in."
    late = ""
    if winner.ingested_at > instant:
        span = duration_text(winner.ingested_at - instant)
        late = f" It was written {span} after the instant: who read online then saw what was known before."
    if winner.value is None:
        return "null", None, f"{latest} says null. An older value never stands in.{late}"
    return "present", winner.value, f"{latest} is {duration_text(age)} old and lives for {duration_text(ttl)}.{late}"


def _comparison(state: FeatureState, expected: Any, winner: ExplainedRow | None) -> tuple[bool, str]:
    """Tells whether the online store answers what the offline store says, and if not, what may have happened."""
    event = state.event_timestamp
    if state.value == expected:
        if expected is None or winner is None or event == winner.event_timestamp:
            return True, "It answers what the offline store says."
        reason = "The values are equal by chance: they are of different rows."
    elif winner is None:
        reason = "It holds a row that the offline store does not have."
    elif event is None:
        reason = "It holds nothing where the offline store has a row: the key was lost, or never pushed."
    elif event < winner.event_timestamp:
        reason = f"Its row, of {event.isoformat()}, is older than the latest one: a push was lost."
    elif event > winner.event_timestamp:
        reason = f"Its row, of {event.isoformat()}, is newer than all that the offline store has up to now."
    else:
        reason = "It holds another value in a row of the same event time: the offline row was replaced, not pushed."
    return False, reason
