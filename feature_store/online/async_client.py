"""The same reads for asyncio: one client per event loop, on redis-py's asynchronous connections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from redis import exceptions
from redis.asyncio import ConnectionPool, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from feature_store.online.abandoned import close_cluster, close_pool
from feature_store.online.client import READ_TIMEOUT, Units, joined, not_unicode
from feature_store.online.locations import Location
from feature_store.online.refusals import SERVER_ERRORS, explained
from feature_store.online.servers import ASK_SECONDS, CONNECT_TIMEOUT, connection_options


class AsyncClient:
    """Reads from the servers of one location, within one event loop.

    Args:
        location: Where the servers are.
    """

    def __init__(self, location: Location) -> None:
        self.address = location.address
        self._cluster: RedisCluster | None = None
        self._sentinel: Sentinel | None = None
        self._pool: Any = None
        self._asked_at = float("-inf")
        # An event loop that is busy with other things looks late whether a server has answered.
        options = connection_options(location, READ_TIMEOUT, READ_TIMEOUT)
        retry = Retry(NoBackoff(), 0, ())
        if location.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in location.nodes]
            self._cluster = RedisCluster(
                startup_nodes=nodes, retry=Retry(NoBackoff(), 2), reinitialize_steps=1, **options
            )
        elif location.kind == "sentinel":
            sentinel_options = {"socket_timeout": READ_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
            sentinel: Any = Sentinel
            self._sentinel = sentinel(
                location.nodes, sentinel_kwargs={**sentinel_options, "retry": retry, **location.sentinel_options}
            )
            self._pool = self._sentinel.master_for(location.service, **options, retry=retry).connection_pool
        else:
            defaults = {name: value for name, value in options.items() if name not in location.options}
            self._pool = ConnectionPool.from_url(location.url, **defaults, retry=retry)

    async def fetch(self, units: Units) -> list[bytes | None]:
        """Returns the values of keys, in order, in one round trip; see `Client.fetch`.

        Raises:
            InvalidRequestError: If a key is not valid Unicode.
            OnlineStoreError: If a server does not answer, or refuses.
        """
        try:
            if self._cluster is not None:
                pipeline = self._cluster.pipeline()
                for keys in units:
                    pipeline.execute_command("MGET", *keys)
                return [value for reply in await pipeline.execute() for value in reply]
            lists = joined(units)
            try:
                replies = await self._exchange(lists)
            except exceptions.AuthenticationError:
                raise
            except exceptions.ConnectionError:
                replies = await self._exchange(lists)
            return [value for reply in replies for value in reply]
        except UnicodeEncodeError as error:
            raise not_unicode(error) from None
        except SERVER_ERRORS as error:
            raise explained(self.address, error) from error

    async def close(self) -> None:
        """Closes all connections."""
        if self._cluster is not None:
            await self._cluster.aclose()
        if self._pool is not None:
            await self._pool.disconnect()
        if self._sentinel is not None:
            for sentinel in self._sentinel.sentinels:
                await sentinel.aclose()

    def abandon(self) -> None:
        """Closes the sockets of a loop that has ended, or is another process's: nothing can be awaited there."""
        if self._cluster is not None:
            close_cluster(self._cluster)
        if self._pool is not None:
            close_pool(self._pool)
        if self._sentinel is not None:
            for sentinel in self._sentinel.sentinels:
                close_pool(sentinel.connection_pool)

    async def _exchange(self, chunks: Sequence[list[str]]) -> list[Any]:
        if self._sentinel is not None and time.monotonic() - self._asked_at > ASK_SECONDS:
            self._asked_at = time.monotonic()
            with suppress(exceptions.RedisError):
                await self._pool.get_master_address()
        connection = await self._pool.get_connection()
        try:
            packed = [part for keys in chunks for part in connection.pack_command("MGET", *keys)]
            await connection.send_packed_command(b"".join(packed))
            return [cast("Any", await connection.read_response()) for _ in chunks]
        except BaseException:
            # Also when the caller is cancelled: answers that are still to come must not be taken for others.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)
