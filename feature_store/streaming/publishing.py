"""Sends a source's events into its topic: a replay of history, at full speed, at a rate, or in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable

import polars as pl
from confluent_kafka import Producer

from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP
from feature_store.errors import InvalidRequestError, StreamError
from feature_store.frames import entity_id_expression
from feature_store.streaming.decoding import encode_events
from feature_store.streaming.settings import StreamSettings

_FLUSH_SECONDS = 120
_AT_ONCE = 500


def publish_events(
    settings: StreamSettings,
    stream: EventStream,
    events: pl.DataFrame,
    *,
    rate: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Sends events in order of their time, each once as far as the broker knows (an idempotent producer).

    Args:
        settings: How to reach the broker.
        stream: A stream of JSON payloads.
        events: Its columns, in any order.
        rate: Events per second; None for full speed.
        progress: Called with the number of events sent since the call before.

    Returns:
        Number of events that the broker has.

    Raises:
        InvalidRequestError: If the stream's payloads are not JSON, or the rate is not above 0.
        StreamError: If the broker did not take all of them.
    """
    if stream.payload != "json":
        raise InvalidRequestError(f"Stream {stream.topic!r} carries {stream.payload}: only JSON can be replayed.")
    if rate is not None and rate <= 0:
        raise InvalidRequestError(f"rate={rate} would never end: give more than 0 events per second.")
    events = events.select(list(stream.columns)).sort(EVENT_TIMESTAMP, maintain_order=True)
    keys: list[str | None] = [None] * events.height
    if stream.entity is not None:
        keys = events.select(entity_id_expression(stream.entity))[ENTITY_ID].to_list()
    options = {"enable.idempotence": "true", "linger.ms": 5, "compression.type": "lz4", "partitioner": "murmur2_random"}
    producer = Producer({**settings.client, **options})
    started = time.monotonic()
    for begin in range(0, events.height, _AT_ONCE):
        if rate is not None:
            time.sleep(max(0.0, started + begin / rate - time.monotonic()))
        part = events[begin : begin + _AT_ONCE]
        for key, value in zip(keys[begin:], encode_events(part), strict=False):
            _produce(producer, stream.topic, key, value)
        producer.poll(0)
        progress(part.height)
    left = producer.flush(_FLUSH_SECONDS)
    if left:
        raise StreamError(f"The broker did not take {left:,} of {events.height:,} events for {stream.topic!r}.")
    return events.height


def _produce(producer: Producer, topic: str, key: str | None, value: bytes) -> None:
    while True:
        try:
            producer.produce(topic, value, key)
        except BufferError:
            producer.poll(0.1)
        else:
            return
