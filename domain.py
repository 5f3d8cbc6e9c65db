from datetime import UTC, datetime, timedelta
import polars as pl
import feature_store
from feature_store import Entity, FeatureSchema, ParquetSource, feature, feature_group

SALES = ParquetSource("sales", "/work/main/sales", start=datetime(2024, 3, 1, tzinfo=UTC))
SHOP = Entity("shop", {"user_id": str})
given = {"entity": SHOP, "source": SALES, "owner": "team@example.com"}

if hasattr(feature_store, "window"):
    from feature_store import mean, stddev, window

    class Units(FeatureSchema):
        units_mean_28d: float = window("Mean of units.", mean("units"), "28d")
        units_std_28d: float = window("Deviation of units.", stddev("units"), "28d")

    @feature_group(schema=Units, **given)
    def sales(events):
        return events.select("user_id", "event_timestamp", "units")
else:

    class Units(FeatureSchema):
        units_mean_28d: float = feature("Mean of units")
        units_std_28d: float = feature("Deviation of units")

    @feature_group(schema=Units, lookback=timedelta(days=28), **given)
    def sales(events):
        rows = events.sort("user_id", "event_timestamp").rolling("event_timestamp", period="28d", group_by="user_id")
        return rows.agg(units_mean_28d=pl.col("units").mean(), units_std_28d=pl.col("units").std())
