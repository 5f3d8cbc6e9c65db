"""The alert sensors: what failed in a finished run, and what is well again.

There are two, as Dagster has one sensor per run status. Each looks at a finished run once: at the asset checks that it
evaluated, per partition, and at the steps that failed. What is worth a message is decided in `feature_store.alerts`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster import AssetCheckEvaluation, DagsterEventType, DagsterInstance, DagsterRunStatus

from dagster_feature_store.check_results import is_repetition, own_summary
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from feature_store.alerts.findings import WHOLE, Finding
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.training_set import TrainingSet

INTERVAL_SECONDS = 30
_SUMMARIES = 3
_MOST_CHARACTERS = 1200
_PAGE = 5000

Owned = FeatureGroup | TrainingSet


def findings_of(
    instance: DagsterInstance, run: dg.DagsterRun, owned: Mapping[str, Owned], names: Names = DEFAULT_NAMES
) -> list[Finding]:
    """Returns what a finished run says of the feature store, good and bad: one finding per check, and one per step.

    Runs, steps and checks of others in the same code location are none of its business.

    Args:
        instance: Holds the run's events.
        run: The run.
        owned: What is defined, by asset key.
        names: What the objects of the code location are called.
    """
    by_check: dict[tuple[str, str], list[AssetCheckEvaluation]] = defaultdict(list)
    for event in _events(instance, run, DagsterEventType.ASSET_CHECK_EVALUATION):
        evaluation = event.asset_check_evaluation_data
        asset = evaluation.asset_key.to_user_string()
        if asset in owned and not is_repetition(evaluation):
            by_check[asset, evaluation.check_name].append(evaluation)
    findings = [
        finding
        for (asset, check), evaluations in by_check.items()
        for finding in _of_check(asset, check, evaluations, run.run_id, owned[asset])
    ]
    explained = {finding.group for finding in findings if finding.failed and finding.severity == "error"}
    return [
        *findings,
        *_of_steps(instance, run, {names.of(each.name): each for each in owned.values()}, explained, names),
    ]


def alert_sensors(
    groups: Sequence[FeatureGroup],
    training_sets: Sequence[TrainingSet],
    looks: Looks = DEFAULT_LOOKS,
) -> list[dg.SensorDefinition]:
    """Returns the sensors over all runs of this code location: one for those that succeed, one for those that fail."""
    every: list[Owned] = [*groups, *training_sets]
    owned = {looks.names.key_text(each.name): each for each in every}
    return [
        _alert_sensor(of, name, owned, looks)
        for of, name in (
            (DagsterRunStatus.SUCCESS, "alerts_of_successful_runs"),
            (DagsterRunStatus.FAILURE, "alerts_of_failed_runs"),
        )
    ]


def _alert_sensor(
    of: DagsterRunStatus,
    name: str,
    owned: Mapping[str, Owned],
    looks: Looks,
) -> dg.SensorDefinition:
    names = looks.names

    def sense(context: dg.RunStatusSensorContext, **_resources: object) -> dg.SkipReason:
        # Who calls the sensor directly, as tests do, has its resources passed by name, too.
        findings = findings_of(context.instance, context.dagster_run, owned, names)
        with names.store(context).open() as store:
            notices = names.alerts(context).open(store.registry).report(findings)
        for notice in notices:
            for error in notice.errors.values():
                context.log.error("An alert was not delivered. %s", error)
        failing = sum(bool(finding.failed) for finding in findings)
        told = "; ".join(f"{notice.event}: {notice.title}" for notice in notices) or "nobody needed to be told"
        return dg.SkipReason(f"{failing} of {len(findings)} checks and steps failed; {told}.")

    # The decorator takes no keys of resources.
    return dg.RunStatusSensorDefinition(
        names.of(name),
        of,
        sense,
        description="Tells owners once when checks or runs fail, and once when they are well again.",
        minimum_interval_seconds=looks.interval_seconds or INTERVAL_SECONDS,
        default_status=looks.status,
        required_resource_keys={names.store_key, names.alerts_key},
    )


def _events(instance: DagsterInstance, run: dg.DagsterRun, kind: DagsterEventType) -> Iterator[Any]:
    cursor = None
    while True:
        page = instance.get_records_for_run(run.run_id, cursor=cursor, of_type=kind, limit=_PAGE)
        for record in page.records:
            yield record.event_log_entry.get_dagster_event()
        if not page.has_more:
            return
        cursor = page.cursor


def _of_check(
    asset: str, check: str, evaluations: Sequence[AssetCheckEvaluation], run_id: str, definition: Owned
) -> Iterator[Finding]:
    """Yields the finding of a check, and a second one where some partitions only gave warnings."""
    passed = {one.partition or WHOLE for one in evaluations if one.passed}
    for severity, suffix in ((dg.AssetCheckSeverity.ERROR, ""), (dg.AssetCheckSeverity.WARN, "/warning")):
        failing = sorted(
            (one for one in evaluations if not one.passed and one.severity is severity),
            key=lambda one: one.partition or WHOLE,
        )
        summary = " ".join(
            f"{f'{one.partition}: ' if one.partition and len(failing) > 1 else ''}{own_summary(one)}"
            for one in failing[-_SUMMARIES:]
        )
        features = _features(definition, failing)
        yield Finding(
            key=f"check/{asset}/{check}{suffix}",
            title=f"{check} of {asset} fails",
            failed=tuple(one.partition or WHOLE for one in failing),
            passed=tuple(sorted(passed)),
            severity="error" if severity is dg.AssetCheckSeverity.ERROR else "warning",
            summary=summary[:_MOST_CHARACTERS],
            numbers=_numbers(failing[-1], features) if failing else {},
            group=asset,
            features=features,
            owner=definition.owner,
            remedy=_remedy(failing[-1]) if failing else "",
            link=f"/assets/{asset}?view=checks&checkDetail={check}",
            run_id=run_id,
        )


def _of_steps(
    instance: DagsterInstance,
    run: dg.DagsterRun,
    by_step: Mapping[str, Owned],
    explained: set[str],
    names: Names,
) -> Iterator[Finding]:
    failed: dict[str, str] = {}
    for event in _events(instance, run, DagsterEventType.STEP_FAILURE):
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        failed[event.step_key] = error.message.strip() if error else ""
    succeeded = [event.step_key for event in _events(instance, run, DagsterEventType.STEP_SUCCESS)]
    if run.status is DagsterRunStatus.FAILURE and not failed:
        failed[run.job_name] = "The run failed outside of its steps; its page shows where."
    touched = {key.to_user_string() for key in run.asset_selection or ()}
    owned_keys = {names.key_text(each.name) for each in by_step.values()}
    for step in sorted({*failed, *succeeded, *([run.job_name] if run.status is DagsterRunStatus.SUCCESS else [])}):
        is_of_our_assets = step == run.job_name and touched & owned_keys
        if not step.startswith(names.of("")) and not is_of_our_assets:
            continue
        definition = by_step.get(step)
        called = definition.name if definition else step
        if step in failed and definition and names.key_text(definition.name) in explained:
            continue
        yield Finding(
            key=f"run/{called}",
            title=f"The run of {called} fails",
            failed=(WHOLE,) if step in failed else (),
            passed=() if step in failed else (WHOLE,),
            summary=failed.get(step, "")[:_MOST_CHARACTERS],
            group=definition.name if definition else "",
            owner=definition.owner if definition else "",
            remedy="The message says what to do. What has been written stays; run the same again once it is done.",
            link=f"/assets/{names.key_text(definition.name)}" if definition else "",
            run_id=run.run_id,
        )


def _features(definition: Owned, failing: Sequence[AssetCheckEvaluation]) -> tuple[str, ...]:
    """Returns the features that failing evaluations are about: those that they list, or name in their sentences."""
    if not isinstance(definition, FeatureGroup):
        return ()
    words: set[str] = set()
    for evaluation in failing:
        listed = evaluation.metadata.get("features")
        text = listed.value if isinstance(listed, dg.TextMetadataValue) else own_summary(evaluation)
        words |= set(re.findall(r"\w+", text or ""))
    return tuple(spec.ref.column for spec in definition.features if spec.ref.column in words)


def _numbers(evaluation: AssetCheckEvaluation, features: Sequence[str]) -> dict[str, float | str]:
    """Returns the measurements of an evaluation: those of the features that it names, else all."""
    numbers: dict[str, float | str] = {
        name: float(value.value)
        for name, value in evaluation.metadata.items()
        if isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue) and value.value is not None
    }
    named = {name: value for name, value in numbers.items() if name.rpartition("/")[2] in features}
    return named or numbers


def _remedy(evaluation: AssetCheckEvaluation) -> str:
    partition = f" {evaluation.partition}" if evaluation.partition else ""
    if evaluation.check_name == "schema":
        return (
            "No row of the partition was written. Correct the source or the function, then materialize the partition"
            f"{partition} again."
        )
    return (
        f"Look at the numbers and the histogram of partition{partition}. Was the source wrong, land it again: what "
        "reads it is recomputed by itself. Is the change real, it becomes the baseline with the next training set."
    )
