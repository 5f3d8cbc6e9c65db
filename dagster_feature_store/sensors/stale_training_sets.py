"""The staleness sensor: marks training sets whose source files have changed since they were built.

The mark is the asset check `up_to_date`: it fails, with the files, until the next version is built. Nothing is built
by itself: which version a model is trained on is a person's choice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.requests import digest
from feature_store.definitions.training_set import TrainingSet
from feature_store.monitoring.check_names import UP_TO_DATE

if TYPE_CHECKING:
    from feature_store.reconcile.stale_training_sets import Staleness

INTERVAL_SECONDS = 60


def stale_training_set_sensor(
    training_sets: Sequence[TrainingSet],
    looks: Looks = DEFAULT_LOOKS,
) -> dg.SensorDefinition:
    """Returns the sensor over all training sets."""
    names = looks.names

    @looks.sensor(
        "stale_training_set_sensor",
        INTERVAL_SECONDS,
        "Marks training sets whose source files have changed since they were built, and unmarks them.",
        resources={names.store_key},
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from feature_store.reconcile.stale_training_sets import listing, staleness

        known: dict[str, dict[str, str]] = json.loads(context.cursor) if context.cursor else {}
        told: dict[str, dict[str, str]] = {}
        events = []
        with names.store(context).open() as store:
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
                    events.append(_evaluation(names.key(definition.name), found))
                told[definition.name] = {"files": files, "state": state}
        cursor = json.dumps(told)
        if not events:
            context.update_cursor(cursor)
            return dg.SkipReason("No training set has become stale, or up to date again.")
        return dg.SensorResult(asset_events=events, cursor=cursor)

    return sense


def _evaluation(key: dg.AssetKey, found: Staleness) -> dg.AssetCheckEvaluation:
    """Returns the check's outcome as an event that needs no run."""
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=UP_TO_DATE,
        passed=not found.files,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.summary,
        metadata={name: dg.IntMetadataValue(number) for name, number in found.numbers.items()},
    )
