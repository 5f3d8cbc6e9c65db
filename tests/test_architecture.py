"""The walls of the house: who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "feature_store": {"dagster", "dagster_duckdb", "dagster_aws", "feature_assets", "resources", "sensors"},
    "feature_assets/flights": {"dagster", "resources", "sensors"},
    "resources": {"feature_assets", "sensors"},
    "feature_store/definitions": {"feature_store.offline", "feature_store.online", "feature_store.registry"},
    "feature_store/storage": {
        "feature_store.definitions",
        "feature_store.offline",
        "feature_store.online",
        "feature_store.registry",
        "feature_store.store",
    },
    "feature_store/sources": {
        "feature_store.offline",
        "feature_store.online",
        "feature_store.registry",
        "feature_store.store",
        "feature_store.transform",
    },
    "feature_store/offline": {
        "feature_store.changes",
        "feature_store.streaming",
        "feature_store.online",
        "feature_store.registry",
        "feature_store.store",
    },
    "feature_store/online": {
        "feature_store.changes",
        "feature_store.streaming",
        "feature_store.offline",
        "feature_store.registry",
        "feature_store.store",
    },
    "feature_store/registry": {
        "feature_store.changes",
        "feature_store.streaming",
        "feature_store.offline",
        "feature_store.online",
        "feature_store.store",
    },
    "feature_store/changes": {
        "feature_store.monitoring",
        "feature_store.registry",
        "feature_store.serving",
        "feature_store.spark",
        "feature_store.store",
        "feature_store.streaming",
        "feature_store.streams",
        "feature_store.training_sets",
    },
    "feature_store/monitoring": {"feature_store.store"},
    "feature_store/streaming": {
        "feature_store.offline",
        "feature_store.online",
        "feature_store.registry",
        "feature_store.store",
        "feature_store.streams",
    },
    "feature_store/transform": {"feature_store.spark", "feature_store.store", "feature_store.streaming"},
    "feature_store/spark": {"feature_store.registry", "feature_store.serving", "feature_store.store"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_arrows_point_one_way(folder):
    crossed = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in imports(path)
        for wall in FORBIDDEN[folder]
        if name == wall or name.startswith(f"{wall}.")
    ]
    assert crossed == []


def test_changes_know_of_transforms_only_how_rows_are_checked():
    known = {
        name
        for path in (ROOT / "feature_store" / "changes").rglob("*.py")
        for name in imports(path)
        if name.startswith("feature_store.transform")
    }
    assert known == {"feature_store.transform.validation"}


def test_only_the_spark_package_imports_pyspark():
    crossed = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ("feature_store", "feature_assets", "resources", "sensors")
        for path in (ROOT / folder).rglob("*.py")
        if not path.is_relative_to(ROOT / "feature_store" / "spark")
        for name in imports(path)
        if name.partition(".")[0] == "pyspark"
    ]
    assert crossed == []
