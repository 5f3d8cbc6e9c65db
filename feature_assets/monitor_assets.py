"""Checks that no materialization runs: freshness, what is online, whether it is right, and what was served.

They look at groups as they are now, so they have no partitions; the nightly monitor job runs them all, and the hourly
freshness job one of them. What they find is decided in `feature_store.monitoring`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from feature_assets.check_results import check_metadata, severity
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import FeatureRef
from feature_store.monitoring.consistency import ConsistencyReport, Offender
from feature_store.monitoring.findings import CheckResult, Finding
from feature_store.monitoring.freshness import FRESHNESS
from feature_store.monitoring.online_monitor import ONLINE_VALUES
from feature_store.monitoring.replay import ReplayReport
from feature_store.store import FeatureStore
from resources.feature_store import FeatureStoreResource

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


def freshness_checks(groups: Sequence[FeatureGroup]) -> dg.AssetChecksDefinition:
    """Returns the freshness checks of all groups, as one op."""
    by_name = {group.name: group for group in groups}

    @dg.multi_asset_check(name="freshness_checks", specs=_specs(groups, [FRESHNESS]), can_subset=True)
    def check(context: dg.AssetCheckExecutionContext, feature_store: FeatureStoreResource) -> Iterable[Any]:
        with feature_store.open() as store:
            for name in _selected(context):
                store.apply([by_name[name]])
                yield _result(name, store.monitor.check_freshness(by_name[name]))

    return check


def online_checks(groups: Sequence[FeatureGroup]) -> dg.AssetChecksDefinition:
    """Returns the checks of what is online and of what was served, as one op."""
    by_name = {group.name: group for group in groups}

    @dg.multi_asset_check(
        name="online_checks", specs=_specs(groups, [ONLINE_VALUES, CONSISTENCY, SERVED]), can_subset=True
    )
    def check(context: dg.AssetCheckExecutionContext, feature_store: FeatureStoreResource) -> Iterable[Any]:
        selected = {(key.asset_key.to_user_string(), key.name) for key in context.selected_asset_check_keys}
        with feature_store.open() as store:
            for name in _selected(context):
                store.apply([by_name[name]])
                if (name, ONLINE_VALUES) in selected:
                    yield _result(name, store.run_monitor(by_name[name]).result)
                if (name, CONSISTENCY) in selected:
                    yield _result(name, consistency_result(store.check_consistency(name)))
                if (name, SERVED) in selected:
                    yield _result(name, _served(store, name))

    return check


def monitor_checks(groups: Sequence[FeatureGroup], names: Sequence[str] = tuple(DESCRIPTIONS)) -> dg.AssetSelection:
    """Returns the selection of these checks of all groups; materializations leave them out."""
    return dg.AssetSelection.checks(
        *(dg.AssetCheckKey(dg.AssetKey(group.name), name) for name in names for group in groups)
    )


def monitor_jobs(
    groups: Sequence[FeatureGroup],
) -> tuple[UnresolvedAssetJobDefinition, UnresolvedAssetJobDefinition]:
    """Returns the nightly monitor and the freshness job."""
    return (
        dg.define_asset_job(
            NIGHTLY_JOB,
            selection=monitor_checks(groups),
            description="Looks at freshness, at what is online, whether it is right, and at what was served.",
        ),
        dg.define_asset_job(
            FRESHNESS_JOB,
            selection=monitor_checks(groups, [FRESHNESS]),
            description="Looks whether every feature group is as fresh as it promises.",
        ),
    )


def consistency_result(report: ConsistencyReport) -> CheckResult:
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


def served_result(report: ReplayReport) -> CheckResult:
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


def _shown(offender: Offender) -> str:
    return f"; {offender.entity_id}: {offender.online!r} online, {offender.offline!r} offline"


def _served(store: FeatureStore, name: str) -> CheckResult:
    if store.request_log is None:
        summary = "Not judged: no request log is kept (FEATURE_STORE_REQUEST_LOG)."
        return CheckResult(SERVED, passed=True, summary=summary)
    return served_result(store.replay_requests(groups=[name]))


def _specs(groups: Sequence[FeatureGroup], names: Sequence[str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=group.name, description=DESCRIPTIONS[name]) for group in groups for name in names
    ]


def _selected(context: dg.AssetCheckExecutionContext) -> list[str]:
    return sorted({key.asset_key.to_user_string() for key in context.selected_asset_check_keys})


def _result(name: str, result: CheckResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=name,
        check_name=result.name,
        passed=result.passed,
        severity=severity(result),
        description=result.summary,
        metadata=check_metadata(result),
    )
