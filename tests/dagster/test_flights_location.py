from __future__ import annotations

from typing import Any

import dagster as dg
from syrupy.assertion import SnapshotAssertion

from dagster_feature_store import feature_store_definitions
from feature_assets import flights


def described(asset: Any) -> dict[str, Any]:
    """What users see of an asset, and what would silently break if it changed."""
    schema = asset.metadata.get("dagster/column_schema")
    return {
        "description": asset.description,
        "group": asset.group_name,
        "kinds": sorted(asset.kinds),
        "owners": list(asset.owners),
        "tags": {key: value for key, value in asset.tags.items() if not key.startswith("dagster/kind")},
        "upstream": sorted(key.to_user_string() for key in asset.parent_keys),
        "checks": sorted(key.name for key in asset.check_keys),
        "partitions": str(asset.partitions_def),
        "columns": [f"{column.name} {column.type}" for column in schema.columns] if schema else None,
    }


def test_the_assets_are_what_they_were(snapshot: SnapshotAssertion) -> None:
    graph = feature_store_definitions(flights).resolve_asset_graph()
    found = {key.to_user_string(): described(graph.get(key)) for key in sorted(graph.get_all_asset_keys())}
    assert found == snapshot


def test_the_location_loads_with_its_jobs_sensors_and_schedule() -> None:
    defs = feature_store_definitions(flights)
    dg.Definitions.validate_loadable(defs)
    repository = defs.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} >= {
        "feature_store_features",
        "feature_store_flight_delay_training_set",
    }
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "feature_store_landing_sensor",
        "feature_store_definition_sensor",
        "feature_store_gap_sensor",
        "feature_store_rerun_sensor",
        "feature_store_cold_store_sensor",
        "feature_store_stale_training_set_sensor",
        "feature_store_stream_sensor",
        "feature_store_alert_sensor",
        "feature_store_snapshot_sensor",
    }
    assert {sensor.default_status for sensor in repository.sensor_defs} == {dg.DefaultSensorStatus.RUNNING}
    assert {schedule.name for schedule in repository.schedule_defs} == {
        "feature_store_daily_features",
        "feature_store_hourly_freshness",
        "feature_store_nightly_compaction",
        "feature_store_nightly_monitor",
    }
