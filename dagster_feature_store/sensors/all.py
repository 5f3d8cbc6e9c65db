"""All sensors of a code location, as one list; `docs/automation.md` has the table of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dagster as dg

from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors import (
    alerts,
    cold_store,
    definition_change,
    gaps,
    landing,
    reruns,
    stale_training_sets,
)
from dagster_feature_store.sensors.looks import Job, Looks
from dagster_feature_store.sensors.requests import FeatureJobs
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import Source
from feature_store.definitions.training_set import TrainingSet


def all_sensors(
    *,
    sources: Sequence[Source],
    groups: Sequence[FeatureGroup],
    training_sets: Sequence[TrainingSet],
    feature_jobs: FeatureJobs,
    refill_job: dg.JobDefinition,
    refill_config: Callable[[Sequence[str]], dg.RunConfig],
    whole_jobs: Sequence[Job],
    interval_seconds: int | None = None,
    names: Names = DEFAULT_NAMES,
    status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> list[dg.SensorDefinition]:
    """Returns the sensors.

    Args:
        sources: All sources.
        groups: All feature groups.
        training_sets: All training sets.
        feature_jobs: The job that computes each feature group, by the group's name.
        refill_job: Fills the online store again.
        refill_config: Returns the configuration of a run of it, given the groups to fill.
        whole_jobs: Jobs that look at the whole store or build a training set; they run again when they were cut off.
        interval_seconds: Takes the place of every sensor's own interval, for a test or a demonstration.
        names: What the objects of the code location are called.
        status: Whether they run from the start.
    """
    looks = Looks(names, interval_seconds, status)
    sensors = [landing.landing_sensor(sources, looks)] if sources else []
    if groups:
        sensors += [
            gaps.gap_sensor(groups, feature_jobs, looks),
            definition_change.definition_sensor(groups, feature_jobs, looks),
            cold_store.cold_store_sensor(groups, refill_job, refill_config, feature_jobs, looks),
        ]
    if training_sets:
        sensors.append(stale_training_sets.stale_training_set_sensor(training_sets, looks))
    if groups or training_sets:
        sensors += [alerts.alert_sensor(groups, training_sets, looks), reruns.rerun_sensor(whole_jobs, looks)]
    return sensors
