"""Places in S3, reached directly and through a proxy that breaks what passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import boto3
import pytest

from feature_store.storage.location import open_location
from feature_store.storage.s3_connection import connect
from feature_store.storage.s3_path import S3Path
from tests.servers.fault_proxy import FaultProxy
from tests.servers.s3 import BUCKET, S3Server


@pytest.fixture
def proxy(s3_server: S3Server, s3_root: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the server; the environment leads to it."""
    with FaultProxy(s3_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def place(s3_root: str) -> S3Path:
    """A place that nothing lies below."""
    found = open_location(s3_root, setting="root")
    assert isinstance(found, S3Path)
    return found


@pytest.fixture
def through(proxy: FaultProxy) -> Callable[[S3Path], S3Path]:
    """Returns the same place, reached through the proxy; a request without an answer is tried again after 2 s."""

    def reached(path: S3Path) -> S3Path:
        session = boto3.Session()
        return S3Path(path.bucket, path.key, connect(BUCKET, session=session, timeout=timedelta(seconds=2)))

    return reached
