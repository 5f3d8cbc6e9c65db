"""What the command line has done, Dagster knows: materializations and checks, in the instance of DAGSTER_HOME.

So the first `dagster dev` computes nothing again. Source days are reported with the fingerprints that they had before
the work began: what lands while it goes on is late, and is seen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

    from feature_store.definitions.group import FeatureGroup
    from feature_store.definitions.training_set import TrainingSet
    from feature_store.partitions import Window
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

    def before(self, group: FeatureGroup, span: Window) -> list[Any]:
        """Returns the events by which Dagster learns what the source holds now, as far as it does not know."""
        from dagster_feature_store.sensors.landing import landed_events
        from feature_store.reconcile.partitions import source_days

        with self._instance() as instance:
            return list(landed_events(instance, group.source, list(source_days(group, span).dates())))

    def materialized(
        self, store: FeatureStore, group: FeatureGroup, report: MaterializationReport, before: list[Any]
    ) -> str | None:
        """Reports source days, then the partitions that were made of them, with their checks."""
        from dagster_feature_store.check_results import evaluations, latest_materializations, materialization_events
        from dagster_feature_store.metadata import partition_metadata
        from dagster_feature_store.naming import DEFAULT_NAMES

        if not report.partitions:
            return None
        key = DEFAULT_NAMES.key(group.name)
        monitor = store.monitor.partitions(group, report.partitions[0].window.start)
        judged = monitor.judge([(done.window, done.profile) for done in report.partitions])
        results = {done.key: found for done, found in zip(report.partitions, judged, strict=True)}
        metadata = {done.key: partition_metadata(done) for done in report.partitions}
        with self._instance() as instance:
            for event in (*before, *materialization_events(key, metadata)):
                instance.report_runless_asset_event(event)
            for evaluation in evaluations(key, results, latest_materializations(instance, key, list(metadata))):
                instance.report_runless_asset_event(evaluation)
        return f"Dagster knows {len(metadata)} partitions of {group.name}, with their checks ({self._home})."

    def built(self, definition: TrainingSet, written: WrittenTrainingSet) -> str | None:
        """Reports the version, and of a set in partitions those that were built."""
        import dagster as dg

        from dagster_feature_store.naming import DEFAULT_NAMES
        from dagster_feature_store.training_sets import written_metadata

        key = DEFAULT_NAMES.key(definition.name)
        metadata = written_metadata(written)
        partitions = [None] if definition.partitioning is None else list(written.built)
        with self._instance() as instance:
            for partition in partitions:
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(asset_key=key, partition=partition, metadata=metadata)
                )
        return f"Dagster knows version {written.version} of {definition.name} ({self._home})." if partitions else None

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
