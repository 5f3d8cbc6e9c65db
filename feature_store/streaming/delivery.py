"""A message as it was delivered: the client's object, typed and read once."""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka import KafkaError, Message

Header = tuple[str, str | bytes | None]
END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001 - a public constant, whatever its name looks like


class Delivery(NamedTuple):
    """One message.

    Attributes:
        topic: Its topic.
        partition: Its partition.
        offset: Its offset.
        sent_ms: When it was sent, milliseconds since 1970 by the sender's or the broker's clock.
        key: Its key.
        value: Its value.
        headers: Its headers, in order.
    """

    topic: str
    partition: int
    offset: int
    sent_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]

    @classmethod
    def of(cls, message: Message) -> Delivery:
        """Returns what a message without an error says."""
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        given = message.headers()
        headers = [(name, _bytes(value) or b"") for name, value in _pairs(given)] if given else []
        return cls(
            topic, partition, offset, message.timestamp()[1], _bytes(message.key()), _bytes(message.value()), headers
        )


def _pairs(headers: object) -> list[Header]:
    return list(headers.items()) if isinstance(headers, dict) else list(headers)  # type: ignore[call-overload]


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def as_headers(headers: list[tuple[str, bytes]]) -> list[Header]:
    """Returns headers as the client's type wants them."""
    return [(name, value) for name, value in headers]
