"""Closes connections of event loops that have ended, or are another process's: no loop is left to close them.

It reaches into asyncio and redis-py, whose connections can only be closed by their loop, and would warn when they are
collected.
"""
# ruff: noqa: SLF001 - there is no public way

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import RedisCluster


def close_pool(pool: Any) -> None:
    """Closes the sockets of a pool's connections."""
    for connection in chain(pool._available_connections, pool._in_use_connections):
        _close(connection)


def close_cluster(cluster: RedisCluster) -> None:
    """Closes the sockets of a cluster's connections."""
    for node in cluster.get_nodes():
        for connection in node._connections:
            _close(connection)
    # It would complain that it was not closed.
    cluster._initialize = True


def _close(connection: Any) -> None:
    writer, connection._reader, connection._writer = connection._writer, None, None
    transport: Any = None if writer is None else writer.transport
    layer = getattr(transport, "_ssl_protocol", None)
    if transport is not None and layer is not None:
        # TLS has a transport of its own below.
        transport._closed = True
        transport = layer._transport
    # Loops of other kinds close what is theirs when they are closed.
    lose = getattr(transport, "_call_connection_lost", None)
    if lose is not None and getattr(transport, "_sock", None) is not None:
        transport._closing = True
        with suppress(RuntimeError):
            lose(None)
