"""Runs the application: sockets, signals, a shutdown that loses no request, and a heap that the collector leaves alone.

One process serves on one core, and is never recycled; several processes stand behind a load balancer.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

import uvicorn

from feature_store.errors import SettingsError
from feature_store.serving.app import FeatureServer
from feature_store.serving.connection import Connection
from feature_store.serving.limits import Limits
from feature_store.serving.logs import LogBridge

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SWEEPS = 8
_LONGEST_SWEEP = 1.0
_SWEPT_AT_ONCE = 200
_OTHER_FILES = 256
"""Files that are open beside connections: the stores, the log, and connections that are being turned away."""


def serve(app: FeatureServer, *, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM, then ends the requests in work and returns.

    Args:
        app: The application.
        host: Name or address to listen on.
        port: Port to listen on; 0 for a free one, which the log tells.

    Raises:
        SettingsError: If the address cannot be listened on.
    """
    limits = replace(app.limits, connections=_room(app.limits.connections))
    if limits.connections < app.limits.connections:
        app.log.write(
            "warning",
            "fewer connections than the limit",
            connections=limits.connections,
            reason="The process may not open more files: raise `ulimit -n`.",
        )
    bridge = LogBridge(app.log)
    logger = logging.getLogger("uvicorn")
    logger.handlers, logger.propagate = [bridge], False
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=type("LimitedConnection", (Connection,), {"limits": limits}),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(limits.idle_seconds),
        timeout_graceful_shutdown=int(limits.shutdown_seconds),
    )
    server = _Server(config, app, limits)
    try:
        server.run()
    except SystemExit:
        raise SettingsError(f"The feature server cannot start on {host}:{port}: its log says why.") from None
    finally:
        app.log.flush()


def _room(connections: int) -> int:
    """Returns how many connections fit into the files that the process may open, which are raised as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - _OTHER_FILES))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FeatureServer, limits: Limits) -> None:
        super().__init__(config)
        self._app = app
        self._limits = limits
        self._signal: int | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        self._sweeper = asyncio.create_task(self._sweep())
        # What stands now stays: the collector need not look at it again, which costs up to 30 ms each time.
        gc.collect()
        gc.freeze()
        for listening in self.servers:
            for one in listening.sockets:
                address = one.getsockname()
                self._app.log.write("info", "serving", host=address[0], port=address[1])
        self._app.log.flush()

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        self._app.health.draining = True
        self._app.log.write("info", "ending", requests_in_work=len(self.server_state.tasks))
        if self._signal == signal.SIGTERM:
            # Answers say that the connection closes, and readiness fails: load balancers and clients go elsewhere,
            # and nobody is cut off who did not know.
            await asyncio.sleep(self._limits.drain_seconds)
        await super().shutdown(sockets)
        if self._sweeper is not None:
            self._sweeper.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes the signals, and does not raise them again afterwards: a server that was asked to end ended well."""
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signal = self._signal or sig
        super().handle_exit(sig, frame)

    async def _sweep(self) -> None:
        limits = self._limits
        pause = min(_LONGEST_SWEEP, limits.request_seconds / _SWEEPS, limits.answer_seconds / _SWEEPS)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(pause)
            now = loop.time()
            for number, connection in enumerate(list(self.server_state.connections), 1):
                if isinstance(connection, Connection):
                    connection.enforce_deadlines(now)
                if number % _SWEPT_AT_ONCE == 0:
                    # Thousands may be overdue at once: requests go on in between.
                    await asyncio.sleep(0)
