"""A group whose rows are given as they are, and what tests of changing rows look at."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.frames import TIMESTAMP_TYPE
from tests.orders import CUSTOMER, Orders

if TYPE_CHECKING:
    from collections.abc import Iterable

    from feature_store.definitions.group import FeatureGroup
    from feature_store.store import FeatureStore
    from tests.servers.redis import RedisServer

NOON = datetime(2024, 3, 9, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SCHEMA = {"customer": pl.String, "event_timestamp": TIMESTAMP_TYPE, "score": pl.Int64}


class Scores(FeatureSchema):
    score: int = feature("A score")


def scores_group(layout: str, ttl: timedelta = timedelta(days=30)) -> FeatureGroup:
    """Returns a group whose source holds its rows; the source can be changed."""
    source = Orders(pl.DataFrame(schema=SCHEMA))

    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=Scores,
        owner="team@example.com",
        ttl=ttl,
        min_rows=0,
        online_layout=layout,  # type: ignore[arg-type]  # one of two texts
    )
    def scores(events: pl.LazyFrame) -> pl.LazyFrame:
        """Scores as they are given."""
        return events

    return scores


def some(*rows: tuple[str, datetime, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def online(store: FeatureStore, *customers: str) -> list[int | None]:
    return [row["score"] for row in store.get_online_features_batch(list(customers), ["score"])]


def offline(store: FeatureStore, customer: str, times: Iterable[datetime], *, strict: bool = False) -> list[int | None]:
    asked = list(times)
    found = store.get_offline_features([customer] * len(asked), ["score"], asked, strict=strict)
    return found["score"].to_list()


def stored(store: FeatureStore) -> dict[str, tuple[int, str]]:
    """Returns when each file of the offline store was written, and a digest of it."""
    files = [path for path in store.offline.root.rglob("*") if path.is_file()]  # type: ignore[union-attr]  # a folder
    return {str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}


def dumped(server: RedisServer) -> dict[bytes, bytes | None]:
    """Returns all keys of a server, as it dumps them."""
    with server.client() as redis:
        return {key: redis.dump(key) for key in redis.scan_iter("*")}


def ingestion_times(store: FeatureStore, group: FeatureGroup) -> list[datetime]:
    return store.offline.scan(store.registered(group)).collect()["ingested_at"].sort().to_list()
