"""The feature store as a resource: what overrides the settings of the environment, and nothing of the store itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import boto3
import dagster as dg
from dagster_aws.s3 import S3Resource
from dagster_duckdb import DuckDBResource
from pydantic import Field

from feature_store.settings import Settings
from feature_store.settings import settings as all_settings
from feature_store.storage.s3_connection import S3Connection, connect
from feature_store.store import Connections, FeatureStore


class FeatureStoreResource(dg.ConfigurableResource[FeatureStore]):
    """Opens the feature store that the environment names, as the library, the command line and the server do.

    Attributes:
        overrides: Settings that take the place of the environment's, by name: `{"offline": "s3://bucket/prefix"}`; see
            `docs/settings.md`. Without secrets: Dagster shows configuration to all.
        s3: How S3 is reached: endpoint, region, profile, credentials. What it leaves open comes the usual AWS way.
        duckdb: Connects to DuckDB, for point-in-time reads in SQL.
    """

    overrides: dict[str, str] = Field(default_factory=dict)
    s3: S3Resource | None = None
    duckdb: DuckDBResource | None = None

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

    def _connect_s3(self, bucket: str) -> S3Connection:
        assert self.s3 is not None
        session = boto3.Session(
            profile_name=self.s3.profile_name,
            region_name=self.s3.region_name,
            aws_access_key_id=self.s3.aws_access_key_id,
            aws_secret_access_key=self.s3.aws_secret_access_key,
            aws_session_token=self.s3.aws_session_token,
        )
        return connect(bucket, session=session, endpoint=self.s3.endpoint_url, unsigned=self.s3.use_unsigned_session)
