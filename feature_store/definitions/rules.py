"""The rules of a schema: what decides whether rows are refused, as plain values and the user's own functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from feature_store.definitions.declared_feature import DeclaredFeature, members_of
from feature_store.definitions.fingerprint import code_version
from feature_store.definitions.schema import FeatureSchema

_OF_FRAMES = ("strict", "ordered", "unique", "coerce", "drop_invalid_rows")

# What pandera calls the rules that `feature` takes, and the numbers in them, in its order.
_BOUNDS = {
    "gt": ("greater_than", "min_value"),
    "ge": ("greater_than_or_equal_to", "min_value"),
    "lt": ("less_than", "max_value"),
    "le": ("less_than_or_equal_to", "max_value"),
    "isin": ("isin", "allowed_values"),
}
_OPTIONS = (False, True, None)  # of its checks: element_wise, ignore_na, groupby


@dataclass(frozen=True, slots=True)
class ColumnRules:
    """The rules of one column.

    Attributes:
        nullable: Whether null is a value.
        texts: The others, as errors name them: `greater_than(0)`.
        parts: All of them, as plain values and the versions of functions.
    """

    nullable: bool
    texts: tuple[str, ...]
    parts: tuple[Any, ...]


def column_rules(schema: type[FeatureSchema]) -> Mapping[str, ColumnRules]:
    """Returns the rules of each of a schema's features.

    Raises:
        DefinitionError: If a check of the user's own holds something that has no lasting form.
    """
    if _has_only_features(schema):
        members = members_of(schema)
        return {spec.ref.column: _declared(members[spec.ref.column]) for spec in schema.specs()}
    return {name: _of_column(column) for name, column in schema.to_schema().columns.items()}


def rules_version(schema: type[FeatureSchema]) -> str:
    """Returns a digest of a schema's rules: which values and rows are refused.

    Features without a rule, descriptions, tags, times to live and thresholds of monitoring are no rules.

    Raises:
        DefinitionError: If a check of the user's own holds something that has no lasting form.
    """
    ruled = {name: list(rules.parts) for name, rules in column_rules(schema).items() if rules.parts}
    if _has_only_features(schema):
        return code_version((ruled, [], []))
    model = schema.to_schema()
    frame = [(name, getattr(model, name)) for name in _OF_FRAMES if getattr(model, name, None)]
    return code_version((ruled, frame, [_check(check) for check in model.checks]))


def _has_only_features(schema: type[FeatureSchema]) -> bool:
    """Tells whether a schema is what `feature` declares and no more: then its rules are known without pandera.

    To import pandera takes longer than all else that a process does which only describes its groups, as Dagster's do.
    """
    inherited = members_of(FeatureSchema)
    members = [(name, value) for name, value in members_of(schema).items() if name not in inherited]
    return all(
        isinstance(value, DeclaredFeature) or (name.startswith("__") and name.endswith("__")) for name, value in members
    )


def _declared(feature: DeclaredFeature) -> ColumnRules:
    bounds = [(*names, feature.bounds[bound]) for bound, names in _BOUNDS.items() if bound in feature.bounds]
    checks = [(name, {statistic: value}, _OPTIONS, None) for name, statistic, value in bounds]
    return ColumnRules(
        nullable=feature.nullable,
        texts=tuple(f"{name}({value})" for name, _, value in bounds),
        parts=(*(() if feature.nullable else ("not null",)), *checks),
    )


def _of_column(column: Any) -> ColumnRules:
    return ColumnRules(
        nullable=bool(column.nullable),
        texts=tuple(str(check.error or check.name) for check in column.checks),
        parts=(
            *(() if column.nullable else ("not null",)),
            *(("unique",) if column.unique else ()),
            *map(_check, column.checks),
        ),
    )


def _check(check: Any) -> Any:
    """A check: its name and numbers, or the version of the function that a user has written for it."""
    own = _written_by_the_user(check._check_fn)  # noqa: SLF001 - pandera gives it no other name
    options = (check.element_wise, check.ignore_na, check.groupby)
    return (check.name, check.statistics, options, None if own is None else code_version(own))


def _written_by_the_user(function: Any) -> Any:
    """Returns the function that pandera has wrapped; None for its own checks, which go by their names."""
    if not isinstance(function, FunctionType):
        return None if type(function).__module__.startswith("pandera.") else function
    if not str(function.__globals__.get("__name__")).startswith("pandera."):
        return function
    for cell in function.__closure__ or ():
        inner = getattr(cell.cell_contents, "check_fn", cell.cell_contents)
        if callable(inner) and not isinstance(inner, type):
            return _written_by_the_user(getattr(inner, "__func__", inner))
    return None
