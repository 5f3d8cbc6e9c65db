"""What the checks are called, as the Dagster UI shows them. Who only describes them need not know how they judge."""

from __future__ import annotations

from collections.abc import Mapping

SCHEMA = "schema"
NULL_RATE = "null_rate"
ROW_COUNT = "row_count"
DRIFT = "drift"

DESCRIPTIONS: Mapping[str, str] = {
    SCHEMA: "Every row has the declared columns, dtypes, keys and ranges. Rows that break it are never written.",
    NULL_RATE: "No feature has more nulls and infinities than its schema allows, a spike of them against baseline and "
    "forecast, or infinities that its baseline does not have.",
    ROW_COUNT: "The partition has the rows that its group declares, and about as many as those before foretell.",
    DRIFT: "No feature is stuck, or has another scale, mean or distribution than the partitions before foretell.",
}
"""The checks of each partition of a group, in order."""

FRESHNESS = "freshness"
ONLINE_VALUES = "online_values"
UP_TO_DATE = "up_to_date"
