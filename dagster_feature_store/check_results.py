"""Check results of many partitions in one run.

Dagster stores a plain `AssetCheckResult` of a range run without a partition. This module owns the way around: one
evaluation per partition, tied to the materialization that it judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster import AssetCheckEvaluation, AssetMaterialization

from dagster_feature_store.compat import AssetCheckEvaluationTargetMaterializationData
from dagster_feature_store.metadata import rounded
from feature_store.monitoring.descriptions import description, image
from feature_store.monitoring.findings import CheckResult


def check_outputs(specs: Sequence[dg.AssetCheckSpec], selected: set[dg.AssetCheckKey]) -> Iterator[dg.Output[None]]:
    """Yields the output that Dagster expects of each check that a run has selected."""
    for spec in specs:
        if spec.key in selected:
            yield dg.Output(None, output_name=spec.get_python_identifier())


def latest_materializations(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Sequence[str]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """Returns the newest materialization of each partition, as the target of its checks."""
    return {
        key: AssetCheckEvaluationTargetMaterializationData(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
        for key, record in latest_records(instance, asset_key, keys).items()
    }


def latest_records(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Sequence[str]
) -> dict[str, dg.EventLogRecord]:
    """Returns the newest materialization of each of some partitions, as Dagster has it on record."""
    found: dict[str, dg.EventLogRecord] = {}
    cursor = None
    while len(found) < len(keys):
        page = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=asset_key, asset_partitions=list(keys)), limit=1000, cursor=cursor
        )
        for record in page.records:
            if record.partition_key is not None and record.partition_key not in found:
                found[record.partition_key] = record
        cursor = page.cursor
        if not page.has_more:
            break
    return found


def evaluations(
    asset_key: dg.AssetKey,
    results: Mapping[str, Sequence[CheckResult]],
    targets: Mapping[str, AssetCheckEvaluationTargetMaterializationData],
) -> Iterator[AssetCheckEvaluation]:
    """Yields one evaluation per partition and check.

    Args:
        asset_key: The asset that was checked.
        results: Check results by partition key.
        targets: The materialization that each partition's results judge.
    """
    for key, of_partition in results.items():
        for result in of_partition:
            yield AssetCheckEvaluation(
                asset_key=asset_key,
                check_name=result.name,
                passed=result.passed,
                severity=severity(result),
                description=description(result),
                metadata=check_metadata(result),
                partition=key,
                target_materialization_data=targets.get(key),
            )


def materialization_events(
    asset_key: dg.AssetKey, metadata: Mapping[str, Mapping[str, Any]]
) -> Iterator[AssetMaterialization]:
    """Yields the materializations of partitions that were stored before a run failed."""
    for key, numbers in metadata.items():
        yield AssetMaterialization(asset_key=asset_key, partition=key, metadata=dict(numbers))


def severity(result: CheckResult) -> dg.AssetCheckSeverity:
    """Returns how grave a check's findings are: an alert is an error."""
    return dg.AssetCheckSeverity.WARN if result.findings and result.level == "warn" else dg.AssetCheckSeverity.ERROR


def check_metadata(result: CheckResult) -> dict[str, Any]:
    """Returns what the UI shows of a check: numbers, which it plots, what was found, and a picture."""
    metadata: dict[str, Any] = {name: rounded(value) for name, value in result.numbers.items()}
    if result.findings:
        metadata["found"] = ", ".join(dict.fromkeys(finding.kind for finding in result.findings))
        features = dict.fromkeys(finding.feature for finding in result.findings if finding.feature is not None)
        if features:
            metadata["features"] = ", ".join(features)
    if result.picture is not None:
        metadata["histogram"] = dg.MetadataValue.md(image(result.picture))
    return metadata
