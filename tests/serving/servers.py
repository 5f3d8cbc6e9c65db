"""Feature servers as processes of their own, and the store that they serve: `server.call("POST", path, body)`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from feature_store.clock import FixedClock
from feature_store.store import FeatureStore
from tests.serving import shop

NOW = datetime(2024, 3, 10, tzinfo=UTC)
WHEN = datetime(2024, 3, 9, 12, tzinfo=UTC)
LONG_AGO = datetime(2024, 3, 6, tzinfo=UTC)
ROOT = Path(__file__).parents[2]

READER = "reader-of-spending-only-0001"
WRITER = "writer-of-all-that-there-is-0001"
TOKENS = {
    "reader": {"token": READER, "read": ["spending"]},
    "writer": {"token": WRITER, "read": ["*"], "write": ["*"]},
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A feature server. `lines` is its log so far."""

    def __init__(self, environment: dict[str, str], *options: str) -> None:
        main = "from feature_store.cli import main; main()"
        command = [sys.executable, "-c", main, "serve", "--port", "0", *options]
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.lines: list[dict[str, Any]] = []
        self._serving = threading.Event()
        self.port = 0
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        assert self._serving.wait(60), self.lines
        assert self.port, self.lines

    def _read_log(self) -> None:
        assert self.process.stderr
        for raw in self.process.stderr:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"event": raw.decode(errors="replace")}
            self.lines.append(line)
            if line["event"] == "serving":
                self.port = line["port"]
                self._serving.set()
        self._serving.set()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def call(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Answer:
        """Makes one request. A body that is not bytes is sent as JSON."""
        connection = self.connect()
        try:
            return call_on(connection, method, path, body, token, **headers)
        finally:
            connection.close()

    def logged(self, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Waits for a line of the log."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if found(line):
                    return line
            time.sleep(0.01)
        raise AssertionError(self.lines)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Ends it, and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(60)
        self._reader.join()
        assert self.process.stderr
        self.process.stderr.close()
        return code


def call_on(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any, token: str | None = None, **headers: str
) -> Answer:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        sent.setdefault("content-type", "application/json")
    if token:
        sent["authorization"] = f"Bearer {token}"
    connection.request(method, path, data, sent)
    answer = connection.getresponse()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def open_shop(settings: dict[str, str]) -> FeatureStore:
    return FeatureStore(
        settings["FEATURE_STORE_OFFLINE"],
        settings["FEATURE_STORE_ONLINE"],
        settings["FEATURE_STORE_REGISTRY"],
        FixedClock(NOW),
        definitions=shop,
    )


def fill(store: FeatureStore) -> None:
    store.apply([shop.spending, shop.traits, shop.page_views])
    when = {"event_timestamp": WHEN}
    spent = [
        {"customer": f"c{number}", **when, "orders_3d": number + 1, "amount_3d": amount, "last_amount": number}
        for number, amount in enumerate([10, 0, None, 40])
    ]
    # Longer ago than the time to live of orders_3d, and not of the others.
    spent.append({"customer": "old", "event_timestamp": LONG_AGO, "orders_3d": 9, "amount_3d": 90, "last_amount": 9})
    store.ingest(shop.spending, pl.DataFrame(spent))
    store.ingest(
        shop.traits,
        pl.DataFrame(
            [
                {"customer": "c0", **when, **TRAITS},
                {"customer": "odd", **when, **ODD},
                {"customer": "full", **when, **TRAITS, "taste": [0.5, 0.25, -1.0]},
            ],
            TYPES,
        ),
    )
    store.ingest(shop.page_views, pl.DataFrame([{"number": 7, "country": "a|b", **when, "views_1d": 5}]))


TRAITS = {
    "score": 0.1,
    "score_v2": 3.0,
    "nickname": 'Zoë "Z"',
    "subscribed": True,
    "first_seen": datetime(2020, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
    "taste": [0.5, None, -1.0],
    "visits": 2**63 - 1,
}
ODD = {
    "score": float("inf"),
    "score_v2": float("-inf"),
    "nickname": "",
    "subscribed": False,
    "first_seen": datetime(1900, 1, 1, tzinfo=UTC),
    "taste": [float("inf"), 0.0, 1.0],
    "visits": -(2**63),
}
TYPES = {
    "customer": pl.String,
    "event_timestamp": pl.Datetime("us", "UTC"),
    **dict.fromkeys(["score", "score_v2"], pl.Float64),
    "nickname": pl.String,
    "subscribed": pl.Boolean,
    "first_seen": pl.Datetime("us", "UTC"),
    "taste": pl.Array(pl.Float32, 3),
    "visits": pl.Int64,
}
