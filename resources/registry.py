"""The registry as a resource."""

import dagster as dg

from feature_store.clock import Clock
from feature_store.registry.registry import Registry
from feature_store.settings import Settings


class RegistryResource(dg.ConfigurableResource[Registry]):
    """Connects to the registry.

    Attributes:
        url: Its SQLAlchemy URL, without secrets: Dagster shows configuration to all. Where empty, what
            `FEATURE_STORE_REGISTRY` names, else SQLite.
    """

    url: str = ""

    def connect(self, clock: Clock) -> Registry:
        """Returns a registry; the caller closes it."""
        return Registry(self.url or Settings.from_env().registry, clock)
