"""When the server drops a key: the text of its expiry, for every layout."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from feature_store.clock import to_micros

NEVER = "0"


def expiry_expression(instant: pl.Expr, expire_after: datetime | None) -> pl.Expr:
    """Returns milliseconds since 1970 as text, for a column of microseconds; `0` for what shall not expire.

    Rounded up: the server may keep a key for a part of a millisecond too long, never too short; readers apply the
    exact microsecond.

    Args:
        instant: When the key's time to live is over.
        expire_after: What expires later than this expires on the server, all else stays. None: all expires there.
    """
    text = (-(-instant // 1000)).cast(pl.String)
    if expire_after is None:
        return text
    return pl.when(instant > to_micros(expire_after)).then(text).otherwise(pl.lit(NEVER))
