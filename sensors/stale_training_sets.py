"""The staleness sensor: marks training sets whose source files have changed since they were built.

The mark is the asset check `up_to_date`: it fails, with the files, until the next version is built. Nothing is built
by itself: which version a model is trained on is a person's choice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import dagster as dg

from feature_store.definitions.training_set import TrainingSet
from feature_store.reconcile.stale_training_sets import UP_TO_DATE, Staleness, listing, staleness
from resources.feature_store import FeatureStoreResource
from sensors.requests import digest

INTERVAL_SECONDS = 60


def stale_training_set_sensor(
    training_sets: Sequence[TrainingSet], *, interval_seconds: int = INTERVAL_SECONDS
) -> dg.SensorDefinition:
    """Returns the sensor over all training sets."""

    @dg.sensor(
        name="stale_training_set_sensor",
        description="Marks training sets whose source files have changed since they were built, and unmarks them.",
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sense(
        context: dg.SensorEvaluationContext, feature_store: FeatureStoreResource
    ) -> dg.SensorResult | dg.SkipReason:
        known: dict[str, dict[str, str]] = json.loads(context.cursor) if context.cursor else {}
        told: dict[str, dict[str, str]] = {}
        events = []
        with feature_store.open() as store:
            for definition in training_sets:
                before = known.get(definition.name, {})
                files = listing(store.offline, definition.name)
                if files is None:
                    continue
                if before.get("files") == files:
                    told[definition.name] = before
                    continue
                found = staleness(store.offline, definition.name)
                state = digest([found.version, found.files])
                # What was up to date when it was first seen needs no mark.
                if before.get("state", "" if found.files else state) != state:
                    events.append(_evaluation(definition.name, found))
                told[definition.name] = {"files": files, "state": state}
        cursor = json.dumps(told)
        if not events:
            context.update_cursor(cursor)
            return dg.SkipReason("No training set has become stale, or up to date again.")
        return dg.SensorResult(asset_events=events, cursor=cursor)

    return sense


def _evaluation(name: str, found: Staleness) -> dg.AssetCheckEvaluation:
    """Returns the check's outcome as an event that needs no run."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(name),
        check_name=UP_TO_DATE,
        passed=not found.files,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.summary,
        metadata={name: dg.IntMetadataValue(number) for name, number in found.numbers.items()},
    )
