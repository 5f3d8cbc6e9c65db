"""Rows of windowed groups that streams have brought online and that are not in the offline store yet.

Whoever makes the tiles of an entity anew takes them beside those of the offline store: a batch, an ingest, a repair.
A hash for each entity, from event time to row; drained rows go with the next look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.clock import to_micros
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import entity_id_expression
from feature_store.online.resp import bulk, script_call
from feature_store.online.script_session import ScriptCall
from feature_store.rows.polars_schema import row_schema

if TYPE_CHECKING:
    from feature_store.online.store import OnlineStore

CALLS_PER_CHUNK = 1000


class Undrained:
    """The undrained rows of one group.

    Args:
        store: The online store.
        group: The group.
    """

    def __init__(self, store: OnlineStore, group: RegisteredGroup) -> None:
        self._client = store._client()  # noqa: SLF001 - the store's own package
        self._keys = store._keys  # noqa: SLF001
        self._shape = self._keys.undrained(group.name)
        self._group = group
        self._schema = row_schema(group)
        self._source = files("feature_store.online").joinpath("undrained.lua").read_text("utf-8")

    def add(self, rows: pl.DataFrame, drained: datetime | None, expiry: int) -> None:
        """Keeps rows.

        Args:
            rows: As they are stored.
            drained: Up to when rows are drained.
            expiry: When a key goes that gets no more rows, milliseconds since 1970; 0 for never.

        Raises:
            OnlineStoreError: If a server refuses, or does not answer in several attempts.
        """
        ids = rows.select(entity_id_expression(self._group.entity))[ENTITY_ID].to_list()
        times = rows[EVENT_TIMESTAMP].to_physical().to_list()
        ingested = rows[INGESTED_AT].to_physical().to_list()
        given: dict[str, list[bytes]] = {}
        for entity_id, time, at, values in zip(ids, times, ingested, self._packable(rows).iter_rows(), strict=True):
            given.setdefault(entity_id, []).extend((b"%d" % time, b"%d:%b" % (at, msgspec.msgpack.encode(values))))
        self._call(given, drained, expiry, asked=False)

    def of(self, entity_ids: Sequence[str], drained: datetime | None) -> pl.DataFrame:
        """Returns the rows of some entities as they are stored.

        Raises:
            OnlineStoreError: If a server refuses, or does not answer in several attempts.
        """
        answers = self._call({entity_id: [] for entity_id in entity_ids}, drained, 0, asked=True)
        rows = [msgspec.msgpack.decode(raw.partition(b":")[2]) for answer in answers for raw in answer]
        found = pl.DataFrame(rows, schema=self._packed_schema(), orient="row")
        return found.select(
            pl.col(name).str.to_decimal(scale=dtype.scale).cast(dtype) if isinstance(dtype, pl.Decimal)
            else pl.col(name).cast(dtype)
            for name, dtype in self._schema.items()
        )  # fmt: skip

    def _call(
        self, given: Mapping[str, list[bytes]], drained: datetime | None, expiry: int, *, asked: bool
    ) -> list[Any]:
        head = [b"" if drained is None else b"%d" % to_micros(drained), b"%d" % expiry, b"1" if asked else b"0"]
        found: list[Any] = []
        entries = list(given.items())
        with self._client.script(self._source) as session:
            for start in range(0, len(entries), CALLS_PER_CHUNK):
                calls = []
                for entity_id, pairs in entries[start : start + CALLS_PER_CHUNK]:
                    words = [*head, *pairs]
                    key = (1, bulk(self._shape.of(entity_id).encode()))
                    packed = script_call(session.digest, key, (len(words), b"".join(map(bulk, words))))
                    calls.append(ScriptCall(self._keys.slot(entity_id), packed))
                session.send(calls, len(calls))
                found += session.answers()
        return found

    def _packable(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(
            pl.col(name).cast(pl.String) if isinstance(dtype, pl.Decimal) else pl.col(name).to_physical()
            for name, dtype in self._schema.items()
        )

    def _packed_schema(self) -> dict[str, Any]:
        empty = pl.DataFrame(schema=self._schema)
        return dict(self._packable(empty).schema)
