"""Settings of a stream: the broker, the size of micro-batches, where state lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from feature_store.errors import SettingsError
from feature_store.setting_urls import check_kafka_servers
from feature_store.settings import Settings, embedded_folder


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a stream runs.

    Attributes:
        client: Options of the Kafka client, `bootstrap.servers` among them.
        batch_events: Events of a micro-batch at most.
        linger_seconds: Time after which a micro-batch is closed, however few events it has.
        checkpoint_seconds: Time between two snapshots of the state.
        state: Folder by which the streamers of a machine are numbered. Snapshots lie in the offline store.
        transaction_seconds: Time after which the broker gives up the transaction of a streamer that died.
        session_seconds: Time after which the partitions of a streamer that died go to another.
        drain_rows: Rows of a file of the drainer at most.
    """

    client: Mapping[str, str]
    batch_events: int = 5000
    linger_seconds: float = 0.1
    checkpoint_seconds: float = 15
    state: Path = field(default_factory=lambda: embedded_folder().resolve() / "streams")
    transaction_seconds: float = 15
    session_seconds: float = 10
    drain_rows: int = 200_000

    @classmethod
    def of(cls, settings: Settings) -> StreamSettings:
        """Returns how streams run by settings: their broker, options of the client, and folder of the state.

        Raises:
            SettingsError: If no broker is named, or its address is malformed.
        """
        if settings.kafka is None:
            raise SettingsError("No Kafka broker is named: set FEATURE_STORE_KAFKA, for instance localhost:9092.")
        check_kafka_servers(settings.kafka)
        client = {**settings.kafka_options, "bootstrap.servers": settings.kafka}
        return cls(client, state=Path(settings.stream_state).resolve())

    @classmethod
    def from_env(cls) -> StreamSettings:
        """Returns how streams run by the environment (or `.env`); see `of`."""
        return cls.of(Settings.from_env())
