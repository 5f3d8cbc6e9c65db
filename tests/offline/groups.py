"""Registered groups as plain records, and rows of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from feature_store.catalog import Feature, RegisteredGroup
from feature_store.definitions.dtypes import FLOAT, INT, Dtype
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef
from feature_store.offline.row_changes import PartitionRows, write_rows
from feature_store.offline.rows import checked_rows
from feature_store.partitions import Window
from feature_store.rows.polars_schema import row_schema
from feature_store.storage.local_files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from feature_store.offline.row_changes import Claim, RowChanges
    from feature_store.offline.store import OfflineStore

DAY_SECONDS = 86_400
JAN_1 = datetime(2024, 1, 1, tzinfo=UTC)
JAN_2 = datetime(2024, 1, 2, tzinfo=UTC)
FIRST_DAY = Window(JAN_1, JAN_2)
PASS = datetime(2024, 2, 1, tzinfo=UTC)

USER = Entity("user", {"user_id": str})
ROUTE = Entity("route", {"origin": str, "flight": int})


def group(
    name: str,
    entity: Entity = USER,
    features: Mapping[str, tuple[Dtype, int]] | None = None,
    *,
    partitioning: Literal["daily", "hourly"] = "daily",
    first_id: int = 1,
) -> RegisteredGroup:
    """Returns a group of features given as column -> (dtype, time to live in seconds)."""
    declared = features or {"clicks": (FLOAT, DAY_SECONDS), "seats": (INT, DAY_SECONDS)}
    records = tuple(
        Feature(first_id + index, FeatureRef.from_column(column), entity.name, dtype, "", "team", ttl, {}, name, JAN_1)
        for index, (column, (dtype, ttl)) in enumerate(declared.items())
    )
    return RegisteredGroup(name, entity, records, "team", "", "feature", partitioning, 0, "", JAN_1)


def without(wide: RegisteredGroup, column: str) -> RegisteredGroup:
    """Returns the group as it was before a feature was added to it."""
    return replace(wide, features=tuple(feature for feature in wide.features if feature.ref.column != column))


def rows(of: RegisteredGroup, records: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Returns rows of a group; what a record leaves out is null, and `ingested_at` is the time of the pass."""
    schema = row_schema(of)
    complete = [{**dict.fromkeys(schema), "ingested_at": PASS, **record} for record in records]
    return pl.DataFrame(complete, schema=schema)


def at(day: int, hours: float = 0, micros: int = 0) -> datetime:
    """Returns an instant, counted from the start of 2024."""
    return JAN_1 + timedelta(days=day, hours=hours, microseconds=micros)


def metadata(began: datetime = PASS) -> dict[str, str]:
    return {"ingested_at": began.isoformat()}


def claiming(moment: datetime) -> Claim:
    """Returns a clock of ingestion times that stands at an instant."""
    return lambda at_least: max(moment, at_least)


def give(
    store: OfflineStore,
    of: RegisteredGroup,
    window: Window,
    frame: pl.DataFrame,
    *,
    began: datetime = PASS,
    **more: str,
) -> RowChanges:
    """Puts rows in place of a partition's, as the pass that began then does: new and changed rows get its time."""
    given = PartitionRows(of, window, frame.drop("ingested_at"))
    return store.replace_partition(of, given, began=began, claim=claiming(began), metadata=more)


def lay(store: OfflineStore, of: RegisteredGroup, window: Window, frame: pl.DataFrame) -> None:
    """Lays rows into a partition's batch file as they are, as files of others and of older versions may hold them.

    So their ingestion times are their own, and one entity and event time may be there twice.
    """
    write = write_rows(checked_rows(of, window, frame), metadata())
    replace_file(store.batch_path(of, window), lambda: write)
