"""Errors as `application/problem+json` (RFC 9457), with the library's own messages."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from feature_store.errors import (
    FeatureStoreError,
    InvalidRequestError,
    InvalidRowsError,
    OnlineStoreError,
    RegistryError,
    UnknownFeatureError,
)

CONTENT_TYPE = b"application/problem+json"

_STATUSES: dict[type[FeatureStoreError], HTTPStatus] = {
    UnknownFeatureError: HTTPStatus.NOT_FOUND,
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidRowsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    OnlineStoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    RegistryError: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(msgspec.Struct, omit_defaults=True):
    """What went wrong with a request.

    Attributes:
        title: The status in words.
        status: The HTTP status.
        detail: What is wrong, and the remedy.
        request_id: Finds the request in the server's log.
    """

    title: str
    status: int
    detail: str
    request_id: str = ""


class HttpError(Exception):
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        detail: What is wrong, and the remedy.
        headers: Further headers of the answer.
    """

    def __init__(self, status: HTTPStatus, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.status = status
        self.detail = detail
        self.headers = headers
        super().__init__(detail)


def http_error(error: FeatureStoreError) -> HttpError:
    """Returns the answer to an error of the library."""
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            retry = ((b"retry-after", b"1"),) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()
            return HttpError(status, str(error), retry)
    return HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def body_of(error: HttpError, request_id: str = "") -> bytes:
    """Returns the body of the answer to an error."""
    return msgspec.json.encode(Problem(error.status.phrase, error.status.value, error.detail, request_id))
