"""Manifests: everything that the rows of a training set depend on, as JSON beside the rows.

Records and their JSON alone. What is compared with them is in `inputs`, where they lie is in `versions`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec

from feature_store.definitions.splits import GAP
from feature_store.definitions.window_spec import WindowSpec
from feature_store.errors import CorruptFileError
from feature_store.storage.location import Location


class DataFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One Parquet file of rows.

    Attributes:
        split: The split whose rows it holds, None where the set has none.
        rows: Their number.
        bytes: Size of the file.
        sha256: Digest of its bytes.
        fingerprint: Digest of its rows, whatever wrote the file; see `fingerprint`.
        defaulted: Label to the number of rows in which the feature's default stands for null.
    """

    split: str | None
    rows: int
    bytes: int
    sha256: str
    fingerprint: str
    defaulted: dict[str, int] = msgspec.field(default_factory=dict)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that were computed together, never to change: a whole set, or one partition of it.

    Attributes:
        partition: Key of the partition, None for a whole set.
        created_at: When it was written (UTC).
        rows: Number of rows, one per label.
        first_label: Least label time (UTC).
        last_label: Greatest label time (UTC).
        label_fingerprint: Digest of the label frame.
        source_files: Files of the offline store that the rows can depend on, by path below its root, each with a
            digest of what a read of it can answer. Files without rows are left out: they answer nothing.
        code_versions: Feature group to the version of its code that was registered.
        null_rates: Share of nulls by feature label, 0 to 1; a default counts as the null that it stands for.
        files: The Parquet files, by path below the version's folder.
        written_with: Library that wrote the Parquet files, with its version.
        libraries: Distributions that the functions of the labels and of on-demand features use, with their versions.
    """

    partition: str | None
    created_at: datetime
    rows: int
    first_label: datetime
    last_label: datetime
    label_fingerprint: str
    source_files: dict[str, str]
    code_versions: dict[str, str]
    null_rates: dict[str, float]
    files: dict[str, DataFile]
    written_with: str
    libraries: dict[str, str] = msgspec.field(default_factory=dict)


class StoredFeature(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A feature of a training set that was read from the offline store.

    Attributes:
        reference: Name and version, `seats:v1`.
        dtype: Its dtype as the registry spells it.
        group: The feature group that holds it.
        column: Its column in the group's files.
        join_keys: The join keys by which it was looked up, in order.
        ttl_seconds: Its time to live when the set was written.
        default: What stands in place of null, as JSON; None where null does.
        window: What it was folded from, if it is a windowed feature.
    """

    reference: str
    dtype: str
    group: str
    column: str
    join_keys: tuple[str, ...]
    ttl_seconds: int
    default: str | None = None
    window: WindowSpec | None = None


class TimeSplitsRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="by", tag="time"):
    """Splits by label time: the exclusive end (UTC) of each, and the gap after it in seconds."""

    until: dict[str, datetime | None]
    gap_seconds: float


class EntitySplitsRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="by", tag="entity"):
    """Splits by a hash of the entity id: the share of each, and the seed."""

    entity: str
    join_keys: dict[str, str]
    shares: dict[str, float]
    seed: int


class QueryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Labels of every entity: whose, in which group (None for any), how often, from when to when (UTC)."""

    entity: str
    group: str | None
    every_seconds: float
    start: datetime
    end: datetime


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a training set.

    Attributes:
        name: The training set's name.
        version: Its number, from 1.
        identity: Digest of what makes this version another than its neighbours: of all inputs for a whole set, of the
            definition for one in partitions.
        partitioning: `daily`, `hourly`, or None for a whole set.
        created_at: When it was opened (UTC).
        as_of: The time column of the labels.
        columns: Column name to dtype, as Polars spells it, in order: the label frame's, then one per feature.
        features: Label to the feature's reference, `name:vN`, in order; on-demand features included.
        stored: Label to the stored feature, for all that the rows were computed of; inputs of on-demand features that
            are no columns included.
        on_demand: Function of on-demand features to the version of its code.
        labels_code_version: The version of the code of the labels' function, or of the query.
        label_query: The query, where the labels were every entity.
        splits: How the rows were split, None if they were not.
        part: The rows of a whole set; those of partitions have manifests of their own.
    """

    name: str
    version: int
    identity: str
    partitioning: str | None
    created_at: datetime
    as_of: str
    columns: dict[str, str]
    features: dict[str, str]
    stored: dict[str, StoredFeature]
    on_demand: dict[str, str]
    labels_code_version: str
    label_query: QueryRecord | None
    splits: TimeSplitsRecord | EntitySplitsRecord | None
    part: Part | None = None

    def split_names(self) -> tuple[str, ...]:
        """The splits in order, none if the set has none."""
        match self.splits:
            case None:
                return ()
            case EntitySplitsRecord():
                return tuple(self.splits.shares)
            case TimeSplitsRecord():
                return (*self.splits.until, *([GAP] if self.splits.gap_seconds else []))


_Record = TypeVar("_Record", Manifest, Part)


def encode(record: Manifest | Part) -> bytes:
    """Returns a manifest as JSON, one value a line."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def read_manifest(path: Location) -> Manifest:
    """Reads the manifest of a version.

    Raises:
        CorruptFileError: If the file is no manifest.
    """
    return _read(path, Manifest)


def read_part(path: Location) -> Part:
    """Reads the manifest of a partition.

    Raises:
        CorruptFileError: If the file is no manifest of a partition.
    """
    return _read(path, Part)


def _read(path: Location, kind: type[_Record]) -> _Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise CorruptFileError(
            f"{path} is not the manifest of a training set: {error}. Restore the file, or remove its folder."
        ) from error
