"""Training sets as assets: whole and in partitions, with the check that nothing leaks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import ModuleType

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from dagster_feature_store import feature_store_definitions
from dagster_feature_store.check_results import is_repetition
from dagster_feature_store.partitions import DAY, group_partitions
from dagster_feature_store.training_sets import training_set_asset
from feature_store.definitions.on_demand import on_demand
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.definitions.training_set import TrainingSet, every_entity
from feature_store.partitions import Partitioning
from tests.orders import START
from tests.training_sets.faulty_engines import FaultyEngine

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}
WHOLE, DAILY = dg.AssetKey("purchase"), dg.AssetKey("daily_purchase")


@pytest.fixture
def defs(domain, resources):
    def labels():
        return domain.source.events.lazy().select("customer", "event_timestamp", bought=pl.col("amount") > 0)

    domain.daily_purchase = TrainingSet(
        "daily_purchase", labels, ["amount_3d"], "team@example.com", partitioning=Partitioning.DAILY, start=START
    )
    domain.customers = TrainingSet(
        "customers", every_entity(domain.activity, start=START), ["last_amount"], "team@example.com"
    )
    return feature_store_definitions(domain, resources=resources)


@pytest.fixture
def run(defs, instance):
    def execute(job="feature_store_features", **arguments):
        return defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)

    return execute


def checks(result):
    return {
        (check.asset_key.to_user_string(), check.partition): check
        for check in result.get_asset_check_evaluations()
        if not is_repetition(check)
        if check.check_name == "no_leak"
    }


def metadata(instance, key):
    records = instance.fetch_materializations(key, limit=100).records
    return {record.partition_key: record.asset_materialization.metadata for record in reversed(records)}


def test_a_whole_set_is_built_and_checked(run, instance):
    assert run(tags=RANGE).success
    result = run("feature_store_purchase_training_set")
    assert result.success
    [check] = checks(result).values()
    assert check.passed
    assert check.blocking
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert check.metadata["values_checked"].value == 3 * check.metadata["rows_sampled"].value > 0
    assert metadata(instance, WHOLE)[None]["dagster/row_count"].value == check.metadata["rows_sampled"].value


@pytest.mark.slow
def test_partitions_are_built_in_one_run_and_appended_by_the_next(run, instance):
    assert run(tags=RANGE).success
    first = run(
        "feature_store_daily_purchase_training_set", tags={**RANGE, "dagster/asset_partition_range_end": "2024-03-07"}
    )
    assert first.success
    second = run("feature_store_daily_purchase_training_set", partition_key="2024-03-08")
    assert second.success
    assert [partition for _, partition in checks(first)] == [f"2024-03-0{day}" for day in range(1, 8)]
    assert [partition for _, partition in checks(second)] == ["2024-03-08"]
    assert all(check.passed and check.target_materialization_data for check in checks(first).values())
    found = metadata(instance, DAILY)
    assert {numbers["version"].value for numbers in found.values()} == {1}
    assert found["2024-03-08"]["dagster/partition_row_count"].value > 0
    assert not found["2024-03-08"]["stale"].value


def test_a_late_change_is_told_and_built_on_request_as_a_new_version(run, instance, domain):
    run(tags=RANGE)
    assert run("feature_store_daily_purchase_training_set", tags=RANGE).success
    domain.source.events = domain.source.events.with_columns(
        amount=pl.when(pl.col("event_timestamp").dt.day() == 4).then(1).otherwise("amount")
    )
    run(partition_key="2024-03-04")
    again = run("feature_store_daily_purchase_training_set", partition_key="2024-03-04")
    assert again.success
    assert all(check.passed for check in checks(again).values())
    assert metadata(instance, DAILY)["2024-03-04"]["stale"].value
    config = {"ops": {"feature_store_daily_purchase": {"config": {"new_version": True}}}}
    assert run("feature_store_daily_purchase_training_set", partition_key="2024-03-04", run_config=config).success
    newest = metadata(instance, DAILY)["2024-03-04"]
    assert (newest["version"].value, newest["stale"].value) == (2, False)


@pytest.mark.parametrize(("job", "arguments"), [("purchase", {}), ("daily_purchase", {"partition_key": "2024-03-04"})])
def test_a_leak_fails_the_check(run, monkeypatch, job, arguments):
    run(tags=RANGE)
    monkeypatch.setattr("feature_store.engines.engine_named", lambda *_, **__: FaultyEngine("day before"))
    result = run(f"feature_store_{job}_training_set", **arguments)
    [check] = checks(result).values()
    assert not check.passed
    assert check.metadata["violations"].value > 0
    assert "_3d of customer=" in check.description


def test_it_is_downstream_of_the_groups_that_it_reads(defs):
    graph = defs.resolve_asset_graph()
    assert graph.get(WHOLE).parent_keys == {dg.AssetKey("spending")}
    assert graph.get(dg.AssetKey("customers")).parent_keys == {dg.AssetKey("spending"), dg.AssetKey("activity")}
    child, parent = graph.get(DAILY), dg.AssetKey("spending")
    mapping = graph.get_partition_mapping(DAILY, parent)
    parents = mapping.get_upstream_mapped_partitions_result_for_partitions(
        child.partitions_def.subset_with_partition_keys(["2024-03-08"]),
        child.partitions_def,
        graph.get(parent).partitions_def,
    )
    # amount_3d lives for five days.
    assert sorted(parents.partitions_subset.get_partition_keys()) == [f"2024-03-0{day}" for day in range(3, 9)]


@pytest.mark.parametrize("ttl", [timedelta(days=5), timedelta(days=365 * 3000), timedelta(timedelta.max.days)])
@pytest.mark.parametrize("of_group", Partitioning)
@pytest.mark.parametrize("of_set", Partitioning)
def test_a_partition_reads_as_far_back_as_rows_are_visible(domain, ttl, of_group, of_set):
    class Amounts(FeatureSchema):
        amount: int = feature("Amount", ttl=ttl)

    end = START + 9 * DAY
    group = replace(domain.spending, schema=Amounts, partitioning=of_group, end=end)
    definition = TrainingSet(
        "amounts", domain.source.events.lazy, ["amount"], "team@example.com", partitioning=of_set, start=START, end=end
    )
    asset = training_set_asset(definition, [group], ModuleType("domain"))
    mapping = asset.get_partition_mapping(dg.AssetKey("spending"))
    upstream, downstream = group_partitions(group), asset.partitions_def
    reach = min(ttl, end - START)

    label = START + 8 * DAY
    read = mapping.get_upstream_mapped_partitions_result_for_partitions(
        downstream.subset_with_partition_keys([of_set.key(label)]), downstream, upstream
    ).partitions_subset
    assert min(read.get_partition_keys()) == of_group.key(max(START, label - reach))
    event = START + DAY
    readers = mapping.get_downstream_partitions_for_partitions(
        upstream.subset_with_partition_keys([of_group.key(event)]), upstream, downstream
    )
    last = min(event + reach, end - timedelta(hours=1))
    assert of_set.key(last) in readers.get_partition_keys()


def test_the_last_partition_is_the_one_whose_labels_are_complete(domain):
    definition = TrainingSet(
        "late",
        domain.source.events.lazy,
        ["amount_3d"],
        "team@example.com",
        partitioning=Partitioning.DAILY,
        start=START,
        label_delay=timedelta(hours=30),
    )
    partitions = training_set_asset(definition, [domain.spending], domain).partitions_def
    with partition_loading_context(effective_dt=datetime(2024, 3, 9, 6, tzinfo=UTC)):
        assert partitions.get_last_partition_key() == "2024-03-06"


class Doubled(FeatureSchema):
    doubled: int = feature("Twice the amount of 3 days")


@on_demand(inputs=["amount_3d"], schema=Doubled, owner="team@example.com")
def twice(amount_3d: pl.Expr) -> dict[str, pl.Expr]:
    """Twice of it."""
    return {"doubled": amount_3d * 2}


@pytest.mark.slow
def test_features_on_demand_are_those_of_the_code_location(domain, resources, instance, store, monkeypatch):
    """With the values that the library gives, downstream of the group that they are computed of."""
    monkeypatch.delenv("FEATURE_STORE_DEFINITIONS", raising=False)
    domain.twice = twice
    whole = replace(domain.purchase, features=("doubled",))
    domain.purchase = whole
    domain.daily_purchase = replace(whole, name="daily_purchase", partitioning=Partitioning.DAILY, start=START)
    defs = feature_store_definitions(domain, resources=resources)
    graph = defs.resolve_asset_graph()
    for key in (WHOLE, DAILY):
        assert dg.AssetKey("spending") in graph.get(key).parent_keys
    for job, tags in (
        ("feature_store_features", RANGE),
        ("feature_store_purchase_training_set", {}),
        ("feature_store_daily_purchase_training_set", RANGE),
    ):
        assert defs.resolve_job_def(job).execute_in_process(instance=instance, tags=tags).success
    expected = store.training_set(whole.labels(), ["amount_3d"]).select(doubled=pl.col("amount_3d") * 2)["doubled"]
    assert expected.drop_nulls().len()
    for name in ("purchase", "daily_purchase"):
        built = store.open_training_set(name).scan().collect()
        assert sorted(built["doubled"].to_list(), key=str) == sorted(expected.to_list(), key=str)
