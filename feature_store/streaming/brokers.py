"""Clients of Kafka whose failures have names: a wrong password, a missing right, a broker that is away."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from feature_store.errors import StreamError

TIMEOUT = 8.0
"""Seconds that a broker may take to answer a question: with what comes around it, an error is there within 10."""

_LOGIN = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})  # noqa: SLF001 - public constants
_TLS = frozenset({KafkaError._SSL})  # noqa: SLF001
_RIGHTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "the consumer group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "the transactional id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "the cluster",
}
_UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001
PERMANENT = frozenset({*_LOGIN, *_TLS, *_RIGHTS})
"""What no waiting heals. A topic that has just been made is unknown for a moment, so that is none of these."""


class Failures:
    """Remembers what a client says of its connections: an answer that stays away has its reason there.

    Pass `options` to a client in place of its options, and the client to `watch`.
    """

    def __init__(self, client: Mapping[str, str]) -> None:
        self._client = client
        self._last: KafkaError | None = None
        self._watched: list[AdminClient | Consumer | Producer] = []
        self.options: dict[str, Any] = {**client, "error_cb": self._note}

    def watch(self, *clients: AdminClient | Consumer | Producer) -> None:
        """Takes clients that were given the options: they say what they have to say when they are asked."""
        self._watched += clients

    def _listen(self) -> None:
        for client in self._watched:
            with suppress(KafkaException, RuntimeError):  # a closed one has nothing to say
                client.poll(0)

    def _note(self, error: KafkaError) -> None:
        if self._last is None or self._last.code() not in PERMANENT:
            self._last = error

    def named(self, error: KafkaException | KafkaError, what: str) -> StreamError:
        """Returns an error that names what has gone wrong, and the remedy.

        Args:
            error: What a client has raised.
            what: What was asked of the broker, as the start of a sentence.
        """
        self._listen()
        problem = error.args[0] if isinstance(error, KafkaException) else error
        if problem.code() not in PERMANENT | _UNKNOWN and self._last is not None:
            problem = self._last
        return named(self._client, problem, what)

    @property
    def is_permanent(self) -> bool:
        """Whether the client has said of something that no waiting heals."""
        self._listen()
        return self._last is not None and self._last.code() in PERMANENT


def named(client: Mapping[str, str], problem: KafkaError, what: str) -> StreamError:
    """Returns an error that names what has gone wrong, and the remedy; see `Failures.named`."""
    servers, code = client.get("bootstrap.servers"), problem.code()
    user = client.get("sasl.username")
    if code in _LOGIN:
        return StreamError(
            f"{what}: the broker at {servers!r} rejects the login{f' of {user!r}' if user else ''} "
            "(authentication failed). Correct FEATURE_STORE_KAFKA_SASL_USERNAME and FEATURE_STORE_KAFKA_SASL_PASSWORD."
        )
    if code in _TLS:
        return StreamError(
            f"{what}: no TLS connection to {servers!r}: {problem.str()}. Correct FEATURE_STORE_KAFKA_SECURITY_PROTOCOL "
            "and FEATURE_STORE_KAFKA_SSL_CA_LOCATION."
        )
    if code in _RIGHTS:
        whose = f"{user!r} has" if user else "this client has"
        return StreamError(
            f"{what}: {whose} no right on {_RIGHTS[code]} at {servers!r} ({problem.str()}). Grant it by an ACL."
        )
    if code in _UNKNOWN:
        return StreamError(f"{what}: there is no such topic at {servers!r}. Create it, or correct the stream.")
    if code in {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}:  # noqa: SLF001
        return StreamError(
            f"{what}: no Kafka broker answers at {servers!r}: {problem.str()}. Start it, or correct "
            "FEATURE_STORE_KAFKA."
        )
    return StreamError(f"{what}: {problem.str()}.")


def admin_of(client: Mapping[str, str]) -> tuple[AdminClient, Failures]:
    """Returns an administrator's client, and what it says of its connections."""
    failures = Failures(client)
    admin = AdminClient(failures.options)
    failures.watch(admin)
    return admin, failures
