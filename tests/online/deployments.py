"""The deployments that the tests of the online store run on: one server, one over TLS, a service behind Sentinel and
a cluster, with one small surface, so that a test is written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.cluster import RedisCluster as ClusterClient
from redis.retry import Retry

from tests.servers.redis import RedisServer, find_binaries
from tests.servers.redis_cluster import RedisCluster
from tests.servers.redis_sentinel import WatchedRedis
from tests.servers.redis_tls import PASSWORD, TlsRedisServer

TLS, SENTINEL, CLUSTER = "tls", "sentinel", "cluster"
KINDS = [*sorted(find_binaries(), reverse=True), *([TLS] if "redis" in find_binaries() else []), SENTINEL, CLUSTER]
"""Plain servers first, by the names of `find_binaries`: the embedded one is always there, and the first."""


@dataclass(frozen=True)
class Deployment:
    """A running deployment.

    Attributes:
        url: What the store is told.
        nodes: The servers that hold keys: the primary, or the primaries of a cluster.
        is_cluster: Whether keys are spread over the nodes by slots.
    """

    url: str
    nodes: Sequence[RedisServer]
    is_cluster: bool = False

    def client(self) -> Redis | ClusterClient:
        """Returns a plain client, to look at the keys as any other program would.

        On a cluster `flushall` and `scan_iter` go to all nodes, `keys` and `dbsize` to one: tests use the former.
        """
        if not self.is_cluster:
            return self.nodes[0].client()
        startup = [ClusterNode(*node.address.split(":")) for node in self.nodes]
        return ClusterClient(startup_nodes=startup, protocol=2, retry=Retry(NoBackoff(), 0))

    def tagged(self, entity_id: str) -> str:
        """Returns an entity id as the keys spell it: on a cluster in braces, its hash tag."""
        return f"{{{entity_id}}}" if self.is_cluster else entity_id

    def takes(self, entity_id: str) -> bool:
        """Returns whether an entity id can be stored: one that would end its hash tag at once cannot."""
        return not self.is_cluster or (entity_id != "" and not entity_id.startswith("}"))


@contextmanager
def running(kind: str) -> Iterator[Deployment]:
    """Starts a deployment, and stops it in the end."""
    # Several servers at once are the operating system's, the one that production has, where it is there.
    binary = "redis" if "redis" in find_binaries() else "valkey"
    if kind == TLS:
        with TlsRedisServer() as server:
            # All that the tests do is done by a user of the server's access list, on the store's own keys.
            with server.client() as client:
                client.execute_command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~feature*", "+@all")
            server.url = server.url_of("app")
            yield Deployment(server.url, [server])
    elif kind == SENTINEL:
        # Nobody dies here: a primary that is slow to answer on a busy machine keeps its office.
        with WatchedRedis(binary, down_after_seconds=60) as watched:
            yield Deployment(watched.url, [watched.primary])
    elif kind == CLUSTER:
        with RedisCluster(binary) as cluster:
            yield Deployment(cluster.url, cluster.nodes, is_cluster=True)
    else:
        with RedisServer(kind) as server:
            yield Deployment(server.url, [server])
