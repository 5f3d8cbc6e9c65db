"""The check that tells whether a training set still is what its sources would give."""

from collections.abc import Iterator, Sequence

import dagster as dg

from dagster_feature_store.naming import DEFAULT_NAMES, Names
from feature_store.definitions.training_set import TrainingSet
from feature_store.monitoring.check_names import UP_TO_DATE

_DESCRIPTION = (
    "The files of the offline store from which the latest version was built are what they were. Built again, the set "
    "would have the same feature values."
)


def up_to_date_checks(
    definitions: Sequence[TrainingSet], *, names: Names = DEFAULT_NAMES
) -> list[dg.AssetChecksDefinition]:
    """Returns one check per training set, that can be run at any time and costs a fraction of a second."""
    return [_check(definition, names) for definition in definitions]


def _check(definition: TrainingSet, names: Names) -> dg.AssetChecksDefinition:
    spec = dg.AssetCheckSpec(UP_TO_DATE, asset=names.key(definition.name), description=_DESCRIPTION)

    @dg.multi_asset_check(
        name=names.of(f"{definition.name}_{UP_TO_DATE}"), specs=[spec], required_resource_keys={names.store_key}
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        from feature_store.reconcile.stale_training_sets import staleness

        with names.store(context).open() as store:
            found = staleness(store.offline, definition.name)
        yield dg.AssetCheckResult(
            passed=not found.files,
            severity=dg.AssetCheckSeverity.WARN,
            description=found.summary,
            metadata={name: dg.IntMetadataValue(number) for name, number in found.numbers.items()},
        )

    return check
