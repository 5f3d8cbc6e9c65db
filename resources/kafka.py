"""The Kafka broker as a resource."""

import dagster as dg

from feature_store.settings import environment
from feature_store.streaming.settings import StreamSettings


class KafkaResource(dg.ConfigurableResource[StreamSettings]):
    """Names the broker that streams read from.

    Attributes:
        servers: Bootstrap servers; where empty, what `FEATURE_STORE_KAFKA` names. Further options of the client come
            from the environment, secrets among them: see `StreamSettings.from_env`.
    """

    servers: str = ""

    def settings(self) -> StreamSettings | None:
        """Returns the settings of streams; None where no broker is named."""
        environ = environment()
        if self.servers:
            environ = {**environ, "FEATURE_STORE_KAFKA": self.servers}
        return StreamSettings.from_env(environ) if environ.get("FEATURE_STORE_KAFKA") else None
