"""What one client may ask of the server: sizes, numbers and times. Who may ask at all belongs to `auth`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one server process.

    Attributes:
        body_bytes: Greatest body of a request.
        values: Greatest number of entities x features in a request.
        requests: Requests in work at once; more are turned away.
        connections: Open connections; more are closed at once.
        request_seconds: Time to send a whole request, from its first byte, or from the connection's opening.
        answer_seconds: Time to answer it, until the client has taken the answer.
        idle_seconds: Time that a connection stays open without a request.
        drain_seconds: Time between the signal to end and the end of accepting connections, for load balancers to see
            that the server is not ready.
        shutdown_seconds: Time for requests in work to end after that.
    """

    body_bytes: int = 4 * 2**20
    values: int = 100_000
    requests: int = 1_000
    connections: int = 4_000
    request_seconds: float = 10.0
    answer_seconds: float = 60.0
    idle_seconds: float = 75.0
    drain_seconds: float = 3.0
    shutdown_seconds: float = 20.0
