"""The labels of a build: read from the definition, and checked as a whole before any work is done."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from feature_store.definitions.splits import EntitySplits
from feature_store.definitions.training_set import EveryEntity, TrainingSet
from feature_store.errors import InvalidRequestError
from feature_store.frames import TIMESTAMP_TYPE, to_polars, utc_micros
from feature_store.offline.point_in_time.labels import prepare_labels
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Partitioning, Window
from feature_store.training_sets.blueprint import Blueprint
from feature_store.training_sets.every_entity import every_entity_labels
from feature_store.training_sets.manifest import QueryRecord
from feature_store.training_sets.versions import PARTITION, SPLIT


def read_labels(blueprint: Blueprint, offline: OfflineStore, now: datetime, span: Window | None = None) -> pl.DataFrame:
    """Returns the labels of a set, or those of a span of time, in their order; they may be none.

    Args:
        blueprint: What is to be built.
        offline: Read by a query of every entity.
        now: The store's present (UTC): labels lie at it or before it.
        span: Only labels of these times; None for all.

    Raises:
        InvalidRequestError: If two columns have one name, a key, time or column that is needed is missing or null, a
            time lies in the future, or a column has a name that the set itself uses.
    """
    definition = blueprint.definition
    _check_names(definition, "features", blueprint.features)
    query = definition.labels
    if isinstance(query, EveryEntity):
        window = Window(query.start, _query_end(query, now))
        if span is not None:
            window = Window(max(window.start, span.start), min(window.end, span.end))
        frame = every_entity_labels(query, definition.as_of, window, catalog=blueprint.catalog, offline=offline)
    else:
        frame = _collect(definition, query(), span)
    _check_names(definition, "labels", frame.columns)
    prepare_labels(frame, definition.as_of, blueprint.groups, blueprint.resolution.selections, now=now)
    if isinstance(definition.splits, EntitySplits):
        _check_split_keys(definition, definition.splits, frame)
    return frame


def label_times(frame: pl.DataFrame, as_of: str) -> pl.Series:
    """Returns the label times in UTC microseconds."""
    return frame.select(utc_micros(as_of, frame.schema).cast(TIMESTAMP_TYPE)).to_series()


def by_partition(frame: pl.DataFrame, as_of: str, partitioning: Partitioning) -> dict[str, pl.DataFrame]:
    """Returns the labels of each partition that has some, by key in order of time; their order is kept."""
    every = "1d" if partitioning is Partitioning.DAILY else "1h"
    keyed = frame.with_columns(label_times(frame, as_of).dt.truncate(every).alias(PARTITION))
    parts = keyed.partition_by(PARTITION, include_key=False, maintain_order=True, as_dict=True)
    return {partitioning.key(start): part for (start,), part in sorted(parts.items())}


def query_record(definition: TrainingSet, now: datetime) -> QueryRecord | None:
    """Returns what a manifest says of labels that are every entity, None for any other labels."""
    query = definition.labels
    if not isinstance(query, EveryEntity):
        return None
    return QueryRecord(
        entity=query.entity.name,
        group=query.group,
        every_seconds=query.every.total_seconds(),
        start=query.start,
        end=_query_end(query, now),
    )


def no_labels(definition: TrainingSet, span: Window | None) -> InvalidRequestError:
    """Returns the error of a set, or of a span of it, that has no labels."""
    where = f" between {span.start.isoformat()} and {span.end.isoformat()}" if span else ""
    return InvalidRequestError(
        f"Training set {definition.name!r} has no labels{where}: its label frame has no rows. Correct what gives the "
        "labels, or wait until there are some."
    )


def _query_end(query: EveryEntity, now: datetime) -> datetime:
    # Without an end, the present is an instant like any other: what is visible now is known.
    return query.end or now + timedelta(microseconds=1)


def _collect(definition: TrainingSet, labels: Any, span: Window | None) -> pl.DataFrame:
    try:
        if span is not None and isinstance(labels, pl.LazyFrame):
            labels = _within(labels, definition.as_of, labels.collect_schema(), span)
            span = None
        frame = to_polars(labels)
    except (pl.exceptions.DuplicateError, ValueError) as error:
        raise InvalidRequestError(
            f"The labels of training set {definition.name!r} cannot be read: {str(error).partition(chr(10))[0]}. "
            "Give each column a name of its own."
        ) from None
    if span is None:
        return frame
    return _within(frame.lazy(), definition.as_of, frame.schema, span).collect()


def _within(labels: pl.LazyFrame, as_of: str, schema: pl.Schema, span: Window) -> pl.LazyFrame:
    if not isinstance(schema.get(as_of), pl.Datetime | pl.Date):
        # Said clearly by the check of labels.
        return labels
    time = utc_micros(as_of, schema)
    return labels.filter(time.is_between(span.start, span.end, closed="left") | time.is_null())


def _check_names(definition: TrainingSet, what: str, columns: Collection[str]) -> None:
    own = {SPLIT: definition.splits, PARTITION: definition.partitioning}
    taken = [column for column, used in own.items() if used and column in columns]
    if taken:
        remedy = "rename them" if what == "labels" else "leave them out, or build the set without splits and partitions"
        raise InvalidRequestError(
            f"The {what} of training set {definition.name!r} have the column(s) {', '.join(taken)}, which the set "
            f"itself uses to say where a row lies, as its folders do: {remedy}."
        )


def _check_split_keys(definition: TrainingSet, splits: EntitySplits, frame: pl.DataFrame) -> None:
    for key in splits.entity.join_keys:
        if key not in frame.columns:
            raise InvalidRequestError(
                f"The labels of training set {definition.name!r} have no column {key!r}, a join key of entity "
                f"{splits.entity.name!r}, by which the set is split: add it, or split by time."
            )
        nulls = frame[key].null_count()
        if nulls:
            raise InvalidRequestError(
                f"Label column {key!r} of training set {definition.name!r} is null in {nulls} of {frame.height} rows: "
                "a row without it has no split. Drop these rows or fill them in."
            )
