"""Structured logs: one JSON object a line, buffered so that no request waits for the log's reader."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec

_MOST_BUFFERED = 2**16


class JsonLog:
    """Writes events as lines of JSON: `time` (UTC), `level`, `event`, and what belongs to the event.

    Args:
        stream: Where the lines go.
        requests: Whether each request is logged, and not only what goes wrong.
    """

    def __init__(self, stream: BinaryIO, *, requests: bool = True) -> None:
        self.requests = requests
        self._stream = stream
        self._encode = msgspec.json.Encoder().encode
        self._buffer = bytearray()
        self._lock = threading.Lock()

    def write(self, level: str, event: str, **fields: Any) -> None:
        """Adds a line. Errors and warnings are written at once, others at the next `flush`."""
        line = {"time": datetime.now(UTC), "level": level, "event": event, **fields}
        with self._lock:
            self._buffer += self._encode(line)
            self._buffer += b"\n"
        if level != "info" or len(self._buffer) > _MOST_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Writes what has been added."""
        with self._lock:
            if not self._buffer:
                return
            self._stream.write(self._buffer)
            self._stream.flush()
            self._buffer.clear()


class LogBridge(logging.Handler):
    """Passes the records of Python's own logging, such as those of the ASGI server, on to a JSON log."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        level = record.levelname.lower()
        self._log.write(level, record.getMessage(), **fields)
