"""`Location`: a local path or one in S3, and how a setting's text becomes one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from feature_store.errors import SettingsError
from feature_store.storage.s3_path import SCHEME, S3Path

if TYPE_CHECKING:
    from feature_store.storage.s3_connection import S3Connection

Location: TypeAlias = Path | S3Path


def open_location(text: str | Location, *, setting: str, connection: S3Connection | None = None) -> Location:
    """Returns the place that a text names.

    Args:
        text: A folder, `s3://bucket` or `s3://bucket/prefix`; a location stays what it is.
        setting: What the text is a value of, for errors.
        connection: How to reach the bucket; by default the usual AWS way.

    Raises:
        SettingsError: If it names neither, or S3 cannot be reached for want of a package or of credentials.
    """
    if isinstance(text, S3Path):
        return text
    scheme, separator, rest = str(text).partition("://")
    if not separator:
        return Path(text).absolute()
    bucket, _, prefix = rest.partition("/")
    parts = [part for part in prefix.split("/") if part]
    if scheme != SCHEME or not bucket or {".", ".."} & set(parts):
        raise SettingsError(
            f"{setting}={str(text)!r} is neither a folder nor an S3 prefix: write a path, or s3://bucket/prefix."
        )
    if connection is None:
        from feature_store.storage.s3_connection import connect_by_environment

        connection = connect_by_environment(bucket)
    return S3Path(bucket, "/".join(parts), connection)


def file_digest(path: Location) -> str:
    """Returns the SHA-256 of a file's bytes."""
    if isinstance(path, S3Path):
        digest = hashlib.sha256()
        for chunk in path.chunks():
            digest.update(chunk)
        return digest.hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
