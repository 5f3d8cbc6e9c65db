"""The nightly monitor: what the values online look like, compared with the baseline and with the nights before.

Its numbers go to `feature_monitor`, one row per feature and night. Whether the values are right is the business of
`consistency`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import log
from typing import Any

import numpy as np
import polars as pl

from feature_store.catalog import Catalog, Feature, Group, Selection
from feature_store.clock import Clock
from feature_store.definitions.monitor import Monitor
from feature_store.frames import TIMESTAMP_TYPE, key_frame, polars_type
from feature_store.monitoring.drift import psi
from feature_store.monitoring.expectation import WINDOW, Series
from feature_store.monitoring.findings import CheckResult, Finding
from feature_store.monitoring.profile import FeatureProfile, profile_values
from feature_store.monitoring.reference import Baseline
from feature_store.monitoring.watchers import LEAST_VALUES, MEAN_SHIFT, SCALE_FACTOR
from feature_store.offline.latest import sampled_entities
from feature_store.offline.point_in_time.engine import PointInTimeEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.online.reader import FeatureState
from feature_store.online.store import OnlineStore
from feature_store.registry.records import MonitorRecord
from feature_store.registry.registry import Registry

ONLINE_VALUES = "online_values"

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
    group: Group,
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
    ids = sampled_entities(offline, group, now, entities)
    selections = [Selection(feature.ref.column, feature) for feature in group.features]
    states: list[Mapping[str, FeatureState]] = []
    for start in range(0, len(ids), ENTITIES_PER_READ):
        states += online.read_states(ids[start : start + ENTITIES_PER_READ], selections, catalog)
    columns = {feature.ref.column: feature for feature in group.features}
    values = pl.DataFrame(
        {
            column: pl.Series([state[column].value for state in states], dtype=polars_type(feature.dtype))
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
    records, findings = [], []
    numbers: dict[str, float] = {"entities": len(ids)}
    for column, feature in columns.items():
        record = _record(feature, profiles[column], baselines.get(column), changed.get(column), newest_event, now)
        records.append(record)
        finding = _judge(column, record, past[column], thresholds.get(column, Monitor()))
        if finding is not None:
            findings.append(finding)
        for name in ("null_rate", "mean", "psi"):
            if (value := getattr(record, name)) is not None:
                numbers[f"{name}/{column}"] = value
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
    group: Group,
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
            for was, (_, state) in zip(old[selection.label].to_list(), updated, strict=True)
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


def _psi(profile: FeatureProfile, baseline: Baseline | None) -> float | None:
    """Returns the index against the baseline, the null bin included."""
    if baseline is None or not profile.rows:
        return None
    known = baseline.profile
    if profile.quantiles is not None and known.get("edges"):
        current = [profile.nulls, *profile.quantiles.counts(known["edges"])]
        return psi(current, [known["nulls"], *known["counts"]])
    if profile.categories is not None and known.get("categories"):
        named = [profile.categories.get(name, 0) for name in known["categories"]]
        current = [profile.nulls, *named, profile.known - sum(named)]
        return psi(current, [known["nulls"], *known["categories"].values(), known["other"]])
    return None


def _judge(column: str, record: MonitorRecord, past: Sequence[MonitorRecord], thresholds: Monitor) -> Finding | None:
    if record.n < LEAST_VALUES:
        return None
    return (
        _standing(column, record, past)
        or _nulls(column, record, past, thresholds)
        or (_moved(column, record, past, thresholds) if thresholds.drift else None)
    )


def _standing(column: str, record: MonitorRecord, past: Sequence[MonitorRecord]) -> Finding | None:
    shares = [each.details.get("changed") for each in past if each.details.get("updated", 0) >= LEAST_VALUES]
    usual = [share for share in shares if share is not None]
    if record.details["updated"] < LEAST_VALUES or record.details["changed"] or len(usual) < A_WEEK:
        return None
    if float(np.median(usual)) < CHANGING:
        return None
    text = (
        f"{column}: none of {record.details['updated']:,} entities with a newer row has another value than the night "
        f"before, usually {float(np.median(usual)):.0%} have: the feature has stopped updating"
    )
    return Finding("online", "alert", text, column)


def _nulls(column: str, record: MonitorRecord, past: Sequence[MonitorRecord], thresholds: Monitor) -> Finding | None:
    forecast = _series([each.null_rate for each in past]).forecast()
    if forecast is None or record.null_rate is None:
        return None
    rise = record.null_rate - forecast.value
    usual = min(max(forecast.value, 1 / record.n), 1 - 1 / record.n)
    spread = max(forecast.spread, (usual * (1 - usual) / record.n) ** 0.5)
    if rise < thresholds.null_points or rise <= thresholds.z * spread:
        return None
    text = f"{column}: {record.null_rate:.1%} of the values online are null, {forecast.value:.1%} expected"
    return Finding("online", "alert", text, column)


def _moved(column: str, record: MonitorRecord, past: Sequence[MonitorRecord], thresholds: Monitor) -> Finding | None:
    """Compares mean and spread with the nights before, where the baseline says that it matters."""
    means = _series([each.mean for each in past]).forecast()
    spreads = _series([log(each.stddev) if each.stddev else None for each in past]).forecast()
    if record.mean is None or not record.stddev or record.psi is None or record.psi < thresholds.psi_alert:
        return None
    if spreads is not None:
        change = log(record.stddev) - spreads.value
        if abs(change) >= log(SCALE_FACTOR) and abs(change) > thresholds.z * spreads.spread:
            text = f"{column}: the values online spread {np.exp(change):.3g} times what is expected"
            return Finding("online", "alert", f"{text} (PSI {record.psi:.2f})", column)
    if means is not None and spreads is not None:
        change = abs(record.mean - means.value)
        if change >= MEAN_SHIFT * np.exp(spreads.value) and change > thresholds.z * means.spread:
            text = f"{column}: mean {record.mean:.4g} online, {means.value:.4g} expected"
            return Finding("online", "alert", f"{text} (PSI {record.psi:.2f})", column)
    return None


def _series(newest_first: Sequence[float | None]) -> Series:
    series = Series(A_WEEK)
    for value in reversed(newest_first):
        series.push(value)
    return series
