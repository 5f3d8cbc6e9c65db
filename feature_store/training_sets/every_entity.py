"""Labels of every entity at regular instants, read from the offline store instead of a label frame."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from feature_store.catalog import Catalog, RegisteredGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.definitions.training_set import EveryEntity
from feature_store.errors import InvalidRequestError, UnknownFeatureError, did_you_mean
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.rows.polars_schema import polars_type
from feature_store.visibility import Visibility

_FIRST = "_first"
_AFTER = "_after"
_MICROSECOND = timedelta(microseconds=1)


def every_entity_labels(
    query: EveryEntity, as_of: str, window: Window, *, catalog: Catalog, offline: OfflineStore
) -> pl.DataFrame:
    """Returns one row per entity and instant at which the entity is visible, sorted by time and join keys.

    Args:
        query: Whose labels, and how often.
        as_of: Name of the time column.
        window: Only instants in this span.
        catalog: What is registered.
        offline: Holds the rows by which entities are visible.

    Raises:
        UnknownFeatureError: If the group, or any group of the entity, is not registered.
        InvalidRequestError: If the time column would have the name of a join key.
        CorruptFileError: If a file that is needed is damaged.
    """
    keys = list(query.entity.join_keys)
    if as_of in keys:
        raise InvalidRequestError(f"as_of={as_of!r} is a join key of entity {query.entity.name!r}: name another one.")
    # Instants are numbered from the query's start, so that a window's are those of the whole.
    first = max(0, -(-(window.start - query.start) // query.every))
    after = max(first, -(-(window.end - query.start) // query.every))
    spans = [
        _visible_instants(group, query, first, after, offline) for group in _groups(query, catalog) if group.features
    ]
    schema = {as_of: TIMESTAMP_TYPE, **{key: polars_type(dtype) for key, dtype in query.entity.key_dtypes.items()}}
    if not spans or first == after:
        return pl.DataFrame(schema=schema)
    step = query.every // _MICROSECOND
    return (
        pl.concat(spans)
        .select(*keys, pl.int_ranges(_FIRST, _AFTER).alias("_instant"))
        .explode("_instant", empty_as_null=False, keep_nulls=False)
        .unique()
        .select(_time(query.start, pl.col("_instant") * step).alias(as_of), *keys)
        .sort(as_of, *keys)
    )


def _visible_instants(
    group: RegisteredGroup, query: EveryEntity, first: int, after: int, offline: OfflineStore
) -> pl.DataFrame:
    """Returns, per entity, spans of instants at which it is visible in a group, none overlapping another."""
    keys = list(group.entity.join_keys)
    step = query.every // _MICROSECOND
    visibility = Visibility.of(group.features)
    start, end = query.start + first * query.every, query.start + after * query.every
    window = Window(visibility.window(start).start, end)
    since = (pl.col(EVENT_TIMESTAMP) - query.start).dt.total_microseconds()
    return offline.collect(
        group,
        lambda rows: (
            rows.select(
                *keys,
                # The first instant at or after the event, and the first at which its time to live is over.
                (-(-since // step)).clip(first, after).alias(_FIRST),
                (-(-(since + visibility.longest) // step)).clip(first, after).alias(_AFTER),
            )
            .filter(pl.col(_FIRST) < pl.col(_AFTER))
            # Many rows of a day lead to the same instant: one of them is enough.
            .group_by(*keys, _FIRST)
            .agg(pl.col(_AFTER).max())
            .sort(*keys, _FIRST)
            # Each span ends where the next begins: nothing is said twice.
            .with_columns(pl.min_horizontal(_AFTER, pl.col(_FIRST).shift(-1).over(keys)).alias(_AFTER))
        ),
        window,
        streaming=True,
    )


def _groups(query: EveryEntity, catalog: Catalog) -> Iterator[RegisteredGroup]:
    if query.group is not None:
        yield catalog.group(query.group).rows
        return
    found = [group.rows for group in catalog.groups.values() if group.entity.name == query.entity.name]
    if not found:
        entities = {group.entity.name for group in catalog.groups.values()}
        raise UnknownFeatureError(
            f"No feature group of entity {query.entity.name!r} is registered. "
            f"{did_you_mean(query.entity.name, entities)}"
        )
    yield from found


def _time(start: datetime, micros: pl.Expr) -> pl.Expr:
    return (pl.lit(start).cast(TIMESTAMP_TYPE) + pl.duration(microseconds=micros)).cast(TIMESTAMP_TYPE)
