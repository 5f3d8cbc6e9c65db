"""Connections with limits: who sends slowly or reads slowly, sends too many headers or opens too many is cut off.

HTTP itself is uvicorn's business, and what is answered the application's.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from feature_store.serving.limits import Limits
from feature_store.serving.problems import CONTENT_TYPE, HttpError, body_of


class Connection(HttpToolsProtocol):
    """One client's connection.

    Attributes:
        limits: Of the server.
        asked_since: Since when the client has been sending a request, on the loop's clock; None while it need not.
        answered_since: Since when its request has been in work, None while none is.
    """

    limits: Limits

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.asked_since: float | None = None
        self.answered_since: float | None = None
        self._refused = False
        self._in_head = False
        self._begun = False
        self._headers = 0
        self._head_bytes = 0
        self._later_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins, or ends at once where there are too many."""
        super().connection_made(transport)
        # The first request must come in time as well: a connection that never speaks is not kept.
        self.asked_since = self.loop.time()
        if len(self.connections) > self.limits.connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "The server has too many open connections: try again.")

    def data_received(self, data: bytes) -> None:
        """Takes what the client sends; from the first byte of a request on its time runs."""
        if self._refused:
            return
        if self.asked_since is None and self.answered_since is None:
            self.asked_since = self.loop.time()
        self._begun = False
        super().data_received(data)
        if self._in_head and not self._begun:
            # A single header that does not end has not been counted yet.
            self._later_bytes += len(data)
            self._check_head()

    def on_message_begin(self) -> None:
        """Begins to count."""
        self._in_head = self._begun = True
        self._headers = self._head_bytes = self._later_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Counts the request line."""
        self._head_bytes += len(url)
        self._check_head()
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts a header, or a trailer."""
        self._headers += 1
        self._head_bytes += len(name) + len(value)
        self._check_head()
        if not self._refused:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hands the request to the application, as uvicorn does."""
        self._in_head = False
        if not self._refused:
            self.answered_since = self.loop.time()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Takes a part of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Marks the request as sent."""
        if not self._refused:
            self.asked_since = None
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Marks the request as answered; the next one's time runs from its first byte."""
        self.answered_since = self.loop.time() if self.pipeline else None
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Ends an idle connection, and one whose client does not take its answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def enforce_deadlines(self, now: float) -> None:
        """Ends the connection if the client, or the application, takes longer than it may."""
        if self.transport is None or self.transport.is_closing():
            # Closed, but the client does not take what was sent before.
            if self.transport is not None and self._overdue(now):
                self.transport.abort()
        elif self.asked_since is not None and now - self.asked_since > self.limits.request_seconds:
            seconds = f"{self.limits.request_seconds:g}"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The request did not arrive within {seconds} s.")
        elif self._overdue(now):
            self.transport.abort()

    def _overdue(self, now: float) -> bool:
        since = self.answered_since if self.answered_since is not None else self.asked_since
        return since is not None and now - since > self.limits.answer_seconds

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP."""
        del msg
        if not self._refused:
            self._refuse(HTTPStatus.BAD_REQUEST, "The request is no HTTP that this server understands.")

    def _check_head(self) -> None:
        if self._refused:
            return
        limits = self.limits
        if self._headers > limits.headers:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The request has more than {limits.headers:,} headers: send fewer.",
            )
        elif max(self._head_bytes, self._later_bytes) > limits.head_bytes:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The request line and the headers exceed {limits.head_bytes:,} bytes: send fewer, or shorter ones.",
            )

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._refused = True
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            body = body_of(HttpError(status, detail))
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {CONTENT_TYPE.decode()}\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
