"""Makes a group's monitor ready: its baselines from the registry, its history from the files' footers."""

from __future__ import annotations

from datetime import datetime

from feature_store.catalog import Group
from feature_store.definitions.group import FeatureGroup
from feature_store.monitoring.checks import MOST_REMEMBERED, PartitionMonitor, season_of
from feature_store.monitoring.reference import FIRST_SEASONS, Baseline, first_weeks
from feature_store.monitoring.stored import first_profiles, profiles_before
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.registry.registry import Registry


def prepare_monitor(
    group: FeatureGroup, start: datetime, *, record: Group, offline: OfflineStore, registry: Registry
) -> PartitionMonitor:
    """Returns a monitor that knows what there was before a partition.

    Args:
        group: The feature group.
        start: Start of the first partition that it is to judge.
        record: The group as it is registered.
        offline: Holds the profiles of the partitions before.
        registry: Holds the baselines of training sets.
    """
    season = season_of(group)
    own = Window(group.start + group.lookback, start)
    first = [profile for _, profile in first_profiles(offline, record, own, FIRST_SEASONS * season)]
    monitor = PartitionMonitor(group, trained_baselines(record, registry), first)
    monitor.learn(profiles_before(offline, record, Window(start, start), MOST_REMEMBERED + season))
    return monitor


def trained_baselines(record: Group, registry: Registry) -> dict[str, Baseline]:
    """Returns, by feature column, the profile in the newest training set that a group's feature serves."""
    found = registry.newest_baselines(feature.ref for feature in record.features)
    return {
        ref.column: Baseline(f"{baseline.name} v{baseline.version}", baseline.profile)
        for ref, baseline in found.items()
    }


def baselines(
    group: FeatureGroup, now: datetime, *, record: Group, offline: OfflineStore, registry: Registry
) -> dict[str, Baseline]:
    """Returns what each feature column is compared with: a training set's profile, else that of the first weeks."""
    season = season_of(group)
    own = Window(group.start + group.lookback, now)
    first = [profile for _, profile in first_profiles(offline, record, own, FIRST_SEASONS * season)]
    return {**first_weeks(first, season), **trained_baselines(record, registry)}
