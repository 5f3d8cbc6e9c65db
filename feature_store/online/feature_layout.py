"""The feature layout: one key per feature and entity, and one stamp per group and entity.

The stamp tells the event time of the values beside it. All keys of a row are set by one script call, so that one
`MGET` sees a row entirely or not at all. Which rows are written is the writer's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from feature_store.catalog import Feature, Group
from feature_store.clock import to_micros
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import OnlineStoreError
from feature_store.online.keys import KeySpace
from feature_store.online.layout import DecodedRow, EncodedRows, GroupRead, GroupWrite, Status
from feature_store.online.stamps import parse_stamp, stamp_expression, ttl_micros
from feature_store.online.values import decode_out_of_range, decoder, json_expression

if TYPE_CHECKING:
    import polars as pl

_NEVER = "0"
_OVER = "-1"


class FeatureLayout:
    """One key per feature and entity."""

    def reading(self, keys: KeySpace, group: Group, features: Sequence[Feature]) -> GroupRead:
        """Returns what reads some features of a group."""
        return _FeatureRead(keys, group, features)

    def writing(self, keys: KeySpace, group: Group) -> GroupWrite:
        """Returns what writes rows of a group."""
        return _FeatureWrite(keys, group)


class _FeatureRead:
    def __init__(self, keys: KeySpace, group: Group, features: Sequence[Feature]) -> None:
        self._group = group.name
        self._shapes = [keys.stamp(group.name), *(keys.feature(feature.ref) for feature in features)]
        self._features = [(ttl_micros(feature), decoder(feature.dtype)) for feature in features]
        self._dtypes = [feature.dtype for feature in features]

    def keys(self, entity_id: str) -> list[str]:
        return [prefix + entity_id + suffix for prefix, suffix in self._shapes]

    def decode(self, entity_id: str, replies: Sequence[bytes | None], now: int) -> DecodedRow:
        stamp = replies[0]
        if stamp is None:
            # A value whose event time is unknown is never served.
            return DecodedRow([None] * len(self._features), ["missing"] * len(self._features), None, None)
        try:
            event, ingested = parse_stamp(stamp)
        except ValueError:
            raise self._foreign(self._shapes[0].of(entity_id), "a stamp") from None
        values: list[Any] = []
        statuses: list[Status] = []
        for position, (ttl, decode) in enumerate(self._features, 1):
            raw = replies[position]
            value = None
            status: Status = "missing"
            if event + ttl <= now:
                status = "expired"
            elif raw is not None and event <= now:
                try:
                    value = decode(raw)
                except (ValueError, msgspec.MsgspecError):
                    value = self._unusual(entity_id, position, raw)
                status = "null" if value is None else "present"
            values.append(value)
            statuses.append(status)
        return DecodedRow(values, statuses, event, ingested)

    def _unusual(self, entity_id: str, position: int, raw: bytes) -> Any:
        dtype = self._dtypes[position - 1]
        try:
            return decode_out_of_range(raw, dtype)
        except ValueError:
            raise self._foreign(self._shapes[position].of(entity_id), f"the JSON of a {dtype}") from None

    def _foreign(self, key: str, expected: str) -> OnlineStoreError:
        return OnlineStoreError(
            f"Key {key!r} of the online store does not hold {expected}: something else wrote it. "
            f"Delete the key and materialize feature group {self._group!r} again."
        )


class _FeatureWrite:
    def __init__(self, keys: KeySpace, group: Group) -> None:
        # Features that share a time to live share an expiry: it is made, sent and read once per row. The longest
        # comes first, for the stamp lives as long.
        ordered = sorted(group.features, key=lambda feature: -feature.online_ttl_seconds)
        classes = [list(members) for _, members in groupby(ordered, lambda feature: feature.online_ttl_seconds)]
        self._ttls = [ttl_micros(members[0]) for members in classes]
        self._features = ordered
        self._shapes = [keys.stamp(group.name), *(keys.feature(feature.ref) for feature in ordered)]
        self.script = files("feature_store.online").joinpath("newest_wins.lua").read_text("utf-8")
        self.preamble = (str(len(classes)), *(str(len(members)) for members in classes))
        self.keys_per_row = len(self._shapes)
        self.arguments_per_row = 1 + len(classes) + len(ordered)

    def encode(self, rows: pl.DataFrame, now: datetime, expire_after: datetime | None) -> EncodedRows:
        import polars as pl

        from feature_store.online.protocol import bulk_strings, bulk_strings_of_keys

        event, ingested = pl.col(EVENT_TIMESTAMP), pl.col(INGESTED_AT)
        arguments = [
            stamp_expression(event, ingested),
            *(_expiry(event + ttl, now, expire_after) for ttl in self._ttls),
            *(json_expression(feature.ref.column, feature.dtype) for feature in self._features),
        ]
        encoded = rows.select(
            bulk_strings_of_keys(pl.col(ENTITY_ID), self._shapes).cast(pl.Binary).alias("keys"),
            bulk_strings(arguments).cast(pl.Binary).alias("arguments"),
        )
        return EncodedRows(encoded["keys"].to_list(), encoded["arguments"].to_list())


def _expiry(instant: pl.Expr, now: datetime, expire_after: datetime | None) -> pl.Expr:
    import polars as pl

    # Rounded up: the server may keep a key for a part of a millisecond too long, never too short.
    text = (-(-instant // 1000)).cast(pl.String)
    if expire_after is not None:
        text = pl.when(instant > to_micros(expire_after)).then(text).otherwise(pl.lit(_NEVER))
    return pl.when(instant > to_micros(now)).then(text).otherwise(pl.lit(_OVER))
