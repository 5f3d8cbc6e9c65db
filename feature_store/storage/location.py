"""`Location`: a local path or one in S3, how a setting's text becomes one, and the storage that it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from feature_store.errors import SettingsError
from feature_store.setting_urls import masked
from feature_store.storage.local import Local
from feature_store.storage.protocol import Storage
from feature_store.storage.s3 import S3
from feature_store.storage.s3_path import SCHEME, S3Path

if TYPE_CHECKING:
    from collections.abc import Callable

    from feature_store.storage.s3_connection import S3Connection

Location: TypeAlias = Path | S3Path

LOCAL: Storage[Path] = Local()
_S3: Storage[S3Path] = S3()


def storage_of(place: Location | str) -> Storage[Any]:
    """Returns the storage of a place, or of a text that names one."""
    if isinstance(place, S3Path) or (isinstance(place, str) and place.startswith(f"{SCHEME}://")):
        return _S3
    return LOCAL


def open_location(
    text: str | Location, *, setting: str, connect: Callable[[str], S3Connection] | None = None
) -> Location:
    """Returns the place that a text names.

    Args:
        text: A folder, `s3://bucket` or `s3://bucket/prefix`; a location stays what it is.
        setting: What the text is a value of, for errors.
        connect: Returns how a bucket of S3 is reached, given its name; by default the usual AWS way.

    Raises:
        SettingsError: If it names neither, or S3 cannot be reached for want of a package or of credentials.
    """
    if isinstance(text, S3Path):
        return text
    named = _prefix_named(str(text), setting)
    if named is None:
        return Path(text).absolute()
    bucket, prefix = named
    if connect is None:
        from feature_store.storage.s3_connection import connect_by_environment

        connect = connect_by_environment
    return S3Path(bucket, prefix, connect(bucket))


def check_location(text: str, *, setting: str) -> None:
    """Checks that a text names a place, and reaches for nothing.

    Raises:
        SettingsError: If it is neither a folder nor an S3 prefix.
    """
    _prefix_named(text, setting)


def _prefix_named(text: str, setting: str) -> tuple[str, str] | None:
    """Returns bucket and prefix, None for a folder."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return None
    bucket, _, prefix = rest.partition("/")
    parts = [part for part in prefix.split("/") if part]
    if scheme != SCHEME or not bucket or {".", ".."} & set(parts):
        raise SettingsError(
            f"{setting}={masked(text)!r} is neither a folder nor an S3 prefix: write a path, or s3://bucket/prefix."
        )
    return bucket, "/".join(parts)
