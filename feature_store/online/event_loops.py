"""One client per event loop, closed when its loop ends.

A connection belongs to the loop that it was opened in. A loop that ends as `asyncio.run` ends it closes its
asynchronous generators, and with the one that waits here the loop's client. A loop that is only closed cannot do that:
what it leaves is closed at the next read of another loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar


class LoopClient(Protocol):
    """What an event loop gets one of."""

    async def close(self) -> None:
        """Closes all connections."""
        ...

    def abandon(self) -> None:
        """Closes the sockets of a loop in which nothing can be awaited any more."""
        ...


C = TypeVar("C", bound=LoopClient)


class PerLoop(Generic[C]):
    """The clients of all event loops.

    Args:
        make: Makes a client.
    """

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._clients: dict[asyncio.AbstractEventLoop, tuple[C, AsyncGenerator[None, None]]] = {}
        self._changing = threading.Lock()

    def get(self) -> C:
        """Returns the running loop's client."""
        loop = asyncio.get_running_loop()
        found = self._clients.get(loop)
        return self._join(loop) if found is None else found[0]

    async def aclose(self) -> None:
        """Closes the running loop's client, and what loops that have ended have left."""
        self.sweep()
        found = self._clients.get(asyncio.get_running_loop())
        if found is not None:
            await found[1].aclose()

    def sweep(self) -> None:
        """Closes what loops that have ended have left."""
        with self._changing:
            ended = [self._clients.pop(loop) for loop in list(self._clients) if loop.is_closed()]
        for client, _ in ended:
            client.abandon()

    def abandon(self) -> None:
        """Closes the sockets of all loops, in a process that was forked: the loops are its parent's."""
        for client, waiting in self._clients.values():
            client.abandon()
            # Collected, it would call upon its loop.
            _inherited.append(waiting)
        self._clients = {}

    def _join(self, loop: asyncio.AbstractEventLoop) -> C:
        self.sweep()
        client = self._make()
        waiting = self._until_the_end(loop, client)
        with self._changing:
            self._clients[loop] = client, waiting
        with suppress(StopIteration):
            # Up to its `yield`: with the first step the loop takes note of it.
            waiting.__anext__().send(None)
        return client

    async def _until_the_end(self, loop: asyncio.AbstractEventLoop, client: C) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._changing:
                self._clients.pop(loop, None)
            await client.close()


_inherited: list[AsyncGenerator[None, None]] = []
