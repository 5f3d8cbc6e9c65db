"""Strict reads of entities whose rows were replaced or withdrawn since: what the store held at the label's time.

The engines know the rows that the store holds. Entities with rows that it held before are few; their labels are
answered here, by one small join over all versions of their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from feature_store.catalog import RegisteredGroup, Selection
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.row_changes import read_rows
from feature_store.offline.superseded import SUPERSEDED_AT
from feature_store.partitions import Window
from feature_store.visibility import Visibility

if TYPE_CHECKING:
    from feature_store.offline.layout import PartitionFile
    from feature_store.offline.point_in_time.labels import EntityLabels
    from feature_store.offline.store import OfflineStore

LABELS_AT_ONCE = 100_000
_LABEL, _AS_OF = "_label", "_as_of"


def as_it_was(
    store: OfflineStore,
    group: RegisteredGroup,
    labels: EntityLabels,
    selections: Sequence[Selection],
    files: Sequence[PartitionFile],
    span: Window,
    values: Mapping[str, pl.Series],
) -> Mapping[str, pl.Series]:
    """Returns the values of a strict read, those of entities with former rows by what the store held then.

    Args:
        store: Holds the former rows.
        group: The group.
        labels: Keys and times of the labels.
        selections: What is asked for.
        files: The files of the group that were read.
        span: The events that the labels can see.
        values: What the rows that the store holds now say, by column; a column that no file has is absent.
    """
    former = store.superseded(group, span)
    if former.is_empty():
        return values
    keys = list(group.entity.join_keys)
    asked = labels.keys.with_columns(labels.as_of.alias(_AS_OF)).with_row_index(_LABEL)
    asked = asked.join(former.select(keys).unique(), on=keys, how="semi")
    if asked.is_empty():
        return values
    entities = asked.select(keys).unique()
    present = read_rows(group, files).join(entities, on=keys, how="semi")
    versions = pl.concat(
        [
            present.with_columns(pl.lit(None, dtype=TIMESTAMP_TYPE).alias(SUPERSEDED_AT)),
            former.select(*present.columns, SUPERSEDED_AT).join(entities, on=keys, how="semi"),
        ]
    )
    held = (pl.col(EVENT_TIMESTAMP) <= pl.col(_AS_OF)) & (pl.col(INGESTED_AT) <= pl.col(_AS_OF))
    held &= pl.col(SUPERSEDED_AT).is_null() | (pl.col(SUPERSEDED_AT) > pl.col(_AS_OF))
    newest = pl.concat(
        [
            part.join(versions, on=keys)
            .filter(held)
            .sort(EVENT_TIMESTAMP, INGESTED_AT)
            .group_by(_LABEL, maintain_order=True)
            .last()
            for part in asked.iter_slices(LABELS_AT_ONCE)
        ]
    )
    answers = dict(values)
    places = asked.select(_LABEL).join(newest, on=_LABEL, how="left", maintain_order="left")
    age = places[_AS_OF].to_physical() - places[EVENT_TIMESTAMP].to_physical()
    ttls = Visibility.of(selection.feature for selection in selections).ttls
    for selection, ttl in zip(selections, ttls, strict=True):
        column = selection.feature.ref.column
        dtype = places.schema[column]
        before = values.get(column)
        if before is None:
            before = pl.repeat(None, labels.as_of.len(), dtype=dtype, eager=True)
        alive = (age < ttl).fill_null(value=False)
        found = places.select(pl.when(alive).then(pl.col(column)).otherwise(None)).to_series()
        answers[column] = _put(before.cast(dtype), places[_LABEL], found)
    return answers


def _put(values: pl.Series, places: pl.Series, others: pl.Series) -> pl.Series:
    """Returns a column with other values in some places."""
    put = pl.DataFrame([places, others.alias("_other"), pl.repeat(True, places.len(), eager=True).alias("_put")])
    whole = (
        values.alias("_value").to_frame().with_row_index(_LABEL).join(put, on=_LABEL, how="left", maintain_order="left")
    )
    chosen = pl.when(pl.col("_put")).then(pl.col("_other")).otherwise(pl.col("_value"))
    return whole.select(chosen.alias(values.name)).to_series()
