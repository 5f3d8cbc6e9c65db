"""Replays the request log: was each answer what a training set would say of the same instant?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from feature_store.catalog import Catalog, Feature, Group, Selection
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import key_frame
from feature_store.monitoring.request_log import FILE_PREFIX, SUFFIX
from feature_store.offline.point_in_time.engine import PointInTimeEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.online.values import decode_out_of_range, decoder

MOST_VALUES = 100_000
"""Logged values that are replayed, the newest ones."""

BOUNDARY = timedelta(seconds=2)
"""An answer is dated after it was read. What was right so shortly before counts as right."""

EXPLAINED = 200
"""Deviations whose row is looked up, to tell late data from wrong answers; the others count as wrong."""

SHOWN = 5

_SERVED_AT = "served_at"
_AS_OF = "_as_of"


@dataclass(frozen=True, slots=True)
class Deviation:
    """One answer that a training set would not give.

    Attributes:
        entity_id: The entity.
        feature: Reference of the feature.
        served_at: When it was served (UTC).
        served: What was served.
        replayed: What the offline store says of that instant now.
        kind: `late` if the row that says so came to the store after the answer: nobody could know; else `wrong`.
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
        skipped: Values of features that are registered no more.
        wrong: Values that the store had no reason for.
        late: Values that were right by what was known, and are different now.
        deviations: The first of both, wrong ones first.
        first: When the first compared value was served, None if there is none.
        last: When the last was.
    """

    values: int
    skipped: int
    wrong: int
    late: int
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
    engine: PointInTimeEngine,
    groups: Iterable[str] | None = None,
    since: datetime | None = None,
    most: int = MOST_VALUES,
) -> ReplayReport:
    """Compares logged answers with the point-in-time rule.

    Args:
        folder: The request log's.
        catalog: What is registered.
        offline: Is asked for each instant.
        engine: Applies the rule.
        groups: Only the features of these groups.
        since: Only what was served from then on.
        most: Values at most, the newest ones.
    """
    served = _logged(Path(folder), groups, since, most)
    known = {str(ref): feature for ref, feature in catalog.features.items()}
    compared = served.filter(pl.col("feature").is_in(list(known)))
    deviations = []
    for (name,), part in compared.group_by("group", maintain_order=True):
        group = catalog.group(str(name))
        wanted = {text: known[text] for text in part["feature"].unique().sort()}
        found = _deviations(group, wanted, part, catalog, offline, engine)
        deviations += _explained(found, group, offline)
    deviations.sort(key=lambda deviation: deviation.kind == "late")
    late = sum(deviation.kind == "late" for deviation in deviations)
    return ReplayReport(
        values=compared.height,
        skipped=served.height - compared.height,
        wrong=len(deviations) - late,
        late=late,
        deviations=tuple(deviations[:SHOWN]),
        first=compared[_SERVED_AT].min(),  # type: ignore[arg-type]  # datetimes, by the column's type
        last=compared[_SERVED_AT].max(),  # type: ignore[arg-type]
    )


def _logged(folder: Path, groups: Iterable[str] | None, since: datetime | None, most: int) -> pl.DataFrame:
    schema = {
        _SERVED_AT: pl.Datetime("us", "UTC"),
        **dict.fromkeys(("group", "feature", ENTITY_ID, "value"), pl.String()),
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
    return pl.concat(parts).sort(_SERVED_AT).tail(most)


def _deviations(
    group: Group,
    wanted: dict[str, Feature],
    part: pl.DataFrame,
    catalog: Catalog,
    offline: OfflineStore,
    engine: PointInTimeEngine,
) -> list[Deviation]:
    selections = [Selection(text, feature) for text, feature in wanted.items()]

    def replayed(instants: pl.DataFrame) -> dict[tuple[str, datetime], dict[str, Any]]:
        labels = key_frame(group.entity, instants[ENTITY_ID].to_list()).with_columns(instants[_AS_OF])
        joined = point_in_time_join(offline, catalog, labels, _AS_OF, selections, engine)
        rows = joined.select(list(wanted)).iter_rows(named=True)
        return dict(zip(instants.select(ENTITY_ID, _SERVED_AT).iter_rows(), rows, strict=True))

    instants = part.select(ENTITY_ID, _SERVED_AT).unique(maintain_order=True)
    answers = replayed(instants.with_columns(pl.col(_SERVED_AT).alias(_AS_OF)))
    differing = []
    for served_at, entity_id, text, value in part.select(_SERVED_AT, ENTITY_ID, "feature", "value").iter_rows():
        served, right = _decoded(value, wanted[text]), answers[entity_id, served_at][text]
        if served != right:
            differing.append(Deviation(entity_id, text, served_at, served, right, "wrong"))
    if not differing:
        return []
    again = pl.DataFrame(
        [(each.entity_id, each.served_at) for each in differing], schema=instants.schema, orient="row"
    ).unique(maintain_order=True)
    before = replayed(again.with_columns((pl.col(_SERVED_AT) - BOUNDARY).alias(_AS_OF)))
    return [each for each in differing if before[each.entity_id, each.served_at][each.feature] != each.served]


def _explained(deviations: Sequence[Deviation], group: Group, offline: OfflineStore) -> list[Deviation]:
    """Tells answers that late rows have overtaken from those that were wrong."""
    histories: dict[str, pl.DataFrame] = {}
    explained = []
    for number, each in enumerate(deviations):
        if number < EXPLAINED:
            if each.entity_id not in histories:
                rows = offline.history(group, each.entity_id).select(EVENT_TIMESTAMP, INGESTED_AT)
                histories[each.entity_id] = rows
            visible = histories[each.entity_id].filter(pl.col(EVENT_TIMESTAMP) <= each.served_at)
            if visible.height and visible[INGESTED_AT][0] > each.served_at:
                explained.append(
                    Deviation(each.entity_id, each.feature, each.served_at, each.served, each.replayed, "late")
                )
                continue
        explained.append(each)
    return explained


def _decoded(text: str, feature: Feature) -> Any:
    raw = text.encode()
    try:
        return decoder(feature.dtype)(raw)
    except (ValueError, msgspec.MsgspecError):
        return decode_out_of_range(raw, feature.dtype)
