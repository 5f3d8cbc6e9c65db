"""What a layout is: how the rows of a group become keys, and keys become values again.

The writer and the reader know layouts only by these interfaces. A layout decides keys, arguments and script; it
does not decide which rows are written, when they are sent, or what happens when the server does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from feature_store.catalog import Feature, RegisteredGroup
from feature_store.errors import FeatureStoreError, OnlineStoreError
from feature_store.online.keys import KeySpace
from feature_store.online.schemas import LayoutSchema, Schemas

if TYPE_CHECKING:
    import polars as pl

Status = Literal["present", "null", "missing", "expired"]


class RowAheadError(FeatureStoreError):
    """A row lies ahead of the reader's clock: look up the row before it. It never leaves the online store."""


class DecodedRow(NamedTuple):
    """What one entity's keys say about the requested features of one group, at one instant.

    Attributes:
        values: One value per feature, None unless its status is `present`.
        statuses: One status per feature.
        event: Event time of the stored row in microseconds since 1970, None where there is none.
        ingested: When that row was ingested, likewise.
    """

    values: Sequence[Any]
    statuses: Sequence[Status]
    event: int | None
    ingested: int | None


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows in the server's protocol: one item per row, in order.

    Attributes:
        keys: The row's keys, each as a protocol bulk string, joined.
        arguments: The row's script arguments, likewise.
    """

    keys: list[bytes]
    arguments: list[bytes]


class GroupRead(Protocol):
    """Reads some features of one group.

    What decodes takes the values of `width` keys per entity, and `now`, microseconds since 1970, at which it applies
    the visibility rule. It raises `OnlineStoreError` if a key holds what this store did not write,
    `UnknownSchemaError` if a row was written with features that are still to be looked up, and `RowAheadError` if a row
    lies ahead of `now`, so that the row before it must be looked up.

    Attributes:
        width: Number of keys per entity.
    """

    width: int

    def keys(self, entity_id: str) -> list[str]:
        """Returns the keys to fetch for one entity."""
        ...

    def values(self, entity_id: str, replies: Sequence[bytes | None], now: int) -> Sequence[Any]:
        """Returns one entity's visible values, None where there is none."""
        ...

    def row(self, entity_id: str, replies: Sequence[bytes | None], now: int) -> DecodedRow:
        """Returns one entity's values with their statuses and times."""
        ...

    def columns(self, entity_ids: Sequence[str], replies: Sequence[bytes | None], now: int) -> list[pl.Series]:
        """Returns the visible values of many entities: one series per feature, one element per entity, in order."""
        ...

    def is_ahead(self, replies: Sequence[bytes | None], now: int) -> bool:
        """Tells whether one entity's row lies ahead of `now`: its writer's clock stands before the reader's."""
        ...

    def nearby_key(self, entity_id: str) -> str:
        """Returns the key of the rows that were replaced moments ago."""
        ...

    def nearby_times(self, raw: bytes) -> list[datetime]:
        """Returns when the rows were ingested that such a key holds (UTC)."""
        ...

    def nearby(self, entity_id: str, raw: bytes | None, now: int) -> list[bytes | None]:
        """Returns what the entity's keys held at `now`, of what the key of the rows around the present holds."""
        ...


@runtime_checkable
class FoldsMany(Protocol):
    """A `GroupRead` that answers many entities faster together."""

    def many(self, entity_ids: Sequence[str], replies: Sequence[bytes | None], now: int) -> list[Sequence[Any]]:
        """Returns what `GroupRead.values` says of each entity, in order."""
        ...


class GroupWrite(Protocol):
    """Writes whole rows of one group.

    The script takes the keys of some rows and, as arguments, a mode, the time `recent`, `preamble`, and then each row's
    arguments. It decides for each row whether it is the newest, writes all or none of its keys, and returns how many
    rows it wrote. In the mode `withdraw` each row's first argument is the times of the row that it may replace.

    Attributes:
        script: Lua source.
        schema: What the rows hold.
        preamble: Arguments that stand once before those of the rows.
        keys_per_row: Number of keys of each row.
        arguments_per_row: Number of arguments of each row.
        rows_per_call: Rows in one call of the script. While it runs the server answers no reader: as few as do not
            cost throughput.
        rows_per_chunk: Rows encoded and sent at once; the next chunk is encoded while the server works on this one.
    """

    script: str
    schema: LayoutSchema
    preamble: tuple[str, ...]
    keys_per_row: int
    arguments_per_row: int
    rows_per_call: int
    rows_per_chunk: int

    def times(self, event: int, ingested: int) -> bytes:
        """Returns the times of a row as the script compares them (microseconds since 1970)."""
        ...

    def recent(self, event: int) -> bytes:
        """Returns the event time from which on replaced rows are kept, as the script compares it."""
        ...

    def keys_of(self, entity_id: str) -> bytes:
        """Returns the keys of one entity's row, each as a protocol bulk string, joined."""
        ...

    def nothing(self) -> bytes:
        """Returns the arguments that stand for no row, joined: what is withdrawn leaves nothing behind."""
        ...

    def encode(self, rows: pl.DataFrame, now: datetime, expire_after: datetime | None) -> EncodedRows:
        """Encodes rows.

        Args:
            rows: `entity_id` (text), `event_timestamp` and `ingested_at` (integers, microseconds since 1970), and
                the features' columns. At `now` every row is visible for at least one feature.
            now: The store's present.
            expire_after: Keys that expire after this instant expire on the server; others are kept until they
                are overwritten. None: all keys expire on the server.
        """
        ...


class Layout(Protocol):
    """A way to store groups."""

    def reading(
        self, keys: KeySpace, group: RegisteredGroup, features: Sequence[Feature], schemas: Schemas
    ) -> GroupRead:
        """Returns what reads some features of a group."""
        ...

    def writing(self, keys: KeySpace, group: RegisteredGroup) -> GroupWrite:
        """Returns what writes rows of a group."""
        ...


def foreign(key: str, expected: str, group: str) -> OnlineStoreError:
    """Returns the error for a key that holds what this store did not write."""
    return OnlineStoreError(
        f"Key {key!r} of the online store does not hold {expected}: something else wrote it. "
        f"Delete the key and materialize feature group {group!r} again."
    )
