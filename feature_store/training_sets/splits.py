"""Assigns the rows of a label frame to splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction

import polars as pl

from feature_store.definitions.entity import Entity
from feature_store.definitions.names import ENTITY_ID
from feature_store.definitions.splits import GAP, EntitySplits, Splits, TimeSplits
from feature_store.frames import entity_id_expression, utc_micros
from feature_store.training_sets.manifest import EntitySplitsRecord, TimeSplitsRecord

_HASH_BYTES = 8
_RANGE = 2 ** (8 * _HASH_BYTES)


def assign(splits: Splits, labels: pl.DataFrame, as_of: str) -> pl.Series:
    """Returns the name of each row's split.

    Args:
        splits: The splits.
        labels: The label frame, without nulls in its time column and in join keys.
        as_of: Its time column.
    """
    if isinstance(splits, TimeSplits):
        return labels.select(_by_time(splits, utc_micros(as_of, labels.schema)).alias("split")).to_series()
    ids = labels.select(entity_id_expression(splits.entity))
    entities = ids.unique()
    named = entities.with_columns(split=pl.Series(list(_by_entity(splits, entities[ENTITY_ID])), dtype=pl.String))
    return ids.join(named, on=ENTITY_ID, how="left", maintain_order="left")["split"]


def place(entity_id: str, seed: int) -> int:
    """Returns the place of an entity among 2^64: the first eight bytes of SHA-256 over the seed, `|` and its id."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{entity_id}".encode()).digest()[:_HASH_BYTES], "big")


def record(splits: Splits | None) -> TimeSplitsRecord | EntitySplitsRecord | None:
    """Returns what a manifest says of splits."""
    match splits:
        case None:
            return None
        case TimeSplits():
            return TimeSplitsRecord(until=dict(splits.until), gap_seconds=splits.gap.total_seconds())
        case EntitySplits():
            return EntitySplitsRecord(
                entity=splits.entity.name,
                join_keys={column: str(dtype) for column, dtype in splits.entity.key_dtypes.items()},
                shares=dict(splits.shares),
                seed=splits.seed,
            )


def keys(splits: Splits | None) -> Entity | None:
    """Returns the entity whose join keys the labels must have for their splits, None if none is needed."""
    return splits.entity if isinstance(splits, EntitySplits) else None


def _by_time(splits: TimeSplits, time: pl.Expr) -> pl.Expr:
    *bounded, (last, _) = splits.until.items()
    expression: pl.Expr = pl.lit(last)
    for name, end in reversed(bounded):
        if end is not None and splits.gap:
            expression = pl.when(time < end + splits.gap).then(pl.lit(GAP)).otherwise(expression)
        expression = pl.when(time < end).then(pl.lit(name)).otherwise(expression)
    return expression


def _by_entity(splits: EntitySplits, entity_ids: pl.Series) -> Iterator[str]:
    ends, total = [], Fraction(0)
    for share in splits.shares.values():
        total += Fraction(share)
        ends.append(int(total * _RANGE))
    # Shares add up to 1 within rounding: the last split takes what is left.
    bounds = list(zip(splits.shares, [*ends[:-1], _RANGE], strict=True))
    for entity_id in entity_ids:
        where = place(entity_id, splits.seed)
        yield next(name for name, end in bounds if where < end)
