"""Replays the request log: was each answer what a training set would say of the same instant?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from feature_store.catalog import Catalog, Feature, RegisteredGroup, Selection
from feature_store.clock import Clock, to_micros
from feature_store.definitions.names import ENTITY_ID
from feature_store.frames import key_frame
from feature_store.monitoring.request_log import FILE_PREFIX, SUFFIX
from feature_store.monitoring.visible_versions import OnlineTimes, VisibleVersions
from feature_store.offline.point_in_time.engine import PointInTimeEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.online.store import OnlineStore
from feature_store.online.values import decode_out_of_range, decoder
from feature_store.rows.polars_schema import python_rows
from feature_store.visibility import Visibility

MOST_VALUES = 100_000
"""Logged values that are replayed, the newest ones."""

SHOWN = 5

_SERVED_AT = "served_at"
_TTL = "ttl_seconds"
_AS_OF = "_as_of"
_ROUND = "_round"


@dataclass(frozen=True, slots=True)
class Deviation:
    """One answer that a training set would not give.

    Attributes:
        entity_id: The entity.
        feature: Reference of the feature.
        served_at: When it was served (UTC).
        served: What was served.
        replayed: What the offline store says of that instant now.
        kind: `late` if it was right by what was online then: the row that says otherwise came later, or was on its way;
            else `wrong`.
    """

    entity_id: str
    feature: str
    served_at: datetime
    served: Any
    replayed: Any
    kind: Literal["wrong", "late"]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """How the answers that were logged compare with training sets.

    Attributes:
        values: Values that were compared.
        skipped: Values of windowed features, of features that are registered no more, or of which the log does not say
            by which time to live they were read.
        wrong: Values that the store had no reason for.
        late: Values that were right by what was online then, and are different now.
        undrained: Values that cannot be judged yet: they may stand in rows of a stream that are not drained.
        deviations: The first of both, wrong ones first.
        first: When the first compared value was served, None if there is none.
        last: When the last was.
    """

    values: int
    skipped: int
    wrong: int
    late: int
    undrained: int
    deviations: tuple[Deviation, ...]
    first: datetime | None
    last: datetime | None

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.wrong


def replay_requests(
    folder: str | Path,
    *,
    catalog: Catalog,
    offline: OfflineStore,
    online: OnlineStore,
    engine: PointInTimeEngine,
    clock: Clock,
    groups: Iterable[str] | None = None,
    since: datetime | None = None,
    most: int = MOST_VALUES,
) -> ReplayReport:
    """Compares logged answers with the point-in-time rule, by the times to live that held when they were served.

    Args:
        folder: The request log's.
        catalog: What is registered.
        offline: Is asked for each instant.
        online: Tells what was on its way there, if answers differ.
        engine: Applies the rule.
        clock: Tells whether time passes between a read and the date of its answer.
        groups: Only the features of these groups.
        since: Only what was served from then on.
        most: Values at most, the newest ones.

    Raises:
        OnlineStoreError: If answers differ, and the online store does not answer.
    """
    served = _logged(Path(folder), groups, since, most)
    # What a window comes to changes with every microsecond, and the log's instant is that of its note, not of the read.
    known = {str(ref): feature for ref, feature in catalog.features.items() if feature.window is None}
    compared = served.filter(pl.col("feature").is_in(list(known)) & pl.col(_TTL).is_not_null())
    deviations: list[Deviation] = []
    undrained = 0
    for (name,), part in compared.group_by("group", maintain_order=True):
        group = catalog.group(str(name))
        wanted = {text: known[text] for text in part["feature"].unique().sort()}
        found = _differing(group, wanted, part, offline, engine)
        if found:
            judged, waiting = _judged(found, group, wanted, offline, online, clock)
            deviations += judged
            undrained += waiting
    deviations.sort(key=lambda deviation: deviation.kind == "late")
    late = sum(deviation.kind == "late" for deviation in deviations)
    return ReplayReport(
        values=compared.height,
        skipped=served.height - compared.height,
        wrong=len(deviations) - late,
        late=late,
        undrained=undrained,
        deviations=tuple(deviations[:SHOWN]),
        first=compared[_SERVED_AT].min(),  # type: ignore[arg-type]  # datetimes, by the column's type
        last=compared[_SERVED_AT].max(),  # type: ignore[arg-type]
    )


def _logged(folder: Path, groups: Iterable[str] | None, since: datetime | None, most: int) -> pl.DataFrame:
    schema: dict[str, pl.DataType] = {
        _SERVED_AT: pl.Datetime("us", "UTC"),
        **dict.fromkeys(("group", "feature", ENTITY_ID, "value"), pl.String()),
        _TTL: pl.Int64(),
    }
    parts = [pl.DataFrame(schema=schema)]
    count = 0
    for file in sorted(folder.glob(f"{FILE_PREFIX}*{SUFFIX}"), reverse=True):
        try:
            part = pl.read_parquet(file, glob=False, hive_partitioning=False)
        except FileNotFoundError:  # rotated away meanwhile
            continue
        if groups is not None:
            part = part.filter(pl.col("group").is_in(list(groups)))
        if since is not None:
            part = part.filter(pl.col(_SERVED_AT) >= since)
        parts.append(part)
        count += part.height
        if count >= most:
            break
    return pl.concat(parts, how="diagonal").select(list(schema)).sort(_SERVED_AT).tail(most)


@dataclass(frozen=True, slots=True)
class _Differing:
    """A logged answer that a training set would not give now."""

    entity_id: str
    feature: str
    served_at: datetime
    ttl_seconds: int
    served: Any
    replayed: Any

    def judged(self, kind: Literal["wrong", "late"]) -> Deviation:
        return Deviation(self.entity_id, self.feature, self.served_at, self.served, self.replayed, kind)


def _differing(
    group: RegisteredGroup,
    wanted: Mapping[str, Feature],
    part: pl.DataFrame,
    offline: OfflineStore,
    engine: PointInTimeEngine,
) -> list[_Differing]:
    """Returns the answers that training sets would not give, asked with the times to live that the readers went by."""
    differing = []
    # Of each feature the n-th time to live in the n-th round: as a rule there is one.
    rounds = part.with_columns(pl.col(_TTL).rank("dense").over("feature").alias(_ROUND))
    for _, answers in rounds.group_by(_ROUND, maintain_order=True):
        ttls = dict(answers.select("feature", _TTL).unique().iter_rows())
        features = [replace(wanted[text], online_ttl_seconds=ttl) for text, ttl in sorted(ttls.items())]
        selections = [Selection(str(feature.ref), feature) for feature in features]
        # A group of these alone: nothing that is kept for other times to live, such as a snapshot, is taken for it.
        catalog = Catalog.of([replace(group, features=tuple(features))])
        instants = answers.select(ENTITY_ID, _SERVED_AT).unique(maintain_order=True)
        labels = key_frame(group.entity, instants[ENTITY_ID].to_list()).with_columns(instants[_SERVED_AT].alias(_AS_OF))
        joined = point_in_time_join(offline, catalog, labels, _AS_OF, selections, engine)
        rows = python_rows(joined.select(list(ttls)), {str(feature.ref): feature.dtype for feature in features})
        right = dict(zip(instants.iter_rows(), rows, strict=True))
        columns = answers.select(_SERVED_AT, ENTITY_ID, "feature", _TTL, "value")
        for served_at, entity_id, text, ttl, value in columns.iter_rows():
            served, replayed = _decoded(value, wanted[text]), right[entity_id, served_at][text]
            if served != replayed:
                differing.append(_Differing(entity_id, text, served_at, ttl, served, replayed))
    return differing


def _judged(
    differing: Sequence[_Differing],
    group: RegisteredGroup,
    wanted: Mapping[str, Feature],
    offline: OfflineStore,
    online: OnlineStore,
    clock: Clock,
) -> tuple[list[Deviation], int]:
    """Tells answers that were right by what was online from wrong ones; and how many cannot be judged yet."""
    first, last = (choose(each.served_at for each in differing) for choose in (min, max))
    # Asked before the rows are read: what is drained in between is in them.
    times = OnlineTimes.of(group, first, offline, online, clock)
    window = Visibility.of_seconds(each.ttl_seconds for each in differing).window(first, last)
    entity_ids = dict.fromkeys(each.entity_id for each in differing)
    versions = VisibleVersions(group, entity_ids, window, offline, times)
    judged = []
    undrained = 0
    for each in differing:
        at, (ttl,) = to_micros(each.served_at), Visibility.of_seconds([each.ttl_seconds]).ttls
        if versions.could_answer(each.entity_id, wanted[each.feature].ref.column, ttl, at, each.served):
            judged.append(each.judged("late"))
        elif times.may_be_undrained(at):
            undrained += 1
        else:
            judged.append(each.judged("wrong"))
    return judged, undrained


def _decoded(text: str, feature: Feature) -> Any:
    raw = text.encode()
    try:
        return decoder(feature.dtype)(raw)
    except (ValueError, msgspec.MsgspecError):
        return decode_out_of_range(raw, feature.dtype)
