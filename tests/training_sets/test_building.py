"""Sets that are built as a whole: what lies on disk, and what the registry knows."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from feature_store.definitions.splits import split_by_entity, split_by_time
from feature_store.errors import FeatureStoreError, InvalidRequestError, UnknownFeatureError
from feature_store.frame_fingerprint import fingerprint
from feature_store.monitoring.baseline import profile_columns
from feature_store.store import FeatureStore
from feature_store.training_sets import publishing
from tests.orders import CUSTOMER, START, Orders, spending
from tests.training_sets.conftest import SPAN, every_morning, label_frame, purchases

FEATURES = ["orders_3d", "amount_3d", "last_amount"]


def test_a_version_holds_the_rows_of_the_join_in_the_order_of_the_labels(shop):
    labels = every_morning().sample(fraction=1, shuffle=True, seed=1)
    written = shop.write_training_set(purchases(labels))
    assert (written.version, written.created, written.rows) == (1, True, 48)
    assert written.columns == (*labels.columns, *FEATURES)
    assert_frame_equal(written.scan().collect(), shop.training_set(labels, ["spending"]))
    assert written.null_rates["amount_3d"] == written.scan().collect()["amount_3d"].null_count() / 48


def test_the_manifest_names_all_that_the_rows_depend_on(shop, clock):
    cut = START + timedelta(days=5)
    written = shop.write_training_set(purchases(every_morning(), splits=split_by_time({"train": cut, "test": None})))
    manifest = json.loads((written.path / "manifest.json").read_text())
    assert manifest["features"] == {name: f"{name}:v1" for name in FEATURES}
    assert manifest["stored"]["last_amount"]["ttl_seconds"] == 30 * 86_400
    assert manifest["splits"] == {
        "by": "time",
        "until": {"train": "2024-03-06T00:00:00Z", "test": None},
        "gap_seconds": 0,
    }
    part = manifest["part"]
    assert part["code_versions"] == {"spending": shop.catalog().group("spending").code_version}
    assert part["source_files"] == shop.offline.content(shop.offline.files("spending"))
    assert part["first_label"] == "2024-03-02T06:00:00Z"
    assert part["created_at"] == clock.now().isoformat().replace("+00:00", "Z")
    assert part["rows"] == sum(file["rows"] for file in part["files"].values()) == 48
    assert part["libraries"] == {"polars": pl.__version__}
    assert part["written_with"] == f"polars {pl.__version__}"
    assert "duckdb" not in json.dumps(manifest)


def test_the_registry_has_the_version_with_the_baseline_of_its_first_split(shop):
    splits = split_by_time({"train": START + timedelta(days=5), "test": None})
    written = shop.write_training_set(purchases(every_morning(), splits=splits))
    [record] = shop.registry.training_sets("purchases")
    assert (record.version, record.row_count, record.path) == (1, 48, "training_sets/purchases/v1")
    assert [str(ref) for ref in record.features] == [f"{name}:v1" for name in FEATURES]
    train = written.scan("train").select(FEATURES).collect()
    assert record.baseline == {f"{name}:v1": profile for name, profile in profile_columns(train).items()}


def test_equal_inputs_are_the_version_that_exists_and_others_are_the_next(shop, group, clock, source):
    labels = every_morning()
    assert shop.write_training_set(purchases(labels)).created
    clock.set(clock.now() + timedelta(hours=1))
    shop.materialize(group, *SPAN)
    again = shop.write_training_set(purchases(labels))
    assert (again.version, again.created) == (1, False)
    changes = {
        "another label": purchases(labels.with_columns(bought=True)),
        "another row": purchases(labels.head(7)),
        "another feature": purchases(labels, features=["amount_3d"]),
        "splits": purchases(labels, splits=split_by_entity(CUSTOMER, {"train": 0.5, "test": 0.5})),
        "another seed": purchases(labels, splits=split_by_entity(CUSTOMER, {"train": 0.5, "test": 0.5}, seed=1)),
    }
    versions = {what: shop.write_training_set(definition).version for what, definition in changes.items()}
    assert list(versions.values()) == [2, 3, 4, 5, 6]
    source.events = source.events.with_columns(pl.col("amount") + 1)
    shop.materialize(group, *SPAN)
    assert shop.write_training_set(purchases(labels)).version == 7
    assert [record.version for record in shop.registry.training_sets("purchases")] == list(range(1, 8))


def test_a_version_that_was_never_recorded_is_recorded_when_it_is_found(open_store, shop, tmp_path):
    shop.write_training_set(purchases(every_morning()))
    recorded = shop.registry.training_sets("purchases")
    (tmp_path / "registry.db").unlink()
    shop.close()
    shop.apply([spending(Orders(every_morning()))])
    assert not shop.write_training_set(purchases(every_morning())).created
    assert shop.registry.training_sets("purchases") == recorded


def test_a_number_is_never_given_again_even_if_its_folder_is_gone(shop):
    first = shop.write_training_set(purchases(every_morning()))
    first.path.rename(first.path.with_name("kept_elsewhere"))
    assert shop.write_training_set(purchases(every_morning())).version == 2


def test_a_change_of_a_time_to_live_is_another_version(shop, source):
    assert shop.write_training_set(purchases(every_morning())).version == 1
    shop.apply([spending(source, tags={})])
    assert shop.write_training_set(purchases(every_morning())).version == 1
    longer = spending(source)
    object.__setattr__(longer, "default_ttl", timedelta(days=3))
    shop.apply([longer])
    assert shop.write_training_set(purchases(every_morning())).version == 2


def test_files_stream_by_split_and_by_row_group(shop, monkeypatch):
    monkeypatch.setattr(publishing, "ROW_GROUP_ROWS", 10)
    written = shop.write_training_set(
        purchases(every_morning(), splits=split_by_time({"train": START + timedelta(days=6), "test": None}))
    )
    assert written.split_rows == {"train": 30, "test": 18}
    train = pq.ParquetFile(written.path / "rows" / "split=train" / "rows.parquet")
    assert [batch.num_rows for batch in train.iter_batches(batch_size=1000)] == [30]
    assert [train.metadata.row_group(group).num_rows for group in range(train.num_row_groups)] == [10, 10, 10]
    dataset = ds.dataset(written.path / "rows", partitioning="hive")
    assert dataset.count_rows(filter=ds.field("split") == "test") == 18
    by_split = [written.scan(name).with_columns(split=pl.lit(name)) for name in ("train", "test")]
    assert_frame_equal(written.scan().collect(), pl.concat(by_split).collect())
    with pytest.raises(InvalidRequestError, match=r"no split 'validation'\. Its splits are train, test"):
        written.scan("validation")


def test_files_are_read_only_and_their_digests_are_in_the_manifest(shop):
    written = shop.write_training_set(purchases(every_morning()))
    assert {path.stat().st_mode & 0o777 for path in written.path.rglob("*") if path.is_file()} == {0o444}
    [(name, record)] = written.parts[0].files.items()
    assert record.sha256 == hashlib.sha256((written.path / name).read_bytes()).hexdigest()
    assert record.fingerprint == fingerprint(written.scan().collect())


def test_a_version_is_opened_by_name_and_number(shop):
    with pytest.raises(UnknownFeatureError, match="None was written yet"):
        shop.open_training_set("purchases")
    written = shop.write_training_set(purchases(every_morning()))
    assert shop.open_training_set("purchases").manifest == written.manifest
    assert shop.open_training_set("purchases", 1).rows == 48
    with pytest.raises(UnknownFeatureError, match="no version 2, it has v1"):
        shop.open_training_set("purchases", 2)
    with pytest.raises(UnknownFeatureError, match="Did you mean purchases"):
        shop.open_training_set("purchase")


@pytest.mark.parametrize("rows", [1, 2])
def test_a_set_of_one_row_is_a_set(shop, rows):
    written = shop.write_training_set(purchases(every_morning().head(rows)))
    assert written.rows == rows
    assert shop.verify_training_set("purchases").passed


def test_progress_is_told_and_a_cancelled_build_leaves_nothing(shop):
    told = []
    shop.write_training_set(purchases(every_morning()), progress=lambda group, share: told.append((group, share)))
    assert {group for group, _ in told} == {"spending"}
    assert told[-1][1] == 1
    assert all(0 <= share <= 1 for _, share in told)

    def cancel(group, share):
        raise KeyboardInterrupt

    before = sorted(path for path in (shop.offline.root / "training_sets").rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        shop.write_training_set(purchases(every_morning(5)), progress=cancel)
    assert sorted(path for path in (shop.offline.root / "training_sets").rglob("*")) == before


def test_features_that_are_replaced_again_and_again_while_they_are_read_are_an_error(shop, group, clock, source):
    class Restless:
        """An engine during whose reads files are replaced."""

        name = "restless"

        def __init__(self, inner):
            self.inner = inner

        def latest(self, labels, history, progress=None):
            found = self.inner.latest(labels, history, progress)
            event_timestamp = found.event_timestamp
            values = found.values

            class Rows:
                def __init__(self):
                    self.event_timestamp = event_timestamp

                def values(self, visible):
                    result = values(visible)
                    clock.set(clock.now() + timedelta(minutes=1))
                    source.events = source.events.with_columns(pl.col("amount") + 1)
                    shop.materialize(group, *SPAN)
                    return result

            return Rows()

    definition = purchases(label_frame([("c1", START + timedelta(days=4))]))
    restless = FeatureStore(shop.offline, shop.online, shop.registry, clock, Restless(shop.engine))
    with restless, pytest.raises(FeatureStoreError, match="were replaced during each"):
        restless.write_training_set(definition)
    assert not list((shop.offline.root).glob("training_sets/purchases/v*"))
