"""Checks that no materialization runs: freshness, what is online, whether it is right, and what was served.

They look at groups as they are now, so they have no partitions; the nightly monitor job runs them all, and the hourly
freshness job one of them. What they find is decided in `feature_store.monitoring`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_feature_store.check_records import planned_partitions
from dagster_feature_store.check_results import REPEATS, check_metadata, severity
from dagster_feature_store.compat import UnresolvedAssetJobDefinition
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import FeatureRef
from feature_store.monitoring.check_names import FRESHNESS, ONLINE_VALUES
from feature_store.monitoring.findings import CheckResult, Finding
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    from feature_store.monitoring.consistency import ConsistencyReport, Offender
    from feature_store.monitoring.replay import ReplayReport

NIGHTLY_JOB = "nightly_monitor"
FRESHNESS_JOB = "freshness"

CONSISTENCY = "online_consistency"
SERVED = "served_values"

DESCRIPTIONS = {
    FRESHNESS: "The newest event is as recent as the group promises.",
    ONLINE_VALUES: "The values online are on their course, and no feature has stopped updating.",
    CONSISTENCY: "What is online now is what the offline store says of this instant, for entities sampled by key hash.",
    SERVED: "What was served, by the request log, is what a training set says of the same instants.",
}


def freshness_checks(groups: Sequence[FeatureGroup], *, names: Names = DEFAULT_NAMES) -> dg.AssetChecksDefinition:
    """Returns the freshness checks of all groups, as one op."""
    by_key = {names.key(group.name): group for group in groups}

    @dg.multi_asset_check(
        name=names.of("freshness_checks"),
        specs=_specs(groups, [FRESHNESS], names),
        can_subset=True,
        required_resource_keys={names.store_key},
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterable[Any]:
        with names.store(context).open() as store:
            for key in _selected(context):
                store.apply([by_key[key]])
                yield from _result(context, key, store.monitor.check_freshness(by_key[key]))

    return check


def online_checks(groups: Sequence[FeatureGroup], *, names: Names = DEFAULT_NAMES) -> dg.AssetChecksDefinition:
    """Returns the checks of what is online and of what was served, as one op."""
    by_key = {names.key(group.name): group for group in groups}

    @dg.multi_asset_check(
        name=names.of("online_checks"),
        specs=_specs(groups, [ONLINE_VALUES, CONSISTENCY, SERVED], names),
        can_subset=True,
        required_resource_keys={names.store_key},
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterable[Any]:
        selected = {(key.asset_key, key.name) for key in context.selected_asset_check_keys}
        with names.store(context).open() as store:
            for key in _selected(context):
                group = by_key[key]
                store.apply([group])
                if (key, ONLINE_VALUES) in selected:
                    yield from _result(context, key, store.run_monitor(group).result)
                if (key, CONSISTENCY) in selected:
                    yield from _result(context, key, consistency_result(store.check_consistency(group.name)))
                if (key, SERVED) in selected:
                    yield from _result(context, key, _served(store, group.name))

    return check


def monitor_checks(
    groups: Sequence[FeatureGroup], checks: Sequence[str] = tuple(DESCRIPTIONS), *, names: Names = DEFAULT_NAMES
) -> dg.AssetSelection:
    """Returns the selection of these checks of all groups; materializations leave them out."""
    return dg.AssetSelection.checks(
        *(dg.AssetCheckKey(names.key(group.name), check) for check in checks for group in groups)
    )


def monitor_jobs(
    groups: Sequence[FeatureGroup], *, names: Names = DEFAULT_NAMES
) -> tuple[UnresolvedAssetJobDefinition, UnresolvedAssetJobDefinition]:
    """Returns the nightly monitor and the freshness job."""
    return (
        dg.define_asset_job(
            names.of(NIGHTLY_JOB),
            selection=monitor_checks(groups, names=names),
            executor_def=dg.in_process_executor,
            description="Looks at freshness, at what is online, whether it is right, and at what was served.",
        ),
        dg.define_asset_job(
            names.of(FRESHNESS_JOB),
            selection=monitor_checks(groups, [FRESHNESS], names=names),
            executor_def=dg.in_process_executor,
            description="Looks whether every feature group is as fresh as it promises.",
        ),
    )


def consistency_result(report: "ConsistencyReport") -> CheckResult:
    """Returns the judgement of a comparison of the stores."""
    numbers: dict[str, float] = {"entities": report.entities, "in_flight": report.in_flight}
    findings = []
    for each in report.features:
        feature, version = FeatureRef.parse(each.feature)
        column = FeatureRef(feature, version or 1).column
        for name in ("mismatched", "missing", "extra"):
            numbers[f"{name}/{column}"] = getattr(each, name) / each.compared if each.compared else 0.0
        if each.wrong:
            shown = [offender for offender in report.offenders if offender.feature == each.feature]
            examples = "".join(map(_shown, shown[:2]))
            text = (
                f"{column}: {each.mismatched} other values, {each.missing} missing, {each.extra} too many of "
                f"{each.compared:,} entities{examples}"
            )
            findings.append(Finding("online", "alert", text, column))
    if findings:
        remedy = f"Repair with `feature-store monitor repair {report.group}`."
        summary = f"{'; '.join(finding.text for finding in findings)}. {remedy}"
        return CheckResult(CONSISTENCY, passed=False, summary=summary, numbers=numbers, findings=tuple(findings))
    calm = f"{report.entities:,} entities: every feature is online what it is offline."
    return CheckResult(CONSISTENCY, passed=True, summary=calm, numbers=numbers)


def served_result(report: "ReplayReport") -> CheckResult:
    """Returns the judgement of a replay of the request log."""
    numbers = {
        "values": report.values,
        "wrong": report.wrong,
        "late": report.late,
        "undrained": report.undrained,
        "skipped": report.skipped,
    }
    if not report.passed:
        first = report.deviations[0]
        text = (
            f"{report.wrong:,} of {report.values:,} served values are not what a training set says; {first.feature} of "
            f"{first.entity_id} at {first.served_at.isoformat()}: {first.served!r} served, {first.replayed!r} replayed"
        )
        finding = Finding("online", "alert", text, first.feature)
        return CheckResult(SERVED, passed=False, summary=f"{text}.", numbers=numbers, findings=(finding,))
    calm = (
        f"{report.values:,} served values are what a training set says; {report.late:,} of them were right by what was "
        "online then, and have been overtaken."
    )
    return CheckResult(SERVED, passed=True, summary=calm, numbers=numbers)


def _shown(offender: "Offender") -> str:
    return f"; {offender.entity_id}: {offender.online!r} online, {offender.offline!r} offline"


def _served(store: FeatureStore, name: str) -> CheckResult:
    if store.request_log is None:
        summary = "Not judged: no request log is kept (FEATURE_STORE_REQUEST_LOG)."
        return CheckResult(SERVED, passed=True, summary=summary, judged=False)
    return served_result(store.replay_requests(groups=[name]))


def _specs(groups: Sequence[FeatureGroup], checks: Sequence[str], names: Names) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(check, asset=names.key(group.name), description=DESCRIPTIONS[check])
        for group in groups
        for check in checks
    ]


def _selected(context: dg.AssetCheckExecutionContext) -> list[dg.AssetKey]:
    return sorted({key.asset_key for key in context.selected_asset_check_keys})


def _result(context: dg.AssetCheckExecutionContext, key: dg.AssetKey, result: CheckResult) -> Iterator[Any]:
    # A backfill takes every check of its assets along, and announces an evaluation of each partition. What is announced
    # and never comes, the history of the check shows as skipped.
    for partition in planned_partitions(context.instance, dg.AssetCheckKey(key, result.name), context.run.run_id):
        yield dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=result.name,
            passed=result.passed,
            severity=severity(result),
            description=result.summary,
            metadata={REPEATS: "the evaluation of the whole group in this run"},
            partition=partition,
        )
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=result.name,
        passed=result.passed,
        severity=severity(result),
        description=result.summary,
        metadata=check_metadata(result),
    )
