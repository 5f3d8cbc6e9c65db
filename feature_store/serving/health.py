"""Liveness and readiness. What is wrong in detail stands in the log, for these routes need no token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from feature_store.errors import FeatureStoreError
from feature_store.serving.answers import encode
from feature_store.serving.calls import Call, Reply
from feature_store.serving.logs import JsonLog
from feature_store.serving.served import Served

_TRUSTED_SECONDS = 0.5
_PATIENCE = 3.0


class Readiness(msgspec.Struct):
    """Whether the server should get requests.

    Attributes:
        ready: Whether all checks are ok.
        checks: `ok` or `failing`, by part.
    """

    ready: bool
    checks: dict[str, str]


class Health:
    """Tells whether the server lives, and whether it should get requests.

    Args:
        served: What is served.
        log: Gets what is wrong.

    Attributes:
        draining: Whether the server is about to end: alive, but not ready.
    """

    def __init__(self, served: Served, log: JsonLog) -> None:
        self.draining = False
        self._served = served
        self._log = log
        self._checking: asyncio.Task[dict[str, str]] | None = None
        self._checked_at = float("-inf")

    async def live(self, call: Call) -> Reply:
        """Answers `GET /health/live`."""
        del call
        return Reply(b'{"live":true}')

    async def ready(self, call: Call) -> Reply:
        """Answers `GET /health/ready`: 200 or 503."""
        del call
        now = time.monotonic()
        if self._checking is None or (self._checking.done() and now - self._checked_at > _TRUSTED_SECONDS):
            # Any number of probes at once cost one check.
            self._checking = asyncio.create_task(self._checks())
            self._checked_at = now
        checks = dict(await asyncio.shield(self._checking))
        if self.draining:
            checks["server"] = "draining"
        ready = all(outcome == "ok" for outcome in checks.values())
        return Reply(encode(Readiness(ready, checks)), status=200 if ready else 503)

    async def _checks(self) -> dict[str, str]:
        parts: dict[str, Callable[[], None]] = {
            "online_store": self._served.store.online.ping,
            "registry": self._served.refresh,
        }
        outcomes = await asyncio.gather(*(self._check(name, check) for name, check in parts.items()))
        return dict(zip(parts, outcomes, strict=True))

    async def _check(self, name: str, check: Callable[[], None]) -> str:
        try:
            await asyncio.wait_for(asyncio.to_thread(check), _PATIENCE)
        except (FeatureStoreError, TimeoutError) as error:
            reason = str(error) or f"no answer in {_PATIENCE:.0f} s"
            self._log.write("warning", "not ready", part=name, reason=reason)
            return "failing"
        return "ok"
