"""How a bucket is reached: endpoint, region, credentials, time limits; for our own requests and for those of Polars.

They come the usual AWS way, as boto3 finds them: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, profiles,
single sign-on, the roles of a machine, container or service account. What is read or written is decided elsewhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from feature_store.errors import SettingsError
from feature_store.extras import needs_extra

if TYPE_CHECKING:
    import boto3
    from botocore.credentials import Credentials
    from obstore.store import S3Credential, S3Store

REQUEST_TIMEOUT = timedelta(seconds=60)
"""After this time a request without an answer is given up, and tried again."""

UPLOAD_TIMEOUT = timedelta(minutes=15)
"""The same for large uploads."""

_RETRIES = 8
_CREDENTIALS_LAST = timedelta(minutes=10)


@dataclass(frozen=True)
class S3Connection:
    """How one bucket is reached.

    Attributes:
        bucket: The bucket.
        region: Its region.
        endpoint: URL of the server; None for Amazon's own.
        credentials: Sign requests; None to send them unsigned. They are asked for again every few minutes.
        timeout: After this time a small request without an answer is tried again.
    """

    bucket: str
    region: str
    endpoint: str | None
    credentials: Credentials | None
    timeout: timedelta = REQUEST_TIMEOUT

    @cached_property
    def requests(self) -> S3Store:
        """Sends requests and small uploads."""
        return self._store(self.timeout)

    @cached_property
    def uploads(self) -> S3Store:
        """Sends large uploads."""
        return self._store(max(self.timeout, UPLOAD_TIMEOUT))

    def polars_options(self) -> dict[str, Any]:
        """Returns arguments of Polars' scanners."""
        options: dict[str, Any] = {"aws_region": self.region, "max_retries": _RETRIES}
        if self.endpoint:
            options |= {"aws_endpoint_url": self.endpoint, "aws_allow_http": str(self._is_plain).lower()}
        if self.credentials is None:
            return {"storage_options": {**options, "aws_skip_signature": "true"}, "credential_provider": None}
        return {"storage_options": options, "credential_provider": self._polars_credentials}

    def object_store_options(self) -> dict[str, str]:
        """Returns the same as the options that libraries over object_store take, with credentials as they are now."""
        options = {"AWS_REGION": self.region}
        if self.endpoint:
            options |= {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ALLOW_HTTP": str(self._is_plain).lower()}
        if self.credentials is None:
            return {**options, "AWS_SKIP_SIGNATURE": "true"}
        named, _ = self._polars_credentials()
        return options | {name.upper(): value for name, value in named.items()}

    @property
    def _is_plain(self) -> bool:
        return self.endpoint is not None and urlsplit(self.endpoint).scheme == "http"

    def _store(self, timeout: timedelta) -> S3Store:
        from obstore.store import S3Store

        signing: dict[str, Any] = {"credential_provider": self._obstore_credentials}
        if self.credentials is None:
            signing = {"skip_signature": True}
        place: dict[str, Any] = {"endpoint": self.endpoint} if self.endpoint else {"virtual_hosted_style_request": True}
        return S3Store(
            self.bucket,
            region=self.region,
            client_options={"timeout": timeout, "allow_http": self._is_plain},
            retry_config={"max_retries": _RETRIES, "retry_timeout": 3 * timeout},
            **place,
            **signing,
        )

    def _obstore_credentials(self) -> S3Credential:
        found = self._frozen()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
        }

    def _polars_credentials(self) -> tuple[dict[str, str], int]:
        found = self._frozen()
        named = {"aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key}
        if found.token:
            named["aws_session_token"] = found.token
        return named, int((datetime.now(UTC) + _CREDENTIALS_LAST).timestamp())

    def _frozen(self) -> Any:
        assert self.credentials is not None
        return self.credentials.get_frozen_credentials()


def connect(
    bucket: str,
    *,
    session: boto3.Session | None = None,
    endpoint: str | None = None,
    unsigned: bool = False,
    timeout: timedelta = REQUEST_TIMEOUT,
) -> S3Connection:
    """Returns how a bucket is reached, as boto3 finds it. Nothing is sent yet, unless credentials are fetched.

    Args:
        bucket: The bucket.
        session: Where to look; by default the environment and the files that AWS tools share.
        endpoint: URL of another server than the one that the session names.
        unsigned: Send requests without credentials.
        timeout: After this time a small request without an answer is tried again.

    Raises:
        SettingsError: If the packages of the extra `s3` are missing, a profile does not exist, or there are no
            credentials.
    """
    with needs_extra("s3", f"s3://{bucket}"):
        import boto3
        import obstore  # noqa: F401  # needed by the first request
        from botocore.exceptions import BotoCoreError
    try:
        session = session or boto3.Session()
        client = session.client("s3", endpoint_url=endpoint, region_name=session.region_name or "us-east-1")
        credentials = None if unsigned else session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"s3://{bucket} is out of reach of the AWS settings found: {error}.") from error
    if credentials is None and not unsigned:
        raise SettingsError(
            f"No AWS credentials for s3://{bucket} were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a "
            "profile by AWS_PROFILE, or give the machine a role."
        )
    return S3Connection(bucket, client.meta.region_name, _own_endpoint(client.meta.endpoint_url), credentials, timeout)


def connect_by_environment(bucket: str) -> S3Connection:
    """Returns how a bucket is reached by what the environment says; it is looked up anew when that has changed."""
    return _connection_of(bucket, tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))


@lru_cache(maxsize=64)
def _connection_of(bucket: str, variables: tuple[tuple[str, str], ...]) -> S3Connection:
    del variables
    return connect(bucket)


def _own_endpoint(url: str) -> str | None:
    """Returns an endpoint, None if it is Amazon's public one, which follows from bucket and region."""
    host = urlsplit(url).hostname or ""
    return None if host.startswith("s3.") and host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else url
