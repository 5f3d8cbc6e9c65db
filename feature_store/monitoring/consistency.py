"""Whether the online store answers what the offline store says at the same instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

from feature_store.catalog import Catalog, RegisteredGroup, Selection
from feature_store.clock import Clock, FixedClock
from feature_store.definitions.names import ENTITY_ID, INGESTED_AT
from feature_store.frames import TIMESTAMP_TYPE, key_frame
from feature_store.offline.latest import latest_rows, sampled_entities
from feature_store.offline.point_in_time.engine import PointInTimeEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.offline.unfinished import under_way
from feature_store.online.reading.prepared import FeatureState
from feature_store.online.store import OnlineStore
from feature_store.rows.polars_schema import python_rows

SAMPLED_ENTITIES = 1000

IN_FLIGHT = timedelta(minutes=15)
"""While a write is under way, rows ingested less than this ago may be in one store alone: they are not judged."""

ENTITIES_PER_READ = 1000
OFFENDERS_SHOWN = 5

Fault = Literal["mismatch", "missing", "extra"]

_AS_OF = "_now"


@dataclass(frozen=True, slots=True)
class Offender:
    """One entity of which one feature is wrong online.

    Attributes:
        entity_id: The entity.
        feature: Reference of the feature.
        fault: `mismatch` (another value), `missing` (no value where there is one) or `extra` (a value where there is
            none).
        online: What the online store answers.
        offline: What the offline store says.
        online_event: Event time of the online row (UTC), None where there is none.
    """

    entity_id: str
    feature: str
    fault: Fault
    online: Any
    offline: Any
    online_event: datetime | None


@dataclass(frozen=True, slots=True)
class FeatureConsistency:
    """One feature's answers.

    Attributes:
        feature: Reference of the feature.
        compared: Entities that were compared.
        mismatched: Of those, how many have another value online.
        missing: How many have none online where there is one.
        extra: How many have one online where there is none.
    """

    feature: str
    compared: int
    mismatched: int = 0
    missing: int = 0
    extra: int = 0

    @property
    def wrong(self) -> int:
        """Entities with any fault."""
        return self.mismatched + self.missing + self.extra


@dataclass(frozen=True, slots=True)
class ConsistencyReport:
    """Whether a group's online answers are those of the offline store.

    Attributes:
        group: The group.
        at: The instant of the comparison (UTC).
        entities: Entities that were compared.
        in_flight: Entities that were left out because they are being written.
        features: Per feature, in the group's order.
        offenders: The first of what is wrong.
    """

    group: str
    at: datetime
    entities: int
    in_flight: int
    features: tuple[FeatureConsistency, ...]
    offenders: tuple[Offender, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not any(feature.wrong for feature in self.features)


def check_consistency(
    group: RegisteredGroup,
    *,
    catalog: Catalog,
    offline: OfflineStore,
    online: OnlineStore,
    engine: PointInTimeEngine,
    clock: Clock,
    entities: int = SAMPLED_ENTITIES,
    turn: int = 0,
    entity_ids: Sequence[str] | None = None,
) -> ConsistencyReport:
    """Compares what is online now with the offline store's answer at the same instant.

    What differs is asked again, so that a write between the two reads is no fault.

    Args:
        group: The group.
        catalog: What is registered.
        offline: Says what is right.
        online: Is compared.
        engine: Applies the rule of visibility to the offline store.
        clock: Tells the instant.
        entities: Entities to sample, by a hash of their keys.
        turn: Another number draws another sample.
        entity_ids: These entities instead of a sample.

    Raises:
        OnlineStoreError: If the online store does not answer.
        InvalidRequestError: If an entity id is malformed.
    """
    group = group.rows
    now = clock.now()
    ids = (
        sampled_entities(offline, group, now, entities, turn=turn, spans=2) if entity_ids is None else list(entity_ids)
    )
    comparer = _Comparer(group, catalog, offline, online, engine, clock)
    faults = comparer.faults(ids)
    again = comparer.faults(list(dict.fromkeys(fault.entity_id for fault in faults))) if faults else []
    suspects = list(dict.fromkeys(fault.entity_id for fault in again))
    in_flight = comparer.in_flight(suspects) if suspects else set()
    offenders = [fault for fault in again if fault.entity_id not in in_flight]
    compared = len(ids) - len(in_flight)
    features = []
    for feature in group.windows or group.features:
        kinds = [offender.fault for offender in offenders if offender.feature == str(feature.ref)]
        counted = (kinds.count("mismatch"), kinds.count("missing"), kinds.count("extra"))
        features.append(FeatureConsistency(str(feature.ref), compared, *counted))
    return ConsistencyReport(
        group.name, now, compared, len(in_flight), tuple(features), tuple(offenders[:OFFENDERS_SHOWN])
    )


class _Comparer:
    """Reads both stores at one instant."""

    def __init__(
        self,
        group: RegisteredGroup,
        catalog: Catalog,
        offline: OfflineStore,
        online: OnlineStore,
        engine: PointInTimeEngine,
        clock: Clock,
    ) -> None:
        self._group = group
        self._catalog = catalog
        self._offline = offline
        self._online = online
        self._engine = engine
        self._clock = clock
        self._selections = _selections(group)
        self._ingested: dict[str, datetime] = {}

    def faults(self, entity_ids: Sequence[str]) -> list[Offender]:
        now = self._clock.now()
        # What windows come to changes with every instant: both stores are asked for the same one.
        states = list(self._states(entity_ids, FixedClock(now)))
        labels = key_frame(self._group.entity, entity_ids).with_columns(pl.lit(now, dtype=TIMESTAMP_TYPE).alias(_AS_OF))
        expected = point_in_time_join(
            self._offline, self._catalog, labels, _AS_OF, self._selections, self._engine
        ).select(selection.label for selection in self._selections)
        found = []
        rows = python_rows(expected, {selection.label: selection.feature.dtype for selection in self._selections})
        for entity_id, state, row in zip(entity_ids, states, rows, strict=True):
            for label, right in row.items():
                each = state[label]
                fault = _fault(each.value, right)
                if fault is not None:
                    found.append(Offender(entity_id, label, fault, each.value, right, each.event_timestamp))
                    if each.ingested_at is not None:
                        self._ingested[entity_id] = each.ingested_at
        return found

    def in_flight(self, entity_ids: Sequence[str]) -> set[str]:
        """Returns which entities have a row in one store that is on its way to the other."""
        now = self._clock.now()
        state = self._online.ingestion.state(self._group.name)
        undrained = {entity_id for entity_id, ingested in self._ingested.items() if state.is_undrained(ingested)}
        # Of these the offline store still holds rows that a stream has taken back.
        undrained |= {each.entity_id for each in self._online.retractions.undrained(self._group.name)} & {*entity_ids}
        if not under_way(self._offline.root, self._group.name):
            return undrained
        rows = latest_rows(self._offline, self._group, now, entity_ids)
        written = [*rows.select(ENTITY_ID, INGESTED_AT).iter_rows(), *self._ingested.items()]
        return undrained | {entity_id for entity_id, ingested in written if _is_flying(self._clock, now, ingested)}

    def _states(self, entity_ids: Sequence[str], clock: Clock) -> Iterator[Mapping[str, FeatureState]]:
        for start in range(0, len(entity_ids), ENTITIES_PER_READ):
            yield from self._online.read_states(
                entity_ids[start : start + ENTITIES_PER_READ], self._selections, self._catalog, clock=clock
            )


def _selections(group: RegisteredGroup) -> list[Selection]:
    return [Selection(str(feature.ref), feature) for feature in group.windows or group.features]


def _fault(online: Any, offline: Any) -> Fault | None:
    if online == offline:
        return None
    if online is None:
        return "missing"
    return "extra" if offline is None else "mismatch"


def _is_flying(clock: Clock, now: datetime, ingested: datetime) -> bool:
    # Under a clock that stands still everything was ingested now.
    return clock.is_live and now - ingested < IN_FLIGHT
