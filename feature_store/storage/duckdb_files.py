"""Objects in S3 as files of a DuckDB connection, read by our own requests, so that no extension need be downloaded.

The adapter is fsspec's interface, which DuckDB reads Python's file systems by; only what it calls is there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from fnmatch import translate
from typing import TYPE_CHECKING, Any

from feature_store.errors import InvalidRequestError
from feature_store.storage.s3_path import SCHEME, S3Path

if TYPE_CHECKING:
    import duckdb

    from feature_store.storage.location import Location
    from feature_store.storage.s3_connection import S3Connection

_PATTERN = re.compile(r"[*?\[]")
_ESCAPED = re.compile(r"\[([*?\[])\]")


def register_files(connection: duckdb.DuckDBPyConnection, places: Iterable[Location]) -> None:
    """Lets a DuckDB connection read the objects of the buckets that some places lie in. Local ones need nothing."""
    remote = {path.bucket: path.connection for path in places if isinstance(path, S3Path)}
    if not remote:
        return
    if connection.filesystem_is_registered(SCHEME):
        connection.unregister_filesystem(SCHEME)
    connection.register_filesystem(_filesystem(remote))


def _filesystem(connections: dict[str, S3Connection]) -> Any:
    from fsspec import AbstractFileSystem

    class Objects(AbstractFileSystem):  # type: ignore[misc]  # it has no types
        """Objects of some buckets; paths are `s3://bucket/key`."""

        protocol = SCHEME
        cachable = False

        def glob(self, path: str, **_: Any) -> list[str]:
            """Returns the objects that a pattern of DuckDB means."""
            pattern = _PATTERN.search(_ESCAPED.sub("___", path))
            if pattern is None:
                return [_ESCAPED.sub(r"\1", path)]
            folder = _ESCAPED.sub(r"\1", path[: pattern.start()]).rpartition("/")[0]
            matching = re.compile(translate(path).replace(".*", "[^/]*"))
            return [str(found) for found, _ in _path(folder, connections).objects() if matching.match(str(found))]

        def open(self, path: str, mode: str = "rb", **_: Any) -> io.RawIOBase:
            """Opens an object for reading. DuckDB's threads share it: each seeks, then reads."""
            if mode != "rb":
                raise InvalidRequestError(f"{path} can be read by DuckDB, and not be written (mode {mode!r}).")
            return _path(path, connections).open_unbuffered()

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            """Returns size and time of an object."""
            stat = _path(path, connections).stat()
            modified = datetime.fromtimestamp(stat.st_mtime_ns / 1e9, UTC)
            return {"name": path, "size": stat.st_size, "type": "file", "mtime": modified}

        def modified(self, path: str) -> datetime:
            """Returns when an object was put in place."""
            modified: datetime = self.info(path)["mtime"]
            return modified

    return Objects()


def _path(text: str, connections: dict[str, S3Connection]) -> S3Path:
    bucket, _, key = text.removeprefix(f"{SCHEME}://").partition("/")
    return S3Path(bucket, key, connections[bucket])
