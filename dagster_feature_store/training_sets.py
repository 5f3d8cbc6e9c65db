"""Grows an asset from a training set, with the check that no value of it comes from the future.

A set that is built as a whole is one asset; a set in partitions is a partitioned asset, whose partitions are added to
the set's open version. Nothing here builds or judges a row.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_feature_store.check_results import check_outputs, evaluations, latest_materializations, verdicts
from dagster_feature_store.compat import UnresolvedAssetJobDefinition
from dagster_feature_store.held_back import hold_back
from dagster_feature_store.metadata import preview
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from dagster_feature_store.one_asset import one_asset
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.loading import load_definitions
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.on_demand import OnDemandFeatures
from feature_store.definitions.training_set import EveryEntity, TrainingSet
from feature_store.monitoring.findings import CheckResult
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    from feature_store.training_sets.leak_guard import LeakReport
    from feature_store.training_sets.versions import WrittenTrainingSet

TRAINING_SETS = "training_sets"
NO_LEAK = "no_leak"
SAMPLE_ROWS = 1000
"""Rows that the check looks at in one run: what spoils one row in 200 is found with 99 percent."""

_KINDS = {"polars", "parquet"}

_FARTHEST = timedelta(days=365_000)
"""Further back than any partition; Dagster's arithmetic must stay inside of the calendar, in both directions."""


class NewVersion(dg.Config):
    """What a run of a training set in partitions may be asked for.

    Attributes:
        new_version: Open a new version, with every partition as its inputs are now.
    """

    new_version: bool = False


def training_set_asset(
    definition: TrainingSet, groups: Sequence[FeatureGroup], module: ModuleType, *, names: Names = DEFAULT_NAMES
) -> dg.AssetsDefinition:
    """Returns the asset of a training set, downstream of the groups whose features it joins, with its check.

    Args:
        definition: The training set.
        groups: All feature groups.
        module: Holds the definitions, the on-demand features among them.
        names: What the objects of the code location are called.
    """
    stored = _stored_names(definition, load_definitions(module).on_demand.values())
    upstream = _upstream(definition, stored, groups)
    if definition.partitioning is None:
        return _whole_asset(definition, upstream, module, names)
    deps = [
        dg.AssetDep(
            names.key(group.name), partition_mapping=_visible_partitions(stored, definition.partitioning, group)
        )
        for group in upstream
    ]
    return _partitioned_asset(definition, definition.partitioning, upstream, deps, module, names)


def training_set_job(definition: TrainingSet, *, names: Names = DEFAULT_NAMES) -> UnresolvedAssetJobDefinition:
    """Returns the job that builds a training set."""
    return dg.define_asset_job(
        names.of(f"{definition.name}_training_set"),
        selection=[names.key(definition.name)],
        description=f"Builds the training set {definition.name}.",
        executor_def=dg.in_process_executor,
    )


def _whole_asset(
    definition: TrainingSet, upstream: list[FeatureGroup], module: ModuleType, names: Names
) -> dg.AssetsDefinition:
    key = names.key(definition.name)
    check = dg.AssetCheckSpec(NO_LEAK, asset=key, description=_check_description(), blocking=True)

    @one_asset(
        names,
        definition.name,
        description=definition.description,
        group=TRAINING_SETS,
        owner=definition.owner,
        resources={names.store_key},
        kinds=_KINDS,
        deps=[names.key(group.name) for group in upstream],
        check_specs=[check],
    )
    def compute(context: dg.AssetExecutionContext) -> Iterator[Any]:
        hold_back(context, upstream, names)
        with names.store(context).open(definitions=module) as store:
            written = store.write_training_set(definition, progress=_log_progress(context))
            report = store.verify_training_set(written.name, written.version, rows=SAMPLE_ROWS)
        state = "written" if written.created else "unchanged since it was written"
        context.log.info(f"{definition.name} v{written.version}: {written.rows:,} rows, {state}")
        context.log.info(f"{definition.name}: {report.summary()}")
        yield dg.MaterializeResult(metadata=written_metadata(written))
        if check.key in context.selected_asset_check_keys:
            yield dg.AssetCheckResult(
                passed=report.passed,
                check_name=NO_LEAK,
                asset_key=context.asset_key,
                severity=dg.AssetCheckSeverity.ERROR,
                description=report.summary(),
                metadata=dict(_numbers(report)),
            )

    return compute


def _partitioned_asset(
    definition: TrainingSet,
    partitioning: Partitioning,
    upstream: list[FeatureGroup],
    deps: list[dg.AssetDep],
    module: ModuleType,
    names: Names,
) -> dg.AssetsDefinition:
    partitions_def = _partitions(definition, partitioning)
    check = dg.AssetCheckSpec(
        NO_LEAK, asset=names.key(definition.name), description=_check_description(), blocking=True
    )

    @one_asset(
        names,
        definition.name,
        description=definition.description,
        group=TRAINING_SETS,
        owner=definition.owner,
        resources={names.store_key},
        kinds=_KINDS,
        deps=deps,
        check_specs=[check],
        partitions_def=partitions_def,
        code_version=definition.labels_code_version,
    )
    def compute(context: dg.AssetExecutionContext, config: NewVersion) -> Iterator[Any]:
        hold_back(context, upstream, names)
        keys = list(context.partition_keys)
        span = partitioning.span(keys[0], keys[-1])
        with names.store(context).open(definitions=module) as store:
            written = store.write_training_set(
                definition, span, new_version=config.new_version, progress=_log_progress(context)
            )
            present = [key for key in keys if key in written.partitions]
            reports = _verify(store, written, present)
        context.log.info(
            f"{definition.name} v{written.version}: {len(written.built)} partitions built, "
            f"{len(keys) - len(present)} of {len(keys)} without labels"
        )
        for key, changes in written.stale.items():
            context.log.warning(
                f"{definition.name} v{written.version}: {key} stays as it is, its inputs have changed "
                f"since ({'; '.join(changes)}). Run with the config new_version to build it anew, as the next version."
            )
        rows = {part.partition: part.rows for part in written.parts}
        for key in keys:
            context.add_asset_metadata(
                {
                    "dagster/partition_row_count": rows.get(key, 0),
                    "version": written.version,
                    "stale": key in written.stale,
                },
                partition_key=key,
            )
        yield dg.MaterializeResult(metadata=written_metadata(written))
        yield from check_outputs([check], context.selected_asset_check_keys)
        if check.key in context.selected_asset_check_keys:
            yield from evaluations(
                context.asset_key, reports, latest_materializations(context.instance, context.asset_key, list(reports))
            )
            yield from verdicts(context.instance, context.asset_key, [NO_LEAK], reports)

    return compute


def _verify(store: FeatureStore, written: "WrittenTrainingSet", keys: Sequence[str]) -> Mapping[str, list[CheckResult]]:
    """Checks each partition, with as many rows as make the sample of a run together."""
    rows = max(SAMPLE_ROWS // max(len(keys), 1), 1)
    results = {}
    for key in keys:
        report = store.verify_training_set(written.name, written.version, rows=rows, partitions=[key])
        # A partition whose sources have changed cannot be checked any more; it was when it was built.
        passed = report.passed or (key in written.stale and not report.violations)
        results[key] = [CheckResult(NO_LEAK, passed, report.summary(), dict(_numbers(report)))]
    return results


def _stored_names(definition: TrainingSet, on_demand: Iterable[OnDemandFeatures]) -> frozenset[str]:
    """Returns the names of stored features and groups that a set is made of: of features on demand, their inputs."""
    computed = {
        name: functions
        for functions in on_demand
        for name in (functions.name, *(spec.ref.name for spec in functions.features))
    }
    names = set()
    for text in definition.features:
        name, _ = FeatureRef.parse(text)
        inputs = computed[name].inputs.values() if name in computed else [text]
        names |= {FeatureRef.parse(each)[0] for each in inputs}
    return frozenset(names)


def _upstream(definition: TrainingSet, names: frozenset[str], groups: Sequence[FeatureGroup]) -> list[FeatureGroup]:
    """Returns the groups of the set's features, and those that decide which entities are its labels."""
    query = definition.labels
    return [
        group
        for group in sorted(groups, key=lambda group: group.name)
        if group.name in names
        or names & {spec.ref.name for spec in group.features}
        or (isinstance(query, EveryEntity) and (group.name == query.group or group.entity == query.entity))
    ]


def _partitions(definition: TrainingSet, partitioning: Partitioning) -> dg.TimeWindowPartitionsDefinition:
    """Returns the partitions of a set; the last one is that whose labels are complete."""
    assert definition.start is not None
    late = -(-definition.label_delay // partitioning.length)
    if partitioning is Partitioning.DAILY:
        return dg.DailyPartitionsDefinition(start_date=definition.start, end_date=definition.end, end_offset=-late)
    return dg.HourlyPartitionsDefinition(start_date=definition.start, end_date=definition.end, end_offset=-late)


def _visible_partitions(
    names: frozenset[str], partitioning: Partitioning, group: FeatureGroup
) -> dg.TimeWindowPartitionMapping:
    """Returns which partitions of a group a partition of the set reads: those that can be visible to its labels."""
    specs = [spec for spec in group.features if group.name in names or spec.ref.name in names] or group.features
    longest = max((spec.ttl for spec in specs), default=timedelta(0))
    # Dagster counts in partitions of the set, whatever those of the group are.
    reach = -(-min(longest, _FARTHEST) // partitioning.length)
    return dg.TimeWindowPartitionMapping(start_offset=-reach, allow_nonexistent_upstream_partitions=True)


def _log_progress(context: dg.AssetExecutionContext) -> Any:
    """Returns what logs the progress of a build, a line for each quarter of each group's join."""
    logged: dict[str, int] = {}

    def log(group: str, share: float) -> None:
        quarter = int(4 * share)
        if quarter > logged.get(group, 0):
            logged[group] = quarter
            context.log.info(f"{group}: {share:.0%} of the point-in-time join")

    return log


def _check_description() -> str:
    return (
        "No sampled value is younger than its label, older than its time to live, or another than the rule of "
        "visibility gives, as computed row by row from the raw files."
    )


def written_metadata(written: "WrittenTrainingSet") -> dict[str, Any]:
    """Returns what the UI shows of a version that was written."""
    splits = {f"rows/{split}": rows for split, rows in written.split_rows.items()}
    return {
        "dagster/row_count": written.rows,
        "version": written.version,
        "features": len(written.features),
        "path": dg.MetadataValue.path(str(written.path)),
        "preview": preview(written.scan()),
        **splits,
        **{f"null_rate/{name}": rate for name, rate in written.null_rates.items()},
    }


def _numbers(report: "LeakReport") -> Mapping[str, float]:
    return {
        "rows_sampled": report.rows_sampled,
        "values_checked": report.values_checked,
        "values_skipped": report.values_skipped,
        "violations": sum(report.violations.values()),
        **{f"violations/{kind}": count for kind, count in report.violations.items()},
    }
