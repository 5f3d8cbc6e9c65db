"""The check that tells whether a training set still is what its sources would give."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from feature_store.definitions.training_set import TrainingSet
from feature_store.reconcile.stale_training_sets import UP_TO_DATE, staleness
from resources.feature_store import FeatureStoreResource

_DESCRIPTION = (
    "The files of the offline store from which the latest version was built are what they were. Built again, the set "
    "would have the same feature values."
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
            metadata={name: dg.IntMetadataValue(number) for name, number in found.numbers.items()},
        )

    return check
