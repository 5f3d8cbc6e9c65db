"""The code location: the feature store over the shop, on this project's stores and with its automation."""

import dagster as dg

from dagster_feature_store import feature_store_definitions
from feature_assets import shop
from resources.feature_store import feature_store
from sensors.automation import AUTOMATION

defs: dg.Definitions = feature_store_definitions(shop, resources={"feature_store": feature_store}, **AUTOMATION)
