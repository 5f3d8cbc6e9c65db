"""The layout of windowed groups: one key per entity and group, whose tiles every reader folds at its own instant.

The bytes are `windows.tile_format`'s, what they come to `windows.tile_folding`'s; who writes them is the write path.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from feature_store.catalog import Feature, RegisteredGroup
from feature_store.errors import OnlineStoreError, WindowOverflowError
from feature_store.online.keys import KeySpace
from feature_store.online.layout import DecodedRow, GroupRead, GroupWrite, Status, foreign
from feature_store.online.schemas import Schemas
from feature_store.windows.tile_folding import TileFold
from feature_store.windows.tile_format import HEAD_BYTES, MAGIC, Tiles, decode_tiles
from feature_store.windows.tile_schema import TileSchema

if TYPE_CHECKING:
    import polars as pl

FEW = 8
"""Fewer entities are folded one by one: it is as fast, and needs no NumPy."""


class WindowLayout:
    """Tiles, one key per entity and group."""

    def reading(
        self, keys: KeySpace, group: RegisteredGroup, features: Sequence[Feature], schemas: Schemas
    ) -> GroupRead:
        """Returns what folds some windows of a group."""
        return _WindowRead(keys, group, features, schemas)

    def writing(self, keys: KeySpace, group: RegisteredGroup) -> GroupWrite:
        """Rejects: rows of a windowed group become tiles, which `changes.window_delivery` writes.

        Raises:
            OnlineStoreError: Always.
        """
        del keys
        raise OnlineStoreError(
            f"Feature group {group.name!r} has windows: its rows are not written to the online store one by one. "
            "Ingest, push or materialize them."
        )


class _WindowRead:
    width = 1

    def __init__(self, keys: KeySpace, group: RegisteredGroup, features: Sequence[Feature], schemas: Schemas) -> None:
        self._group = group.name
        self._schemas = schemas
        self._shape = keys.tiles(group.name)
        self._nearby = keys.nearby(group.name)
        self._features = features
        self._windows = [(feature.window, feature.dtype) for feature in features if feature.window is not None]
        every = [feature.window for feature in (group.windows or group.features) if feature.window is not None]
        self._longest = min((window.extent for window in every), key=lambda extent: extent.tails(0))
        own = TileSchema.of(every)
        self._folds = {MAGIC + own.fingerprint: TileFold(own, self._windows, self._longest)}
        self._nothing = [window.empty(dtype) for window, dtype in self._windows]

    def keys(self, entity_id: str) -> list[str]:
        return [self._shape.of(entity_id)]

    def values(self, entity_id: str, replies: Sequence[bytes | None], now: int) -> Sequence[Any]:
        raw = replies[0]
        if raw is None:
            return self._empty()
        fold = self._fold(entity_id, raw)
        return self._values(fold, entity_id, self._decoded(fold, entity_id, raw), now)

    def row(self, entity_id: str, replies: Sequence[bytes | None], now: int) -> DecodedRow:
        raw = replies[0]
        if raw is None:
            return self._missing()
        fold = self._fold(entity_id, raw)
        tiles = self._decoded(fold, entity_id, raw)
        last = fold.last_event(tiles, now)
        if last is None:
            return self._missing()
        values = self._values(fold, entity_id, tiles, now)
        statuses: list[Status] = ["null" if value is None else "present" for value in values]
        return DecodedRow(values, statuses, last, tiles.header.ingested)

    def columns(self, entity_ids: Sequence[str], replies: Sequence[bytes | None], now: int) -> list[pl.Series]:
        from feature_store.rows.polars_schema import series_of_values

        columns = self._columns(entity_ids, replies, now)
        return [
            series_of_values(feature.ref.column, column, feature.dtype)
            for feature, column in zip(self._features, columns, strict=True)
        ]

    def many(self, entity_ids: Sequence[str], replies: Sequence[bytes | None], now: int) -> list[Sequence[Any]]:
        """Returns what `values` says of each of many entities, folded together."""
        return list(zip(*self._columns(entity_ids, replies, now), strict=True))

    def _columns(self, entity_ids: Sequence[str], replies: Sequence[bytes | None], now: int) -> list[list[Any]]:
        columns: list[list[Any]] = [[None] * len(entity_ids) for _ in self._features]
        by_head: dict[bytes, list[int]] = {}
        alone: list[int] = []
        for place, raw in enumerate(replies):
            if raw is None:
                alone.append(place)
            else:
                by_head.setdefault(raw[:HEAD_BYTES], []).append(place)
        for places in by_head.values():
            raws: list[bytes] = [replies[place] for place in places]  # type: ignore[misc] # none of these is None
            found, left = self._folded(entity_ids[places[0]], raws, now)
            alone += [places[place] for place in left]
            if found and len(places) == len(entity_ids):
                columns = found
                continue
            for column, values in zip(columns, found, strict=False):
                for place, value in zip(places, values, strict=True):
                    column[place] = value
        for place in alone:
            for column, value in zip(columns, self.values(entity_ids[place], (replies[place],), now), strict=True):
                column[place] = value
        return columns

    def _folded(self, entity_id: str, raws: list[bytes], now: int) -> tuple[list[list[Any]], Sequence[int]]:
        """Returns the values of each window for entities of one schema, and which of these are to be folded alone."""
        fold = self._fold(entity_id, raws[0])
        if fold.schema.keys or len(raws) < FEW:
            return [], range(len(raws))
        from feature_store.windows.tile_folding_many import values_of_many

        try:
            return values_of_many(fold, raws, now)
        except (ValueError, WindowOverflowError, OverflowError):
            # One by one: the one that is to be named.
            return [], range(len(raws))

    def is_ahead(self, replies: Sequence[bytes | None], now: int) -> bool:
        del replies, now
        # Events that a reader has not reached are kept one by one.
        return False

    def nearby_key(self, entity_id: str) -> str:
        return self._nearby.of(entity_id)

    def nearby_times(self, raw: bytes) -> list[datetime]:
        del raw
        return []

    def nearby(self, entity_id: str, raw: bytes | None, now: int) -> list[bytes | None]:
        del entity_id, raw, now
        return [None]

    def _empty(self) -> list[Any]:
        # Lists and maps are the caller's, who may change them.
        return [type(value)() if isinstance(value, list | dict) else value for value in self._nothing]

    def _missing(self) -> DecodedRow:
        return DecodedRow(self._empty(), ["missing"] * len(self._features), None, None)

    def _fold(self, entity_id: str, raw: bytes) -> TileFold:
        fold = self._folds.get(raw[:HEAD_BYTES])
        if fold is not None:
            return fold
        if raw[:2] != MAGIC or len(raw) < HEAD_BYTES:
            raise foreign(self._shape.of(entity_id), "tiles", self._group)
        fingerprint = raw[2:HEAD_BYTES]
        text = self._schemas.text(self._group, fingerprint)
        try:
            fold = TileFold(TileSchema.parse(text), self._windows, self._longest)
        except (LookupError, ValueError):
            raise OnlineStoreError(
                f"Tiles of feature group {self._group!r} in the online store were written for other windows than those "
                "that are asked for: run `feature-store monitor repair`, or materialize the group again."
            ) from None
        self._folds[raw[:HEAD_BYTES]] = fold
        return fold

    def _decoded(self, fold: TileFold, entity_id: str, raw: bytes) -> Tiles:
        try:
            return decode_tiles(fold.schema, raw)
        except (ValueError, TypeError):
            raise foreign(self._shape.of(entity_id), "tiles", self._group) from None

    def _values(self, fold: TileFold, entity_id: str, tiles: Tiles, now: int) -> list[Any]:
        try:
            return fold.values(tiles, now)
        except (WindowOverflowError, OverflowError) as error:
            raise OnlineStoreError(f"Entity {entity_id!r} of feature group {self._group!r}: {error}") from None
