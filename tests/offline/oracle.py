"""The rule of visibility, word by word, in plain Python: what every engine has to agree with.

It shares nothing with the library: rows are dictionaries as a test made them, times are datetimes, every label looks
at every row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class WrittenRow:
    """One row as it was handed to a writer.

    Attributes:
        values: Its columns.
        file: Date folder and file name that it went to.
        position: Its place among the rows of that file.
    """

    values: dict[str, Any]
    file: tuple[str, str]
    position: int


def visible(
    history: list[WrittenRow], keys: dict[str, Any], at: datetime, column: str, ttl: timedelta, strict: bool = False
) -> Any:
    """Returns the value of a feature that is visible for an entity at an instant, perhaps of what was known then."""
    known = [
        row
        for row in history
        if all(row.values[key] == value for key, value in keys.items())
        and row.values["event_timestamp"] <= at
        and (not strict or row.values["ingested_at"] <= at)
    ]
    if not known:
        return None
    latest = max(
        known, key=lambda row: (row.values["event_timestamp"], row.values["ingested_at"], row.file, row.position)
    )
    if at >= latest.values["event_timestamp"] + ttl:
        return None
    value = latest.values.get(column)
    elements = value if isinstance(value, list) else [value]
    return None if any(isinstance(each, float) and math.isnan(each) for each in elements) else value
