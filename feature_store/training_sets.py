"""Training sets as immutable versions: `{root}/training_sets/{name}/v{n}/` with rows and a manifest.

The manifest names everything that the rows depend on. Equal inputs are recognized by it and never written twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from feature_store.catalog import Catalog, Selection
from feature_store.clock import Clock
from feature_store.definitions.training_set import TrainingSet
from feature_store.offline.point_in_time.engine import PointInTimeEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore
from feature_store.registry.records import TrainingSetRecord
from feature_store.registry.registry import Registry

FOLDER = "training_sets"
ROWS_FILE = "rows.parquet"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class WrittenTrainingSet:
    """A version of a training set.

    Attributes:
        name: The training set's name.
        version: Its number, from 1.
        path: Folder that holds `rows.parquet` and `manifest.json`.
        rows: Number of rows: one per label.
        columns: Columns of the rows: those of the label frame, then the features.
        features: The features joined, with the versions they had.
        null_rates: Share of nulls by feature column, 0 to 1.
        created: False if these very inputs had been written before, as this version.
    """

    name: str
    version: int
    path: Path
    rows: int
    columns: tuple[str, ...]
    features: tuple[str, ...]
    null_rates: Mapping[str, float]
    created: bool

    def scan(self) -> pl.LazyFrame:
        """Returns the rows, lazily, in the order of the labels."""
        return pl.scan_parquet(self.path / ROWS_FILE)


def write_training_set(
    definition: TrainingSet,
    *,
    catalog: Catalog,
    offline: OfflineStore,
    registry: Registry,
    engine: PointInTimeEngine,
    clock: Clock,
) -> WrittenTrainingSet:
    """Builds a training set and keeps it as a version; see `FeatureStore.write_training_set`.

    The version's folder appears complete or not at all.

    Raises:
        InvalidRequestError: If the label frame cannot be joined; see `FeatureStore.training_set`.
        UnknownFeatureError: If a feature is not registered.
    """
    selections = catalog.select(definition.features)
    labels = definition.labels().collect()
    inputs: dict[str, Any] = {
        "as_of": definition.as_of,
        "label_fingerprint": _digest_frame(labels),
        "features": {selection.label: str(selection.feature.ref) for selection in selections},
        "source_files": _source_files(offline, selections),
    }
    identity = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    folder = Path(offline.root) / FOLDER / definition.name
    for manifest in _manifests(folder):
        if manifest["identity"] == identity:
            return _written(folder, manifest, created=False)
    joined = point_in_time_join(offline, catalog, labels, definition.as_of, selections, engine)
    manifest = {
        "name": definition.name,
        "identity": identity,
        **inputs,
        "created_at": clock.now().isoformat(),
        "rows": joined.height,
        "columns": joined.columns,
        "null_rates": {
            selection.label: joined[selection.label].null_count() / max(joined.height, 1) for selection in selections
        },
    }
    manifest = _publish(folder, joined, manifest)
    written = _written(folder, manifest, created=True)
    registry.record_training_set(
        TrainingSetRecord(
            name=definition.name,
            version=written.version,
            label_fingerprint=inputs["label_fingerprint"],
            features=tuple(selection.feature.ref for selection in selections),
            source_files=tuple(inputs["source_files"]),
            row_count=written.rows,
            baseline={},
            path=str(written.path),
            created_at=clock.now(),
        )
    )
    return written


def _source_files(offline: OfflineStore, selections: Sequence[Selection]) -> dict[str, str]:
    groups = sorted({selection.feature.group for selection in selections})
    return {path: digest for group in groups for path, digest in offline.content(offline.files(group)).items()}


def _digest_frame(frame: pl.DataFrame) -> str:
    return hashlib.sha256(frame.rechunk().write_ipc(None, compression="uncompressed").getbuffer()).hexdigest()


def _manifests(folder: Path) -> list[dict[str, Any]]:
    paths = folder.glob(f"v*/{MANIFEST_FILE}")
    return sorted((json.loads(path.read_text()) for path in paths), key=lambda manifest: int(manifest["version"]))


def _publish(folder: Path, rows: pl.DataFrame, manifest: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        rows.write_parquet(staged / ROWS_FILE)
        version = max((int(existing["version"]) for existing in _manifests(folder)), default=0)
        while True:
            version += 1
            manifest["version"] = version
            (staged / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1))
            try:
                # Renaming onto a folder that holds files fails: two writers never share a version.
                os.rename(staged, folder / f"v{version}")  # noqa: PTH104 - Path.rename says the same, less plainly
            except OSError:
                if not (folder / f"v{version}").exists():
                    raise
                continue
            return manifest
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _written(folder: Path, manifest: Mapping[str, Any], *, created: bool) -> WrittenTrainingSet:
    return WrittenTrainingSet(
        name=manifest["name"],
        version=manifest["version"],
        path=folder / f"v{manifest['version']}",
        rows=manifest["rows"],
        columns=tuple(manifest["columns"]),
        features=tuple(manifest["features"].values()),
        null_rates=manifest["null_rates"],
        created=created,
    )
