"""Coalescing: while one read of the online store is under way, requests queue up, and the next read takes them all.

A request alone is read at once. Under load the number of round trips stays what the store can answer, and what grows
is the number of requests in each. How reads share a round trip is decided by `online.shared_reads`.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from feature_store.online.shared_reads import Answer, SharedRead, aread_together, read_together
from feature_store.serving.metrics import Metrics

LARGE_READ = 4_000
"""Entities x features from which on a read goes its own way, on a thread: all that share its round trip would wait for
it, and the event loop for its decoding."""

MOST_REQUESTS = 256
"""Requests in one read."""

_LARGE_READERS = 2
_Waiting = tuple[SharedRead, "asyncio.Future[list[dict[str, Any]]]"]


class Coalescer:
    """Reads for many requests at once, within one event loop.

    Args:
        metrics: Counts reads, and the requests in them.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiting: list[_Waiting] = []
        self._under_way: asyncio.Task[None] | None = None
        self._large = ThreadPoolExecutor(_LARGE_READERS, thread_name_prefix="large-reads")

    def close(self) -> None:
        """Ends the threads, once nothing is under way."""
        self._large.shutdown()

    async def read(self, read: SharedRead, values: int) -> list[dict[str, Any]]:
        """Returns one dict per entity id by label: values, or `FeatureState`s.

        Args:
            read: What to read.
            values: How many values that is.

        Raises:
            InvalidRequestError: If an entity id is no id of the features' entity.
            OnlineStoreError: If the store does not answer, or refuses.
        """
        loop = asyncio.get_running_loop()
        if values >= LARGE_READ:
            with self._metrics.read_seconds.time(), self._metrics.read_errors.count_exceptions():
                [answer] = await loop.run_in_executor(self._large, read_together, [read])
            self._metrics.batch.observe(1)
            if isinstance(answer, Exception):
                raise answer
            return answer
        future: asyncio.Future[list[dict[str, Any]]] = loop.create_future()
        self._waiting.append((read, future))
        if self._under_way is None:
            # A task begins at the loop's next turn: other requests that have arrived by then join.
            self._under_way = loop.create_task(self._read_all())
        return await future

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST_REQUESTS], self._waiting[MOST_REQUESTS:]
                answers = await self._answers([read for read, _ in batch])
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.done():
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._under_way = None

    async def _answers(self, reads: list[SharedRead]) -> list[Answer | Exception]:
        started = time.perf_counter()
        try:
            return [*await aread_together(reads)]
        except Exception as error:  # noqa: BLE001 - handed to all requests that wait for it
            self._metrics.read_errors.inc()
            return [error] * len(reads)
        finally:
            self._metrics.batch.observe(len(reads))
            self._metrics.read_seconds.observe(time.perf_counter() - started)
