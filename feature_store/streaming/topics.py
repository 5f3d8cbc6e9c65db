"""The topics of a group: their names, what they are now, and how they are made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from feature_store.definitions.names import check_name
from feature_store.streaming.brokers import TIMEOUT, admin_of, named


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as it is now.

    Attributes:
        name: Its name.
        identity: Tells it from another of its name: one that was made anew, or that of another cluster.
        partitions: Number of its partitions.
    """

    name: str
    identity: str
    partitions: int


def features_topic(group: str) -> str:
    """Returns the topic that carries a group's rows."""
    return f"features.{check_name(group, 'feature group')}"


def dead_letter_topic(group: str) -> str:
    """Returns the topic that keeps the events that a group could not use."""
    return f"dead-letters.{check_name(group, 'feature group')}"


def retry_topic(group: str) -> str:
    """Returns the topic through which dead letters come back, partition by partition like the source's."""
    return f"retries.{check_name(group, 'feature group')}"


def topic_info(client: Mapping[str, str], topic: str) -> TopicInfo:
    """Returns what a topic is now.

    Raises:
        StreamError: If there is no such topic, it may not be read, or no broker answers.
    """
    found = topic_infos(client, [topic])
    if topic not in found:
        raise named(client, KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), f"Topic {topic!r} cannot be read")
    return found[topic]


def topic_infos(client: Mapping[str, str], topics: Sequence[str]) -> dict[str, TopicInfo]:
    """Returns what topics are now, those that are missing left out.

    Raises:
        StreamError: If no broker answers, or one may not be read.
    """
    admin, failures = admin_of(client)
    what = f"Topic {topics[0]!r} cannot be read" if len(topics) == 1 else "The topics cannot be read"
    try:
        known = admin.list_topics(topics[0] if len(topics) == 1 else None, timeout=TIMEOUT)
        there = {name: known.topics[name] for name in topics if name in known.topics}
        for name, topic in list(there.items()):
            if topic.error is not None:
                if topic.error.code() not in _MISSING:
                    raise named(client, topic.error, f"Topic {name!r} cannot be read")
                del there[name]
        if not there:
            return {}
        cluster = known.cluster_id or ""
        identities = {}
        try:
            # The client's own mock cluster knows no ids of topics, and never answers.
            if not cluster.startswith("mockCluster"):
                asked = admin.describe_topics(TopicCollection(list(there)), request_timeout=TIMEOUT)
                identities = {name: str(future.result(TIMEOUT + 1).topic_id) for name, future in asked.items()}
        except KafkaException as error:
            # For a broker of before 2.8 the cluster alone tells topics apart.
            if error.args[0].code() not in _NO_IDENTITIES:
                raise
    except KafkaException as error:
        raise failures.named(error, what) from error
    except TimeoutError as error:
        raise failures.named(KafkaError(KafkaError._TIMED_OUT), what) from error  # noqa: SLF001 - a public constant
    return {
        name: TopicInfo(name, _short(identities.get(name, ""), cluster), len(topic.partitions))
        for name, topic in there.items()
    }


_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001 - public constants
_NO_IDENTITIES = frozenset({KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION})  # noqa: SLF001


def _short(topic_id: str, cluster: str) -> str:
    return hashlib.sha256(f"{cluster}/{topic_id}".encode()).hexdigest()[:10]


def partitions_of(client: Mapping[str, str], topic: str) -> int:
    """Returns the number of partitions of a topic.

    Raises:
        StreamError: If there is no such topic, it may not be read, or no broker answers.
    """
    return topic_info(client, topic).partitions


def ends_of(client: Mapping[str, str], topics: Sequence[str]) -> dict[str, dict[str, int]]:
    """Returns the end offset of each partition of topics, by a name that tells a topic that was made anew.

    Topics that are missing are left out.

    Raises:
        StreamError: If no broker answers.
    """
    infos = topic_infos(client, topics)
    admin, failures = admin_of(client)
    asked = {
        TopicPartition(info.name, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for info in infos.values()
        for number in range(info.partitions)
    }
    ends: dict[str, dict[str, int]] = {}
    try:
        level = IsolationLevel.READ_COMMITTED
        for position, future in admin.list_offsets(asked, isolation_level=level).items() if asked else ():
            name = end_name(infos[position.topic], position.partition)
            ends.setdefault(position.topic, {})[name] = future.result(TIMEOUT).offset
    except TimeoutError as error:
        raise failures.named(KafkaError(KafkaError._TIMED_OUT), "The ends of topics cannot be read") from error  # noqa: SLF001
    except KafkaException as error:
        raise failures.named(error, "The ends of topics cannot be read") from error
    return ends


def end_name(topic: TopicInfo, number: int) -> str:
    """Returns by which name the end of a partition is kept: that of another incarnation has another."""
    return f"{topic.identity}-{number}"


def ensure_topics(client: Mapping[str, str], topics: Mapping[str, int]) -> None:
    """Creates the topics that are missing, with so many partitions each, and gives more to those that have fewer.

    The broker's defaults decide on copies.

    Raises:
        StreamError: If the broker rejects it.
    """
    known = topic_infos(client, list(topics))
    missing = {name: partitions for name, partitions in topics.items() if name not in known}
    narrow = [(name, wanted) for name, wanted in topics.items() if name in known and known[name].partitions < wanted]
    admin, failures = admin_of(client)
    pending: dict[str, Future[None]] = {}
    if missing:
        wanted = [NewTopic(name, num_partitions=partitions) for name, partitions in missing.items()]
        pending |= admin.create_topics(wanted)
    if narrow:
        pending |= admin.create_partitions([NewPartitions(name, wanted) for name, wanted in narrow])
    for name, future in pending.items():
        try:
            future.result(30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise failures.named(error, f"Topic {name!r} could not be created, or given partitions") from error
