"""The feature store in Dagster: assets, checks, jobs, schedules and sensors that grow from definitions.

Three doors: `feature_store_definitions(module)` for all at once, to be merged with a project's own definitions;
`FeatureStoreComponent` for a `defs.yaml`; and the building blocks one by one.

Nothing here computes or stores a feature: that is `feature_store`, which knows nothing of Dagster.
"""

from feature_store.extras import needs_extra

with needs_extra("dagster", "The package dagster_feature_store"):
    import dagster as _dagster  # noqa: F401 - asked for before anything else, for the sake of the error

from dagster_feature_store.definitions import feature_store_definitions
from dagster_feature_store.feature_groups import feature_group_asset, source_asset
from dagster_feature_store.feature_jobs import feature_jobs
from dagster_feature_store.monitor_checks import freshness_checks, monitor_jobs, online_checks
from dagster_feature_store.naming import Names
from dagster_feature_store.refill import refill_config, refill_job
from dagster_feature_store.resources.alerts import AlertsResource
from dagster_feature_store.resources.feature_store import FeatureStoreResource
from dagster_feature_store.resources.spark import SparkJobsResource
from dagster_feature_store.sensors.all import all_sensors
from dagster_feature_store.sensors.daily import daily_schedule
from dagster_feature_store.sensors.nightly import monitor_schedules
from dagster_feature_store.snapshots import snapshot_asset
from dagster_feature_store.streams import compaction_job, drain_job, stream_asset
from dagster_feature_store.training_sets import training_set_asset, training_set_job
from dagster_feature_store.up_to_date import up_to_date_checks

__all__ = [
    "AlertsResource",
    "FeatureStoreComponent",
    "FeatureStoreResource",
    "Names",
    "SparkJobsResource",
    "all_sensors",
    "compaction_job",
    "daily_schedule",
    "drain_job",
    "feature_group_asset",
    "feature_jobs",
    "feature_store_definitions",
    "freshness_checks",
    "monitor_jobs",
    "monitor_schedules",
    "online_checks",
    "refill_config",
    "refill_job",
    "snapshot_asset",
    "source_asset",
    "stream_asset",
    "training_set_asset",
    "training_set_job",
    "up_to_date_checks",
]


def __getattr__(name: str) -> object:
    if name == "FeatureStoreComponent":
        # Dagster's components cost half a second to import: those who do not use them do not wait for them.
        from dagster_feature_store.component import FeatureStoreComponent

        return FeatureStoreComponent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
