"""What Dagster has on record of the checks of partitions: how each ended when it was last evaluated."""

from __future__ import annotations

import dagster as dg

from dagster_feature_store.compat import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
    PartitionKeyFilter,
)

_DONE = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def last_done(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, partition: str | None
) -> AssetCheckExecutionRecord | None:
    """Returns the last finished evaluation of a partition, or of the whole: a run may have planned it in vain since."""
    found = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, status=_DONE, partition_filter=PartitionKeyFilter(key=partition)
    )
    return found[0] if found else None


def known_partitions(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> list[str]:
    """Returns the partitions that a check has a record of, the newest first."""
    infos = instance.event_log_storage.get_asset_check_partition_info([key])
    return sorted((info.partition_key for info in infos if info.partition_key is not None), reverse=True)


def planned_partitions(instance: dg.DagsterInstance, key: dg.AssetCheckKey, run_id: str) -> list[str]:
    """Returns the partitions of which a run has announced an evaluation that it has not made."""
    return [
        info.partition_key
        for info in instance.event_log_storage.get_asset_check_partition_info([key])
        if info.partition_key is not None
        and info.latest_execution_status is AssetCheckExecutionRecordStatus.PLANNED
        and info.latest_planned_run_id == run_id
    ]
