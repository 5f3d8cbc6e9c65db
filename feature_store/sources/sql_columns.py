"""Columns of a query: how each is asked for, and what becomes of it in Polars.

A column has one type in Polars, which follows from its type in the database alone: whatever rows a window holds, the
functions of feature groups see the same columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.errors import MissingSourceError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from feature_store.sources.sql_figures import Question

_FIRST, _LAST = "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"
_DIGITS = 38
"""What a decimal of Arrow and Polars can hold."""

UNSCALED_DIGITS = 18
"""Digits behind the point of a PostgreSQL `numeric` that declares none, as Spark takes it, too."""

_MONEY_DIGITS = 2
_TYPE, _TYPMOD = b"POSTGRESQL:type", b"POSTGRESQL:typmod"


@dataclass(frozen=True, slots=True)
class SqlColumns:
    """The columns of a query.

    Attributes:
        source: Name of the source, for errors.
        expressions: What is selected, one for each column.
        scales: Digits behind the point of those that come as text and are decimals.
        pinned: Types that the source declares, by column.
        given: The columns and their types, as the database has them.
    """

    source: str
    expressions: tuple[str, ...]
    scales: Mapping[str, int]
    pinned: Mapping[str, pl.DataType]
    given: pa.Schema

    @classmethod
    def of(
        cls, question: Question, schema: pa.Schema, pinned: Mapping[str, pl.DataType], *, knows_types: bool
    ) -> SqlColumns:
        """Returns how the columns of a query are asked for.

        Args:
            question: The query.
            schema: Its columns.
            pinned: Types that the source declares, by column.
            knows_types: Whether the database is one whose literals and types are known; others are asked for all
                columns as they are.

        Raises:
            MissingSourceError: If two columns have one name, or one that is declared is not there.
        """
        source, names = question.source, schema.names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise MissingSourceError(
                f"The query of source {source!r} gives several columns named {', '.join(repeated)}: name each of them "
                "differently, by AS."
            )
        absent = sorted(pinned.keys() - set(names))
        if absent:
            raise MissingSourceError(
                f"Source {source!r} declares columns that its query does not give: {', '.join(absent)}. It gives "
                f"{', '.join(names)}."
            )
        expressions, scales = [], {}
        for field in schema:
            column = question.quote.quote_identifier(field.name)
            scale = _scale(field)
            if scale is not None:
                scales[field.name] = scale
            asked = _asked(field, column, scale) if knows_types else column
            expressions.append(asked if asked == column else f"{asked} AS {column}")
        return cls(source, tuple(expressions), scales, pinned, schema)

    def frame(self, rows: pa.Table) -> pl.DataFrame:
        """Returns fetched rows with the types that the columns have in Polars.

        Raises:
            MissingSourceError: If a value, or a whole column, has no place in Polars.
        """
        import polars as pl

        columns = []
        for name, values in zip(rows.column_names, rows.columns, strict=True):
            try:
                column = pl.Series(name, _storage(values))
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, TypeError):
                raise self._unusable(name, f"is of type {values.type}, which has no place in a frame") from None
            if name in self.scales:
                column = self._decimals(column, self.pinned.get(name))
            if name in self.pinned:
                try:
                    column = column.cast(self.pinned[name])
                except pl.exceptions.PolarsError as error:
                    reason = str(error).splitlines()[0]
                    raise self._unusable(name, f"is declared as {self.pinned[name]}: {reason}") from None
            columns.append(column)
        return pl.DataFrame(columns)

    def _decimals(self, texts: pl.Series, pinned: pl.DataType | None) -> pl.Series:
        import polars as pl

        if pinned is not None and pinned.is_float():
            return texts.cast(pl.Float64)
        scale = pinned.scale if isinstance(pinned, pl.Decimal) else self.scales[texts.name]
        known = texts.replace("NaN", None)
        found = known.str.to_decimal(scale=scale)
        if found.null_count() > known.null_count():
            lost = known.filter(found.is_null() & known.is_not_null())
            raise self._unusable(
                texts.name,
                f"holds {lost[0]}, which does not fit into a decimal of {_DIGITS} digits, {scale} of them behind the "
                "point",
            )
        return found

    def _unusable(self, column: str, what: str) -> MissingSourceError:
        return MissingSourceError(
            f"Column {column!r} of source {self.source!r} {what}. Cast it in the query, declare its type by "
            f"`columns={{{column!r}: ...}}`, or leave it out."
        )


def _asked(field: pa.Field, column: str, scale: int | None) -> str:
    """Returns the expression of a column."""
    import pyarrow as pa

    kind = field.type
    if (field.metadata or {}).get(_TYPE) == b"money":
        return f"CAST(CAST({column} AS numeric) AS text)"
    if scale is not None:
        return f"CAST({column} AS text)"
    if pa.types.is_timestamp(kind):
        # Infinity, and years that no calendar of Python has, become the calendar's ends.
        name = "TIMESTAMP" if kind.tz is None else "TIMESTAMP WITH TIME ZONE"
        zone = "" if kind.tz is None else "+00"
        if kind.unit != "us":
            column = f"CAST({column} AS {name})"
        return _clamped(column, f"{name} '{_FIRST}{zone}'", f"{name} '{_LAST}{zone}'")
    if pa.types.is_date(kind):
        return _clamped(column, f"DATE '{_FIRST[:10]}'", f"DATE '{_LAST[:10]}'")
    if pa.types.is_interval(kind) or pa.types.is_union(kind) or _is_foreign(kind):
        return f"CAST({column} AS VARCHAR)"
    return column


def _clamped(column: str, first: str, last: str) -> str:
    return f"CASE WHEN {column} > {last} THEN {last} WHEN {column} < {first} THEN {first} ELSE {column} END"


def _scale(field: pa.Field) -> int | None:
    """Returns the digits behind the point of a column of PostgreSQL's `numeric`; None for other columns."""
    described = field.metadata or {}
    if described.get(_TYPE) == b"money":
        return _MONEY_DIGITS
    if described.get(_TYPE) != b"numeric":
        return None
    modifier = int(described.get(_TYPMOD, b"-1"))
    # See numeric_typmod_scale in PostgreSQL: eleven bits, with a sign; 4 is the length of a header.
    return UNSCALED_DIGITS if modifier < 0 else max(0, (((modifier - 4) & 0x7FF) ^ 1024) - 1024)


def _is_foreign(kind: pa.DataType) -> bool:
    """Tells whether a type is one that Arrow has only the bytes of: `arrow.opaque`, `arrow.uuid`."""
    import pyarrow as pa

    return isinstance(kind, pa.BaseExtensionType) and not pa.types.is_string(kind.storage_type)


def _storage(values: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    if not isinstance(values.type, pa.BaseExtensionType):
        return values
    return pa.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
