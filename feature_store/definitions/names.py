"""Names and feature references: the only place that decides what a valid identifier is.

Every name that reaches SQL, a Redis key or a path has passed `check_name`.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass

from feature_store.errors import DefinitionError, InvalidRequestError

LONGEST_NAME = 63
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_VERSIONED_COLUMN = re.compile(r"(?P<name>.+)_v(?P<version>[0-9]+)")
_REFERENCE = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,62})(?::v(?P<version>[1-9][0-9]{0,5}))?")

EVENT_TIMESTAMP = "event_timestamp"
INGESTED_AT = "ingested_at"
ENTITY_ID = "entity_id"
AS_OF_TIMESTAMP = "as_of_timestamp"
RESERVED_COLUMNS = frozenset(
    {EVENT_TIMESTAMP, INGESTED_AT, ENTITY_ID, AS_OF_TIMESTAMP, "date", "file_index", "file_row_number"}
)
"""Columns of files, views and answers, and those by which DuckDB tells rows of files apart. No feature and no join key
has their names, nor one that begins with `_`: so columns that come and go inside of the store are named."""

RESERVED_GROUPS = frozenset({"feature_value", "snapshots", "training_sets"})
"""The view over all values, and the folders of snapshots and training sets, lie where groups so named would."""


_ASSETS = frozenset({"feature group", "source", "training set"})
_NO_ASSETS = frozenset(
    (
        *keyword.kwlist,
        *("arg_dict", "bool", "conf", "config", "context", "dict", "float", "input", "input_arg_dict", "int", "meta"),
        *("output", "output_arg_dict", "str", "type"),
        *("features", "hourly_features", "freshness", "nightly_monitor", "refill_online"),
        *("drain_streams", "compact_streams"),
    )
)
"""Words of Python and of Dagster, which takes none of them for the name of an asset, and names of the store's jobs."""


def check_name(name: str, what: str) -> str:
    """Returns `name` if it may name a `what` (an entity, a feature, a group, ...).

    Raises:
        DefinitionError: If it does not match `[a-z][a-z0-9_]{0,62}`, or is a word that cannot name an asset.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} cannot name a {what}: names are 1 to 63 characters a-z, 0-9 and _, and start with a letter."
        )
    if what in _ASSETS and name in _NO_ASSETS:
        raise DefinitionError(f"{name!r} cannot name a {what}: Dagster takes no asset of that name. Take a longer one.")
    return name


@dataclass(frozen=True, slots=True, order=True)
class FeatureRef:
    """A feature's name and version, written `clicks_7d:v2`."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}:v{self.version}"

    @property
    def column(self) -> str:
        """The column that holds this version in frames and Parquet files.

        Version 1 is stored under its name, later versions under `name_vN`: two versions live side by side
        in one file, and no reader can take one for the other.
        """
        return self.name if self.version == 1 else f"{self.name}_v{self.version}"

    @classmethod
    def from_column(cls, column: str) -> FeatureRef:
        """Returns the feature that a column holds: `late_share_v2` is `late_share:v2`.

        Raises:
            DefinitionError: If the column cannot name a feature.
        """
        check_name(column, "feature")
        if column in RESERVED_COLUMNS:
            raise DefinitionError(f"{column!r} is a column of the store itself and cannot name a feature.")
        match = _VERSIONED_COLUMN.fullmatch(column)
        if match is None:
            return cls(column, 1)
        version = int(match["version"])
        if version < 2 or str(version) != match["version"]:  # noqa: PLR2004
            raise DefinitionError(
                f"Column {column!r}: version 1 of a feature has no suffix, later ones end in _v2, _v3, ..."
            )
        return cls(match["name"], version)

    @staticmethod
    def parse(text: str) -> tuple[str, int | None]:
        """Splits `name` or `name:vN` into the name and the version, None where it is not given.

        Raises:
            InvalidRequestError: If `text` is neither.
        """
        match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidRequestError(
                f"{text!r} is not a feature reference: write name, name:v2, or the name of a feature group."
            )
        version = match["version"]
        return match["name"], int(version) if version else None
