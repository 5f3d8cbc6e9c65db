"""Which server answers for a slot: one for all, the primary that Sentinel names, or the nodes of a cluster.

Connection pools come from redis-py, which also knows the topology. What is sent over them belongs to `client` and
`script_session`.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, cast

from redis import ConnectionPool, RedisCluster, RedisError, exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import AskError, MovedError
from redis.retry import Retry
from redis.sentinel import Sentinel

from feature_store.online.locations import Location

CONNECT_TIMEOUT = 0.25
"""Seconds."""

ASK_SECONDS = 1.0
"""How long a primary that Sentinel has named is believed to be one: a former primary answers on, with older values."""

NO_RETRY = Retry(NoBackoff(), 0, ())

MOST_CONNECTIONS = 64
"""Connections in use at once, for one purpose, where the URL says nothing else (`max_connections`)."""


class Slots:
    """As many as there may be connections in use at once: further threads wait until one is free.

    Args:
        location: Whose URL may say how many.
        timeout: Seconds to wait for a free one.
    """

    __slots__ = ("_free", "_most", "_timeout", "release")

    def __init__(self, location: Location, timeout: float) -> None:
        # A queue rather than a semaphore: it is written in C, and the read path counts microseconds.
        self._free: SimpleQueue[None] = SimpleQueue()
        self._timeout = timeout
        self._most = int(location.options.get("max_connections", MOST_CONNECTIONS))
        self.release = partial(self._free.put, None)
        for _ in range(self._most):
            self.release()

    def take(self) -> None:
        """Takes one; `release` gives it back.

        Raises:
            exceptions.TimeoutError: If none becomes free in time.
        """
        try:
            self._free.get(True, self._timeout)
        except Empty:
            raise exceptions.TimeoutError(f"all {self._most} connections were busy for {self._timeout:g} s") from None


class Servers(Protocol):
    """The servers of one location.

    Attributes:
        redirects: Whether one server may name another.
    """

    redirects: bool

    def pool(self, slot: int) -> ConnectionPool:
        """Returns connections to the server of a slot."""
        ...

    def redirected(self, error: AskError) -> ConnectionPool | None:
        """Takes note of a redirection.

        Returns:
            Where to ask once, for a slot that is moving; None for one that has moved.
        """
        ...

    def refresh(self) -> None:
        """Asks again who serves what, after a failure."""
        ...

    def begin(self) -> None:
        """Makes sure of who is in charge, before a write."""
        ...

    def close(self) -> None:
        """Closes all connections."""
        ...


def connection_options(location: Location, timeout: float, connect_timeout: float = CONNECT_TIMEOUT) -> dict[str, Any]:
    """Returns the options of each connection; those in the URL win over the defaults here."""
    # RESP2 says all that is asked here, and spares each connection the handshakes of RESP3.
    return {
        "protocol": 2,
        "socket_timeout": timeout,
        "socket_connect_timeout": connect_timeout,
        **location.options,
    }


def servers_at(location: Location, timeout: float) -> OneServer | ClusterServers:
    """Returns the servers of a location. Nothing connects before the first use."""
    return ClusterServers(location, timeout) if location.kind == "cluster" else OneServer(location, timeout)


class OneServer:
    """One server for all keys: at a fixed address, or the primary that Sentinel names at each new connection."""

    redirects = False

    def __init__(self, location: Location, timeout: float) -> None:
        options = connection_options(location, timeout)
        self.slots = Slots(location, timeout)
        self._sentinel: Any = None
        self._asked_at = float("-inf")
        self._pool: ConnectionPool
        if location.kind == "sentinel":
            sentinel_options = {"socket_timeout": timeout, "socket_connect_timeout": CONNECT_TIMEOUT}
            sentinel: Any = Sentinel
            self._sentinel = sentinel(
                location.nodes, sentinel_kwargs={**sentinel_options, "retry": NO_RETRY, **location.sentinel_options}
            )
            master = self._sentinel.master_for(location.service, **options, retry=NO_RETRY)
            self._pool = master.connection_pool
        else:
            defaults = {name: value for name, value in options.items() if name not in location.options}
            self._pool = ConnectionPool.from_url(location.url, **defaults, retry=NO_RETRY)

    def pool(self, slot: int) -> ConnectionPool:  # noqa: ARG002
        """Returns connections to the server of a slot."""
        if self._sentinel is not None and time.monotonic() - self._asked_at > ASK_SECONDS:
            self._asked_at = time.monotonic()
            # If no Sentinel answers, the primary of a moment ago may still be there.
            with suppress(RedisError):
                # Closes idle connections to a former primary.
                cast("Any", self._pool).get_master_address()
        return self._pool

    def begin(self) -> None:
        """Has Sentinel asked at the next use."""
        self._asked_at = float("-inf")

    def redirected(self, error: AskError) -> ConnectionPool | None:
        """Takes note of a redirection; see `Servers.redirected`."""
        raise error

    def refresh(self) -> None:
        """A new connection finds the server that is in charge by itself."""
        self.begin()

    def close(self) -> None:
        """Closes all connections."""
        self._pool.disconnect()
        if self._sentinel is not None:
            for sentinel in self._sentinel.sentinels:
                sentinel.close()


class ClusterServers:
    """The nodes of a cluster."""

    redirects = True

    def __init__(self, location: Location, timeout: float) -> None:
        self._location = location
        self.slots = Slots(location, timeout)
        self._options = connection_options(location, timeout)
        self._connecting = threading.Lock()
        self._connected: Any = None

    @property
    def cluster(self) -> Any:
        """The library's client, which knows the topology: a `RedisCluster`, most of whose methods carry no types."""
        if self._connected is None:
            with self._connecting:
                if self._connected is None:
                    node: Any = ClusterNode
                    nodes = [node(host, port) for host, port in self._location.nodes]
                    self._connected = RedisCluster(
                        startup_nodes=nodes, retry=Retry(NoBackoff(), 2), reinitialize_steps=1, **self._options
                    )
        return self._connected

    def pool(self, slot: int) -> ConnectionPool:
        """Returns connections to the server of a slot."""
        return self._pool_of(self.cluster.nodes_manager.get_node_from_slot(slot))

    def redirected(self, error: AskError) -> ConnectionPool | None:
        """Takes note of a redirection; see `Servers.redirected`."""
        if isinstance(error, MovedError):
            self.cluster.nodes_manager.move_slot(error)
            return None
        node = self.cluster.get_node(host=error.host, port=error.port)
        if node is None:
            self.refresh()
            node = self.cluster.get_node(host=error.host, port=error.port)
        return None if node is None else self._pool_of(node)

    def refresh(self) -> None:
        """Asks the cluster for its topology."""
        self.cluster.nodes_manager.initialize()

    def begin(self) -> None:
        """Each node says where to go if it is not in charge."""

    def close(self) -> None:
        """Closes all connections."""
        if self._connected is not None:
            self._connected.close()
            self._connected.disconnect_connection_pools()

    def _pool_of(self, node: ClusterNode) -> ConnectionPool:
        pool: ConnectionPool = self.cluster.get_redis_connection(node).connection_pool
        return pool
