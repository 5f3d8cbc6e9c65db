"""The nightly monitor: what the values online look like, compared with the baseline and with the nights before.

Its numbers go to `feature_monitor`, one row per feature and night. Whether the values are right is the business of
`consistency`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import log
from typing import Any

import numpy as np
import polars as pl

from feature_store.catalog import Catalog, Feature, RegisteredGroup, Selection
from feature_store.clock import Clock
from feature_store.definitions.monitor import Monitor
from feature_store.frames import TIMESTAMP_TYPE, key_frame
from feature_store.monitoring.baseline import counts_like, value_counts
from feature_store.monitoring.chance import FALSE_ALARMS, differs, excess_chance
from feature_store.monitoring.check_names import ONLINE_VALUES
from feature_store.monitoring.drift import psi
from feature_store.monitoring.expectation import WINDOW, Series
from feature_store.monitoring.findings import CheckResult, Finding
from feature_store.monitoring.profile import FeatureProfile, profile_values
from feature_store.monitoring.reference import Baseline
from feature_store.monitoring.watching import LEAST_VALUES, MEAN_SHIFT, SCALE_FACTOR
from feature_store.offline.latest import sampled_entities
from feature_store.offline.point_in_time.engine import PointInTimeEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.online.reading.prepared import FeatureState
from feature_store.online.store import OnlineStore
from feature_store.registry.records import MonitorRecord
from feature_store.registry.registry import Registry
from feature_store.rows.polars_schema import series_of_values, values_of_series

SAMPLED_ENTITIES = 1000
ENTITIES_PER_READ = 1000

NIGHTS = 2 * WINDOW
"""Nights before that a night is compared with."""

A_WEEK = 7

CHANGING = 0.1
"""Share of updated entities whose value usually changes in a night, from which standing still is a finding."""

_AS_OF = "_before"


@dataclass(frozen=True, slots=True)
class OnlineMonitorReport:
    """What one night found of a group.

    Attributes:
        group: The group.
        at: When it was measured (UTC).
        entities: Entities that were sampled.
        records: One measurement per feature, as recorded.
        result: The judgement.
    """

    group: str
    at: datetime
    entities: int
    records: tuple[MonitorRecord, ...]
    result: CheckResult


def monitor_online(
    group: RegisteredGroup,
    *,
    catalog: Catalog,
    offline: OfflineStore,
    online: OnlineStore,
    registry: Registry,
    engine: PointInTimeEngine,
    clock: Clock,
    baselines: Mapping[str, Baseline],
    thresholds: Mapping[str, Monitor],
    entities: int = SAMPLED_ENTITIES,
) -> OnlineMonitorReport:
    """Measures a sample of a group's online values, records it, and judges it.

    The sample is drawn by a hash of the keys from the offline store, the same each night, so that no key of the online
    store is scanned and nights differ by the values alone.

    Args:
        group: The group.
        catalog: What is registered.
        offline: Tells the entities, and what their values were the night before.
        online: Is measured.
        registry: Keeps the measurements.
        engine: Applies the rule of visibility to the offline store.
        clock: Tells the present.
        baselines: Baseline by feature column.
        thresholds: Thresholds by feature column; the defaults for others.
        entities: Entities to sample.

    Raises:
        OnlineStoreError: If the online store does not answer; nothing is recorded then.
    """
    now = clock.now()
    ids = sampled_entities(offline, group.rows, now, entities)
    selections = [Selection(feature.ref.column, feature) for feature in group.features]
    states: list[Mapping[str, FeatureState]] = []
    for start in range(0, len(ids), ENTITIES_PER_READ):
        states += online.read_states(ids[start : start + ENTITIES_PER_READ], selections, catalog)
    columns = {feature.ref.column: feature for feature in group.features}
    values = pl.DataFrame(
        {
            column: series_of_values(column, [state[column].value for state in states], feature.dtype)
            for column, feature in columns.items()
        }
    )
    profiles = profile_values({column: feature.dtype for column, feature in columns.items()}, values)
    past = {column: registry.monitors(feature.id, NIGHTS) for column, feature in columns.items()}
    night_before = max(
        (records[0].computed_at for records in past.values() if records), default=now - timedelta(days=1)
    )
    night_before = min(night_before, now - timedelta(hours=1))
    changed = _changed(
        ids, states, selections, night_before, catalog=catalog, offline=offline, engine=engine, group=group
    )
    newest = [state[selections[0].label].event_timestamp for state in states] if selections else []
    newest_event = max((event for event in newest if event is not None), default=None)
    # A feature has four tests: it stands still, is infinite, is null, has moved.
    level = FALSE_ALARMS / max(4 * len(columns), 1)
    records, findings = [], []
    numbers: dict[str, float] = {"entities": len(ids)}
    for column, feature in columns.items():
        record = _record(feature, profiles[column], baselines.get(column), changed.get(column), newest_event, now)
        records.append(record)
        night = _Night(column, profiles[column], record, past[column], baselines.get(column), level)
        finding = _judge(night, thresholds.get(column, Monitor()))
        if finding is not None:
            findings.append(finding)
        for name in ("null_rate", "mean", "psi"):
            if (value := getattr(record, name)) is not None:
                numbers[f"{name}/{column}"] = value
        numbers[f"infinite_rate/{column}"] = profiles[column].infinite_rate
    registry.record_monitor(records)
    calm = f"{len(ids):,} entities; no feature's online values are off their course, and none stands still."
    summary = f"{'; '.join(finding.text for finding in findings)}." if findings else calm
    result = CheckResult(ONLINE_VALUES, not findings, summary, numbers, tuple(findings))
    return OnlineMonitorReport(group.name, now, len(ids), tuple(records), result)


def _changed(
    ids: Sequence[str],
    states: Sequence[Mapping[str, FeatureState]],
    selections: Sequence[Selection],
    before: datetime,
    *,
    catalog: Catalog,
    offline: OfflineStore,
    engine: PointInTimeEngine,
    group: RegisteredGroup,
) -> dict[str, tuple[int, int]]:
    """Returns per column how many entities have a newer row than the night before, and how many another value."""
    if not selections:
        return {}
    label = selections[0].label
    updated = [
        (entity_id, state)
        for entity_id, state in zip(ids, states, strict=True)
        if (event := state[label].event_timestamp) is not None and event > before
    ]
    if not updated:
        return {selection.label: (0, 0) for selection in selections}
    labels = key_frame(group.entity, [entity_id for entity_id, _ in updated]).with_columns(
        pl.lit(before, dtype=TIMESTAMP_TYPE).alias(_AS_OF)
    )
    old = point_in_time_join(offline, catalog, labels, _AS_OF, selections, engine)
    counted = {}
    for selection in selections:
        # An entity that had no value has got one; whether it changes shows from then on.
        pairs = [
            (was, state[selection.label].value)
            for was, (_, state) in zip(
                values_of_series(old[selection.label], selection.feature.dtype), updated, strict=True
            )
            if was is not None
        ]
        counted[selection.label] = (len(pairs), sum(was != value for was, value in pairs))
    return counted


def _record(
    feature: Feature,
    profile: FeatureProfile,
    baseline: Baseline | None,
    changed: tuple[int, int] | None,
    newest_event: datetime | None,
    now: datetime,
) -> MonitorRecord:
    updated, differing = changed or (0, 0)
    details: dict[str, Any] = {
        "source": "online",
        "baseline": baseline.source if baseline else None,
        "newest_event": newest_event.isoformat() if newest_event else None,
        "updated": updated,
        "changed": differing / updated if updated else None,
        "infinite_rate": profile.infinite_rate,
    }
    return MonitorRecord(
        feature_id=feature.id,
        n=profile.rows,
        mean=profile.mean,
        stddev=profile.stddev,
        null_rate=profile.null_rate,
        minimum=profile.minimum,
        maximum=profile.maximum,
        psi=_psi(profile, baseline),
        details=details,
        computed_at=now,
    )


@dataclass(frozen=True, slots=True)
class _Night:
    """One feature in one night, and what it is compared with. Nights before come newest first."""

    column: str
    profile: FeatureProfile
    record: MonitorRecord
    past: Sequence[MonitorRecord]
    baseline: Baseline | None
    level: float

    def counts(self) -> tuple[list[float], list[float]] | None:
        """Returns the counts of the values and of the baseline's in the same bins, None without such bins."""
        return None if self.baseline is None else _counts(self.profile, self.baseline)

    def usual(self, measure: Callable[[MonitorRecord], float]) -> tuple[float, float]:
        """Returns in how many rows of all nights before something was so, by its share in each, and their rows."""
        return sum(measure(each) * each.n for each in self.past), sum(each.n for each in self.past)


def _counts(profile: FeatureProfile, baseline: Baseline) -> tuple[list[float], list[float]] | None:
    known = baseline.profile
    if profile.quantiles is not None and known.get("edges"):
        return profile.quantiles.counts(known["edges"]).tolist(), value_counts(known)
    if profile.categories is not None and profile.buckets is not None and known.get("categories"):
        return counts_like(known, profile.categories, profile.buckets), value_counts(known)
    return None


def _psi(profile: FeatureProfile, baseline: Baseline | None) -> float | None:
    """Returns the index against the baseline, with a bin for nulls and one for infinities."""
    if baseline is None or not profile.rows:
        return None
    counts = _counts(profile, baseline)
    if counts is None:
        return None
    current, known = counts
    return psi(
        [profile.nulls, profile.infinite, *current], [baseline.profile["nulls"], baseline.profile["infinite"], *known]
    )


def _infinite_rate(record: MonitorRecord) -> float:
    return float(record.details.get("infinite_rate", 0.0))


def _missing_rate(record: MonitorRecord) -> float:
    return (record.null_rate or 0.0) + _infinite_rate(record)


def _judge(night: _Night, thresholds: Monitor) -> Finding | None:
    if night.record.n < LEAST_VALUES:
        return None
    return (
        _standing(night)
        or _infinities(night, thresholds)
        or _nulls(night, thresholds)
        or (_moved(night, thresholds) if thresholds.drift else None)
    )


def _standing(night: _Night) -> Finding | None:
    now = night.record.details
    nights = [each.details for each in night.past if each.details.get("updated", 0) >= LEAST_VALUES]
    usual = [each["changed"] for each in nights if each.get("changed") is not None]
    if now["updated"] < LEAST_VALUES or now["changed"] or len(usual) < A_WEEK or float(np.median(usual)) < CHANGING:
        return None
    updated = sum(each["updated"] for each in nights)
    still = updated - sum(each["updated"] * (each.get("changed") or 0.0) for each in nights)
    if excess_chance(now["updated"], now["updated"], still, updated) > night.level:
        return None
    text = (
        f"{night.column}: none of {now['updated']:,} entities with a newer row has another value than the night "
        f"before, usually {float(np.median(usual)):.0%} have: the feature has stopped updating"
    )
    return Finding("online", "alert", text, night.column)


def _infinities(night: _Night, thresholds: Monitor) -> Finding | None:
    profile, baseline = night.profile, night.baseline
    if not profile.infinite or thresholds.infinite:
        return None
    known = [night.usual(_infinite_rate)]
    if baseline is not None:
        known.append((baseline.profile["infinite"], baseline.profile["n"]))
    if any(usual and excess_chance(profile.infinite, profile.rows, usual, rows) > night.level for usual, rows in known):
        return None
    text = f"{night.column}: {profile.infinite:,} of {profile.rows:,} values online are infinite"
    return Finding("online", "alert", text, night.column)


def _nulls(night: _Night, thresholds: Monitor) -> Finding | None:
    forecast = _series([_missing_rate(each) for each in night.past]).forecast()
    if forecast is None:
        return None
    profile, rate = night.profile, _missing_rate(night.record)
    rise = rate - forecast.value
    if rise < thresholds.null_points or rise <= thresholds.z * forecast.spread:
        return None
    if excess_chance(profile.missing, profile.rows, *night.usual(_missing_rate)) > night.level:
        return None
    what = "null or infinite" if profile.infinite else "null"
    text = f"{night.column}: {rate:.1%} of the values online are {what}, {forecast.value:.1%} expected"
    return Finding("online", "alert", text, night.column)


def _moved(night: _Night, thresholds: Monitor) -> Finding | None:
    """Compares mean and spread with the nights before, where the baseline says that it matters and is no chance."""
    record, counts = night.record, night.counts()
    if record.mean is None or not record.stddev or record.psi is None or record.psi < thresholds.psi_alert:
        return None
    if counts is None or not differs(*counts, night.level, ordered=night.profile.quantiles is not None):
        return None
    means = _series([each.mean for each in night.past]).forecast()
    spreads = _series([log(each.stddev) if each.stddev else None for each in night.past]).forecast()
    if spreads is not None:
        change = log(record.stddev) - spreads.value
        if abs(change) >= log(SCALE_FACTOR) and abs(change) > thresholds.z * spreads.spread:
            text = f"{night.column}: the values online spread {np.exp(change):.3g} times what is expected"
            return Finding("online", "alert", f"{text} (PSI {record.psi:.2f})", night.column)
    if means is not None and spreads is not None:
        change = abs(record.mean - means.value)
        if change >= MEAN_SHIFT * np.exp(spreads.value) and change > thresholds.z * means.spread:
            text = f"{night.column}: mean {record.mean:.4g} online, {means.value:.4g} expected"
            return Finding("online", "alert", f"{text} (PSI {record.psi:.2f})", night.column)
    return None


def _series(newest_first: Sequence[float | None]) -> Series:
    series = Series(A_WEEK)
    for value in reversed(newest_first):
        series.push(value)
    return series
