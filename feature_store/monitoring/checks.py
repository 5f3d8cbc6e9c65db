"""Checks of a partition: pure judgements of a profile, named as they appear in the Dagster UI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from feature_store.definitions.group import FeatureGroup
from feature_store.monitoring.profile import PartitionProfile

SCHEMA = "schema"
NULL_RATE = "null_rate"
ROW_COUNT = "row_count"

DESCRIPTIONS: Mapping[str, str] = {
    SCHEMA: "Every row has the declared columns, dtypes, keys and ranges. Rows that break it are never written.",
    NULL_RATE: "No feature has a greater share of nulls than its schema allows (max_null_rate).",
    ROW_COUNT: "The partition has rows.",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check on one partition.

    Attributes:
        name: The check's name.
        passed: Whether it passed.
        summary: One sentence with the numbers.
        numbers: Numbers to plot, by name.
    """

    name: str
    passed: bool
    summary: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def check_null_rate(group: FeatureGroup, profile: PartitionProfile) -> CheckResult:
    """Compares each feature's share of nulls with the `max_null_rate` of its schema."""
    rates = {column: feature.null_rate for column, feature in profile.features.items()}
    limits = {spec.ref.column: spec.max_null_rate for spec in group.features}
    over = [f"{column} {rates[column]:.1%} > {limit:.1%}" for column, limit in limits.items() if rates[column] > limit]
    summary = f"Too many nulls: {'; '.join(over)}." if over else f"Greatest null rate {max(rates.values()):.1%}."
    return CheckResult(NULL_RATE, not over, summary, {f"null_rate/{column}": rate for column, rate in rates.items()})


def check_row_count(group: FeatureGroup, profile: PartitionProfile) -> CheckResult:
    """Passes when the partition has at least the rows that its group expects."""
    passed = profile.rows >= group.min_rows
    summary = f"{profile.rows:,} rows of {profile.entities:,} entities; at least {group.min_rows:,} rows expected."
    return CheckResult(ROW_COUNT, passed, summary, {"rows": profile.rows, "entities": profile.entities})


def check_partition(group: FeatureGroup, profile: PartitionProfile) -> list[CheckResult]:
    """Judges one partition whose rows have passed validation: one result per check, in the order of `DESCRIPTIONS`."""
    valid = CheckResult(SCHEMA, passed=True, summary=f"{profile.rows:,} rows satisfy {group.schema.__name__}.")
    return [valid, check_null_rate(group, profile), check_row_count(group, profile)]
