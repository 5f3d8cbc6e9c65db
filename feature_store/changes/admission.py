"""Which rows are accepted, decided once, before anything is written.

The columns, dtypes, keys and rules of the schema are `changes.validation`'s; here is what both stores need besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from feature_store.changes.validation import validate
from feature_store.conversion import out_of_calendar
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP
from feature_store.errors import InvalidRequestError, InvalidRowsError
from feature_store.frames import TIMESTAMP_TYPE, entity_id_expression
from feature_store.rows.schema import RowSchema

if TYPE_CHECKING:
    from feature_store.online.store import OnlineStore

MOST_AHEAD = timedelta(minutes=5)
"""How far a row may lie ahead of the clock."""

_LATEST = datetime.max.replace(tzinfo=UTC)
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class AdmittedRows:
    """Rows that both stores accept, made by `admit` alone.

    Attributes:
        frame: In the form that `changes.validation.validate` returns.
    """

    frame: pl.DataFrame


def admit(group: FeatureGroup, rows: pl.DataFrame, now: datetime, online: OnlineStore | None = None) -> AdmittedRows:
    """Returns rows that can be written to both stores, or rejects all of them.

    Args:
        group: The feature group.
        rows: Join keys, `event_timestamp` and one column per feature.
        now: The store's present (UTC).
        online: The online store that they are for, which may not be able to spell an entity id.

    Raises:
        InvalidRowsError: If a row breaks the schema, lies too far ahead of the clock, or cannot be spelled.
    """
    valid = validate(group, rows)
    failures = [*_ahead(valid, now), *_out_of_calendar(group, valid)]
    if online is not None and not failures:
        try:
            online.check_ids(lambda: valid.select(entity_id_expression(group.entity))[ENTITY_ID].unique().to_list())
        except InvalidRequestError as error:
            failures.append(str(error))
    if failures:
        remedy = "Correct the rows, or the clock: this machine's, or FEATURE_STORE_CLOCK where that is set."
        raise InvalidRowsError(group.name, failures, remedy)
    return AdmittedRows(valid)


def _ahead(rows: pl.DataFrame, now: datetime) -> list[str]:
    latest = min(now, _LATEST - MOST_AHEAD) + MOST_AHEAD
    newest = rows[EVENT_TIMESTAMP].max()
    if not isinstance(newest, datetime) or newest <= latest:
        return []
    ahead = rows.filter(pl.col(EVENT_TIMESTAMP) > pl.lit(latest, dtype=TIMESTAMP_TYPE))
    examples = ", ".join(ahead[EVENT_TIMESTAMP].head(_EXAMPLES).dt.to_string())
    place = f"more than {MOST_AHEAD} ahead of the store's present, {now.isoformat()}"
    return [f"{ahead.height:,} of {rows.height:,} rows lie {place}: {examples}"]


def _out_of_calendar(group: FeatureGroup, rows: pl.DataFrame) -> list[str]:
    """Returns what is wrong with times that no calendar has: what a store spells as text must have a year."""
    dtypes = RowSchema.of(group).computed
    tests = {column: out_of_calendar(pl.col(column), dtype) for column, dtype in dtypes.items()}
    counts = rows.select(test.sum().alias(column) for column, test in tests.items() if test is not None).row(0)
    columns = [column for column, test in tests.items() if test is not None]
    return [
        f"{count:,} values of {column!r} lie outside the years 1 to 9999"
        for column, count in zip(columns, counts, strict=True)
        if count
    ]
