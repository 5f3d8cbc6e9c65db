"""Liveness and readiness. What is wrong in detail stands in the log, for these routes need no token."""

from __future__ import annotations

import asyncio
import time

import msgspec

from feature_store.serving.answers import encode
from feature_store.serving.calls import Call, Reply
from feature_store.serving.logs import JsonLog
from feature_store.serving.probes import Probe

_REMIND_SECONDS = 10.0


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
        parts: What must answer, by name.
        log: Gets what is wrong.

    Attributes:
        draining: Whether the server is about to end: alive, but not ready.
    """

    def __init__(self, parts: dict[str, Probe], log: JsonLog) -> None:
        self.draining = False
        self._parts = parts
        self._log = log
        self._noted: dict[str, float] = {}

    async def live(self, call: Call) -> Reply:
        """Answers `GET /health/live`."""
        del call
        return Reply(b'{"live":true}')

    async def ready(self, call: Call) -> Reply:
        """Answers `GET /health/ready`: 200 or 503, within a second."""
        del call
        failures = await asyncio.gather(*(part.failure() for part in self._parts.values()))
        checks = {name: "failing" if failure else "ok" for name, failure in zip(self._parts, failures, strict=True)}
        for name, failure in zip(self._parts, failures, strict=True):
            self._note(name, failure)
        if self.draining:
            checks["server"] = "draining"
        ready = all(outcome == "ok" for outcome in checks.values())
        return Reply(encode(Readiness(ready, checks)), status=200 if ready else 503)

    def _note(self, name: str, failure: str | None) -> None:
        """Logs that a part fails: at once, and then every few seconds, however often it is asked."""
        if failure is None:
            self._noted.pop(name, None)
        elif time.monotonic() - self._noted.get(name, float("-inf")) > _REMIND_SECONDS:
            self._noted[name] = time.monotonic()
            self._log.write("warning", "not ready", part=name, reason=failure)
