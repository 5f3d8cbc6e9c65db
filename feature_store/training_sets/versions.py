"""Versions of training sets as they lie on disk: where, which there are, and how to read them.

    {root}/training_sets/{name}/v{n}/manifest.json
                                     baseline.json                                   of a set that is built as a whole
                                     rows/rows.parquet                               without splits
                                     rows/split=train/rows.parquet                   with splits
                                     rows/partition=2013-01-31/_manifest.json        in partitions
                                     rows/partition=2013-01-31/split=train/rows.parquet

Nothing here writes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from feature_store.definitions.names import check_name
from feature_store.errors import CorruptFileError, InvalidRequestError, UnknownFeatureError, did_you_mean
from feature_store.frames import free_name
from feature_store.storage.location import Location, storage_of
from feature_store.storage.parquet import scan_files
from feature_store.training_sets.manifest import Manifest, Part, read_manifest, read_part

FOLDER = "training_sets"
MANIFEST_FILE = "manifest.json"
BASELINE_FILE = "baseline.json"
ROWS_FOLDER = "rows"
ROWS_FILE = "rows.parquet"
PART_MANIFEST_FILE = "_manifest.json"
"""Readers of whole folders, such as Arrow and Spark, pass over names that begin with an underscore."""
SPLIT = "split"
PARTITION = "partition"

_REFERENCE = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,62})(?::v(?P<version>[1-9][0-9]{0,8}))?")
_SPLIT_OF_PATH = rf"/{SPLIT}=([a-z0-9_]+)/[^/]+$"


@dataclass(frozen=True, slots=True)
class TrainingSetVersion:
    """A version of a training set.

    Attributes:
        path: Folder of the version.
        manifest: What it was made of.
        parts: Its rows, one part for a whole set, else one per partition, in order of time.
    """

    path: Location
    manifest: Manifest
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The training set's name."""
        return self.manifest.name

    @property
    def version(self) -> int:
        """The number of the version, from 1."""
        return self.manifest.version

    @property
    def rows(self) -> int:
        """Number of rows: one per label."""
        return sum(part.rows for part in self.parts)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the rows: those of the label frame, then the features."""
        return tuple(self.manifest.columns)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns of the label frame."""
        return tuple(column for column in self.manifest.columns if column not in self.manifest.features)

    @property
    def features(self) -> tuple[str, ...]:
        """References of the features, in order of their columns."""
        return tuple(self.manifest.features.values())

    @property
    def null_rates(self) -> Mapping[str, float]:
        """Share of nulls by feature column, 0 to 1."""
        total = self.rows
        return {
            label: sum(part.null_rates[label] * part.rows for part in self.parts) / total
            for label in self.manifest.features
        }

    @property
    def split_rows(self) -> Mapping[str, int]:
        """Number of rows by split, in order; empty if the set has no splits."""
        counts: Counter[str] = Counter()
        for part in self.parts:
            counts.update({file.split: file.rows for file in part.files.values() if file.split is not None})
        return {name: counts[name] for name in self.manifest.split_names()}

    @property
    def partitions(self) -> tuple[str, ...]:
        """Keys of the partitions that are built, in order of time; empty for a whole set."""
        return tuple(part.partition for part in self.parts if part.partition is not None)

    def files(self, split: str | None = None) -> list[Location]:
        """Returns the Parquet files, of one split or of all.

        Raises:
            InvalidRequestError: If the set has no such split.
        """
        names = self.manifest.split_names()
        if split is not None and split not in names:
            known = f"Its splits are {', '.join(names)}." if names else "It has no splits."
            raise InvalidRequestError(f"Training set {self.name} v{self.version} has no split {split!r}. {known}")
        order: dict[str | None, int] = {None: 0}
        order |= {name: position for position, name in enumerate(names)}
        return [
            self.path / path
            for part in self.parts
            for path, file in sorted(part.files.items(), key=lambda item: order[item[1].split])
            if split is None or file.split == split
        ]

    def scan(self, split: str | None = None) -> pl.LazyFrame:
        """Returns the rows, lazily.

        Args:
            split: One split; None for all rows.

        Returns:
            Label columns and features, partition by partition and split by split, within them in the order of the
            labels. All rows of a set with splits have the column `split` too.

        Raises:
            InvalidRequestError: If the set has no such split.
        """
        files = self.files(split)
        if not files:
            return scan_files(self.files()[0]).limit(0)
        if split is not None or not self.manifest.splits:
            return scan_files(files)
        file = free_name("_file", self.columns)
        rows = scan_files(files, include_file_paths=file)
        return rows.with_columns(pl.col(file).str.extract(_SPLIT_OF_PATH).alias(SPLIT)).drop(file)


@dataclass(frozen=True, slots=True)
class WrittenTrainingSet(TrainingSetVersion):
    """A version of a training set, and what the build that returned it has done.

    Attributes:
        created: Whether this build has opened the version; False if these very inputs had been written before, or
            partitions were added to a version that was open.
        built: Keys of the partitions that were built.
        stale: Partition asked for that the version keeps as it is, to what of its inputs has changed since.
    """

    created: bool
    built: tuple[str, ...] = ()
    stale: Mapping[str, Sequence[str]] = field(default_factory=dict)


def written(
    version: TrainingSetVersion,
    *,
    created: bool,
    built: tuple[str, ...] = (),
    stale: Mapping[str, Sequence[str]] | None = None,
) -> WrittenTrainingSet:
    """Returns a version with what a build has done."""
    return WrittenTrainingSet(version.path, version.manifest, version.parts, created, built, stale or {})


def set_folder(root: Location, name: str) -> Location:
    """Returns the folder of a training set.

    Raises:
        DefinitionError: If the text cannot be its name, and so might lead out of the root.
    """
    return root / FOLDER / check_name(name, "training set")


def version_path(name: str, number: int) -> str:
    """Returns where a version lies, relative to the root."""
    return f"{FOLDER}/{name}/v{number}"


def part_path(partition: str | None, split: str | None) -> str:
    """Returns where a part's rows lie, relative to the version's folder."""
    of_partition = f"{PARTITION}={partition}/" if partition is not None else ""
    of_split = f"{SPLIT}={split}/" if split is not None else ""
    return f"{ROWS_FOLDER}/{of_partition}{of_split}{ROWS_FILE}"


def version_numbers(folder: Location) -> list[int]:
    """Returns the versions in a training set's folder, in order; none if there is no folder."""
    return storage_of(folder).numbered(folder, MANIFEST_FILE)


def version_at(folder: Location, number: int) -> TrainingSetVersion:
    """Reads a version.

    Raises:
        CorruptFileError: If one of its manifests is none.
    """
    path = folder / f"v{number}"
    try:
        manifest = read_manifest(path / MANIFEST_FILE)
    except FileNotFoundError as error:
        raise CorruptFileError(
            f"{path} has no {MANIFEST_FILE}, so it is no version of a training set: restore the file, or remove the "
            "folder."
        ) from error
    if manifest.part is not None:
        return TrainingSetVersion(path, manifest, (manifest.part,))
    parts = [read_part(found) for found in path.glob(f"{ROWS_FOLDER}/{PARTITION}=*/{PART_MANIFEST_FILE}")]
    return TrainingSetVersion(path, manifest, tuple(sorted(parts, key=lambda part: part.partition or "")))


def versions(folder: Location) -> list[TrainingSetVersion]:
    """Reads all versions of a training set, in order."""
    return [version_at(folder, number) for number in version_numbers(folder)]


def open_version(root: Location, name: str, version: int | None = None) -> TrainingSetVersion:
    """Reads a version of a training set, the latest by default.

    Raises:
        UnknownFeatureError: If there is no such training set or version.
        CorruptFileError: If one of its manifests is none.
    """
    folder = set_folder(root, name)
    known = version_numbers(folder)
    if not known:
        raise UnknownFeatureError(f"No version of training set {name!r} was written. {_written_sets(root, name)}")
    if version is not None and version not in known:
        listed = ", ".join(f"v{number}" for number in known)
        raise UnknownFeatureError(f"Training set {name!r} has no version {version}, it has {listed}.")
    return version_at(folder, version or known[-1])


def parse_reference(text: str) -> tuple[str, int | None]:
    """Splits `name` or `name:vN` into the name and the version, None where it is not given.

    Raises:
        InvalidRequestError: If the text is neither.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise InvalidRequestError(f"{text!r} is not a version of a training set: write name or name:v2.")
    return match["name"], int(match["version"]) if match["version"] else None


def _written_sets(root: Location, name: str) -> str:
    folder = root / FOLDER
    names: Sequence[str] = [path.name for path in folder.iterdir() if version_numbers(path)] if folder.is_dir() else []
    return did_you_mean(name, names) if names else "None was written yet: run `feature-store training-set build`."
