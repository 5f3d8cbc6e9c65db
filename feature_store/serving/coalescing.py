"""Coalescing: while one read of the online store is under way, requests queue up, and the next read takes them all.

A request alone is read at once. Under load the number of round trips stays what the store can answer, and what grows
is the number of requests in each. How reads share a round trip is decided by `online.shared_reads`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from feature_store.online.shared_reads import Answer, SharedRead, read_together
from feature_store.serving.metrics import Metrics

LARGE_READ = 4_000
"""Entities x features from which on a read goes its own way: it would hold up all that share its round trip."""

MOST_REQUESTS = 256
"""Requests in one read."""

_LARGE_READERS = 2
_Waiting = tuple[SharedRead, "asyncio.Future[list[dict[str, Any]]]"]


class Coalescer:
    """Reads for many requests at once, on a thread of its own.

    Args:
        metrics: Counts reads, and the requests in them.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiting: list[_Waiting] = []
        self._under_way = False
        self._batches: SimpleQueue[list[_Waiting] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="online-reads", daemon=True)
        self._large = ThreadPoolExecutor(_LARGE_READERS, thread_name_prefix="large-reads")
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Begins to read, for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Ends the reading threads, once nothing is under way."""
        self._batches.put(None)
        self._thread.join()
        self._large.shutdown()

    async def read(self, read: SharedRead, values: int) -> list[dict[str, Any]]:
        """Returns one dict per entity id by label: values, or `FeatureState`s.

        Args:
            read: What to read.
            values: How many values that is.

        Raises:
            InvalidRequestError: If an entity id cannot be a key.
            OnlineStoreError: If the store does not answer, or refuses.
        """
        if values >= LARGE_READ:
            [answer] = await self._loop.run_in_executor(self._large, self._answers, [read])
            if isinstance(answer, Exception):
                raise answer
            return answer
        future: asyncio.Future[list[dict[str, Any]]] = self._loop.create_future()
        self._waiting.append((read, future))
        if not self._under_way:
            # Not at once: other requests that have arrived by now join.
            self._under_way = True
            self._loop.call_soon(self._next)
        return await future

    def _next(self) -> None:
        batch, self._waiting = self._waiting[:MOST_REQUESTS], self._waiting[MOST_REQUESTS:]
        self._under_way = bool(batch)
        if batch:
            self._batches.put(batch)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            answers = self._answers([read for read, _ in batch])
            # The loop is closed where a server was stopped by force.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver, batch, answers)

    def _deliver(self, batch: list[_Waiting], answers: list[Answer | Exception]) -> None:
        self._next()
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _answers(self, reads: list[SharedRead]) -> list[Answer | Exception]:
        started = time.perf_counter()
        try:
            return [*read_together(reads)]
        except Exception as error:  # noqa: BLE001 - handed to all requests that wait for it
            self._metrics.read_errors.inc()
            return [error] * len(reads)
        finally:
            self._metrics.batch.observe(len(reads))
            self._metrics.read_seconds.observe(time.perf_counter() - started)
