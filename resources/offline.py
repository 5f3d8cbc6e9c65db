"""The offline store as a resource."""

import boto3
import dagster as dg
from dagster_aws.s3 import S3Resource

from feature_store.offline.store import OfflineStore
from feature_store.settings import Settings
from feature_store.storage.location import open_location
from feature_store.storage.s3_connection import S3Connection, connect
from feature_store.storage.s3_path import SCHEME


class OfflineStoreResource(dg.ConfigurableResource[OfflineStore]):
    """Opens the offline store.

    Attributes:
        root: Its root, a folder or `s3://bucket/prefix`; where empty, what `FEATURE_STORE_OFFLINE` names.
        s3: How S3 is reached: endpoint, region, profile, credentials. What it leaves open comes the usual AWS way.
    """

    root: str = ""
    s3: S3Resource | None = None

    def open(self) -> OfflineStore:
        """Returns the offline store."""
        root = self.root or Settings.from_env().offline
        scheme, _, rest = root.partition("://")
        connection = self._connection(rest.partition("/")[0]) if scheme == SCHEME and rest else None
        return OfflineStore(open_location(root, setting="FEATURE_STORE_OFFLINE", connection=connection))

    def _connection(self, bucket: str) -> S3Connection:
        if self.s3 is None:
            return connect(bucket)
        session = boto3.Session(
            profile_name=self.s3.profile_name,
            region_name=self.s3.region_name,
            aws_access_key_id=self.s3.aws_access_key_id,
            aws_secret_access_key=self.s3.aws_secret_access_key,
            aws_session_token=self.s3.aws_session_token,
        )
        return connect(bucket, session=session, endpoint=self.s3.endpoint_url, unsigned=self.s3.use_unsigned_session)
