"""Settings of a stream: the broker, the size of micro-batches, where state lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from feature_store.errors import SettingsError
from feature_store.settings import embedded_folder, environment

_PREFIX = "FEATURE_STORE_KAFKA_"


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a stream runs.

    Attributes:
        client: Options of the Kafka client, `bootstrap.servers` among them.
        batch_events: Events of a micro-batch at most.
        linger_seconds: Time after which a micro-batch is closed, however few events it has.
        checkpoint_seconds: Time between two snapshots of the state.
        state: Folder of the snapshots. What is lost of it is built anew from the topic and the source's files.
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
    def from_env(cls, environ: Mapping[str, str] | None = None) -> StreamSettings:
        """Returns the settings that the environment (or `.env`) names.

        `FEATURE_STORE_KAFKA` is the bootstrap servers. Each `FEATURE_STORE_KAFKA_<OPTION>` is an option of the
        client, in capitals and with `_` for `.`: `FEATURE_STORE_KAFKA_SASL_PASSWORD` is `sasl.password`.
        `FEATURE_STORE_STREAM_STATE` is the folder of the state.

        Raises:
            SettingsError: If `FEATURE_STORE_KAFKA` is unset.
        """
        environ = environment() if environ is None else environ
        servers = environ.get("FEATURE_STORE_KAFKA")
        if not servers:
            raise SettingsError("No Kafka broker is named: set FEATURE_STORE_KAFKA, for instance localhost:9092.")
        options = {
            name.removeprefix(_PREFIX).lower().replace("_", "."): value
            for name, value in environ.items()
            if name.startswith(_PREFIX)
        }
        settings = cls({**options, "bootstrap.servers": servers})
        folder = environ.get("FEATURE_STORE_STREAM_STATE")
        return cls({**options, "bootstrap.servers": servers}, state=Path(folder).resolve()) if folder else settings
