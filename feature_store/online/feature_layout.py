"""The feature layout: one key per feature and entity, and one stamp per group and entity.

The stamp tells the times of the values beside it, and which features its row has: a key that an older definition of
the group left behind is not served under a newer row's stamp. All keys of a row are set by one script call, so that
one `MGET` sees a row entirely or not at all. Which rows are written is the writer's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from feature_store.catalog import Feature, RegisteredGroup
from feature_store.clock import EARLIEST, to_micros
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.online.keys import KeySpace
from feature_store.online.layout import DecodedRow, EncodedRows, GroupRead, GroupWrite, RowAheadError, Status, foreign
from feature_store.online.resp import bulk
from feature_store.online.schemas import LayoutSchema, Schemas
from feature_store.online.stamps import STAMP_WIDTH, WIDTH, parse_stamp, stamp_expression, stamp_times, to_datetime
from feature_store.online.values import column_decoder, decode_out_of_range, decoder, json_expression, row_decoder
from feature_store.visibility import Visibility

if TYPE_CHECKING:
    import polars as pl

_OVER = "-1"


class FeatureLayout:
    """One key per feature and entity."""

    def reading(
        self, keys: KeySpace, group: RegisteredGroup, features: Sequence[Feature], schemas: Schemas
    ) -> GroupRead:
        """Returns what reads some features of a group."""
        return _FeatureRead(keys, group, features, schemas)

    def writing(self, keys: KeySpace, group: RegisteredGroup) -> GroupWrite:
        """Returns what writes rows of a group."""
        return _FeatureWrite(keys, group)


class _FeatureRead:
    def __init__(self, keys: KeySpace, group: RegisteredGroup, features: Sequence[Feature], schemas: Schemas) -> None:
        self.width = 1 + len(features)
        self._group = group.name
        self._schemas = schemas
        self._shapes = [keys.stamp(group.name), *(keys.feature(feature.ref) for feature in features)]
        self._nearby = keys.nearby(group.name)
        self._features = features
        visibility = Visibility.of(features)
        self._ttls, self._shortest = visibility.ttls, visibility.shortest
        self._decoders = [decoder(feature.dtype) for feature in features]
        self._nothing = [None] * len(features)
        self._all_at_once = row_decoder(tuple(feature.dtype for feature in features))
        # By fingerprint: which of the requested features rows of that schema have. Most rows are of the catalog's.
        own = LayoutSchema.of(group.features).fingerprint
        self._present = {own: [True] * len(features)}
        self._own = f":{own.hex()}".encode()

    def keys(self, entity_id: str) -> list[str]:
        return [prefix + entity_id + suffix for prefix, suffix in self._shapes]

    def values(self, entity_id: str, replies: Sequence[bytes | None], now: int) -> Sequence[Any]:
        stamp = replies[0]
        if stamp is None:
            return self._nothing
        # The common case, where microseconds count: a row of the catalog's schema, with all keys, all alive.
        if len(stamp) == STAMP_WIDTH and stamp.endswith(self._own):
            try:
                event = int(stamp[:WIDTH]) + EARLIEST
                if event <= now < event + self._shortest:
                    return self._all_at_once(b"[" + b",".join(replies[1:]) + b"]")  # type: ignore[arg-type]
            except (TypeError, ValueError, msgspec.MsgspecError):
                # A key is missing, or holds infinity or what others wrote.
                pass
        return self.row(entity_id, replies, now).values

    def row(self, entity_id: str, replies: Sequence[bytes | None], now: int) -> DecodedRow:
        stamp = replies[0]
        if stamp is None:
            # A value whose event time is unknown is never served.
            return DecodedRow(self._nothing, ["missing"] * len(self._features), None, None)
        event, ingested, fingerprint = self._stamp(entity_id, stamp)
        if event > now:
            raise RowAheadError
        values: list[Any] = []
        statuses: list[Status] = []
        for position, (present, ttl) in enumerate(zip(self._has(fingerprint), self._ttls, strict=True)):
            raw = replies[position + 1]
            value = None
            status: Status = "missing"
            if present and event + ttl <= now:
                status = "expired"
            elif present and raw is not None:
                value = self._value(entity_id, position, raw)
                status = "null" if value is None else "present"
            values.append(value)
            statuses.append(status)
        return DecodedRow(values, statuses, event, ingested)

    def columns(self, entity_ids: Sequence[str], replies: Sequence[bytes | None], now: int) -> list[pl.Series]:
        from feature_store.rows.polars_schema import series_of_values

        stamps = [
            None if stamp is None else self._stamp(entity_id, stamp)
            for entity_id, stamp in zip(entity_ids, replies[:: self.width], strict=True)
        ]
        if any(stamp is not None and stamp[0] > now for stamp in stamps):
            raise RowAheadError
        columns = []
        for position, (feature, ttl) in enumerate(zip(self._features, self._ttls, strict=True)):
            texts = [
                raw
                if raw is not None
                and stamp is not None
                and stamp[0] <= now < stamp[0] + ttl
                and self._has(stamp[2])[position]
                else b"null"
                for stamp, raw in zip(stamps, replies[position + 1 :: self.width], strict=True)
            ]
            try:
                values = column_decoder(feature.dtype)(b"[" + b",".join(texts) + b"]")
            except (ValueError, msgspec.MsgspecError):
                values = []
            if len(values) != len(texts):
                # One at a time: infinities, or the one that is to be named.
                pairs = zip(entity_ids, texts, strict=True)
                values = [self._value(entity_id, position, text) for entity_id, text in pairs]
            columns.append(series_of_values(feature.ref.column, values, feature.dtype))
        return columns

    def is_ahead(self, replies: Sequence[bytes | None], now: int) -> bool:
        stamp = replies[0]
        return stamp is not None and int(stamp[:WIDTH]) + EARLIEST > now

    def nearby_key(self, entity_id: str) -> str:
        return self._nearby.of(entity_id)

    def nearby_times(self, raw: bytes) -> list[datetime]:
        rows: list[tuple[str, Any]] = msgspec.msgpack.decode(raw)
        return [to_datetime(parse_stamp(stamp.encode()[:STAMP_WIDTH])[1]) for stamp, _ in rows]

    def nearby(self, entity_id: str, raw: bytes | None, now: int) -> list[bytes | None]:
        best: tuple[str, Any] | None = None
        rows: list[tuple[str, Any]] = [] if raw is None else msgspec.msgpack.decode(raw)
        for stamp, values in rows:
            if int(stamp[:WIDTH]) + EARLIEST <= now and (best is None or stamp > best[0]):
                best = (stamp, values)
        if best is None:
            return [None] * self.width
        stamp, values = best
        found = [values.get(shape.of(entity_id)) if values else None for shape in self._shapes[1:]]
        return [stamp.encode(), *(None if value is None else value.encode() for value in found)]

    def _has(self, fingerprint: bytes) -> list[bool]:
        present = self._present.get(fingerprint)
        if present is None:
            stored = self._schemas.get(self._group, fingerprint).positions
            present = self._present[fingerprint] = [feature.ref in stored for feature in self._features]
        return present

    def _stamp(self, entity_id: str, stamp: bytes) -> tuple[int, int, bytes]:
        try:
            return parse_stamp(stamp)
        except ValueError:
            raise foreign(self._shapes[0].of(entity_id), "a stamp", self._group) from None

    def _value(self, entity_id: str, position: int, raw: bytes) -> Any:
        dtype = self._features[position].dtype
        try:
            return self._decoders[position](raw)
        except (ValueError, msgspec.MsgspecError):
            pass
        try:
            return decode_out_of_range(raw, dtype)
        except ValueError:
            key = self._shapes[position + 1].of(entity_id)
            raise foreign(key, f"the JSON of a {dtype}", self._group) from None


class _FeatureWrite:
    rows_per_call = 8
    rows_per_chunk = 2048

    def __init__(self, keys: KeySpace, group: RegisteredGroup) -> None:
        # Features that share a time to live share an expiry: it is made, sent and read once per row. The longest
        # comes first, for the stamp lives as long.
        ordered = sorted(group.features, key=lambda feature: -feature.online_ttl_seconds)
        classes = [(ttl, len(list(members))) for ttl, members in groupby(Visibility.of(ordered).ttls)]
        self._ttls = [ttl for ttl, _ in classes]
        self._features = ordered
        self._shapes = [keys.stamp(group.name), *(keys.feature(feature.ref) for feature in ordered)]
        self.script = files("feature_store.online").joinpath("newest_wins.lua").read_text("utf-8")
        self.schema = LayoutSchema.of(group.features)
        self.preamble = (str(len(classes)), *(str(members) for _, members in classes))
        self.keys_per_row = len(self._shapes)
        self.arguments_per_row = 1 + len(classes) + len(ordered)

    def times(self, event: int, ingested: int) -> bytes:
        return stamp_times(event, ingested)

    def recent(self, event: int) -> bytes:
        return stamp_times(event, EARLIEST)[:WIDTH]

    def keys_of(self, entity_id: str) -> bytes:
        return b"".join(bulk(shape.of(entity_id).encode()) for shape in self._shapes)

    def nothing(self) -> bytes:
        return b"$0\r\n\r\n" * self.arguments_per_row

    def encode(self, rows: pl.DataFrame, now: datetime, expire_after: datetime | None) -> EncodedRows:
        import polars as pl

        from feature_store.online.protocol import bulk_strings, bulk_strings_of_keys

        event, ingested = pl.col(EVENT_TIMESTAMP), pl.col(INGESTED_AT)
        arguments = [
            stamp_expression(event, ingested, self.schema.fingerprint),
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

    from feature_store.online.expiry import expiry_expression

    text = expiry_expression(instant, expire_after)
    return pl.when(instant > to_micros(now)).then(text).otherwise(pl.lit(_OVER))
