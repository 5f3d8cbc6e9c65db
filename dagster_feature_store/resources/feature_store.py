"""The feature store as a resource: what overrides the settings of the environment, and nothing of the store itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
from pydantic import Field

from feature_store.settings import Settings
from feature_store.settings import settings as all_settings
from feature_store.store import Connections, FeatureStore

if TYPE_CHECKING:
    from feature_store.storage.s3_connection import S3Connection


class FeatureStoreResource(dg.ConfigurableResource[FeatureStore]):
    """Opens the feature store that the environment names, as the library, the command line and the server do.

    Attributes:
        overrides: Settings that take the place of the environment's, by name: `{"offline": "s3://bucket/prefix"}`; see
            `docs/settings.md`. Without secrets: Dagster shows configuration to all.
        s3: The project's `S3Resource` of dagster-aws, if S3 is to be reached by its endpoint, region, profile and
            credentials. What it leaves open, or all without it, comes the usual AWS way.
        duckdb: The project's `DuckDBResource` of dagster-duckdb, if point-in-time reads in SQL are to run on it.
    """

    overrides: dict[str, str] = Field(default_factory=dict)
    # Of any type: those who use neither need not have dagster-aws and dagster-duckdb, nor wait for their import.
    s3: dg.ResourceDependency[Any] = cast("dg.ResourceDependency[Any]", None)
    duckdb: dg.ResourceDependency[Any] = cast("dg.ResourceDependency[Any]", None)

    def settings(self) -> Settings:
        """Returns the settings of the environment, with the overrides.

        Raises:
            SettingsError: If there is no setting of a name, or a value cannot be read.
        """
        return Settings.from_env().overridden(self.overrides)

    @contextmanager
    def open(self, *, definitions: ModuleType | None = None) -> Iterator[FeatureStore]:
        """Yields the feature store; its connections are closed at the end.

        Args:
            definitions: The module that the code location is made of; by default the one that the settings name.
        """
        connections = Connections(
            s3=None if self.s3 is None else self._connect_s3,
            duckdb=None if self.duckdb is None else self.duckdb.get_connection,
        )
        with FeatureStore.open(self.settings(), definitions=definitions, connections=connections) as store:
            yield store

    def environment(self) -> dict[str, str]:
        """Returns the overrides as variables for another process that has this one's environment otherwise."""
        settings = self.settings()
        variables: dict[str, str] = {}
        for setting in all_settings():
            if self.overrides.get(setting.name):
                variables |= setting.variables(getattr(settings, setting.name))
        return variables

    def _connect_s3(self, bucket: str) -> "S3Connection":
        import boto3

        from feature_store.storage.s3_connection import connect

        session = boto3.Session(
            profile_name=self.s3.profile_name,
            region_name=self.s3.region_name,
            aws_access_key_id=self.s3.aws_access_key_id,
            aws_secret_access_key=self.s3.aws_secret_access_key,
            aws_session_token=self.s3.aws_session_token,
        )
        return connect(bucket, session=session, endpoint=self.s3.endpoint_url, unsigned=self.s3.use_unsigned_session)
