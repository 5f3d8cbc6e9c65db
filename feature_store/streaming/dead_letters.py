"""Dead letters: events that a group could not use, as they came, and how they come back.

A letter is the message itself (key, value, headers) with headers that tell why: `dead-letter.topic`, `.partition`,
`.offset` and `.timestamp` of the first delivery, `.error`, `.definition` (the code version of the group's function) and
`.attempts`. Of a message that is too large to be sent on, the letter holds the head of the value, and `.size` tells how
many bytes it had: it can be read where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from feature_store.errors import StreamError
from feature_store.streaming.brokers import Failures
from feature_store.streaming.delivery import END_OF_PARTITION, Delivery, as_headers
from feature_store.streaming.payloads import shortened
from feature_store.streaming.settings import StreamSettings
from feature_store.streaming.topics import (
    TopicInfo,
    dead_letter_topic,
    ensure_topics,
    partitions_of,
    retry_topic,
    topic_infos,
)

PREFIX = "dead-letter."
_LETTERS = dead_letter_topic("x").removesuffix("x")
_READING = {"isolation.level": "read_committed", "enable.auto.commit": "false", "enable.partition.eof": "true"}
_SENDING = {"compression.type": "lz4", "message.max.bytes": 1_000_000_000}
_SECONDS = 60.0
_BATCH = 1000
HEAD_BYTES = 65_536
"""How much of a message that is too large to be sent on is kept."""


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


def letter_messages(
    messages: Sequence[Delivery], rejected: Mapping[int, str], definition: str, most_bytes: int
) -> Iterator[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
    """Yields value, key and headers of the letter that each of some messages becomes.

    Args:
        messages: Messages.
        rejected: Position of each that becomes a letter, and why.
        definition: The code version of the group's function.
        most_bytes: What is larger is sent in part: the head of its value, with its size.
    """
    for position, reason in sorted(rejected.items()):
        message = messages[position]
        headers = _letter_headers(message, shortened(reason, 2000), definition)
        value, key = message.value, message.key
        size = len(value or b"") + len(key or b"") + sum(len(name) + len(text) for name, text in headers)
        if size > most_bytes:
            headers = [header for header in headers if header[0].startswith(PREFIX)]
            headers.append((f"{PREFIX}size", b"%d" % len(value or b"")))
            key = (key or b"")[: most_bytes // 8] or None
            value = value and value[: min(HEAD_BYTES, most_bytes // 2)]
        yield value, key, headers


def _letter_headers(message: Delivery, error: str, definition: str) -> list[tuple[str, bytes]]:
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


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay of dead letters did.

    Attributes:
        sent: Letters sent.
        cut: Letters passed over, since they hold the head of their message alone.
        lost: Letters that had left the topic before they were sent.
    """

    sent: int
    cut: int
    lost: int


def replay_dead_letters(settings: StreamSettings, group: str) -> int:
    """Sends dead letters again; see `replay`.

    Returns:
        Number of letters sent.
    """
    return replay(settings, group).sent


def replay(settings: StreamSettings, group: str) -> ReplayReport:
    """Sends all dead letters of a group that have not been sent yet through its transform again.

    They go to the topic `retries.{group}`, each to the partition that it came from, in one transaction with the note
    of what has been sent: run again, or killed half-way and run again, each letter is sent once. What fails again
    meanwhile is a letter of the next replay.

    Raises:
        StreamError: If no broker answers, or the group has never streamed.
    """
    letters, retries = dead_letter_topic(group), retry_topic(group)
    known = topic_infos(settings.client, [letters, retries])
    if letters not in known or retries not in known:
        raise StreamError(
            f"Feature group {group!r} has no topic {letters!r}: it has never streamed, so it has no dead letters."
        )
    partitions = [TopicPartition(letters, number) for number in range(known[letters].partitions)]
    failures = Failures(settings.client)
    consumer = Consumer({**failures.options, **_READING, "group.id": f"feature-store.{letters}"})
    producer = Producer({**failures.options, "transactional.id": f"feature-store.{letters}", **_SENDING})
    failures.watch(consumer, producer)
    try:
        producer.init_transactions(_SECONDS)
        positions = consumer.committed(partitions, timeout=_SECONDS)
        ends: dict[int, int] = {}
        lost = 0
        for position in positions:
            low, high = consumer.get_watermark_offsets(position, timeout=_SECONDS)
            sent = position.offset if 0 <= position.offset <= high and _is_of(position, known[letters]) else None
            lost += max(0, low - sent) if sent is not None else 0
            position.offset = max(low, sent or 0)
            if position.offset < high:
                ends[position.partition] = high
        consumer.assign([position for position in positions if position.partition in ends])
        done = _replay(consumer, producer, known[letters], known[retries], ends)
        return ReplayReport(done.sent, done.cut, lost)
    except KafkaException as error:
        raise failures.named(error, f"Dead letters of {group!r} cannot be sent") from error
    finally:
        consumer.close()


def _is_of(position: TopicPartition, letters: TopicInfo) -> bool:
    # An offset without the incarnation of its topic was committed before there were any.
    return (position.metadata or letters.identity) == letters.identity


def _replay(
    consumer: Consumer, producer: Producer, letters: TopicInfo, retries: TopicInfo, ends: dict[int, int]
) -> ReplayReport:
    sent = cut = 0
    while ends:
        received, ended = _received(consumer)
        good = [message for message in received if message.offset < ends.get(message.partition, 0)]
        if good:
            producer.begin_transaction()
            for message in good:
                headers = dict(message.headers)
                if f"{PREFIX}size" in headers:
                    cut += 1
                    continue
                origin = int(headers[f"{PREFIX}partition"])
                to = origin % retries.partitions
                producer.produce(retries.name, message.value, message.key, to, headers=as_headers(message.headers))
                sent += 1
            following = {message.partition: message.offset + 1 for message in good}
            offsets = [
                TopicPartition(letters.name, number, offset, letters.identity) for number, offset in following.items()
            ]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), _SECONDS)
            producer.commit_transaction(_SECONDS)
        for message in received:
            if message.offset + 1 >= ends.get(message.partition, message.offset + 2):
                ends.pop(message.partition, None)
        for number in ended:
            ends.pop(number, None)
    return ReplayReport(sent, cut, 0)


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


def ensure_group_topics(settings: StreamSettings, group: str, features: str, partitions: int) -> None:
    """Creates the topics of a group that are missing, with as many partitions as its source has."""
    wanted = {features: partitions, dead_letter_topic(group): 1, retry_topic(group): partitions}
    ensure_topics(settings.client, wanted)
