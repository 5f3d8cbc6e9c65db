"""What the feature store's objects are called in a code location, so that they never meet those of the project."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagster_feature_store.resources.alerts import AlertsResource
from dagster_feature_store.resources.feature_store import FeatureStoreResource
from dagster_feature_store.resources.spark import SparkJobsResource
from feature_store.errors import DefinitionError
from feature_store.settings import Settings

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Names:
    """Names of jobs, schedules, sensors, ops, resources, asset groups and assets.

    Attributes:
        prefix: Stands before all names but those of assets: `feature_store_landing_sensor`.
        asset_key_prefix: Stands before the keys of assets: `("features",)` makes `features/plane_punctuality`.
        groups: Names of the feature groups: a source of such a name has another key.

    Raises:
        DefinitionError: If Dagster does not take such a name.
    """

    prefix: str = "feature_store"
    asset_key_prefix: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for text in (self.prefix, *self.asset_key_prefix):
            if not _NAME.fullmatch(text):
                raise DefinitionError(
                    f"{text!r} cannot be a prefix of names in Dagster: take letters, digits and underscores, with a "
                    "letter first."
                )

    def of(self, name: str) -> str:
        """Returns the name of a job, schedule, sensor, op, resource or asset group."""
        return f"{self.prefix}_{name}"

    def key(self, name: str) -> dg.AssetKey:
        """Returns the key of the asset of a group or training set."""
        return dg.AssetKey([*self.asset_key_prefix, name])

    def source_key(self, name: str) -> dg.AssetKey:
        """Returns the key of the asset of a source: its name, with `_source` behind it where a group has that name."""
        return self.key(f"{name}_source" if name in self.groups else name)

    def key_text(self, name: str) -> str:
        """Returns the same key as text."""
        return self.key(name).to_user_string()

    @property
    def store_key(self) -> str:
        """The key of the resource that opens the store: the prefix itself."""
        return self.prefix

    @property
    def alerts_key(self) -> str:
        """The key of the resource that sends alerts."""
        return self.of("alerts")

    @property
    def spark_key(self) -> str:
        """The key of the resource that launches Spark jobs."""
        return self.of("spark")

    def store(self, context: Any) -> FeatureStoreResource:
        """Returns the resource that opens the store, in a step or a look of a sensor."""
        found: FeatureStoreResource = getattr(context.resources, self.store_key)
        return found

    def alerts(self, context: Any) -> AlertsResource:
        """Returns the resource that sends alerts."""
        found: AlertsResource = getattr(context.resources, self.alerts_key)
        return found

    def spark(self, context: Any) -> SparkJobsResource:
        """Returns the resource that launches Spark jobs."""
        found: SparkJobsResource = getattr(context.resources, self.spark_key)
        return found


DEFAULT_NAMES = Names()


def key_prefix(settings: Settings) -> tuple[str, ...]:
    """Returns what the settings put before the keys of assets."""
    return tuple(filter(None, (settings.asset_key_prefix or "").split("/")))
