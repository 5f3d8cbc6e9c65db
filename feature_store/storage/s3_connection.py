"""How a bucket is reached: endpoint, region, credentials, time limits; for our own requests and for those of Polars.

They come the usual AWS way, as boto3 finds them: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, profiles,
single sign-on, the roles of a machine, container or service account. What is read or written is decided elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from feature_store.errors import SettingsError
from feature_store.extras import needs_extra
from feature_store.setting_urls import masked, without_secrets
from feature_store.storage.s3_refusals import Refusal

if TYPE_CHECKING:
    import boto3
    from botocore.credentials import Credentials
    from obstore.store import S3Credential, S3Store

REQUEST_TIMEOUT = timedelta(seconds=60)
"""After this time a request without an answer is given up, and tried again."""

UPLOAD_TIMEOUT = timedelta(minutes=15)
"""The same for large uploads."""

_CONNECT_TIMEOUT = timedelta(seconds=4)
_RETRIES = 8
_CREDENTIALS_LAST = timedelta(minutes=10)
"""What is renewed by itself lasts at least so long: botocore renews it ten minutes before its end."""


@dataclass(frozen=True)
class S3Connection:
    """How one bucket is reached.

    Attributes:
        bucket: The bucket.
        region: Its region.
        endpoint: URL of the server; None for Amazon's own.
        credentials: Sign requests; None to send them unsigned. They are asked for again every few minutes.
        find: Looks credentials up anew, where they do not renew themselves: in the environment and in the files that
            other tools rewrite. None where they are those of a session that was given.
        timeout: After this time a small request without an answer is tried again.
    """

    bucket: str
    region: str
    endpoint: str | None
    credentials: Credentials | None
    find: Callable[[], Credentials | None] | None = field(default=None, compare=False, repr=False)
    timeout: timedelta = REQUEST_TIMEOUT

    @cached_property
    def requests(self) -> S3Store:
        """Sends requests and small uploads."""
        # Sent again by those who ask: they know what may pass.
        return self._store(self.timeout, retries=0)

    @cached_property
    def uploads(self) -> S3Store:
        """Sends large uploads."""
        return self._store(max(self.timeout, UPLOAD_TIMEOUT), retries=_RETRIES)

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
    def shown_endpoint(self) -> str | None:
        """The endpoint without user and password."""
        return self.endpoint and masked(self.endpoint)

    def explained(self, refusal: Refusal) -> str:
        """Returns what is wrong, and the remedy, as sentences without secrets."""
        words = refusal.explained(self.bucket, self.shown_endpoint, self.region)
        return without_secrets(words, self.endpoint) if self.endpoint else words

    def renew(self) -> bool:
        """Looks credentials up anew, after they were said to have expired; returns whether there are other ones."""
        used = self._signed_with.get("keys")
        found = None if self.find is None else self.find()
        if found is None or found.get_frozen_credentials() == used:
            return False
        for name in ("requests", "uploads"):
            # They keep what they have been given until it is said to end.
            self.__dict__.pop(name, None)
        return True

    @property
    def _is_plain(self) -> bool:
        return self.endpoint is not None and urlsplit(self.endpoint).scheme == "http"

    @cached_property
    def _signed_with(self) -> dict[str, Any]:
        return {}

    def _store(self, timeout: timedelta, *, retries: int) -> S3Store:
        from obstore.store import S3Store

        signing: dict[str, Any] = {"credential_provider": self._obstore_credentials}
        if self.credentials is None:
            signing = {"skip_signature": True}
        # Amazon's certificates cover one label before the region's name: a bucket with dots goes into the path.
        place: dict[str, Any] = {"virtual_hosted_style_request": "." not in self.bucket}
        if self.endpoint:
            place = {"endpoint": self.endpoint}
        return S3Store(
            self.bucket,
            region=self.region,
            client_options={"timeout": timeout, "connect_timeout": _CONNECT_TIMEOUT, "allow_http": self._is_plain},
            retry_config={"max_retries": retries, "retry_timeout": 3 * timeout},
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
        from botocore.credentials import RefreshableCredentials

        assert self.credentials is not None
        current = self.credentials
        if self.find is not None and not isinstance(current, RefreshableCredentials):
            current = self.find() or current
        keys = current.get_frozen_credentials()
        self._signed_with["keys"] = keys
        return keys


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
    find = None if session is not None or unsigned else _find_credentials
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
    endpoint = _own_endpoint(client.meta.endpoint_url)
    return S3Connection(bucket, client.meta.region_name, endpoint, credentials, find, timeout)


def _find_credentials() -> Credentials | None:
    """Returns the credentials that the environment and the files of AWS tools give now; None if there are none."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.Session().get_credentials()
    except (BotoCoreError, ValueError):
        # A file that is being rewritten: what was found before holds.
        return None


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
