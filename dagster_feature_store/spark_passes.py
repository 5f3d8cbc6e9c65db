"""Where a group is materialized: in the run's own process, or by a Spark job that the run launches."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from dagster_feature_store.naming import Names
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import FeatureStoreError
from feature_store.partitions import Window
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    from feature_store.transform.materialization import MaterializedPass
    from feature_store.transform.partition_failures import PartitionFailure

_JOB = "dagster_feature_store.spark_job"


def materialized_passes(
    context: dg.AssetExecutionContext,
    store: FeatureStore,
    group: FeatureGroup,
    span: Window,
    names: Names,
) -> Iterator["MaterializedPass"]:
    """Yields the passes of a materialization; the engine that the settings name decides where they run.

    Raises:
        InvalidRowsError: If a partition's rows are refused.
        FeatureStoreError: If the Spark job ended without having materialized all partitions.
    """
    if store.engine.name != "spark":
        yield from store.writes.materialize_passes(group, span, run_id=context.run.run_id)
        return
    import msgspec

    from feature_store.spark.reports import PassReport
    from feature_store.transform.partition_failures import joined_error

    store.current_catalog.publish()
    windows = list(group.partitioning.windows(span))
    first, last = (group.partitioning.key(window.start) for window in (windows[0], windows[-1]))
    feature_store, spark = names.store(context), names.spark(context)
    module = spark.definitions or feature_store.settings().definitions or group.transform.__module__
    extras = {"module": module, "group": group.name, "first": first, "last": last}
    settings = {**feature_store.environment(), "FEATURE_STORE_ENGINE": store.engine.name}
    job = spark.launch(context, _JOB, settings, extras)
    seen = 0
    failures: list[PartitionFailure] = []
    for message in job.get_custom_messages():
        done = msgspec.convert(message["pass"], PassReport).materialized(group, store.offline)
        seen += len(done.partitions) + len(done.failed)
        failures += done.failed
        yield done
    if seen < len(windows):
        raise FeatureStoreError(
            f"The Spark job of feature group {group.name!r} reported {seen} of {len(windows)} partitions, {first} to "
            f"{last}: see its logs in this run; a second run completes what is missing."
        )
    if failures:
        raise joined_error(group, failures)
