"""OnlineStore: the one way in to the online store. It holds a connection and a clock, and passes work on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from feature_store.catalog import Catalog, Group, Selection
from feature_store.clock import Clock
from feature_store.online.keys import KeySpace
from feature_store.online.reader import FeatureState, Reader

if TYPE_CHECKING:
    import polars as pl

    from feature_store.online.client import Client
    from feature_store.online.writer import WriteReport


class OnlineStore:
    """The latest visible feature values, in Redis or Valkey.

    What is atomic is one entity's row of one group: a reader sees all of its values or none, never a mixture of
    two rows. Rows of several entities, or of several groups, are read in one round trip but not at one instant.
    Threads may share a store.

    Args:
        url: `redis://`, `rediss://` or `unix://`; None for the embedded server, started when first needed.
        clock: Tells the store's present.

    Raises:
        SettingsError: If the URL is malformed.
    """

    def __init__(self, url: str | None, clock: Clock) -> None:
        self._clock = clock
        self._keys = KeySpace()
        self._connecting = threading.Lock()
        self._connected: Client | None = None
        self._planned: Reader | None = None
        if url is not None:
            self._connected = _client(url)

    @classmethod
    def connect(cls, url: str | None, clock: Clock) -> Self:
        """Returns the store at a URL; see the class for the arguments. Nothing is sent before the first call."""
        return cls(url, clock)

    def write(self, group: Group, rows: pl.DataFrame, progress: Callable[[int], None] | None = None) -> WriteReport:
        """Writes rows so that each entity's newest visible one stands in the store.

        Newest is the greatest `(event_timestamp, ingested_at)`, whatever the order of rows, writes and writers;
        among equals, what is written last. Rows whose event lies in the clock's future, and rows that are expired
        for all features, are counted and left out. Writing the same rows again changes nothing.

        Args:
            group: The group, all of whose features are written.
            rows: Join keys, `event_timestamp`, `ingested_at` (UTC) and one column per feature, in any order and
                with any number of rows per entity.
            progress: Called with the number of rows settled since the call before; the numbers add up to all rows.

        Raises:
            InvalidRowsError: If columns are missing or of another dtype, or keys or times are null; nothing is
                written then.
            OnlineStoreError: If the server refuses, or does not answer in several attempts. The message tells
                how many rows are confirmed; to write again heals what was cut off.
        """
        from feature_store.online.writer import Writer

        return Writer(self._client, self._keys, self._clock).write(group, rows, progress)

    def read(
        self, entity_ids: Sequence[str], selections: Sequence[Selection], catalog: Catalog
    ) -> list[dict[str, Any]]:
        """Returns the values visible now: one dict per entity id, in order, by label.

        None stands for what is null, missing or expired. Timestamps are aware datetimes in UTC, embeddings lists
        of floats.

        Raises:
            InvalidRequestError: If an entity id is not text.
            OnlineStoreError: If the server does not answer, or refuses; there are no partial answers.
        """
        return self._reader.values(entity_ids, selections, catalog)

    def read_states(
        self, entity_ids: Sequence[str], selections: Sequence[Selection], catalog: Catalog
    ) -> list[dict[str, FeatureState]]:
        """Returns values with the reason for each: present, null, missing or expired, and the row's times.

        Raises:
            InvalidRequestError: If an entity id is not text.
            OnlineStoreError: If the server does not answer, or refuses; there are no partial answers.
        """
        return self._reader.states(entity_ids, selections, catalog)

    def ping(self) -> None:
        """Asks the server for a sign of life.

        Raises:
            OnlineStoreError: If it gives none.
        """
        self._client.ping()

    def close(self) -> None:
        """Closes all connections. An embedded server stays up for other processes."""
        if self._connected is not None:
            self._connected.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _client(self) -> Client:
        if self._connected is None:
            from feature_store.online.embedded import EmbeddedRedis

            with self._connecting:
                if self._connected is None:
                    self._connected = _client(EmbeddedRedis().ensure())
        return self._connected

    @property
    def _reader(self) -> Reader:
        # One for all reads: it remembers how to answer the requests it has seen.
        if self._planned is None:
            self._planned = Reader(self._client, self._keys, self._clock)
        return self._planned


def _client(url: str) -> Client:
    # redis-py takes a third of a second to import: only who connects pays for it.
    from feature_store.online.client import Client

    return Client(url)
