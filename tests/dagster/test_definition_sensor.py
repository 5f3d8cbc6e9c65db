from __future__ import annotations

from datetime import timedelta

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store import feature_store_definitions
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.reconcile import due
from tests.dagster.conftest import Domain, spans_of
from tests.orders import CUSTOMER

DAYS = [f"2024-03-0{day}" for day in range(1, 10)]
ACTIVITY = dg.AssetKey("activity")
RANGE = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]}


class First(FeatureSchema):
    amount_3d: int = feature("Amount of the orders in the last 3 days")


class Second(First):
    amount_3d_v2: int = feature("The same, without returns")


def first(source):
    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=First,
        owner="team@example.com",
        lookback=timedelta(days=3),
        name="spending",
    )
    def spending(events: pl.LazyFrame) -> pl.LazyFrame:
        """What a customer has spent of late."""
        return (
            events.sort("event_timestamp")
            .rolling("event_timestamp", period="3d", group_by="customer")
            .agg(amount_3d=pl.col("amount").sum())
        )

    return spending


def second(source):
    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=Second,
        owner="team@example.com",
        lookback=timedelta(days=3),
        name="spending",
    )
    def spending(events: pl.LazyFrame) -> pl.LazyFrame:
        """What a customer has spent of late."""
        return (
            events.sort("event_timestamp")
            .rolling("event_timestamp", period="3d", group_by="customer")
            .agg(amount_3d=pl.col("amount").sum(), amount_3d_v2=pl.col("amount").abs().sum())
        )

    return spending


def edited(source, schema=First):
    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=schema,
        owner="team@example.com",
        lookback=timedelta(days=3),
        name="spending",
    )
    def spending(events: pl.LazyFrame) -> pl.LazyFrame:
        """What a customer has spent of late."""
        amount = 2 * pl.col("amount").sum()
        return (
            events.sort("event_timestamp")
            .rolling("event_timestamp", period="3d", group_by="customer")
            .agg(**{spec.ref.column: amount for spec in schema.specs()})
        )

    return spending


def reformatted(source):
    @feature_group(
        entity=CUSTOMER,
        source=source,
        schema=First,
        owner="team@example.com",
        lookback=timedelta(days=3),
        name="spending",
    )
    def spending(events: pl.LazyFrame) -> pl.LazyFrame:
        """What a customer has spent of late, said in other words."""
        rolling = events.sort("event_timestamp").rolling("event_timestamp", period="3d", group_by="customer")
        return rolling.agg(amount_3d=pl.col("amount").sum())

    return spending


@pytest.fixture
def deploy(domain, resources):
    """Returns the code location with another version of the group."""

    def build(make, **arguments):
        version = Domain(domain.source)
        version.spending = make(domain.source, **arguments)
        version.purchase = None
        return feature_store_definitions(version, resources=resources)

    return build


@pytest.fixture
def stored(deploy, instance):
    defs = deploy(first)
    assert defs.resolve_job_def("feature_store_features").execute_in_process(instance=instance, tags=RANGE).success
    return defs


def columns(store):
    return [set(pl.read_parquet(file.path).columns) for file in store.offline.files("spending")]


def test_the_definition_that_everything_was_computed_with_asks_for_nothing(ticks, stored):
    assert ticks.requests(stored, "feature_store_definition_sensor") == []
    assert ticks.requests(stored, "feature_store_definition_sensor") == []
    assert "looked at before" in ticks.message


def test_a_new_version_backfills_what_exists_the_newest_first(ticks, stored, deploy, store, monkeypatch):
    monkeypatch.setattr(due, "NEWEST_PARTITIONS", 4)
    defs = deploy(second)
    requests = ticks.requests(defs, "feature_store_definition_sensor")
    assert spans_of(requests) == [("spending", DAYS[5], DAYS[8]), ("spending", DAYS[0], DAYS[4])]
    assert [request.tags["dagster/priority"] for request in requests] == ["1", "0"]
    before = {file.name: pl.read_parquet(file.path)["amount_3d"].to_list() for file in store.offline.files("spending")}
    assert all(result.success for result in ticks.run(defs, requests))
    assert all("amount_3d_v2" in found for found in columns(store))
    after = {file.name: pl.read_parquet(file.path)["amount_3d"].to_list() for file in store.offline.files("spending")}
    assert before == after
    assert ticks.requests(defs, "feature_store_definition_sensor") == []
    assert store.registry.incidents() == {}


def test_a_backfill_is_requested_once_however_often_the_daemon_restarts(ticks, stored, deploy, instance):
    defs = deploy(second)
    (request,) = ticks.requests(defs, "feature_store_definition_sensor")
    assert ticks.requests(defs, "feature_store_definition_sensor") == []
    (again,) = type(ticks)(instance).requests(defs, "feature_store_definition_sensor")
    assert request.run_key == again.run_key


def test_an_edited_function_is_reported_and_nothing_is_recomputed(ticks, stored, deploy, store, instance):
    defs = deploy(edited)
    assert ticks.requests(defs, "feature_store_definition_sensor") == []
    assert "live values would change" in ticks.message
    incident = store.registry.incidents()["definition/spending"]
    assert incident.finding["owner"] == "team@example.com"
    assert "On partition 2024-03-09" in incident.finding["summary"]
    assert "9 of 9 stored partitions" in incident.finding["summary"]
    assert [
        each for each in ticks.requests(defs, "feature_store_gap_sensor") if each.asset_selection != [ACTIVITY]
    ] == []
    assert ticks.requests(stored, "feature_store_definition_sensor") == []
    assert store.registry.incidents()["definition/spending"].resolved_at is not None


def test_a_column_is_not_added_at_the_price_of_live_values(ticks, stored, deploy, store):
    defs = deploy(edited, schema=Second)
    assert ticks.requests(defs, "feature_store_definition_sensor") == []
    assert store.registry.incidents()["definition/spending"].resolved_at is None


def test_it_is_well_again_once_everything_is_computed_by_hand(ticks, stored, deploy, store, instance):
    defs = deploy(edited)
    ticks.requests(defs, "feature_store_definition_sensor")
    assert defs.resolve_job_def("feature_store_features").execute_in_process(instance=instance, tags=RANGE).success
    assert ticks.requests(defs, "feature_store_definition_sensor") == []
    assert store.registry.incidents()["definition/spending"].resolved_at is not None


def test_an_edit_without_consequence_is_no_news(ticks, stored, deploy, store):
    assert ticks.requests(deploy(reformatted), "feature_store_definition_sensor") == []
    assert store.registry.incidents() == {}
    assert ticks.message.startswith("Nothing that is stored lacks a feature")


def test_a_function_that_raises_is_reported(ticks, stored, deploy, store):
    def broken(source):
        @feature_group(entity=CUSTOMER, source=source, schema=First, owner="team@example.com", name="spending")
        def spending(events):
            """Broken."""
            raise ZeroDivisionError

        return spending

    assert ticks.requests(deploy(broken), "feature_store_definition_sensor") == []
    assert "raises ZeroDivisionError" in store.registry.incidents()["definition/spending"].finding["summary"]
