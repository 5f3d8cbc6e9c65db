"""All sensors of a code location, as one list; `docs/automation.md` has the table of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dagster as dg

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import Source
from feature_store.definitions.training_set import TrainingSet
from sensors import cold_store, definition_change, failed_checks, gaps, landing, stale_training_sets
from sensors.requests import FeatureJobs


def all_sensors(
    *,
    sources: Sequence[Source],
    groups: Sequence[FeatureGroup],
    training_sets: Sequence[TrainingSet],
    feature_jobs: FeatureJobs,
    refill_job: dg.JobDefinition,
    refill_config: Callable[[Sequence[str]], dg.RunConfig],
    interval_seconds: int | None = None,
) -> list[dg.SensorDefinition]:
    """Returns the sensors, all of them running by default.

    Args:
        sources: All sources.
        groups: All feature groups.
        training_sets: All training sets.
        feature_jobs: The job that computes each feature group, by the group's name.
        refill_job: Fills the online store again.
        refill_config: Returns the configuration of a run of it, given the groups to fill.
        interval_seconds: Takes the place of every sensor's own interval, for a test or a demonstration.
    """

    def every(default: int) -> int:
        return interval_seconds or default

    sensors = [landing.landing_sensor(sources, interval_seconds=every(landing.INTERVAL_SECONDS))]
    if groups:
        sensors += [
            gaps.gap_sensor(groups, feature_jobs, interval_seconds=every(gaps.INTERVAL_SECONDS)),
            definition_change.definition_sensor(
                groups, feature_jobs, interval_seconds=every(definition_change.INTERVAL_SECONDS)
            ),
            cold_store.cold_store_sensor(
                groups, refill_job, refill_config, feature_jobs, interval_seconds=every(cold_store.INTERVAL_SECONDS)
            ),
        ]
    if training_sets:
        sensors.append(
            stale_training_sets.stale_training_set_sensor(
                training_sets, interval_seconds=every(stale_training_sets.INTERVAL_SECONDS)
            )
        )
    sensors += failed_checks.alert_sensors(
        groups, training_sets, interval_seconds=every(failed_checks.INTERVAL_SECONDS)
    )
    return sensors
