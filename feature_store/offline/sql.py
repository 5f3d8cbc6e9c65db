"""Building blocks of SQL text for DuckDB: quoted names, literals, and paths that are not patterns."""

from __future__ import annotations

from feature_store.definitions.dtypes import Dtype
from feature_store.rows.forms import forms_of
from feature_store.storage.location import Location


def identifier(name: str) -> str:
    """Returns a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Returns a quoted text literal."""
    return "'" + text.replace("'", "''") + "'"


def exact_path(path: Location) -> str:
    """Returns a path in which characters of a glob pattern stand for themselves."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def sql_type(dtype: Dtype) -> str:
    """Returns the DuckDB type of a dtype as it comes out of a Parquet file."""
    return forms_of(dtype).duckdb
