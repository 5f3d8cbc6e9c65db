"""A group's function is a function: events in, feature rows out. `feature-store test` tries all that it promises."""

from datetime import UTC, datetime

import polars as pl

from feature_assets.shop import customer_spending


def at(day, hour=12):
    return datetime(2024, 1, day, hour, tzinfo=UTC)


def test_a_week_is_summed_and_what_is_older_is_not():
    purchases = pl.LazyFrame(
        {
            "event_timestamp": [at(1), at(5), at(8, 11), at(8, 12), at(8)],
            "customer": ["c07", "c07", "c07", "c07", "c11"],
            "amount": [100, 20, 3, 4, 50],
        }
    )
    rows = customer_spending.transform(purchases).sort("customer", "event_timestamp").collect()
    assert rows["customer"].to_list() == ["c07"] * 4 + ["c11"]
    assert rows["purchases_7d"].to_list() == [1, 2, 3, 3, 1]
    assert rows["spent_1d"].to_list() == [100, 20, 3, 7, 50]
    assert rows["spent_7d"].to_list() == [100, 120, 123, 27, 50]
