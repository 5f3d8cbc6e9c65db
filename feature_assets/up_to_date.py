"""The check that tells whether a training set still is what its sources would give."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from feature_store.definitions.training_set import TrainingSet
from feature_store.reconcile.stale_training_sets import Staleness, staleness
from resources.feature_store import FeatureStoreResource

UP_TO_DATE = "up_to_date"
_DESCRIPTION = (
    "The files of the offline store from which the latest version was built are what they were. Built again, the set "
    "would have the same feature values."
)


def evaluation_of(name: str, found: Staleness) -> dg.AssetCheckEvaluation:
    """Returns the check's outcome as an event that needs no run."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(name),
        check_name=UP_TO_DATE,
        passed=not found.files,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.summary,
        metadata=_metadata(found),
    )


def up_to_date_checks(definitions: Sequence[TrainingSet]) -> list[dg.AssetChecksDefinition]:
    """Returns one check per training set, that can be run at any time and costs a fraction of a second."""
    return [_check(definition) for definition in definitions]


def _check(definition: TrainingSet) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=definition.name, name=UP_TO_DATE, description=_DESCRIPTION)
    def check(feature_store: FeatureStoreResource) -> dg.AssetCheckResult:
        with feature_store.open() as store:
            found = staleness(store.offline, definition.name)
        return dg.AssetCheckResult(
            passed=not found.files,
            severity=dg.AssetCheckSeverity.WARN,
            description=found.summary,
            metadata=_metadata(found),
        )

    return check


def _metadata(found: Staleness) -> dict[str, dg.MetadataValue]:
    return {"version": dg.IntMetadataValue(found.version), "changed_files": dg.IntMetadataValue(len(found.files))}
