"""Alerts as a resource."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from feature_store.clock import SystemClock
from feature_store.settings import Settings

if TYPE_CHECKING:
    from feature_store.alerts.notifier import Alerts
    from feature_store.registry.registry import Registry


class AlertsResource(dg.ConfigurableResource[Any]):
    """Sends alerts through the channels that the environment names.

    It has no configuration: Dagster shows configuration to all, and URLs of channels are secrets.
    """

    def open(self, registry: "Registry") -> "Alerts":
        """Returns alerts whose incidents are kept in a registry."""
        from feature_store.alerts.channels import channels_of
        from feature_store.alerts.notifier import Alerts
        from feature_store.alerts.settings import AlertSettings

        settings = AlertSettings.of(Settings.from_env())
        # People live by the wall clock, also where the store replays another time.
        return Alerts(registry, channels_of(settings), SystemClock(), base_url=settings.ui_url)
