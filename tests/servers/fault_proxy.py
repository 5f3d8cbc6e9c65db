"""A proxy before an HTTP server that counts what passes, and breaks it on request.

`with FaultProxy(server.url) as proxy`: clients talk to `proxy.url`. `proxy.faults` decides on each request.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import urlsplit

Fault = Literal["500", "503", "slow", "cut", "cut-answer", "half-answer", "stall"]
"""What becomes of a request: an error; an answer that comes late; a connection that is cut before the server has the
request, after it has done it, or in the middle of its answer; an upload that is read half way and no further."""

SLOW_SECONDS = 0.3


@dataclass(frozen=True)
class Request:
    """A request that came, with the size of the body of its answer."""

    method: str
    path: str
    answered: int


@dataclass
class FaultProxy:
    """Starts on entering, ends on leaving.

    Attributes:
        upstream: URL of the server.
        faults: Called with method, path and number of each request, from 0.
        requests: What was answered by the server.
        stalled: Set once an upload has stalled.
    """

    upstream: str
    faults: Callable[[str, str, int], Fault | None] = lambda method, path, number: None
    requests: list[Request] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            number, self._number = self._number, self._number + 1
            return self.faults(method, path, number)

    def bytes_read(self, part: str = "") -> int:
        """Returns the bytes that GET requests to paths with this part have brought."""
        return sum(each.answered for each in self.requests if each.method == "GET" and part in each.path)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A connection that ended is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy

    def log_message(self, *_: object) -> None:
        pass

    def do(self) -> None:
        fault = self.owner.next_fault(self.command, self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if fault == "stall":
            self.rfile.read(length // 2)
            self.owner.stalled.set()
            time.sleep(60)
            self._cut()
            return
        body = self.rfile.read(length)
        if fault == "cut":
            self._cut()
            return
        if fault in {"500", "503"}:
            self._answer(int(fault), [], b"<Error><Code>InternalError</Code></Error>")
            return
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        server = urlsplit(self.owner.upstream).netloc
        with contextlib.closing(http.client.HTTPConnection(server, timeout=60)) as upstream:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            with upstream.getresponse() as answer:
                content = answer.read()
        if fault == "cut-answer":
            self._cut()
            return
        self.owner.requests.append(Request(self.command, self.path, len(content)))
        self._answer(answer.status, answer.getheaders(), content, half=fault == "half-answer")

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do  # noqa: N815  # names that the base class looks up

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, half: bool = False) -> None:
        self.send_response_only(status)
        dropped = {"connection", "transfer-encoding", *(() if self.command == "HEAD" else ("content-length",))}
        for name, value in headers:
            if name.lower() not in dropped:
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if half:
            self.wfile.write(content[: len(content) // 2])
            self._cut()
            return
        self.wfile.write(content)

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
