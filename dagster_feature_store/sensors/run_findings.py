"""What a finished run says of the feature store, good and bad, as findings for `feature_store.alerts`.

One per check that the run evaluated, and one per cause of which steps failed, however many groups it has hit.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import dagster as dg
from dagster import AssetCheckEvaluation, DagsterEventType, DagsterInstance, DagsterRunStatus

from dagster_feature_store.check_results import is_repetition, own_summary
from dagster_feature_store.held_back import BLOCKING
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.sensors.outages import OUTAGES
from dagster_feature_store.sensors.requests import digest
from dagster_feature_store.sensors.run_errors import events_of, failed_steps
from feature_store.alerts.findings import WHOLE, Finding
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import InvalidRowsError

_SUMMARIES = 3
_MOST_CHARACTERS = 1200
_KILLED = ("killed", "The run failed outside of its steps: its process was killed, or could not start.")

Owned = FeatureGroup | TrainingSet


def findings_of(
    instance: DagsterInstance, run: dg.DagsterRun, owned: Mapping[str, Owned], names: Names = DEFAULT_NAMES
) -> list[Finding]:
    """Returns what a finished run says of the feature store.

    Runs, steps and checks of others in the same code location are none of its business.

    Args:
        instance: Holds the run's events.
        run: The run.
        owned: What is defined, by asset key.
        names: What the objects of the code location are called.
    """
    by_check: dict[tuple[str, str], list[AssetCheckEvaluation]] = defaultdict(list)
    for event in events_of(instance, run, DagsterEventType.ASSET_CHECK_EVALUATION):
        evaluation = event.asset_check_evaluation_data
        asset = evaluation.asset_key.to_user_string()
        if asset in owned and not is_repetition(evaluation):
            by_check[asset, evaluation.check_name].append(evaluation)
    findings = [
        finding
        for (asset, check), evaluations in by_check.items()
        for finding in _of_check(asset, check, evaluations, run.run_id, owned[asset])
    ]
    rejected = {owned[asset].name for (asset, check), found in by_check.items() if check in BLOCKING and _fails(found)}
    return [*findings, *_of_steps(instance, run, owned, rejected, names)]


def _fails(evaluations: Sequence[AssetCheckEvaluation]) -> bool:
    return any(not one.passed and one.severity is dg.AssetCheckSeverity.ERROR for one in evaluations)


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
            needs_all=check in BLOCKING,
            group=asset,
            features=features,
            owner=definition.owner,
            remedy=_remedy(failing[-1]) if failing else "",
            link=f"/assets/{asset}?view=checks&checkDetail={check}",
            run_id=run_id,
        )


def _of_steps(
    instance: DagsterInstance, run: dg.DagsterRun, owned: Mapping[str, Owned], rejected: set[str], names: Names
) -> Iterator[Finding]:
    """Yields a finding per cause of which steps have failed, and one per asset that is well again.

    Rows that were rejected are the finding of their check. That a feature group is well again is not said by a run
    that succeeds, which may have computed other partitions: see `sensors.alerts`.
    """
    by_step = {names.of(each.name): each for each in owned.values()}
    failed = dict(failed_steps(instance, run))
    succeeded = {event.step_key for event in events_of(instance, run, DagsterEventType.STEP_SUCCESS)}
    if run.status is DagsterRunStatus.FAILURE and not failed:
        failed = dict.fromkeys(_cut_off(instance, run, owned, names, succeeded), _KILLED)
    by_cause: dict[tuple[str, str], list[str]] = defaultdict(list)
    for step, (kind, message) in failed.items():
        definition = by_step.get(step)
        if definition is None and not step.startswith(names.of("")):
            continue
        if definition is not None and kind == InvalidRowsError.__name__ and definition.name in rejected:
            continue
        by_cause[_cause(kind, message, definition)].append(step)
    for (kind, cause), steps in by_cause.items():
        message = failed[steps[0]][1][:_MOST_CHARACTERS]
        groups = [definition for step in steps if (definition := by_step.get(step)) is not None]
        if kind in OUTAGES:
            yield replace(OUTAGES[kind], summary=message, groups=_names_of(groups), run_id=run.run_id)
        elif len(groups) > 1:
            yield _shared_failure(cause, message, groups, run)
        else:
            yield _failure(groups[0].name if groups else steps[0], message, groups, run, names)
    yield from _of_success(run, succeeded - failed.keys(), by_step, names)


def _of_success(
    run: dg.DagsterRun, succeeded: set[str], by_step: Mapping[str, Owned], names: Names
) -> Iterator[Finding]:
    """Yields a finding per step that has succeeded."""
    # What a run says of a job that was killed before one of its steps had begun.
    whole = {run.job_name} if run.status is DagsterRunStatus.SUCCESS else set()
    for step in sorted(succeeded | whole):
        if step.startswith(names.of("")) and not isinstance(by_step.get(step), FeatureGroup):
            name = by_step[step].name if step in by_step else step
            yield replace(_failure(name, "", [], run, names), failed=(), passed=(WHOLE,))


def _cut_off(
    instance: DagsterInstance, run: dg.DagsterRun, owned: Mapping[str, Owned], names: Names, succeeded: set[str]
) -> list[str]:
    """Returns the steps that a run which was killed has not come to the end of."""
    selected = {key.to_user_string() for key in run.asset_selection or _planned(instance, run)}
    steps = [
        names.of(each.name)
        for asset, each in owned.items()
        if asset in selected or run.job_name == names.of(f"{each.name}_training_set")
    ]
    if not steps and run.job_name.startswith(names.of("")):
        # Of a job without assets.
        steps = [run.job_name]
    return [step for step in steps if step not in succeeded]


def _planned(instance: DagsterInstance, run: dg.DagsterRun) -> set[dg.AssetKey]:
    """Returns the assets that a run was to compute, of all that its job has."""
    events = events_of(instance, run, DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    return {event.asset_key for event in events if event.asset_key is not None}


def _cause(kind: str, message: str, definition: Owned | None) -> tuple[str, str]:
    """Returns what is equal for failures of one cause: names of groups and numbers do not count."""
    if kind in OUTAGES:
        return kind, ""
    text = message.partition("\n")[0]
    if definition is not None:
        text = re.sub(rf"\b{re.escape(definition.name)}\b", "*", text)
    return kind, digest([kind, re.sub(r"[0-9]+", "#", text)])


def _failure(name: str, message: str, groups: Sequence[Owned], run: dg.DagsterRun, names: Names) -> Finding:
    owner = groups[0] if groups else None
    return Finding(
        key=f"run/{name}",
        title=f"The run of {name} fails",
        failed=(WHOLE,),
        summary=message,
        group=owner.name if owner else "",
        owner=owner.owner if owner else "",
        remedy=(
            "The message says what to do. What has been written stays."
            + (" What is left is computed again by itself." if isinstance(owner, FeatureGroup) else "")
        ),
        link=f"/assets/{names.key_text(owner.name)}" if owner else "",
        run_id=run.run_id,
    )


def _shared_failure(cause: str, message: str, groups: Sequence[Owned], run: dg.DagsterRun) -> Finding:
    return Finding(
        key=f"cause/{cause}",
        title="Several feature groups fail of one cause",
        failed=(WHOLE,),
        summary=message,
        groups=_names_of(groups),
        owner=", ".join(dict.fromkeys(each.owner for each in groups)),
        remedy="The message says what to do. What has been written stays, what is left is computed again by itself.",
        link=f"/runs/{run.run_id}",
        run_id=run.run_id,
    )


def _names_of(groups: Sequence[Owned]) -> tuple[str, ...]:
    return tuple(sorted(each.name for each in groups))


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
