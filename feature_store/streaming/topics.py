"""The topics of a group: their names, and how they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from feature_store.definitions.names import check_name
from feature_store.errors import StreamError


def features_topic(group: str) -> str:
    """Returns the topic that carries a group's rows."""
    return f"features.{check_name(group, 'feature group')}"


def dead_letter_topic(group: str) -> str:
    """Returns the topic that keeps the events that a group could not use."""
    return f"dead-letters.{check_name(group, 'feature group')}"


def retry_topic(group: str) -> str:
    """Returns the topic through which dead letters come back, partition by partition like the source's."""
    return f"retries.{check_name(group, 'feature group')}"


def partitions_of(client: Mapping[str, str], topic: str, *, timeout: float = 10) -> int:
    """Returns the number of partitions of a topic.

    Raises:
        StreamError: If there is no such topic, or no broker answers.
    """
    try:
        found = AdminClient(dict(client)).list_topics(topic, timeout=timeout).topics[topic]
    except KafkaException as error:
        raise _no_answer(client, error) from error
    if found.error is not None:
        raise StreamError(f"Topic {topic!r} cannot be read: {found.error.str()}. Create it, or correct the stream.")
    return len(found.partitions)


def ends_of(client: Mapping[str, str], topics: Sequence[str], *, timeout: float = 10) -> dict[str, int]:
    """Returns how many offsets the partitions of each topic have given out; topics that are missing are left out.

    Raises:
        StreamError: If no broker answers.
    """
    admin = AdminClient(dict(client))
    try:
        known = admin.list_topics(timeout=timeout).topics
        asked = {
            TopicPartition(topic, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
            for topic in topics
            if topic in known
            for number in known[topic].partitions
        }
        ends: dict[str, int] = {}
        if asked:
            for position, future in admin.list_offsets(asked).items():
                ends[position.topic] = ends.get(position.topic, 0) + future.result(timeout).offset
    except KafkaException as error:
        raise _no_answer(client, error) from error
    return ends


def ensure_topics(client: Mapping[str, str], topics: Mapping[str, int]) -> None:
    """Creates the topics that are missing, with so many partitions each; the broker's defaults decide on copies.

    Raises:
        StreamError: If the broker refuses.
    """
    admin = AdminClient(dict(client))
    try:
        known = admin.list_topics(timeout=30).topics
    except KafkaException as error:
        raise _no_answer(client, error) from error
    missing = {name: partitions for name, partitions in topics.items() if name not in known}
    if not missing:
        return
    wanted = [NewTopic(name, num_partitions=partitions) for name, partitions in missing.items()]
    for name, future in admin.create_topics(wanted).items():
        try:
            future.result(30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise StreamError(f"Topic {name!r} could not be created: {error.args[0].str()}.") from error


def _no_answer(client: Mapping[str, str], error: KafkaException) -> StreamError:
    return StreamError(
        f"No Kafka broker answers at {client.get('bootstrap.servers')!r}: {error.args[0].str()}. Start it, or correct "
        "FEATURE_STORE_KAFKA."
    )
