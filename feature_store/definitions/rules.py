"""The rules of a schema: what decides whether rows are refused, as plain values and the user's own functions."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from feature_store.definitions.fingerprint import code_version

if TYPE_CHECKING:
    from feature_store.definitions.schema import FeatureSchema

_OF_FRAMES = ("strict", "ordered", "unique", "coerce", "drop_invalid_rows")


def rules_version(schema: type[FeatureSchema]) -> str:
    """Returns a digest of a schema's rules: which values and rows are refused.

    Features without a rule, descriptions, tags, times to live and thresholds of monitoring are no rules.

    Raises:
        DefinitionError: If a check of the user's own holds something that has no lasting form.
    """
    model = schema.to_schema()
    columns = {name: _rules(column, nullable=bool(column.nullable)) for name, column in model.columns.items()}
    ruled = {name: rules for name, rules in columns.items() if rules}
    frame = [(name, getattr(model, name)) for name in _OF_FRAMES if getattr(model, name, None)]
    return code_version((ruled, frame, [_check(check) for check in model.checks]))


def _rules(column: Any, *, nullable: bool) -> list[Any]:
    return [*([] if nullable else ["not null"]), *(["unique"] if column.unique else []), *map(_check, column.checks)]


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
