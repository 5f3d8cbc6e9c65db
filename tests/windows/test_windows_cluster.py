"""Windows on a cluster: all keys of an entity in one slot, whoever writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from feature_store import FeatureStore, FixedClock
from feature_store.definitions.group import FeatureGroup
from tests.online.deployments import CLUSTER, Deployment, running
from tests.windows.test_windows_online import EVENTS, NOON, World, group

__all__ = ["group"]

pytestmark = pytest.mark.needs_redis


@pytest.fixture
def cluster() -> Iterator[Deployment]:
    with running(CLUSTER) as deployment:
        yield deployment


def test_all_writers_and_readers_agree_on_a_cluster(
    cluster: Deployment,
    tmp_path: Path,
    clock: FixedClock,
    migrated_registry: Path,
    group: FeatureGroup,
) -> None:
    clock.set(NOON)
    registry = tmp_path / "registry.db"
    registry.write_bytes(migrated_registry.read_bytes())
    parts = {"offline": tmp_path / "offline", "online": cluster.url, "registry": f"sqlite:///{registry}"}
    with FeatureStore(**parts, clock=clock) as store:
        store.apply([group])
        world = World(store, group, clock, 4)
        for step in ("ingest", "send", "ingest", "send", "drain", "send", "ingest"):
            getattr(world, step)()
            world.check()
        with cluster.client() as client:
            for key in list(client.scan_iter("feature_tiles:*")):
                client.delete(key)
        store.repair_online(group.name)
        world.check()
        store.ingest(group, pl.DataFrame([("ann", NOON, 1.0, "a")], EVENTS, orient="row"))
        world.model["ann", NOON] = (1.0, "a")
        world.check()
