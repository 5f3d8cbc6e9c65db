"""A private standalone cluster of Spark for tests: a master and two workers, each with processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.servers.redis import free_port

WORKERS = 2


class SparkCluster:
    """Starts on entering; all of it is killed on leaving.

    Args:
        folder: For logs, and for what workers write on their own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        port, page = free_port(), free_port()
        self.url = f"spark://127.0.0.1:{port}"
        self._start("Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page))
        for number in range(WORKERS):
            place = ["--host", "127.0.0.1", "--webui-port", str(free_port()), "-d", str(self._folder / f"w{number}")]
            self._start("Worker", *place, "-c", "1", "-m", "1200m", self.url)
        deadline = time.monotonic() + 120
        while self._alive(page) < WORKERS:
            assert time.monotonic() < deadline, "the cluster does not come up"
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            _kill(process)

    def kill_worker(self) -> None:
        """Kills a worker and what it runs."""
        _kill(self._processes[-1])

    def _start(self, role: str, *words: str) -> None:
        import pyspark

        program = Path(pyspark.__file__).parent / "bin" / "spark-class"
        command = [str(program), f"org.apache.spark.deploy.{role.lower()}.{role}", *words]
        # What a machine of its own would have: nothing of this process, and of this checkout what is installed.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in os.environ}
        env = {**kept, "SPARK_NO_DAEMONIZE": "1", "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
        with (self._folder / f"{role}-{len(self._processes)}.log").open("wb") as log:
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self._folder))

    @staticmethod
    def _alive(page: int) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=2) as answer:
                return int(json.load(answer)["aliveworkers"])
        except OSError:
            return 0


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and all that come from it: executors have sessions of their own."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    family = [process.pid]
    for member in family:
        family += children.get(member, [])
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    process.wait()
