"""The feature store as a Dagster component: a `defs.yaml` of a few lines instead of Python."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from dagster_feature_store.definitions import feature_store_definitions
from dagster_feature_store.resources.feature_store import FeatureStoreResource


class FeatureStoreComponent(dg.Component, dg.Model, dg.Resolvable):
    """Feature groups and training sets of a Python module, as assets with checks, jobs, schedules and sensors.

    Attributes:
        module: Dotted name of the module that defines them.
        prefix: Stands before the names of jobs, schedules, sensors, ops, asset groups and resources.
        asset_key_prefix: Stands before the keys of assets; by default what FEATURE_STORE_ASSET_KEY_PREFIX says.
        settings: Settings that take the place of the environment's, by name, without secrets; see docs/settings.md.
        source_assets: Keys of the project's assets that write what a source reads, by the source's name.
        automation: Whether sensors and schedules run from the start; by default what FEATURE_STORE_AUTOMATION says.
    """

    module: str
    prefix: str = "feature_store"
    asset_key_prefix: Sequence[str] | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    source_assets: dict[str, str] = Field(default_factory=dict)
    automation: bool | None = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Returns what `feature_store_definitions` returns for the module."""
        del context
        return feature_store_definitions(
            self.module,
            prefix=self.prefix,
            asset_key_prefix=self.asset_key_prefix,
            resources={self.prefix: FeatureStoreResource(overrides=self.settings)},
            source_assets={name: dg.AssetKey.from_user_string(key) for name, key in self.source_assets.items()},
            automation=self.automation,
        )
