"""Rebuilding from the manifest: the same bytes, or which input has changed."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from feature_store.definitions.names import FeatureRef
from feature_store.definitions.splits import split_by_time
from feature_store.errors import TrainingSetChangedError
from feature_store.partitions import Partitioning
from feature_store.store import FeatureStore
from tests.orders import CUSTOMER, START, spending
from tests.training_sets.conftest import SPAN, every_morning, purchases
from tests.training_sets.faulty_engines import FaultyEngine

pytestmark = pytest.mark.slow

SPLITS = split_by_time({"train": START + timedelta(days=5), "test": None})
WAYS = [
    {},
    {"splits": SPLITS},
    {"partitioning": Partitioning.DAILY, "start": START},
    {"partitioning": Partitioning.DAILY, "start": START, "splits": SPLITS},
]


@pytest.mark.parametrize("arguments", WAYS)
@pytest.mark.parametrize("with_definition", [False, True])
def test_the_same_bytes(shop, group, clock, arguments, with_definition):
    definition = purchases(every_morning().sample(fraction=1, shuffle=True, seed=1), **arguments)
    shop.write_training_set(definition)
    clock.set(clock.now() + timedelta(days=1))
    shop.materialize(group, *SPAN)
    rebuilt = shop.training_sets.rebuild("purchases", 1, definition=definition if with_definition else None)
    assert rebuilt.same_bytes
    assert rebuilt.restored == ()
    assert rebuilt.files == len(rebuilt.version.files())


def test_another_engine_gives_the_same_bytes(shop, clock):
    shop.write_training_set(purchases(every_morning()))
    with FeatureStore(shop.offline, shop.online, shop.registry, clock, FaultyEngine()) as other:
        assert other.training_sets.rebuild("purchases").same_bytes


@pytest.mark.parametrize("arguments", WAYS)
def test_lost_and_damaged_files_come_back(shop, arguments):
    definition = purchases(every_morning(), **arguments)
    shop.write_training_set(definition)
    version = shop.open_training_set("purchases")
    before = {path: path.read_bytes() for path in version.files()}
    version.files()[0].unlink()
    with pytest.raises(TrainingSetChangedError, match=r"1 file\(s\) missing or damaged.*pass the definition"):
        shop.training_sets.rebuild("purchases")
    rebuilt = shop.training_sets.rebuild("purchases", definition=definition)
    assert len(rebuilt.restored) == 1
    assert {path: path.read_bytes() for path in version.files()} == before
    assert shop.verify_training_set("purchases").passed


def refused(shop, definition=None):
    with pytest.raises(TrainingSetChangedError) as caught:
        shop.training_sets.rebuild("purchases", definition=definition)
    assert all(change in str(caught.value) for change in caught.value.changes)
    return caught.value.changes


def test_a_changed_source_file_is_named(shop, group, source):
    shop.write_training_set(purchases(every_morning()))
    source.events = source.events.with_columns(
        amount=pl.when(pl.col("event_timestamp").dt.day() == 5).then(1).otherwise("amount")
    )
    shop.materialize(group, "2024-03-05")
    assert refused(shop) == ["1 source file(s) changed: spending/date=2024-03-05/batch.parquet"]


def test_a_missing_and_a_new_source_file_are_named(shop, group):
    shop.write_training_set(purchases(every_morning()))
    shop.offline.files("spending")[2].path.unlink()
    row = {
        "customer": "c1",
        "event_timestamp": START + timedelta(days=3),
        "orders_3d": 1,
        "amount_3d": 1,
        "last_amount": 1,
    }
    shop.ingest(group, pl.DataFrame([row]))
    changed, missing, new = refused(shop)
    # A second file on a day: from now on, ties between the two decide.
    assert changed == "1 source file(s) changed: spending/date=2024-03-04/batch.parquet"
    assert missing == "1 source file(s) missing or without rows now: spending/date=2024-03-03/batch.parquet"
    assert new.startswith("1 source file(s) new: spending/date=2024-03-04/ingest")


def test_files_that_no_label_can_see_may_change(shop, group):
    shop.write_training_set(purchases(every_morning(2)))
    shop.offline.files("spending")[7].path.unlink()
    assert shop.training_sets.rebuild("purchases").same_bytes


def test_a_retired_feature_is_named(shop):
    shop.write_training_set(purchases(every_morning()))
    shop.registry.retire(FeatureRef("amount_3d", 1))
    assert refused(shop) == ["feature amount_3d:v1 is not registered any more"]


def test_a_time_to_live_is_named(shop, source):
    shop.write_training_set(purchases(every_morning()))
    longer = spending(source)
    object.__setattr__(longer, "default_ttl", timedelta(days=3))
    shop.apply([longer])
    assert refused(shop) == ["the time to live of orders_3d:v1 is 3d, it was 2d"]


def test_labels_splits_and_features_of_a_definition_are_compared(shop):
    shop.write_training_set(purchases(every_morning()))
    other = purchases(every_morning().head(9), features=["amount_3d"], splits=SPLITS)
    changes = refused(shop, other)
    assert "labels: 48 rows then, 9 now, with another content" in changes
    assert "feature orders_3d is none, it was orders_3d:v1" in changes
    assert any(change.startswith("the splits are") for change in changes)


def test_a_set_that_was_built_wrong_is_not_taken_for_the_same(shop, clock):
    with FeatureStore(shop.offline, shop.online, shop.registry, clock, FaultyEngine("end of day")) as other:
        other.write_training_set(purchases(every_morning()))
    assert refused(shop) == ["rows/rows.parquet has other rows, though all inputs that the manifest names are the same"]


def test_it_reads_the_versions_that_were_current_then(shop, source):
    from feature_store.definitions.group import feature_group
    from feature_store.definitions.schema import FeatureSchema, feature

    shop.write_training_set(purchases(every_morning(), features=["amount_3d"]))

    class Amounts(FeatureSchema):
        amount_3d_v2: int = feature("Amount, otherwise")

    @feature_group(entity=CUSTOMER, source=source, schema=Amounts, owner="team@example.com")
    def amounts(events):
        """Another meaning of amounts."""
        return events.select("customer", "event_timestamp", pl.col("amount").alias("amount_3d_v2"))

    shop.apply([amounts])
    shop.materialize(amounts, *SPAN)
    assert str(shop.current_catalog.refresh().current("amount_3d").ref) == "amount_3d:v2"
    assert shop.training_sets.rebuild("purchases").same_bytes
    assert "feature amount_3d is amount_3d:v2, it was amount_3d:v1" in refused(
        shop, purchases(every_morning(), features=["amount_3d"])
    )


def test_nothing_is_left_behind(shop):
    shop.write_training_set(purchases(every_morning()))
    shop.training_sets.rebuild("purchases")
    assert [path.name for path in (shop.offline.root / "training_sets" / "purchases").iterdir()] == ["v1"]
