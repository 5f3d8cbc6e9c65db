"""Partitions definitions: how a group's windows of time look to Dagster."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import Source
from feature_store.partitions import Partitioning

DAY = timedelta(days=1)


def time_partitions(
    partitioning: Partitioning, start: datetime, end: datetime | None
) -> dg.TimeWindowPartitionsDefinition:
    """Returns the partitions from `start` to `end` (exclusive; None while time goes on)."""
    if partitioning is Partitioning.DAILY:
        return dg.DailyPartitionsDefinition(start_date=start, end_date=end)
    return dg.HourlyPartitionsDefinition(start_date=start, end_date=end)


def group_partitions(group: FeatureGroup) -> dg.TimeWindowPartitionsDefinition:
    """Returns the partitions of a feature group."""
    return time_partitions(group.partitioning, group.start, group.end)


def source_partitions(source: Source, end: datetime | None) -> dg.TimeWindowPartitionsDefinition:
    """Returns the days of a source."""
    return time_partitions(Partitioning.DAILY, source.start, end)


def lookback_mapping(group: FeatureGroup) -> dg.TimeWindowPartitionMapping:
    """Returns which days of the source a partition reads: its own, and those that its look-back reaches."""
    days = -(-group.lookback // DAY)
    return dg.TimeWindowPartitionMapping(start_offset=-days, allow_nonexistent_upstream_partitions=True)
