"""Dead letters: events that a group could not use, as they came, and how they come back.

A letter is the message itself (key, value, headers) with headers that tell why: `dead-letter.topic`, `.partition`,
`.offset` and `.timestamp` of the first delivery, `.error`, `.definition` (the code version of the group's function) and
`.attempts`.
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from feature_store.errors import StreamError
from feature_store.streaming.delivery import END_OF_PARTITION, Delivery, as_headers
from feature_store.streaming.settings import StreamSettings
from feature_store.streaming.topics import dead_letter_topic, ensure_topics, partitions_of, retry_topic

PREFIX = "dead-letter."
_LETTERS = dead_letter_topic("x").removesuffix("x")
_READING = {"isolation.level": "read_committed", "enable.auto.commit": "false", "enable.partition.eof": "true"}
_SECONDS = 60.0
_BATCH = 1000


Letter = tuple[str, int, int, int]
"""Topic, partition and offset of an event's first delivery, and how often it has been tried."""


def letter_of(message: Delivery) -> Letter:
    """Returns the letter that a message is, or would become."""
    headers = dict(message.headers)
    origin = (
        headers.get(f"{PREFIX}topic", message.topic.encode()).decode(),
        int(headers.get(f"{PREFIX}partition", message.partition)),
        int(headers.get(f"{PREFIX}offset", message.offset)),
    )
    is_letter = message.topic.startswith(_LETTERS)
    return (*origin, int(headers.get(f"{PREFIX}attempts", 0)) + (not is_letter))


def read_letters(settings: StreamSettings, group: str) -> set[Letter]:
    """Returns all letters of a group."""
    topic = dead_letter_topic(group)
    consumer = Consumer({**settings.client, **_READING, "group.id": f"feature-store.{topic}.reader"})
    unfinished = set(range(partitions_of(settings.client, topic)))
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in unfinished])
    letters: set[Letter] = set()
    try:
        while unfinished:
            messages, ended = _received(consumer)
            letters.update(map(letter_of, messages))
            unfinished -= ended
    finally:
        consumer.close()
    return letters


def letter_headers(message: Delivery, error: str, definition: str) -> list[tuple[str, bytes]]:
    """Returns the headers of the letter that a message becomes."""
    headers = message.headers
    known = dict(headers)
    first = {
        "topic": message.topic.encode(),
        "partition": str(message.partition).encode(),
        "offset": str(message.offset).encode(),
        "timestamp": str(message.sent_ms).encode(),
    }
    told = {name: known.get(PREFIX + name, value) for name, value in first.items()}
    attempts = int(known.get(f"{PREFIX}attempts", b"0")) + 1
    told |= {"error": error.encode(), "definition": definition.encode(), "attempts": b"%d" % attempts}
    own = [(name, value) for name, value in headers if not name.startswith(PREFIX)]
    return own + [(PREFIX + name, value) for name, value in told.items()]


def replay_dead_letters(settings: StreamSettings, group: str) -> int:
    """Sends all dead letters of a group that have not been sent yet through its transform again.

    They go to the topic `retries.{group}`, each to the partition that it came from, in one transaction with the note
    of what has been sent: run again, or killed half-way and run again, each letter is sent once.

    Returns:
        Number of letters sent.

    Raises:
        StreamError: If no broker answers, or the group has never streamed.
    """
    letters, retries = dead_letter_topic(group), retry_topic(group)
    partitions = [TopicPartition(letters, number) for number in range(partitions_of(settings.client, letters))]
    width = partitions_of(settings.client, retries)
    consumer = Consumer({**settings.client, **_READING, "group.id": f"feature-store.{letters}"})
    producer = Producer({**settings.client, "transactional.id": f"feature-store.{letters}", "compression.type": "lz4"})
    try:
        producer.init_transactions(_SECONDS)
        positions = consumer.committed(partitions, timeout=_SECONDS)
        for position in positions:
            position.offset = position.offset if position.offset >= 0 else OFFSET_BEGINNING
        consumer.assign(positions)
        return _replay(consumer, producer, retries, width, open_partitions={tp.partition for tp in partitions})
    finally:
        consumer.close()


def _replay(consumer: Consumer, producer: Producer, retries: str, width: int, open_partitions: set[int]) -> int:
    sent = 0
    while open_partitions:
        good, ended = _received(consumer)
        open_partitions -= ended
        if not good:
            continue
        producer.begin_transaction()
        for message in good:
            origin = int(dict(message.headers)[f"{PREFIX}partition"])
            headers = as_headers(message.headers)
            producer.produce(retries, message.value, message.key, origin % width, headers=headers)
        producer.send_offsets_to_transaction(_next_offsets(good), consumer.consumer_group_metadata(), _SECONDS)
        producer.commit_transaction(_SECONDS)
        sent += len(good)
    return sent


def _received(consumer: Consumer) -> tuple[list[Delivery], set[int]]:
    """Returns some messages, and the partitions that have been read to their end."""
    good, ended = [], set()
    for message in consumer.consume(_BATCH, timeout=1.0):
        error = message.error()
        if error is None:
            good.append(Delivery.of(message))
        elif error.code() == END_OF_PARTITION:
            ended.add(message.partition() or 0)
        elif error.fatal():
            raise StreamError(f"Dead letters cannot be read: {error.str()}.")
    return good, ended


def _next_offsets(messages: Sequence[Delivery]) -> list[TopicPartition]:
    following = {(message.topic, message.partition): message.offset + 1 for message in messages}
    return [TopicPartition(topic, partition, offset) for (topic, partition), offset in following.items()]


def ensure_group_topics(settings: StreamSettings, group: str, features: str, partitions: int) -> None:
    """Creates the topics of a group that are missing, with as many partitions as its source has."""
    wanted = {features: partitions, dead_letter_topic(group): 1, retry_topic(group): partitions}
    ensure_topics(settings.client, wanted)
