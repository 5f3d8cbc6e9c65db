"""Training sets are held back while a blocking check of a partition below them fails.

Dagster's own blocking holds within one run. Training sets run apart from their feature groups, so they look here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster import DagsterInstance

from dagster_feature_store.check_records import last_done
from dagster_feature_store.compat import AssetCheckExecutionRecordStatus
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from feature_store.definitions.group import FeatureGroup
from feature_store.monitoring.check_names import SCHEMA

BLOCKING = (SCHEMA,)
"""Checks of partitions that hold back what is downstream: those that tell that rows are missing or wrong for sure."""

RELEASE_TAG = "feature_store/ignore_failed_checks"
"""A run with this tag is not held back."""

_EXAMPLES = 5


def failing_partitions(
    instance: DagsterInstance, groups: Sequence[FeatureGroup], names: Names = DEFAULT_NAMES
) -> dict[str, list[str]]:
    """Returns the partitions whose blocking checks failed when they were last evaluated, by check and group.

    Args:
        instance: Holds the evaluations.
        groups: The feature groups to look at.
        names: What their assets are called.
    """
    keys = [dg.AssetCheckKey(names.key(group.name), name) for group in groups for name in BLOCKING]
    failing: dict[str, list[str]] = {}
    for info in instance.event_log_storage.get_asset_check_partition_info(keys):
        if info.partition_key is None:
            continue
        status: AssetCheckExecutionRecordStatus | None = info.latest_execution_status
        if status is AssetCheckExecutionRecordStatus.PLANNED:
            record = last_done(instance, info.check_key, info.partition_key)
            status = record.status if record else None
        if status is AssetCheckExecutionRecordStatus.FAILED:
            where = f"{info.check_key.name} of {info.check_key.asset_key.to_user_string()}"
            failing.setdefault(where, []).append(info.partition_key)
    return {where: sorted(partitions) for where, partitions in failing.items()}


def hold_back(context: dg.AssetExecutionContext, groups: Sequence[FeatureGroup], names: Names = DEFAULT_NAMES) -> None:
    """Refuses to go on while a blocking check of a group fails, unless the run's tags say otherwise.

    Raises:
        Failure: If one does; it names the partitions and the remedy.
    """
    failing = failing_partitions(context.instance, groups, names)
    if not failing:
        return
    if context.run.tags.get(RELEASE_TAG) == "true":
        context.log.warning(f"Failed checks are ignored, as the run's tags ask: {_listing(failing)}.")
        return
    raise dg.Failure(
        f"Held back, as partitions below fail their checks: {_listing(failing)}. Materialize them again once their "
        f"source or function is corrected. To build all the same, launch with the tag {RELEASE_TAG}: true.",
        metadata={where: len(partitions) for where, partitions in failing.items()},
        allow_retries=False,
    )


def _listing(failing: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for where, partitions in failing.items():
        more = f" and {len(partitions) - _EXAMPLES} more" if len(partitions) > _EXAMPLES else ""
        parts.append(f"{where} on {', '.join(partitions[:_EXAMPLES])}{more}")
    return "; ".join(parts)
