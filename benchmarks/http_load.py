"""A closed-loop HTTP load generator: each connection sends its next request when it has the answer to the one before.

    python benchmarks/http_load.py PORT PATH CONNECTIONS SECONDS < bodies

One body a line on stdin, sent in turn. Prints requests per second, latencies in milliseconds and failures as JSON. A
process of its own, on raw sockets, so that what is measured is the server.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
WARM_UP = 1.0
"""Seconds before the measurement begins."""


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: Run, first: int) -> None:
        self._run = run
        self._next = first
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Takes a part of an answer; sends the next request when it is complete."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if found else None
        if length is None or len(body) < int(length[1]):
            return
        now = time.perf_counter()
        self._run.took(now, now - self._sent_at, head.startswith(b"HTTP/1.1 200 "))
        self._received = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Opens another connection in place of a lost one."""
        del error
        self._run.lost()
        if not self._run.is_over():
            self._run.open(self._next)

    def _send(self) -> None:
        if self._run.is_over():
            self._transport.close()
            return
        requests = self._run.requests
        self._next = (self._next + 1) % len(requests)
        self._sent_at = time.perf_counter()
        self._transport.write(requests[self._next])


class Run:
    """One measurement."""

    def __init__(self, port: int, path: str, bodies: list[bytes], connections: int, seconds: float) -> None:
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: "
        self.requests = [head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies]
        self._port = port
        self._connections = connections
        self._seconds = seconds
        self._latencies: list[float] = []
        self._failed = 0
        self._answered = 0
        self._lost = 0
        self._tasks: set[asyncio.Task[object]] = set()

    async def measure(self) -> dict[str, float]:
        """Runs the load, and returns the report."""
        self._begin = time.perf_counter() + WARM_UP
        self._end = self._begin + self._seconds
        for number in range(self._connections):
            self.open(number * len(self.requests) // self._connections)
        await asyncio.sleep(WARM_UP + self._seconds + 0.5)
        ordered = sorted(self._latencies)
        return {
            "answered": self._answered,
            "requests_per_second": len(ordered) / self._seconds,
            **{f"p{p}_ms": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] * 1000 for p in (50, 99)},
            "max_ms": ordered[-1] * 1000,
            "failed": self._failed,
            "connections_lost": self._lost,
        }

    def open(self, first: int) -> None:
        """Opens a connection."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.create_connection(lambda: Client(self, first), "127.0.0.1", self._port))
        self._tasks.add(task)

    def is_over(self) -> bool:
        """Returns whether the time is up."""
        return time.perf_counter() >= self._end

    def took(self, now: float, seconds: float, ok: bool) -> None:
        """Counts an answer."""
        self._answered += 1
        if self._begin <= now < self._end:
            self._latencies.append(seconds)
            self._failed += not ok

    def lost(self) -> None:
        """Counts a connection that the server closed."""
        self._lost += not self.is_over()


def main() -> None:
    port, path, connections, seconds = sys.argv[1:]
    bodies = sys.stdin.buffer.read().splitlines()
    run = Run(int(port), path, bodies, int(connections), float(seconds))
    print(json.dumps(uvloop.run(run.measure())))


if __name__ == "__main__":
    main()
