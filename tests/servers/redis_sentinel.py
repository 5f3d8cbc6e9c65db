"""A primary, a replica and the Sentinel that watches them, for tests: the primary may be killed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from tests.servers.redis import RedisServer, find_binaries, free_port

SERVICE = "features"


class WatchedRedis:
    """Starts on entering, is killed on leaving.

    Args:
        kind: A name of `find_binaries`.
        down_after_seconds: How long the primary may be silent before it is replaced.
    """

    def __init__(self, kind: str = "valkey", *, down_after_seconds: float = 0.3) -> None:
        self._kind = kind
        self._down_after = round(down_after_seconds * 1000)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        try:
            # A primary waits for further replicas before it sends its data; here there is one.
            at_once = {"repl-diskless-sync-delay": "0"}
            self.primary = self._stack.enter_context(RedisServer(self._kind, tcp=True, options=at_once))
            host, _, port = self.primary.address.rpartition(":")
            follow = {"replicaof": f"{host} {port}", **at_once}
            self.replica = self._stack.enter_context(RedisServer(self._kind, tcp=True, options=follow))
            self._start_sentinel(host, port)
            self._wait(lambda: self._in_sync() and self._may_be_promoted(), "the replica is not seen")
        except BaseException:
            self._stack.close()
            raise
        self.url = f"redis+sentinel://127.0.0.1:{self._port}/{SERVICE}/0"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fail_over(self) -> None:
        """Lets Sentinel promote the replica while the primary lives; returns when it has."""
        with self._sentinel() as sentinel:
            sentinel.execute_command("SENTINEL FAILOVER", SERVICE)
        self.wait_for_promotion()

    def wait_for_promotion(self) -> None:
        """Returns when the replica is the primary, and Sentinel says so."""
        port = int(self.replica.address.rpartition(":")[2])
        with self.replica.client() as replica:
            self._wait(
                lambda: self._state()["port"] == port and replica.info("replication")["role"] == "master",
                "nobody was promoted",
            )

    def _in_sync(self) -> bool:
        # The replica believes in the link before the primary sends writes over it.
        with self.replica.client() as replica, self.primary.client() as primary:
            return (
                replica.info("replication")["master_link_status"] == "up"
                and primary.info("replication").get("slave0", {}).get("state") == "online"
            )

    def _may_be_promoted(self) -> bool:
        """Returns whether Sentinel, which asks from time to time, has seen that the replica is in sync."""
        with self._sentinel() as sentinel:
            return [replica["master-link-status"] for replica in sentinel.sentinel_slaves(SERVICE)] == ["ok"]

    def _start_sentinel(self, host: str, port: str) -> None:
        self._port = free_port()
        folder = Path(tempfile.mkdtemp(prefix="sentinel-"))
        self._stack.callback(shutil.rmtree, folder)
        lines = [
            f"port {self._port}",
            f"dir {folder}",
            f"logfile {folder / 'log'}",
            f"sentinel monitor {SERVICE} {host} {port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {self._down_after}",
            f"sentinel failover-timeout {SERVICE} 2000",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines))
        process = subprocess.Popen(
            [find_binaries()[self._kind], str(folder / "sentinel.conf"), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        self._wait(self._answers, "Sentinel does not answer")

    def _answers(self) -> bool:
        try:
            with self._sentinel() as sentinel:
                return bool(sentinel.ping())
        except RedisError:
            return False

    def _sentinel(self) -> Redis:
        return Redis(host="127.0.0.1", port=self._port, protocol=2)

    def _state(self) -> dict:
        with self._sentinel() as sentinel:
            return sentinel.sentinel_master(SERVICE)

    @staticmethod
    def _wait(is_true, otherwise: str) -> None:
        deadline = time.monotonic() + 30
        while not is_true():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.02)
