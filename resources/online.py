"""The online store as a resource."""

import dagster as dg

from feature_store.clock import Clock
from feature_store.online.store import OnlineStore
from feature_store.settings import Settings


class OnlineStoreResource(dg.ConfigurableResource[OnlineStore]):
    """Connects to the online store.

    Attributes:
        url: Its URL, without secrets: Dagster shows configuration to all. Where empty, what
            `FEATURE_STORE_ONLINE` names, else the embedded server.
    """

    url: str = ""

    def connect(self, clock: Clock) -> OnlineStore:
        """Returns a connected online store; the caller closes it."""
        return OnlineStore.connect(self.url or Settings.from_env().online, clock)
