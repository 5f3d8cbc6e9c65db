"""A real cluster for tests: primaries that share the slots, each a `RedisServer` of its own."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Self

from redis import Redis
from redis.crc import key_slot

from tests.servers.redis import RedisServer, free_port

SLOTS = 16384


class RedisCluster:
    """Starts on entering, is killed on leaving.

    Args:
        kind: A name of `find_binaries`.
        primaries: Number of nodes.
    """

    def __init__(self, kind: str = "valkey", primaries: int = 3) -> None:
        self._kind = kind
        self._primaries = primaries

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        try:
            buses = [free_port() for _ in range(self._primaries)]
            self.nodes = [
                self._stack.enter_context(
                    RedisServer(
                        self._kind,
                        tcp=True,
                        options={"cluster-enabled": "yes", "cluster-port": str(bus), "cluster-node-timeout": "2000"},
                    )
                )
                for bus in buses
            ]
            self._join(buses)
        except BaseException:
            self._stack.close()
            raise
        self.url = "redis+cluster://" + ",".join(node.address for node in self.nodes[:2]) + "/?socket_connect_timeout=5"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def clients(self) -> list[Redis]:
        """Returns plain clients, one per node; the caller closes them."""
        return [node.client() for node in self.nodes]

    def flush(self) -> None:
        for node in self.nodes:
            with node.client() as client:
                client.flushall()

    def owner(self, key: str) -> int:
        """Returns the number of the node that serves a key."""
        slot = key_slot(key.encode())
        with self.nodes[0].client() as client:
            for first, last, [_, port, *_], *_ in client.execute_command("CLUSTER SLOTS"):
                if first <= slot <= last:
                    return [node.address.rpartition(":")[2] for node in self.nodes].index(str(port))
        raise AssertionError(f"nobody serves {key}")

    def begin_move(self, key: str, target: int) -> tuple[int, int]:
        """Begins to move the slot of a key to another node; its keys stay, until they are migrated."""
        slot, source = key_slot(key.encode()), self.owner(key)
        ids = self._ids()
        with self.nodes[source].client() as old, self.nodes[target].client() as new:
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        return slot, source

    def migrate(self, slot: int, source: int, target: int, *, at_most: int = 1000) -> None:
        """Moves keys of a slot that is on the move."""
        host, _, port = self.nodes[target].address.rpartition(":")
        with self.nodes[source].client() as old:
            for key in old.execute_command("CLUSTER GETKEYSINSLOT", slot, at_most):
                old.execute_command("MIGRATE", host, port, key, 0, 1000)

    def end_move(self, slot: int, target: int) -> None:
        """Gives a slot to another node for good."""
        owner = self._ids()[target]
        for number in [target, *(n for n in range(len(self.nodes)) if n != target)]:
            with self.nodes[number].client() as client:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", owner)

    def _ids(self) -> list[str]:
        ids = []
        for node in self.nodes:
            with node.client() as client:
                ids.append(client.execute_command("CLUSTER MYID").decode())
        return ids

    def _join(self, buses: list[int]) -> None:
        clients = self.clients()
        edges = [SLOTS * n // self._primaries for n in range(self._primaries + 1)]
        for n, client in enumerate(clients):
            client.execute_command("CLUSTER ADDSLOTSRANGE", edges[n], edges[n + 1] - 1)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
        for node, bus in zip(self.nodes[1:], buses[1:], strict=True):
            host, _, port = node.address.rpartition(":")
            clients[0].execute_command("CLUSTER MEET", host, port, bus)
        deadline = time.monotonic() + 20
        for client in clients:
            while True:
                info = client.execute_command("CLUSTER INFO")
                known = client.execute_command("CLUSTER SLOTS")
                if info["cluster_state"] == "ok" and len(known) == self._primaries:
                    break
                assert time.monotonic() < deadline, "the cluster does not form"
                time.sleep(0.02)
            client.close()
