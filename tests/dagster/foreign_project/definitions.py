"""The project's definitions, merged with those of the feature store."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import features
import polars as pl

import resources
import sensors
from dagster_feature_store import feature_store_definitions

DAYS = dg.DailyPartitionsDefinition(start_date=datetime(2024, 3, 1, tzinfo=UTC))


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def raw_purchases(context: dg.AssetExecutionContext, lake: resources.Lake) -> None:
    for key in context.partition_keys:
        noon = datetime.fromisoformat(f"{key}T12:00:00+00:00")
        rows = {"customer": ["ann", "bob"], "event_timestamp": [noon] * 2, "amount": [1, 2]}
        path = lake.day(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows).write_parquet(path)


@dg.asset(partitions_def=DAYS, deps=[dg.AssetKey(["shop", "spending"])])
def report(context: dg.AssetExecutionContext, shop: dg.ResourceParam[object]) -> str:
    with shop.open() as store:  # type: ignore[attr-defined]
        end = context.partition_time_window.end - timedelta(microseconds=1)
        return str(store.get_offline_features(["ann"], ["amount_2d"], [end])["amount_2d"].item())


def own() -> dg.Definitions:
    return dg.Definitions(
        assets=[raw_purchases, report],
        jobs=[sensors.everything, sensors.freshness],
        sensors=[sensors.landing_sensor],
        resources={"lake": resources.Lake(folder="lake"), "io_manager": resources.TextFiles(folder="texts")},
        executor=dg.multiprocess_executor,
        loggers={"console": resources.console},
    )


def added() -> dg.Definitions:
    return feature_store_definitions(
        features, prefix="shop", asset_key_prefix="shop", source_assets={"purchases": raw_purchases}
    )


defs = dg.Definitions.merge(own(), added())
