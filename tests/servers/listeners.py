"""Listeners on free ports of this machine that keep what they are sent: HTTP posts and mails."""

from __future__ import annotations

import json
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from aiosmtpd.controller import Controller

from tests.servers.redis import free_port


class HttpListener:
    """An HTTP server that keeps the JSON of each post, and answers as it is told."""

    def __init__(self) -> None:
        listener = self
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.answers: list[int] = []
        """Status codes of the next answers; 200 when there is none left."""
        self.hold = threading.Event()
        """Answers wait for it."""
        self.hold.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.paths.append(self.path)
                listener.hold.wait(30)
                status = listener.answers.pop(0) if listener.answers else 200
                if status < 300:
                    listener.bodies.append(json.loads(body))
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class MailListener:
    """A mail server that keeps what it takes.

    Args:
        refuse: An SMTP answer to give instead of taking a mail.
    """

    def __init__(self, refuse: str | None = None) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse = refuse

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        del server, session
        if self.refuse:
            return self.refuse
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    def __enter__(self) -> Self:
        port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=port)
        self._controller.start()
        self.url = f"smtp://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()
