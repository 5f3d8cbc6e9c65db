"""Samples that are drawn by a hash, so that equal data gives an equal sample, in any order and on any machine."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from feature_store.definitions.names import ENTITY_ID

_HASHES = 2**64 - 1


def among_sampled(share: float, turn: int = 0) -> pl.Expr:
    """Returns the condition that takes a share of the entities of rows with `entity_id`, with all of their rows.

    Args:
        share: The share, 0 to 1.
        turn: Another number draws another sample.
    """
    return pl.col(ENTITY_ID).hash(turn) <= int(share * _HASHES)


def least_hashed(rows: pl.LazyFrame, most: int, turn: int = 0) -> pl.LazyFrame:
    """Returns the rows of the entities whose ids have the least hashes: of those that `among_sampled` takes first.

    Args:
        rows: One row per entity, with `entity_id`.
        most: Entities at most.
        turn: Another number draws another sample.
    """
    return rows.bottom_k(most, by=pl.col(ENTITY_ID).hash(turn))


def one_in(step: pl.Expr | int, columns: Iterable[str]) -> pl.Expr:
    """Returns the condition that takes one of so many distinct values of some columns, with all of their rows."""
    return pl.struct(*columns).hash() % step == 0
