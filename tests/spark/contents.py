"""What two stores have in common that were filled by the same content: everything but the times of ingestion.

Each partition on Spark claims its own time, and a run that completes another claims a later one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from feature_store.offline.digests import content_digest
from feature_store.offline.footers import file_metadata
from feature_store.online.row_format import HEAD_BYTES
from feature_store.online.stamps import TIMES_WIDTH, WIDTH

if TYPE_CHECKING:
    from tests.servers.redis import RedisServer

_TIME_BYTES = 8


def offline_contents(root: Path) -> dict[str, object]:
    """All files by name, leftovers included: digest of the rows, and the metadata without times; else the bytes."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.suffix == ".parquet":
            metadata = file_metadata(path)
            assert metadata.pop("ingested_at")
            digest = content_digest(pl.read_parquet(path))
            assert metadata["content"] == digest
            found[name] = metadata
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def online_contents(server: RedisServer) -> dict[bytes, bytes]:
    """All keys that readers look up, and their values; of stamps and packed rows without the times of ingestion."""
    found = {}
    with server.client() as redis:
        for kind in ("feature:", "feature_stamp:", "feature_row:", "feature_schema:"):
            keys = list(redis.scan_iter(f"{kind}*", count=5000))
            for key, value in zip(keys, redis.mget(keys) if keys else [], strict=True):
                found[key] = _timeless(kind, value)
    return found


def _timeless(kind: str, value: bytes) -> bytes:
    if kind == "feature_stamp:":
        return value[:WIDTH] + value[TIMES_WIDTH:]
    if kind == "feature_row:":
        event_ends = HEAD_BYTES + _TIME_BYTES
        return value[:event_ends] + value[event_ends + _TIME_BYTES :]
    return value
