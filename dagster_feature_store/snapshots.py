"""Grows the snapshot asset of a feature group that keeps snapshots."""

from typing import Any

import dagster as dg

from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.one_asset import one_asset
from feature_store.definitions.group import FeatureGroup

SNAPSHOTS = "snapshots"


def snapshot_asset(group: FeatureGroup, *, names: Names = DEFAULT_NAMES) -> dg.AssetsDefinition:
    """Returns the asset of a group's snapshots, downstream of the group.

    A run makes those that are missing, and those whose days have changed since; the others are left as they are.
    """

    @one_asset(
        names,
        f"{group.name}_snapshots",
        description=f"The latest row per {group.entity.name} at regular days, from which long look-backs start.",
        group=SNAPSHOTS,
        owner=group.owner,
        resources={names.store_key},
        kinds={"polars", "parquet"},
        deps=[names.key(group.name)],
        automation_condition=dg.AutomationCondition.eager(),
    )
    def compute(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with names.store(context).open() as store:
            written = list(store.writes.snapshots(group))
        made = sum(snapshot.created for snapshot in written)
        context.log.info(f"{group.name}: {made} of {len(written)} snapshots made, the others are up to date")
        return dg.MaterializeResult(
            metadata={
                "snapshots": len(written),
                "made": made,
                "dagster/row_count": sum(snapshot.rows for snapshot in written),
                "size_kb": round(sum(snapshot.file.size for snapshot in written) / 1024, 1),
            }
        )

    return compute
