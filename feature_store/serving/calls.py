"""One request and its answer, as the handlers see them: bytes in, bytes out, and who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec

from feature_store.serving.auth import ANYONE, Access
from feature_store.serving.limits import Limits, too_large
from feature_store.serving.problems import HttpError

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Scope = Any

JSON = b"application/json"
CLOSE = (b"connection", b"close")

Body = TypeVar("Body")


class Disconnected(Exception):  # noqa: N818 - nothing went wrong on this side
    """The client left before it had sent its request."""


class Reply(NamedTuple):
    """An answer.

    Attributes:
        body: Its body.
        content_type: Of the body.
        status: The HTTP status.
        headers: Further headers.
    """

    body: bytes
    content_type: bytes = JSON
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(slots=True)
class Call:
    """A request in work.

    Attributes:
        headers: By lower-case name; of several of one name, the last.
        request_id: Finds the request in the log.
        receive: Gives the body.
        limits: What it may ask for.
        access: What the caller may do.
        reply: The answer, once there is one.
        notes: What the log says of the request beside its outcome.
    """

    headers: Mapping[bytes, bytes]
    request_id: str
    receive: Receive
    limits: Limits
    access: Access = ANYONE
    reply: Reply | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def announced(self) -> int:
        """Returns how many bytes of a body the client has announced, as far as they are taken."""
        announced = self.headers.get(b"content-length", b"0")
        return min(int(announced), self.limits.body_bytes) if announced.isdigit() else 0

    async def json(self, decoder: msgspec.json.Decoder[Body]) -> Body:
        """Returns the body, read as JSON of the decoder's type.

        Raises:
            HttpError: 415, 413, 400 or 422, if it is not sent as JSON, holds too much, is no JSON, or of another type.
        """
        content_type = self.headers.get(b"content-type", b"")
        if content_type != JSON and content_type.partition(b";")[0].strip().lower() != JSON:
            raise HttpError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "The body must be JSON: send the header Content-Type: application/json.",
            )
        body = await self._body()
        self.limits.check_body(body)
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, f"The body is not what it should be: {error}.") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"The body is not valid JSON: {error}.") from None
        except RecursionError:
            raise HttpError(HTTPStatus.BAD_REQUEST, "The body is nested too deeply.") from None

    async def _body(self) -> bytes:
        most = self.limits.body_bytes
        announced = self.headers.get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > most:
            raise self._too_large()
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            # All there at once, which is the rule.
            body: bytes = message["body"]
            if len(body) > most:
                raise self._too_large()
            return body
        parts = bytearray()
        while message["type"] == "http.request":
            parts += message["body"]
            if len(parts) > most:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(parts)
            message = await self.receive()
        raise Disconnected

    def _too_large(self) -> HttpError:
        error = too_large(f"The body exceeds {self.limits.body_bytes:,} bytes")
        # What is still to come is not read.
        return HttpError(error.status, error.detail, (CLOSE,))


class Endpoint:
    """An ASGI application that hands a call to a handler; the server around it sends the reply.

    Args:
        handle: Answers a call.
    """

    def __init__(self, handle: Callable[[Call], Awaitable[Reply]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the call of a scope."""
        del receive, send
        call: Call = scope["feature_server.call"]
        call.reply = await self._handle(call)
