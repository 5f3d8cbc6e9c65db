"""Coalescing: while one read of the online store is under way, requests queue up, and the next read takes them all.

A request alone is read at once. Under load the number of round trips stays what the store can answer, and what grows
is the number of requests in each: any number of concurrent requests needs one connection. A read for several belongs to
none of them, so that one that is cancelled takes nothing from the others. How reads share a round trip is decided by
`shared`.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from typing import Any, Protocol

from feature_store.errors import OnlineStoreError
from feature_store.online.reading.shared import Answer, SharedRead, aread_together, read_together

LARGE_READ = 4_000
"""Entities x features from which on a read goes its own way, on a thread: all that share its round trip would wait for
it, and the event loop for its decoding."""

MOST_REQUESTS = 256
"""Requests in one read."""

_Waiting = tuple[SharedRead, "asyncio.Future[Any]"]


class ReadObserver(Protocol):
    """Is told of every read of the online store."""

    def observe_read(self, requests: int, seconds: float, *, failed: bool) -> None:
        """Takes note of a read.

        Args:
            requests: How many requests it answered.
            seconds: How long it took.
            failed: Whether the online store did not answer, or refused.
        """
        ...


class Coalescer:
    """Reads for many requests at once, within one event loop.

    Args:
        large: Threads for large reads.
        observer: Is told of every read; None for nobody.
    """

    def __init__(self, large: Executor, observer: ReadObserver | None) -> None:
        self._large = large
        self._observer = observer
        self._waiting: list[_Waiting] = []
        self._under_way = False
        # Keeps the task from being collected.
        self._task: asyncio.Task[None] | None = None
        # Whether requests have come one by one of late.
        self._one_by_one = True

    async def read(self, read: SharedRead, values: int) -> Any:
        """Returns the answer to a read, in its form.

        Args:
            read: What to read.
            values: How many values that is.

        Raises:
            InvalidRequestError: If an entity id is no id of the features' entity.
            OnlineStoreError: If the store does not answer, or refuses.
        """
        loop = asyncio.get_running_loop()
        if values >= LARGE_READ:
            return await loop.run_in_executor(self._large, self._read_alone, read)
        if self._one_by_one and not self._under_way:
            return await self._read_now(read)
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((read, future))
        if not self._under_way:
            self._begin()
        return await future

    def _begin(self) -> None:
        # A task begins at the loop's next turn: other requests that have arrived by then join.
        self._under_way = True
        self._task = asyncio.get_running_loop().create_task(self._read_all())

    async def _read_now(self, read: SharedRead) -> Any:
        """Reads without the detour by a task, which costs a tenth of a read; who comes meanwhile waits for the next."""
        self._under_way = True
        task = asyncio.current_task()
        cancelled = task.cancelling() if task is not None else 0
        started = time.perf_counter()
        failed = False
        try:
            answer = await read.prepared.aread(read.form, read.entity_ids)
            if task is not None and task.cancelling() > cancelled:
                # `asyncio.wait_for`, which sends what is read here, loses it now and then (Python 3.11).
                raise asyncio.CancelledError
        except OnlineStoreError:
            failed = True
            raise
        else:
            return answer
        finally:
            self._under_way = False
            if self._observer is not None:
                self._observer.observe_read(1, time.perf_counter() - started, failed=failed)
            # Those who were cancelled meanwhile wait no more: a loop that ends cancels all, and begins nothing new.
            self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]
            if self._waiting:
                self._begin()

    async def _read_all(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST_REQUESTS], self._waiting[MOST_REQUESTS:]
                self._one_by_one = len(batch) == 1
                answers = await self._answers([read for read, _ in batch])
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.done():
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._under_way = False
            self._task = None
            # Only where the loop ends while they wait: nobody is left to answer them.
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting = []

    async def _answers(self, reads: list[SharedRead]) -> list[Answer]:
        started = time.perf_counter()
        failed = False
        try:
            return await aread_together(reads)
        except Exception as error:  # noqa: BLE001 - handed to all requests that wait for it
            failed = True
            return [error] * len(reads)
        finally:
            if self._observer is not None:
                self._observer.observe_read(len(reads), time.perf_counter() - started, failed=failed)

    def _read_alone(self, read: SharedRead) -> Any:
        started = time.perf_counter()
        failed = True
        try:
            [answer] = read_together([read])
            failed = False
        finally:
            if self._observer is not None:
                self._observer.observe_read(1, time.perf_counter() - started, failed=failed)
        if isinstance(answer, Exception):
            raise answer
        return answer
