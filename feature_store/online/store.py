"""OnlineStore: the one way in to the online store. It holds connections and a clock, and passes work on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from feature_store.catalog import Catalog, RegisteredGroup, Selection
from feature_store.clock import Clock
from feature_store.forking import renew_in_children
from feature_store.online.deliveries import Deliveries
from feature_store.online.ingestion_clock import IngestionClock
from feature_store.online.keys import CATALOG, KeySpace
from feature_store.online.pending import Pending
from feature_store.online.reading.prepared import Connections, FeatureState, PreparedRead
from feature_store.online.retractions import Retractions
from feature_store.online.schemas import Schemas

if TYPE_CHECKING:
    import polars as pl

    from feature_store.online.async_client import AsyncClient
    from feature_store.online.client import Client
    from feature_store.online.event_loops import PerLoop
    from feature_store.online.locations import Location
    from feature_store.online.published_catalog import PublishedCatalog
    from feature_store.online.writer import WriteReport


class OnlineStore:
    """The latest visible feature values, in Redis or Valkey.

    What is atomic is one entity's row of one group: a reader sees all of its values or none, never a mixture of
    two rows. Rows of several entities, or of several groups, are read in one round trip but not at one instant.
    Threads may share a store.

    Args:
        url: `redis://`, `rediss://`, `unix://`, `redis+cluster://` or `redis+sentinel://`, see `locations`; None for
            the embedded server, started when first needed.
        clock: Tells the store's present.
        max_rows_per_second: Pace of all writes that ask for no other; None for full speed.

    Attributes:
        pending: Rows whose time has not come.
        ingestion: Gives the ingestion times of rows.
        retractions: Rows that streams have taken back and that the offline store still holds.
        deliveries: When long writes were under way.

    Raises:
        SettingsError: If the URL is malformed.
    """

    def __init__(self, url: str | None, clock: Clock, *, max_rows_per_second: float | None = None) -> None:
        self._url = url
        self._clock = clock
        self._pace = max_rows_per_second
        self._schemas = Schemas()
        self._connecting = threading.Lock()
        self._location = None if url is None else _location(url)
        self._keys = KeySpace(hash_tags=self._location is not None and self._location.kind == "cluster")
        self._connected: Client | None = None
        self.pending = Pending(self._client, self._keys, clock)
        self.ingestion = IngestionClock(self._client, clock)
        self.retractions = Retractions(self._client)
        self.deliveries = Deliveries(self._client)
        self._by_loop: PerLoop[AsyncClient] | None = None
        renew_in_children(self)

    @classmethod
    def connect(cls, url: str | None, clock: Clock, *, max_rows_per_second: float | None = None) -> Self:
        """Returns the store at a URL; see the class for the arguments. Nothing is sent before the first call."""
        return cls(url, clock, max_rows_per_second=max_rows_per_second)

    @property
    def url(self) -> str:
        """Where another process finds the same store, its password included; an embedded server is started."""
        if self._url is None:
            from feature_store.online.embedded import EmbeddedRedis

            return EmbeddedRedis().ensure()
        return self._url

    def write(
        self,
        group: RegisteredGroup,
        rows: pl.DataFrame,
        progress: Callable[[int], None] | None = None,
        *,
        max_rows_per_second: float | None = None,
    ) -> WriteReport:
        """Writes rows so that each entity's newest visible one stands in the store.

        Newest is the greatest `(event_timestamp, ingested_at)`, whatever the order of rows, writes and writers;
        among equals, what is written last. Rows whose event lies in the clock's future stand when their time comes,
        see `pending`; rows that are expired for all features are counted and left out. Writing the same rows again
        changes nothing.

        Args:
            group: The group, all of whose features are written.
            rows: Join keys, `event_timestamp`, `ingested_at` (UTC) and one column per feature, in any order and
                with any number of rows per entity.
            progress: Called with the number of rows settled since the call before; the numbers add up to all rows.
            max_rows_per_second: Rows sent per second at most, in small portions; None for the store's own pace.

        Raises:
            InvalidRowsError: If columns are missing or of another dtype, or keys or times are null; nothing is
                written then.
            OnlineStoreError: If the server refuses, or does not answer in several attempts. The message tells
                how many rows are confirmed; to write again heals what was cut off.
        """
        from feature_store.online.writer import Writer

        writer = Writer(self._client(), self._keys, self._clock, self.pending)
        return writer.write(group, rows, progress, max_rows_per_second or self._pace)

    def withdraw(self, group: RegisteredGroup, gone: pl.DataFrame, standing: pl.DataFrame) -> int:
        """Takes rows back, and puts the row that is an entity's newest then in their place, in one step.

        A row of another event time than the one withdrawn, or one that was ingested later, stays.

        Args:
            group: The group.
            gone: Join keys, `event_timestamp` and `ingested_at`: up to when the row was ingested that goes (UTC).
            standing: Rows as in `write`: the newest of each entity stands there from now on.

        Returns:
            How many rows were taken back.

        Raises:
            OnlineStoreError: If the server refuses, or does not answer in several attempts.
        """
        from feature_store.online.writer import Writer

        return Writer(self._client(), self._keys, self._clock, self.pending).withdraw(group, gone, standing)

    def check_ids(self, entity_ids: Callable[[], Iterable[str]]) -> None:
        """Refuses entity ids that cannot be keys of this store. They are asked for only where some cannot.

        Raises:
            InvalidRequestError: If an id is refused.
        """
        if self._keys.hash_tags:
            self._keys.check(entity_ids())

    def prepare(self, selections: Sequence[Selection], catalog: Catalog, *, clock: Clock | None = None) -> PreparedRead:
        """Returns a read of some features, to be used many times.

        Args:
            selections: The features.
            catalog: What they were selected from.
            clock: Tells the instant that values are read as of; the store's own clock if None.
        """
        connections = Connections(
            self._client, self._async_client, self._keys, clock or self._clock, self._schemas, self.pending
        )
        return PreparedRead(connections, selections, catalog)

    def read(
        self, entity_ids: Sequence[str], selections: Sequence[Selection], catalog: Catalog
    ) -> list[dict[str, Any]]:
        """Returns the values visible now: one dict per entity id, in order, by label.

        None stands for what is null, missing or expired. Timestamps are aware datetimes in UTC, embeddings lists
        of floats.

        Raises:
            InvalidRequestError: If an entity id is not text, or is no id of the features' entity.
            OnlineStoreError: If the server does not answer, or refuses; there are no partial answers.
        """
        return self.prepare(selections, catalog).values(entity_ids)

    def read_states(
        self,
        entity_ids: Sequence[str],
        selections: Sequence[Selection],
        catalog: Catalog,
        *,
        clock: Clock | None = None,
    ) -> list[dict[str, FeatureState]]:
        """Returns values with the reason for each: present, null, missing or expired, and the row's times.

        See `prepare` for the arguments.

        Raises:
            InvalidRequestError: If an entity id is not text, or is no id of the features' entity.
            OnlineStoreError: If the server does not answer, or refuses; there are no partial answers.
        """
        return self.prepare(selections, catalog, clock=clock).states(entity_ids)

    def publish(self, catalog: Catalog) -> None:
        """Puts the catalog into the store, for readers without a registry.

        Raises:
            OnlineStoreError: If the server refuses, or does not answer in several attempts.
        """
        from feature_store.online.published_catalog import encode_catalog

        self._client().put(CATALOG, encode_catalog(catalog))

    def published(self, known: PublishedCatalog | None = None) -> PublishedCatalog | None:
        """Returns the catalog that was published last, None if there is none.

        Args:
            known: Returned itself if it is still what is published.

        Raises:
            OnlineStoreError: If the server does not answer, refuses, or holds something else at the catalog's key.
        """
        return _decoded(self._client().fetch([[CATALOG]])[0], known)

    def put_schema(self, group: str, fingerprint: bytes, text: bytes) -> None:
        """Says what a fingerprint of a group's values stands for: before the values, for who meets it must find it.

        Raises:
            OnlineStoreError: If the server refuses, or does not answer in several attempts.
        """
        self._client().put(KeySpace.schema(group, fingerprint), text)

    def has_catalog(self) -> bool:
        """Returns whether a catalog is published.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        return self._client().fetch([[CATALOG]])[0] is not None

    async def apublished(self, known: PublishedCatalog | None = None) -> PublishedCatalog | None:
        """Does what `published` does, without blocking the event loop."""
        return _decoded((await self._async_client().fetch([[CATALOG]]))[0], known)

    def ping(self) -> None:
        """Asks the server for a sign of life.

        Raises:
            OnlineStoreError: If it gives none.
        """
        self._client().ping()

    def close(self) -> None:
        """Closes all connections but those of event loops, see `aclose`. An embedded server stays up for others."""
        if self._connected is not None:
            self._connected.close()
        if self._by_loop is not None:
            self._by_loop.sweep()

    async def aclose(self) -> None:
        """Closes all connections, those of the running event loop among them."""
        if self._by_loop is not None:
            await self._by_loop.aclose()
        self.close()

    def after_fork(self) -> None:
        """Gives a forked process connections of its own."""
        self._connecting = threading.Lock()
        self._connected = None
        self.pending.after_fork()
        if self._by_loop is not None:
            self._by_loop.abandon()
            self._by_loop = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _client(self) -> Client:
        if self._connected is None:
            # redis-py takes a third of a second to import: only who connects pays for it.
            from feature_store.online.client import Client

            location = self._located()
            with self._connecting:
                if self._connected is None:
                    self._connected = Client(location)
        return self._connected

    def _async_client(self) -> AsyncClient:
        if self._by_loop is None:
            from feature_store.online.async_client import AsyncClient
            from feature_store.online.event_loops import PerLoop

            with self._connecting:
                if self._by_loop is None:
                    self._by_loop = PerLoop(lambda: AsyncClient(self._located()))
        return self._by_loop.get()

    def _located(self) -> Location:
        if self._location is None:
            from feature_store.online.embedded import EmbeddedRedis

            with self._connecting:
                if self._location is None:
                    self._location = _location(EmbeddedRedis().ensure())
        return self._location


def _decoded(text: bytes | None, known: PublishedCatalog | None) -> PublishedCatalog | None:
    from feature_store.online.published_catalog import PublishedCatalog, decode_catalog

    if text is None:
        return None
    if known is not None and known.text == text:
        return known
    return PublishedCatalog(text, decode_catalog(text))


def _location(url: str) -> Location:
    from feature_store.online.locations import Location

    return Location.parse(url)
