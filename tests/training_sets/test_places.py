"""Where training sets lie: a root that is moved, copied or reached by another path, and disks that refuse."""

from __future__ import annotations

import os
import shutil

import polars as pl
import pytest

from feature_store.definitions.splits import split_by_time
from feature_store.errors import StorageError
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore
from tests.orders import START, Orders, orders, spending
from tests.refusing import limited, read_only
from tests.training_sets.conftest import SPAN, every_morning, label_frame, purchases

SPELLINGS = {
    "slash": lambda root: f"{root}/",
    "dots": lambda root: f"{root}/../{root.name}/.",
    "slashes": lambda root: str(root).replace("/", "//"),
    "relative": os.path.relpath,
}


def partitioned(**arguments):
    return purchases(every_morning(), partitioning=Partitioning.DAILY, start=START, **arguments)


def opened(shop, root):
    return FeatureStore(str(root), shop.online, shop.registry, shop.clock)


def assert_all_goes_on(store, group, definition=None):
    """Verifies, compares and rebuilds what is there, and builds on."""
    definition = definition or purchases(every_morning())
    assert store.write_training_set(definition).version == 1
    assert store.verify_training_set("purchases").passed
    assert {change.changed for change in store.compare_training_sets("purchases:v1", "purchases").columns} == {0}
    assert store.training_sets.rebuild("purchases", definition=definition).same_bytes
    again = store.write_training_set(purchases(every_morning(5)))
    assert (again.version, again.scan().collect().height) == (2, 30)
    assert store.verify_training_set("purchases").passed
    [history] = (
        store.offline.history(group, "c1", Partitioning.DAILY.span(*SPAN))["_file"]
        .str.contains("^spending/date=")
        .unique()
        .to_list()
    )
    assert history


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_root_may_be_spelled_in_any_way(shop, spelling):
    shop.write_training_set(purchases(every_morning()))
    with opened(shop, SPELLINGS[spelling](shop.offline.root)) as other:
        assert_all_goes_on(other, shop.catalog().group("spending"))


@pytest.mark.parametrize("how", ["link", "moved", "copied"])
def test_the_root_may_be_moved_copied_and_linked_to(shop, tmp_path, how):
    shop.write_training_set(purchases(every_morning()))
    root, place = shop.offline.root, tmp_path / "another place"
    if how == "link":
        place.symlink_to(root)
    elif how == "moved":
        root.rename(place)
    else:
        shutil.copytree(root, place)
        for path in place.rglob("*"):
            os.utime(path)
        shutil.rmtree(root)
    with opened(shop, place) as other:
        assert_all_goes_on(other, shop.catalog().group("spending"))


NAMES = [
    "amount_3d=9",
    "split=x",
    "date=2020-02-02",
    "a b",
    "it's",
    "{a,b}",
    "50%20",
    "#1",
    "[x]*?",
    "back\\slash",
    "é😀",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_names_of_folders_above_the_root_mean_nothing(shop, tmp_path, name):
    splits = split_by_time({"train": START.replace(day=5), "test": None})
    expected = shop.write_training_set(purchases(every_morning(), splits=splits)).scan().collect()
    (tmp_path / name).mkdir()
    shop.offline.root.rename(tmp_path / name / "offline")
    for engine in ("sweep", "duckdb"):
        with FeatureStore(tmp_path / name / "offline", shop.online, shop.registry, shop.clock, engine) as other:
            labels = every_morning()
            assert other.training_set(labels, ["spending"]).equals(expected.drop("split").sort("event_timestamp"))
            assert other.open_training_set("purchases").scan().collect().equals(expected)
            assert other.verify_training_set("purchases").passed


def test_partitions_are_added_to_a_set_that_was_moved(shop, tmp_path):
    first = Partitioning.DAILY.span("2024-03-02", "2024-03-03")
    shop.write_training_set(partitioned(), first)
    shop.offline.root.rename(tmp_path / "moved")
    with opened(shop, tmp_path / "moved") as other:
        written = other.write_training_set(partitioned())
        assert (written.version, len(written.partitions), written.stale) == (1, 8, {})
        assert other.write_training_set(partitioned(), first, new_version=True).version == 1
        assert other.verify_training_set("purchases").passed


def files(root):
    return sorted(path for path in (root / "training_sets").rglob("*") if path.is_file())


def large(rows=20_000):
    return label_frame([("c1", START.replace(day=5))] * rows).with_columns(
        noise=pl.int_range(pl.len()).hash(1), day=pl.int_range(pl.len()) % 3
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"splits": split_by_time({"train": START.replace(day=6), "test": None})},
        {"partitioning": Partitioning.DAILY, "start": START},
    ],
)
def test_a_disk_that_takes_no_more_is_one_error_and_leaves_nothing(store, arguments):
    store.apply([spending(Orders(orders()))])
    definition = purchases(large(), **arguments)
    refused = pytest.raises(
        StorageError, match=r"training_sets/purchases/.* could not be written.*ulimit -f.*make room"
    )
    with limited(store.offline.root, 50_000), refused:
        store.write_training_set(definition)
    assert files(store.offline.root) == []
    assert store.write_training_set(definition).version == 1


def test_a_folder_that_may_not_be_written_to_is_named_with_the_remedy(shop):
    (shop.offline.root / "training_sets").write_text("no folder")
    with pytest.raises(StorageError, match=r"training_sets/purchases could not be written.*FEATURE_STORE_OFFLINE"):
        shop.write_training_set(purchases(every_morning()))


def test_a_folder_without_permission_is_named_with_the_remedy(shop):
    refused = pytest.raises(StorageError, match=r"could not be written.*Let this user write there")
    with read_only(shop.offline.root), refused:
        shop.write_training_set(purchases(every_morning()))
    assert shop.write_training_set(purchases(every_morning())).version == 1
