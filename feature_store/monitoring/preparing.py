"""Makes a group's monitor ready: its baselines from the registry, its history from the files' footers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from feature_store.catalog import BoundGroup, RegisteredGroup
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.monitor import Monitor
from feature_store.definitions.names import FeatureRef
from feature_store.monitoring.checks import MOST_REMEMBERED, PartitionMonitor, season_of
from feature_store.monitoring.reference import FIRST_SEASONS, Baseline, first_weeks, shortage
from feature_store.monitoring.stored import first_profiles, profiles_before
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.registry.records import TrainingBaseline
from feature_store.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class TrainedBaselines:
    """What training sets say of a group's features, both by feature column.

    Attributes:
        baselines: The newest profile that holds enough, see `monitoring.reference`.
        rejected: Why a newer one is not the baseline: `churn v3 holds 3 values ...`.
    """

    baselines: Mapping[str, Baseline]
    rejected: Mapping[str, str]


def prepare_monitor(
    group: BoundGroup, start: datetime, *, offline: OfflineStore, registry: Registry
) -> PartitionMonitor:
    """Returns a monitor that knows what there was before a partition.

    Args:
        group: The feature group.
        start: Start of the first partition that it is to judge.
        offline: Holds the profiles of the partitions before.
        registry: Holds the baselines of training sets.
    """
    declared, registered = group.declared, group.registered
    season = season_of(declared)
    own = Window(declared.start + declared.lookback, start)
    first = [profile for _, profile in first_profiles(offline, registered, own, FIRST_SEASONS * season)]
    # Columns of events are no features: a training set says nothing of them, whatever else has their names.
    nothing = TrainedBaselines({}, {})
    trained = nothing if registered.windows else trained_baselines(registered, registry, thresholds_of(declared))
    monitor = PartitionMonitor(declared, trained.baselines, first, rejected=trained.rejected)
    monitor.learn(profiles_before(offline, registered, Window(start, start), MOST_REMEMBERED + season))
    return monitor


def thresholds_of(group: FeatureGroup) -> dict[str, Monitor]:
    """Returns the thresholds of a group's features by column."""
    return {spec.ref.column: spec.monitor for spec in group.features}


def trained_baselines(
    group: RegisteredGroup, registry: Registry, thresholds: Mapping[str, Monitor]
) -> TrainedBaselines:
    """Returns, by feature column, the profile in the newest training set that holds enough of a feature.

    Args:
        group: The group as it is registered.
        registry: Holds the profiles.
        thresholds: Thresholds by feature column.
    """
    rejected: dict[str, str] = {}

    def suits(ref: FeatureRef, trained: TrainingBaseline) -> bool:
        reason = shortage(trained.profile, thresholds.get(ref.column, Monitor()))
        if reason is not None:
            rejected.setdefault(ref.column, f"{trained.name} v{trained.version} {reason}")
        return reason is None

    found = registry.newest_baselines((feature.ref for feature in group.features), suits)
    known = {
        ref.column: Baseline(f"{baseline.name} v{baseline.version}", baseline.profile)
        for ref, baseline in found.items()
    }
    return TrainedBaselines(known, rejected)


def baselines(group: BoundGroup, now: datetime, *, offline: OfflineStore, registry: Registry) -> dict[str, Baseline]:
    """Returns what each feature column is compared with: a training set's profile, else that of the first weeks."""
    declared, registered = group.declared, group.registered
    season, thresholds = season_of(declared), thresholds_of(declared)
    own = Window(declared.start + declared.lookback, now)
    first = [profile for _, profile in first_profiles(offline, registered, own, FIRST_SEASONS * season)]
    trained = trained_baselines(registered, registry, thresholds)
    return {**first_weeks(first, season, thresholds), **trained.baselines}
