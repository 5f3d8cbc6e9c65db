"""What is wrong with labels is said before any work, and leaves nothing behind."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest

from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.definitions.splits import split_by_time
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import (
    CorruptFileError,
    DefinitionError,
    FeatureStoreError,
    InvalidRequestError,
    MissingSourceError,
    UnknownFeatureError,
)
from feature_store.partitions import Partitioning
from tests.orders import CUSTOMER, START, Orders, orders
from tests.training_sets.conftest import every_morning, purchases

LABELS = every_morning()
NOW = START.replace(day=10)


def labelled(frame, **arguments):
    return TrainingSet("purchases", lambda: frame, ["spending"], "team@example.com", **arguments)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (labelled(LABELS.clear().lazy()), "has no labels: its label frame has no rows"),
        (
            labelled(LABELS.with_columns(event_timestamp=None).lazy()),
            "'event_timestamp', the time .* is null in 48 of 48",
        ),
        (
            labelled(LABELS.with_columns(event_timestamp=pl.lit(NOW + timedelta(microseconds=1))).lazy()),
            "'event_timestamp'.*2024-03-10",
        ),
        (labelled(LABELS.with_columns(customer=None).lazy()), "'customer', a join key .* is null in 48 of 48"),
        (labelled(LABELS.drop("customer").lazy()), "no column 'customer'"),
        (labelled(LABELS.with_columns(customer=1).lazy()), "'customer'.* is declared as str but holds Int"),
        (labelled(LABELS.lazy(), as_of="when"), "no column 'when' to read features as of"),
        (labelled(LABELS.with_columns(when=1).lazy(), as_of="when"), "'when' holds Int.*, not timestamps"),
        (labelled(LABELS.with_columns(amount_3d=1).lazy()), "names of requested features: amount_3d"),
        (
            labelled(LABELS.lazy().select("customer", pl.col("bought").alias("customer"))),
            "cannot be read.*name of its own",
        ),
        (labelled(pa.table([["c1"], ["c2"]], names=["customer", "customer"])), "cannot be read"),
        (labelled([1, 2]), "A table is needed, got list"),
        (
            labelled(LABELS.with_columns(split=1).lazy(), splits=split_by_time({"train": START, "test": None})),
            r"column\(s\) split, which the set itself uses",
        ),
        (
            labelled(LABELS.with_columns(partition=1).lazy(), partitioning=Partitioning.DAILY, start=START),
            r"column\(s\) partition, which the set itself uses",
        ),
        (
            labelled(LABELS.with_columns(event_timestamp=None).lazy(), partitioning=Partitioning.DAILY, start=START),
            "is null in 48 of 48",
        ),
        (
            labelled(LABELS.clear().lazy(), partitioning=Partitioning.DAILY, start=START),
            "has no labels between 2024-03-01",
        ),
        (labelled(LABELS.with_columns(thing=pl.lit(object(), dtype=pl.Object)).lazy()), "'thing' holds Python objects"),
    ],
)
def test_labels_that_cannot_be_joined(shop, definition, message):
    with pytest.raises(InvalidRequestError, match=message):
        shop.write_training_set(definition)
    assert not list(shop.offline.root.glob("training_sets/*/*"))
    assert shop.registry.training_sets("purchases") == []


def test_unknown_features_are_told_before_labels_are_read(shop):
    def labels():
        raise AssertionError

    with pytest.raises(UnknownFeatureError, match="Did you mean amount_3d"):
        shop.write_training_set(TrainingSet("purchases", labels, ["amount_3"], "team@example.com"))
    with pytest.raises(UnknownFeatureError, match="has the live version"):
        shop.write_training_set(TrainingSet("purchases", labels, ["amount_3d:v9"], "team@example.com"))


def test_errors_of_the_labels_themselves_pass_through(shop):
    def labels():
        raise MissingSourceError("Not landed.")

    with pytest.raises(MissingSourceError, match="Not landed"):
        shop.write_training_set(TrainingSet("purchases", labels, ["spending"], "team@example.com"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("split", {"splits": split_by_time({"train": START, "test": None})}),
        ("partition", {"partitioning": Partitioning.DAILY, "start": START}),
    ],
)
def test_a_feature_with_a_name_that_the_set_uses_is_refused_there_and_welcome_elsewhere(store, name, arguments):
    schema = type("Named", (FeatureSchema,), {"__annotations__": {name: int}, name: feature("It")})
    group = feature_group(
        entity=CUSTOMER, source=Orders(orders()), schema=schema, owner="team@example.com", ttl=timedelta(days=30)
    )(named_so)
    store.apply([group])
    store.ingest(group, pl.DataFrame({"customer": ["c1"], "event_timestamp": [START], name: [7]}))

    def built(**given):
        return store.write_training_set(
            TrainingSet("purchases", lambda: every_morning(2).lazy(), [name], "team@example.com", **given)
        )

    with pytest.raises(
        InvalidRequestError, match=rf"features .*'purchases' have the column\(s\) {name}.*leave them out"
    ):
        built(**arguments)
    assert not list(store.offline.root.glob("training_sets/*/*"))
    assert built().scan().collect()[name].to_list()[1] == 7
    assert store.verify_training_set("purchases").passed


def named_so(events: pl.LazyFrame) -> pl.LazyFrame:
    return events


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_a_damaged_partition_file_is_named(shop, content):
    path = shop.offline.files("spending")[3].path
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(CorruptFileError, match=r"date=2024-03-04/batch\.parquet.*Re-materialize partition 2024-03-04"):
        shop.write_training_set(purchases(LABELS))
    assert not list(shop.offline.root.glob("training_sets/*/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "../up"}, "cannot name a training set"),
        ({"features": []}, "has no features"),
        ({"features": "spending"}, "has no features"),
        ({"partitioning": Partitioning.DAILY}, "needs the start of its first partition"),
        ({"start": START}, "a set without partitions has none"),
        ({"end": START}, "mean nothing without them"),
        ({"label_delay": timedelta(1)}, "mean nothing without them"),
        (
            {"partitioning": Partitioning.DAILY, "start": START, "label_delay": -timedelta(1)},
            "must not be negative",
        ),
        (
            {"partitioning": Partitioning.DAILY, "start": datetime(2024, 3, 1, 5)},
            "not the boundary of a daily partition",
        ),
    ],
)
def test_definitions_that_make_no_sense(arguments, message):
    given = {"name": "purchases", "labels": LABELS.lazy, "features": ["spending"], "owner": "team@example.com"}
    with pytest.raises(DefinitionError, match=message):
        TrainingSet(**{**given, **arguments})


def test_labels_whose_changes_could_not_be_seen(shop, tmp_path):
    with (tmp_path / "labels.csv").open("w") as opened:

        def labels():
            return LABELS.lazy() if opened else None

        with pytest.raises(DefinitionError, match=r"'purchases': .*opened holds a _io.TextIOWrapper, .*Make it inside"):
            shop.write_training_set(TrainingSet("purchases", labels, ["spending"], "team@example.com"))
    with pytest.raises(FeatureStoreError):
        shop.write_training_set(TrainingSet("purchases", LABELS.lazy().select, ["nothing"], "team@example.com"))


def test_spans_and_new_versions_are_for_sets_in_partitions(shop):
    span = Partitioning.DAILY.span("2024-03-02", "2024-03-03")
    for arguments in ({"span": span}, {"new_version": True}):
        with pytest.raises(InvalidRequestError, match="has no partitions"):
            shop.write_training_set(purchases(LABELS), **arguments)
