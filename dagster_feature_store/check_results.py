"""Check results of many partitions in one run.

Dagster stores a plain `AssetCheckResult` of a range run without a partition. This module owns the way around: one
evaluation per partition, tied to the materialization that it judges.

What Dagster shows of a check as a whole differs from page to page. Of a check with partitions, the graph and the list
say that it fails as long as any partition ever has failed; the overview goes by what was recorded last. Therefore
checks are declared without partitions, and each run ends with a *verdict*: an evaluation that repeats that of the
newest partition that could be judged, under its name. Graph, list, overview and health all show that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster import AssetCheckEvaluation, AssetMaterialization

from dagster_feature_store.check_records import known_partitions, last_done
from dagster_feature_store.compat import AssetCheckEvaluationTargetMaterializationData
from dagster_feature_store.metadata import rounded
from feature_store.monitoring.descriptions import description, image, summary_of, with_note
from feature_store.monitoring.findings import CheckResult

JUDGED = "judged"
"""Metadata of an evaluation that had nothing to go by: false."""

REPEATS = "repeats"
"""Metadata of an evaluation that says again what another one has said: which one."""

_MOST_PASSED_OVER = 50
"""Partitions that a verdict looks back over, until one is found that could be judged."""

_EXAMPLES = 5


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
                description=f"{key}: {description(result)}",
                metadata=check_metadata(result),
                partition=key,
                target_materialization_data=targets.get(key),
            )


def verdicts(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    names: Iterable[str],
    results: Mapping[str, Sequence[CheckResult]],
) -> Iterator[AssetCheckEvaluation]:
    """Yields what each check says of the asset as a whole: what it says of the newest partition that it could judge.

    They belong behind the evaluations of partitions: Dagster takes what was recorded last for the state of a check.

    Args:
        instance: Holds what was evaluated before: a run over older partitions does not decide.
        asset_key: The asset that was checked.
        names: Names of the checks.
        results: This run's results, by partition key.
    """
    for name in names:
        own = {key: result for key, found in results.items() for result in found if result.name == name}
        evaluation = _newest(instance, dg.AssetCheckKey(asset_key, name), own)
        if evaluation is None:
            continue
        failed = sorted(key for key, result in own.items() if not result.passed and key != evaluation.partition)
        more = f" and {len(failed) - _EXAMPLES} more" if len(failed) > _EXAMPLES else ""
        note = f"Of the partitions before, this run found faults in {', '.join(failed[-_EXAMPLES:])}{more}."
        yield AssetCheckEvaluation(
            asset_key=asset_key,
            check_name=name,
            passed=evaluation.passed,
            severity=evaluation.severity,
            description=with_note(evaluation.description, note if failed else ""),
            metadata={**evaluation.metadata, REPEATS: evaluation.partition or ""},
            partition=evaluation.partition,
        )


def _newest(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, own: Mapping[str, CheckResult]
) -> AssetCheckEvaluation | None:
    """Returns the evaluation of the newest partition that could be judged; of the newest one, where none could."""
    judged = max((partition for partition, result in own.items() if result.judged), default=None)
    of_run = judged or max(own, default=None)
    newer = [each for each in known_partitions(instance, key) if each not in own and (judged is None or each > judged)]
    for partition in newer[:_MOST_PASSED_OVER]:
        record = last_done(instance, key, partition)
        if record is not None and record.evaluation is not None and is_judged(record.evaluation):
            return record.evaluation
    if of_run is None:
        return None
    return next(evaluations(key.asset_key, {of_run: [own[of_run]]}, {}))


def is_judged(evaluation: AssetCheckEvaluation) -> bool:
    """Tells whether a check had anything to go by."""
    judged = evaluation.metadata.get(JUDGED)
    return judged is None or bool(judged.value)


def is_repetition(evaluation: AssetCheckEvaluation) -> bool:
    """Tells whether an evaluation only says again what another one has said."""
    return REPEATS in evaluation.metadata


def own_summary(evaluation: AssetCheckEvaluation) -> str:
    """Returns what an evaluation says, without the partition, which its description begins with, and the picture."""
    return summary_of(evaluation.description).removeprefix(f"{evaluation.partition}: ")


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
    if not result.judged:
        metadata[JUDGED] = False
    if result.findings:
        metadata["found"] = ", ".join(dict.fromkeys(finding.kind for finding in result.findings))
        features = dict.fromkeys(finding.feature for finding in result.findings if finding.feature is not None)
        if features:
            metadata["features"] = ", ".join(features)
    if result.picture is not None:
        metadata["histogram"] = dg.MetadataValue.md(image(result.picture))
    return metadata
