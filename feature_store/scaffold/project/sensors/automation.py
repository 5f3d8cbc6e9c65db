"""How the feature store's own sensors and schedules run; the Automation page of the UI lists them.

To hold them all from the start, set FEATURE_STORE_AUTOMATION=no; each can be switched in the UI.
"""

from typing import TypedDict


class Automation(TypedDict, total=False):
    """Arguments of `feature_store_definitions`."""

    sensor_interval_seconds: int
    automation: bool


AUTOMATION: Automation = {}
