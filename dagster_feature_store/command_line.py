"""What the command line has done, Dagster knows: materializations and checks, in the instance of DAGSTER_HOME.

The sensors compute nothing again in any case: they go by the files. What is reported here is seen in the UI, with its
numbers and checks.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

    from feature_store.definitions.group import FeatureGroup
    from feature_store.definitions.training_set import TrainingSet
    from feature_store.store import FeatureStore
    from feature_store.training_sets.versions import WrittenTrainingSet
    from feature_store.transform.reports import MaterializationReport


class InstanceObserver:
    """Reports work to the instance of DAGSTER_HOME.

    Args:
        home: The folder that DAGSTER_HOME names.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def materialized(self, store: FeatureStore, group: FeatureGroup, report: MaterializationReport) -> str | None:
        """Reports the partitions that have changed or that Dagster does not know, with their checks."""
        import dagster as dg

        from dagster_feature_store.check_results import evaluations, latest_materializations, verdicts
        from dagster_feature_store.compat import make_new_run_id, report_evaluation
        from dagster_feature_store.metadata import partition_metadata
        from feature_store.monitoring.check_names import DESCRIPTIONS

        if not report.partitions:
            return None
        key = self._key(group.name)
        monitor = store.monitor.partitions(group, report.partitions[0].window.start)
        judged = monitor.judge([(done.window, done.profile) for done in report.partitions])
        with self._instance() as instance:
            recorded = instance.get_materialized_partitions(key)
            checks = [dg.AssetCheckKey(key, name) for name in DESCRIPTIONS]
            infos = instance.event_log_storage.get_asset_check_partition_info(checks)
            judged_checks = Counter(info.partition_key for info in infos)
            results = {}
            for done, found in zip(report.partitions, judged, strict=True):
                # A report that was cut off is completed.
                is_judged = judged_checks[done.key] == len(checks)
                if done.key in recorded and is_judged and not done.changed and not done.withdrawn:
                    continue
                results[done.key] = found
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(asset_key=key, partition=done.key, metadata=partition_metadata(done, found))
                )
            targets = latest_materializations(instance, key, list(results))
            run_id = make_new_run_id()
            for evaluation in evaluations(key, results, targets):
                report_evaluation(instance, evaluation, run_id)
            for evaluation in verdicts(instance, key, DESCRIPTIONS, results) if results else ():
                report_evaluation(instance, evaluation, run_id)
        known = len(report.partitions) - len(results)
        return (
            f"{group.name}: {len(results)} partitions reported to Dagster, with their checks, {known} known already "
            f"({self._home})."
        )

    def built(self, definition: TrainingSet, written: WrittenTrainingSet) -> str | None:
        """Reports the version, and of a set in partitions those that were built."""
        import dagster as dg

        from dagster_feature_store.training_sets import written_metadata

        key = self._key(definition.name)
        metadata = written_metadata(written)
        partitions = [None] if definition.partitioning is None else list(written.built)
        with self._instance() as instance:
            for partition in partitions:
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(asset_key=key, partition=partition, metadata=metadata)
                )
        if not partitions:
            return None
        return f"{definition.name}: version {written.version} reported to Dagster ({self._home})."

    def _key(self, name: str) -> dg.AssetKey:
        from dagster_feature_store.naming import Names, key_prefix
        from feature_store.settings import Settings

        return Names(asset_key_prefix=key_prefix(Settings.from_env())).key(name)

    def _instance(self) -> dg.DagsterInstance:
        import dagster as dg

        return dg.DagsterInstance.get()


def observer() -> InstanceObserver | None:
    """Returns the observer, None where DAGSTER_HOME names no folder or Dagster is not installed."""
    from importlib.util import find_spec

    home = os.environ.get("DAGSTER_HOME")
    if not home or not Path(home).is_dir() or find_spec("dagster") is None:
        return None
    return InstanceObserver(Path(home))
