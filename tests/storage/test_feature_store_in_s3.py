"""A whole feature store whose history lies in S3: what a team does with it, by the library and by Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import boto3
import polars as pl
import pytest
from dagster_aws.s3 import S3Resource
from polars.testing import assert_frame_equal

from dagster_feature_store.resources.feature_store import FeatureStoreResource
from feature_store.clock import FixedClock
from feature_store.partitions import Partitioning
from feature_store.reconcile.coverage import coverage
from feature_store.storage.s3_folders import CLAIM_FILE
from feature_store.storage.s3_path import S3Path
from feature_store.store import FeatureStore
from tests.orders import START, Orders, some_orders, spending
from tests.servers.s3 import S3Server
from tests.training_sets.conftest import SPAN, every_morning, purchases

FEATURES = ["orders_3d", "amount_3d", "last_amount"]


def opened(root: str | Path, folder: Path, redis_url: str, clock: FixedClock) -> FeatureStore:
    registry = f"sqlite:///{folder / 'registry.db'}"
    return FeatureStore(offline=root, online=redis_url, registry=registry, clock=clock)


@pytest.fixture
def shops(s3_root: str, tmp_path: Path, redis_url: str, clock: FixedClock) -> Iterator[list[FeatureStore]]:
    """The same orders, materialized into a folder and into S3."""
    shops = []
    for number, root in enumerate([tmp_path / "offline", s3_root]):
        folder = tmp_path / str(number)
        folder.mkdir()
        shop = opened(root, folder, redis_url, clock)
        group = spending(Orders(some_orders()))
        shop.apply([group])
        shop.materialize(group, *SPAN)
        shops.append(shop)
    yield shops
    for shop in shops:
        shop.close()


def names(place: S3Path) -> list[str]:
    return [path.relative_to(place) for path, _ in place.objects()]


def test_what_is_materialized_is_read_explained_and_looked_at_alike(shops):
    local, remote = shops
    group = spending(Orders(some_orders()))
    entities, times = ["c1", "c3", "c9"], [START + timedelta(days=5)] * 3
    expected = local.get_offline_features(entities, FEATURES, times)
    assert expected["amount_3d"].null_count() == 1
    assert_frame_equal(remote.get_offline_features(entities, FEATURES, times), expected)
    for instant in (None, START + timedelta(days=4)):
        one, other = (shop.explain("c3", "amount_3d", instant) for shop in shops)
        assert (one.value, one.status, one.winner and one.winner.file) == (
            other.value,
            other.status,
            other.winner and other.winner.file,
        )
    assert coverage(group, remote.offline) == coverage(group, local.offline)
    assert remote.sample_online(group).lost == 0
    # Both push to one server, where the rows of the store that was written later are the newer ones.
    pushed = [shop.push_online(group) for shop in (local, remote)]
    counts = [(each.rows, each.written + each.stale, each.superseded, each.expired) for each in pushed]
    assert counts[0] == counts[1]
    assert pushed[1].written == pushed[0].stale
    monitors = [shop.monitor.partitions(group, START) for shop in shops]
    assert [type(monitor) for monitor in monitors]


def test_training_sets_have_the_same_rows_and_are_verified_rebuilt_and_compared(shops):
    _, remote = shops
    definition = purchases(every_morning())
    versions = [shop.write_training_set(definition) for shop in shops]
    assert_frame_equal(versions[1].scan().collect(), versions[0].scan().collect())
    assert not remote.write_training_set(definition).created
    report = remote.verify_training_set("purchases")
    assert report.passed, report.summary()
    place = remote.open_training_set("purchases").path
    assert isinstance(place, S3Path)
    (rows,) = [name for name in names(place) if name.startswith("rows/")]
    (place / rows).put(b"damaged")
    assert not remote.verify_training_set("purchases").passed
    assert remote.training_sets.rebuild("purchases", definition=definition).restored == (rows,)
    assert remote.verify_training_set("purchases").passed
    more = remote.write_training_set(purchases(every_morning(5)))
    assert (more.version, more.created) == (2, True)
    assert remote.compare_training_sets("purchases:v1", "purchases:v2").rows_removed > 0


def test_partitions_are_added_once_and_taken_over_by_a_new_version(shops):
    _, shop = shops
    frame = every_morning()
    definition = purchases(frame, partitioning=Partitioning.DAILY, start=START)
    first = shop.write_training_set(definition)
    assert first.partitions
    assert shop.write_training_set(definition).built == ()
    place = first.path
    assert isinstance(place, S3Path)
    for name in names(place):
        if "partition=2024-03-05" in name:
            (place / name).unlink()
    with ThreadPoolExecutor(3) as pool:
        built = list(pool.map(lambda _: shop.write_training_set(definition), range(3)))
    assert {version.version for version in built} == {1}
    assert_frame_equal(shop.open_training_set("purchases").scan().collect(), built[0].scan().collect())
    assert len([name for name in names(place) if "partition=2024-03-05" in name]) == 2
    group = spending(Orders(some_orders().with_columns(pl.col("amount") + 1)))
    shop.materialize(group, *SPAN)
    renewed = shop.write_training_set(definition, new_version=True)
    assert (renewed.version, renewed.partitions) == (2, first.partitions)
    assert shop.verify_training_set("purchases").passed
    assert not [name for name in names(renewed.path) if name.endswith(CLAIM_FILE)]


def test_builders_that_race_write_one_version_each_and_whole(shops):
    _, shop = shops
    definitions = [purchases(every_morning(days)) for days in (3, 4, 5)]
    with ThreadPoolExecutor(3) as pool:
        built = list(pool.map(shop.write_training_set, definitions))
    assert sorted(version.version for version in built) == [1, 2, 3]
    for version, days in zip(built, (3, 4, 5), strict=True):
        assert shop.open_training_set("purchases", version.version).rows == every_morning(days).height
        assert shop.verify_training_set("purchases", version.version).passed


def test_what_a_killed_builder_has_left_is_not_seen(shops):
    _, shop = shops
    root = shop.offline.root
    assert isinstance(root, S3Path)
    left = root / "training_sets" / "purchases" / "v1"
    (left / CLAIM_FILE).put(b"")
    (left / "rows" / "rows-0.parquet").put(b"half of a build")
    built = shop.write_training_set(purchases(every_morning()))
    assert (built.version, built.created) == (2, True)
    assert shop.open_training_set("purchases").version == 2


def test_the_resource_says_how_s3_is_reached(s3_server: S3Server, s3_root: str, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    resource = FeatureStoreResource(
        overrides={"offline": s3_root},
        s3=S3Resource(
            endpoint_url=s3_server.url,
            region_name="eu-west-1",
            aws_access_key_id="tests",
            aws_secret_access_key="correct-horse-battery",
        ),
    )
    with resource.open() as store:
        root = store.offline.root
    assert isinstance(root, S3Path)
    (root / "object").put(b"content")
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.url,
        aws_access_key_id="tests",
        aws_secret_access_key="correct-horse-battery",
        region_name="eu-west-1",
    )
    assert client.get_object(Bucket=root.bucket, Key=f"{root.key}/object")["Body"].read() == b"content"
