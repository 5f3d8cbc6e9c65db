"""A private Apache Kafka broker for tests: Kafka's own jars, one JVM that is broker and controller (KRaft).

`with KafkaServer() as server: bootstrap = server.bootstrap`. The jars are fetched once, by Maven, into a cache folder
and compared with the checksums beside this file. The broker can be killed and started again on the same data.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from functools import cache
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.servers.redis import free_port

CACHE = Path.home() / ".cache" / "feature-store-tests" / "kafka"
CHECKSUMS = Path(__file__).with_name("kafka-jars.sha256")
POM = Path(__file__).with_name("kafka-pom.xml")
MISSING = "needs Java 17 or newer and Maven, which fetches Kafka's jars (on Debian: apt-get install maven)"
START_SECONDS = 60


def _expected() -> dict[str, str]:
    lines = CHECKSUMS.read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def _is_complete(folder: Path) -> bool:
    return all(
        (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in _expected().items()
    )


@cache
def find_jars() -> Path | None:
    """Returns the folder that holds Kafka's jars, fetching them if need be; None where Java or Maven is absent."""
    if not shutil.which("java"):
        return None
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        jars = CACHE / hashlib.sha256(CHECKSUMS.read_bytes()).hexdigest()[:16]
        if _is_complete(jars):
            return jars
        if not shutil.which("mvn"):
            return None
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(POM, Path(folder) / "pom.xml")
            done = subprocess.run(
                ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"Maven could not fetch Kafka's jars: {done.stdout}{done.stderr}")
        if not _is_complete(jars):
            raise RuntimeError(f"The jars in {jars} are not those of {CHECKSUMS.name}: remove the folder, look again.")
        return jars


class KafkaServer:
    """Starts on entering, is killed on leaving; nothing of it remains.

    Args:
        heap: Size of the JVM's heap.
    """

    def __init__(self, heap: str = "256m") -> None:
        jars = find_jars()
        if jars is None:
            raise FileNotFoundError(MISSING)
        self._jars = jars
        self._heap = heap

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        port, controller = free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        self._properties = self.folder / "server.properties"
        settings: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # Started again after a kill, it does not wait long for its former self.
            "broker.session.timeout.ms": 1500,
            "broker.heartbeat.interval.ms": 300,
            "group.min.session.timeout.ms": 500,
            # Segments are small, a killed broker looks through the last one only.
            "log.segment.bytes": 16 << 20,
            "log.index.size.max.bytes": 1 << 20,
            "log.retention.ms": -1,
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        try:
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").lstrip("-_")
            cluster = cluster.ljust(22, "A")
            tool = ["format", "--standalone", "-t", cluster, "-c", str(self._properties)]
            done = subprocess.run(
                [*self._java("64m"), "kafka.tools.StorageTool", *tool], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Starts the broker and waits until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java(self._heap), "kafka.Kafka", str(self._properties)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )
        admin = self.admin()
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, (self.folder / "log").read_text()[-4000:]
            try:
                if admin.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                assert time.monotonic() < deadline, "the broker does not answer"

    def kill(self) -> None:
        """Kills the broker: what the operating system has not written yet is written later, nothing is closed."""
        process = getattr(self, "_process", None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def admin(self) -> AdminClient:
        """Returns an administrator's client."""

        return AdminClient({"bootstrap.servers": self.bootstrap, "reconnect.backoff.max.ms": 200, "log_level": 0})

    def create_topic(self, name: str, partitions: int = 1) -> str:
        """Creates a topic and returns its name."""
        admin = self.admin()
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
        return name

    def add_partitions(self, name: str, partitions: int) -> None:
        """Gives a topic more partitions."""
        admin = self.admin()
        admin.create_partitions([NewPartitions(name, partitions)])[name].result(30)

    def delete_topic(self, name: str) -> None:
        """Deletes a topic."""
        admin = self.admin()
        admin.delete_topics([name])[name].result(30)

    def delete_records(self, topic: str, before: int, partition: int = 0) -> None:
        """Removes the messages before an offset, as retention does."""
        admin = self.admin()
        for done in admin.delete_records([TopicPartition(topic, partition, before)]).values():
            done.result(30)

    def _java(self, heap: str) -> list[str]:
        # The first compiler alone, and no parallel collector: a start in two seconds of one core.
        options = [f"-Xmx{heap}", f"-Xms{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        return ["java", *options, "-cp", f"{self._jars}/*"]
