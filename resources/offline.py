"""The offline store as a resource."""

import dagster as dg

from feature_store.offline.store import OfflineStore
from feature_store.settings import Settings


class OfflineStoreResource(dg.ConfigurableResource[OfflineStore]):
    """Opens the offline store.

    Attributes:
        root: Its root; where empty, what `FEATURE_STORE_OFFLINE` names.
    """

    root: str = ""

    def open(self) -> OfflineStore:
        """Returns the offline store."""
        return OfflineStore(self.root or Settings.from_env().offline)
