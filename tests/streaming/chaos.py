"""A pipeline in processes of its own, all of which may be killed at any instant: streamers, drainer, Redis, broker."""

from __future__ import annotations

import multiprocessing
import random
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

import polars as pl
from confluent_kafka import Producer

from feature_store.clock import FixedClock
from feature_store.errors import FeatureStoreError
from feature_store.store import FeatureStore
from feature_store.streaming.decoding import encode_events
from feature_store.streaming.settings import StreamSettings
from tests.orders import START
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer
from tests.streaming.pipeline import PARTITIONS, Pipeline, habits, no_files, order_stream

NAME = "harried_habits"
NOW = START + timedelta(days=10)
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
HEAVY = ["feature_store.store.streams", "feature_store.offline.stream_files", "feature_store.registry.registry"]
STREAMERS = 2


def open_pipeline(folder: Path, redis: str, bootstrap: str) -> Pipeline:
    source = no_files()
    store = FeatureStore(folder / "offline", redis, f"sqlite:///{folder / 'registry.db'}", FixedClock(NOW))
    settings = StreamSettings(
        {"bootstrap.servers": bootstrap, "log_level": "0", "reconnect.backoff.max.ms": "300"},
        state=folder / "streams",
        batch_events=1000,
        linger_seconds=0.05,
        checkpoint_seconds=1,
        session_seconds=2,
    )
    return Pipeline(store, None, habits(source, NAME), order_stream(source), settings)  # type: ignore[arg-type]


def stream(folder: Path, redis: str, bootstrap: str) -> None:
    pipeline = open_pipeline(folder, redis, bootstrap)
    while True:
        # At a start the broker may be away: what a supervisor does.
        with suppress(FeatureStoreError):
            pipeline.store.streamer(pipeline.group, pipeline.stream, pipeline.settings).run()
        time.sleep(0.2)


def drain(folder: Path, redis: str, bootstrap: str) -> None:
    pipeline = open_pipeline(folder, redis, bootstrap)
    drainer = pipeline.store.drainer(pipeline.group, pipeline.settings)
    for turn in range(10**9):
        with suppress(FeatureStoreError):
            drainer.drain()
            if turn % 7 == 3:
                pipeline.store.stream_files(pipeline.group).compact(grace_seconds=1)
        time.sleep(0.2)


class Chaos:
    """The processes, and the hand that kills them.

    Args:
        folder: Empty folder for all that they keep.
        broker: A broker that is not killed; None for one of their own.
    """

    def __init__(self, folder: Path, broker: KafkaServer | None = None) -> None:
        self._shared = broker
        self._folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.streaming.chaos", *HEAVY])
        self.killed: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.broker = self._shared or self._stack.enter_context(KafkaServer())
        self.redis = self._stack.enter_context(RedisServer(options=DURABLE))
        self.broker.create_topic("orders", PARTITIONS)
        self.pipeline = open_pipeline(self._folder, self.redis.url, self.broker.bootstrap)
        self.pipeline.server = self.broker
        self.pipeline.store.apply([self.pipeline.group])
        self._processes: dict[str, BaseProcess] = {}
        for name in [*(f"streamer {number}" for number in range(STREAMERS)), "drainer"]:
            self._start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.join()
        self.pipeline.store.close()
        self._stack.close()

    def _start(self, name: str) -> None:
        target = drain if name == "drainer" else stream
        arguments = (self._folder, self.redis.url, self.broker.bootstrap)
        process = self._context.Process(target=target, args=arguments, daemon=True)
        process.start()
        self._processes[name] = process

    def kill(self, victim: str, pause: float) -> None:
        """Kills a part, and starts it again a little later."""
        if victim in {"redis", "broker"}:
            server = self.redis if victim == "redis" else self.broker
            server.kill()
            time.sleep(pause)
            server.start()
        else:
            process = self._processes[victim]
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL, f"the {victim} ended by itself: {process.exitcode}"
            time.sleep(pause)
            self._start(victim)
        self.killed[victim.partition(" ")[0]] += 1

    def publish(self, events: pl.DataFrame, seconds: float) -> threading.Thread:
        """Sends events over a span of time, through all the broker's deaths."""

        def run() -> None:
            producer = Producer(
                {
                    "bootstrap.servers": self.broker.bootstrap,
                    "enable.idempotence": "true",
                    "message.timeout.ms": 0,
                    "reconnect.backoff.max.ms": 300,
                    "log_level": 0,
                }
            )
            started = time.monotonic()
            height = events.height
            for number, (key, value) in enumerate(zip(events["customer"], encode_events(events), strict=True)):
                producer.produce("orders", value, key)
                if number % 200 == 0:
                    producer.poll(max(0.0, started + seconds * number / height - time.monotonic()))
            assert producer.flush(120) == 0

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def storm(self, victims: list[str], *, seed: int, calm: tuple[float, float]) -> None:
        """Kills each of the victims in some order, at random moments."""
        chance = random.Random(seed)
        chance.shuffle(victims)
        for victim in victims:
            time.sleep(chance.uniform(*calm))
            self.kill(victim, chance.uniform(0, 0.3))

    def stop_drainer(self) -> None:
        """Kills the drainer for good."""
        process = self._processes.pop("drainer")
        process.kill()
        process.join()
