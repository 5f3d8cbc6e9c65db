"""What one client may ask of the server: sizes, numbers and times. Who may ask at all belongs to `auth`.

What is counted is counted before anything is built of it, so that a request which asks for too much costs little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from typing import Any

from feature_store.serving.problems import HttpError

_KIB, _MIB = 2**10, 2**20
_WHITESPACE = b" \t\r\n"
_ITEMS = (b",", b"[", b"{")
LONGEST_REFERENCE = 200
"""Characters of a feature's reference; a view, a version and a name come to 138."""

_ENVELOPE = 16
"""Names in a body that are fields of the request itself, and no columns."""


def _limit(default: float, least: float, description: str, option: str = "") -> Any:
    return field(default=default, metadata={"least": least, "description": description, "option": option})


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one server process. Each is an option of `feature-store serve`; see `Limits.options`.

    Attributes:
        values: Greatest number of entities x features in a request; an embedding counts as its numbers.
        columns: Greatest number of columns in a request: features asked for, join keys, request data, pushed columns.
        items: Greatest number of values, lists and objects in the JSON of a body.
        body_bytes: Greatest body of a request.
        requests: Requests in work at once; more are turned away.
        work_bytes: Bodies and answers of all requests in work; while there are more, requests are turned away.
        connections: Open connections; more are closed at once.
        head_bytes: Greatest size of a request's line and headers.
        headers: Greatest number of headers.
        request_seconds: Time to send a whole request, from its first byte, or from the connection's opening.
        answer_seconds: Time to answer it, until the client has taken the answer.
        idle_seconds: Time that a connection stays open without a request.
        drain_seconds: Time between the signal to end and the end of accepting connections, for load balancers to see
            that the server is not ready.
        shutdown_seconds: Time for requests in work to end after that.
    """

    values: int = _limit(100_000, 1, "Entities x features in a request.")
    columns: int = _limit(10_000, 1, "Features, join keys and other columns in a request.")
    items: int = _limit(200_000, 1, "Values, lists and objects in the JSON of a body.")
    body_bytes: int = _limit(4 * _MIB, 1, "Size of a body.", "--most-bytes")
    requests: int = _limit(1_000, 1, "Requests in work at once.")
    work_bytes: int = _limit(256 * _MIB, 1, "Bodies and answers of all requests in work.")
    connections: int = _limit(10_000, 1, "Open connections.")
    head_bytes: int = _limit(64 * _KIB, 256, "Size of a request's line and headers.")
    headers: int = _limit(100, 1, "Number of a request's headers.")
    request_seconds: float = _limit(10.0, 0.05, "Time for a client to send a request.")
    answer_seconds: float = _limit(60.0, 0.05, "Time to answer a request, and for its client to take the answer.")
    idle_seconds: float = _limit(75.0, 1, "Time that a connection stays open without a request.")
    drain_seconds: float = _limit(3.0, 0, "Time between SIGTERM and the end of accepting.")
    shutdown_seconds: float = _limit(20.0, 1, "Time for requests in work to end after that.")

    @classmethod
    def options(cls) -> list[tuple[str, str, type, float, Any, str]]:
        """Returns field, option, type, least value, default and description of each limit.

        The option of a time is its field (`--request-seconds`), that of all else begins with `--most`.
        """
        return [
            (
                one.name,
                one.metadata["option"]
                or f"--{'' if one.name.endswith('_seconds') else 'most-'}{one.name.replace('_', '-')}",
                type(one.default),
                one.metadata["least"],
                one.default,
                one.metadata["description"],
            )
            for one in fields(cls)
        ]

    def check_body(self, body: bytes) -> None:
        """Counts what is in the JSON of a body, before it is decoded: decoding holds up all other requests.

        Commas and brackets inside of texts count as well.

        Raises:
            HttpError: 413, if there are too many values or names.
        """
        size = len(body)
        # What counts takes a byte at least: a body that is shorter than a limit cannot exceed it.
        if size > self.items and (items := sum(map(body.count, _ITEMS))) > self.items:
            raise too_large(f"The body holds {items:,} items, one may hold {self.items:,} (values, lists, objects)")
        most = self.columns + _ENVELOPE
        # A name is a text before a colon. Most bodies have fewer colons, and few have them in texts.
        if size > most and body.count(b":") > most and (names := body.translate(None, _WHITESPACE).count(b'":')) > most:
            raise too_large(f"The body holds {names:,} names, one may hold {self.columns:,} columns")

    def check_features(self, features: Sequence[str]) -> None:
        """Rejects requests of too many features, and names that are longer than any: to look for them takes its time.

        Raises:
            HttpError: 413, if there are more than the limit; 422, if a name is too long.
        """
        if len(features) > self.columns:
            raise too_large(f"The request asks for {len(features):,} features, one may ask for {self.columns:,}")
        longest = max(map(len, features), default=0)
        if longest > LONGEST_REFERENCE:
            raise HttpError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"A feature is asked for by a name of {longest:,} characters: none has more "
                f"than {LONGEST_REFERENCE}, write name, name:v2 or view:name.",
            )

    def check_values(self, entities: int, width: int) -> None:
        """Rejects requests of too many values.

        Args:
            entities: Number of entities.
            width: Values of one entity.

        Raises:
            HttpError: 413, if there are more than the limit.
        """
        values = entities * width
        if values > self.values:
            raise too_large(f"The request asks for {values:,} values, one answers at most {self.values:,}")


def too_large(what: str) -> HttpError:
    """Returns the answer to a request that is, or asks for, too much."""
    return HttpError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{what}: send it in several requests, of fewer entities or features each."
    )
