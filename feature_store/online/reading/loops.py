"""What reads of event loops share: coalescing within each loop, and threads for what would hold it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

from feature_store.online.reading.coalescing import Coalescer, ReadObserver
from feature_store.online.reading.following import FollowedCatalog, Known
from feature_store.online.reading.prepared import Form
from feature_store.online.reading.requests import Request
from feature_store.online.reading.shared import SharedRead

T = TypeVar("T")

_LARGE_READERS = 2
_THREADS = 4
"""For computing and resolving. Threads of its own: what hangs elsewhere, such as a registry, takes none of them."""


class LoopReads:
    """Reads of event loops; any number of loops may share it.

    Args:
        observer: Is told of every read; None for nobody.
    """

    def __init__(self, observer: ReadObserver | None) -> None:
        self._observer = observer
        self._large = ThreadPoolExecutor(_LARGE_READERS, thread_name_prefix="large-reads")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="online-reads")
        self._coalescers: WeakKeyDictionary[asyncio.AbstractEventLoop, Coalescer] = WeakKeyDictionary()
        # The loop of the last read, and its coalescer: most processes have one loop, and each read looks it up.
        self._last: tuple[ref[asyncio.AbstractEventLoop], Coalescer] | None = None
        self._looks: dict[asyncio.AbstractEventLoop, asyncio.Task[Known]] = {}

    async def read(self, request: Request, entity_ids: Sequence[str], form: Form) -> Any:
        """Returns the stored features of a request, in a form; errors as for `OnlineReads.answer`."""
        loop = asyncio.get_running_loop()
        last = self._last
        coalescer = last[1] if last is not None and last[0]() is loop else self._coalescer_of(loop)
        values = len(entity_ids) * len(request.resolution.selections)
        return await coalescer.read(SharedRead(request.prepared, entity_ids, form), values)

    async def look(self, followed: FollowedCatalog) -> Known:
        """Looks at the catalog again, once for all of a loop's requests that come meanwhile."""
        loop = asyncio.get_running_loop()
        task = self._looks.get(loop)
        if task is None:
            task = self._looks[loop] = loop.create_task(followed.look())
            task.add_done_callback(self._looked)
        # Who is cancelled takes the look from nobody else.
        return await asyncio.shield(task)

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns what a function gives, which is called in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def close(self) -> None:
        """Ends the threads, once nothing is under way."""
        self._large.shutdown()
        self._threads.shutdown()

    def _coalescer_of(self, loop: asyncio.AbstractEventLoop) -> Coalescer:
        coalescer = self._coalescers.get(loop)
        if coalescer is None:
            coalescer = self._coalescers[loop] = Coalescer(self._large, self._observer)
        self._last = ref(loop), coalescer
        return coalescer

    def _looked(self, task: asyncio.Task[Known]) -> None:
        self._looks.pop(task.get_loop(), None)
        if not task.cancelled():
            # Marks an error as seen: all who asked may have been cancelled.
            task.exception()
