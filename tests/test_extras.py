"""Whoever lacks a package is told which extra brings it, and nobody is told of one that is not there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

AVRO_STREAM = (
    "SimpleNamespace(columns={}, schema=int, payload='avro', avro_schemas={}, epochs={}, decode=None, dtypes={})"
)

# Of each extra, the doors behind which its packages are; and the packages that are missing.
DOORS = {
    "dagster": [("dagster", "import dagster_feature_store; dagster_feature_store.feature_jobs")],
    "delta": [("deltalake", "next(iter(DeltaSource(**NAMED, table='t').landed_days()))")],
    "iceberg": [("pyiceberg", "next(iter(IcebergSource(**NAMED, table='a.t').landed_days()))")],
    "postgresql": [
        ("adbc_driver_postgresql", "SqlSource(**SQL).scan(DAY).collect()"),
        ("psycopg psycopg2", "FeatureStore(registry='postgresql://user@127.0.0.1:1/db').catalog()"),
    ],
    "s3": [
        ("boto3", "FeatureStore(offline='s3://bucket/prefix').connect_sql()"),
        ("obstore", "FeatureStore(offline='s3://bucket/prefix').connect_sql()"),
    ],
    "serve": [
        ("starlette", "cli(['serve'], standalone_mode=False)"),
        ("uvicorn", "cli(['serve'], standalone_mode=False)"),
        ("prometheus_client", "cli(['serve'], standalone_mode=False)"),
    ],
    "spark": [("pyspark", "from feature_store.spark.session import spark_session; spark_session()")],
    "stream": [
        ("confluent_kafka", "FeatureStore().streamer(None, None, None)"),
        ("prometheus_client", "FeatureStore().streamer(None, None, None)"),
        ("confluent_kafka", "FeatureStore().drainer(None, None)"),
        ("fastavro", f"EventDecoder({AVRO_STREAM})"),
    ],
    "flights": [],  # data of the example, which the wheel does not hold
}
CASES = [(extra, missing, door) for extra, doors in DOORS.items() for missing, door in doors]

PROGRAM = """
import json, os, sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

missing, door = sys.argv[1].split(), sys.argv[2]
sys.modules.update(dict.fromkeys(missing))  # None: an import of it fails, as of what is not there
os.environ["WAREHOUSE"] = "postgresql://127.0.0.1:1/db"
START = datetime(2024, 1, 1, tzinfo=UTC)
from click import ClickException
from feature_store import FeatureStore
from feature_store.cli.app import cli
from feature_store.errors import FeatureStoreError
from feature_store.partitions import Window
from feature_store.sources.delta import DeltaSource
from feature_store.sources.iceberg import IcebergSource
from feature_store.sources.query import SqlSource
if "Decoder" in door:
    from feature_store.streaming.decoding import EventDecoder
NAMED = {"name": "t", "start": START, "time_column": "at"}
SQL = {**NAMED, "query": "select 1", "url_variable": "WAREHOUSE"}
DAY = Window(START, START + timedelta(days=1))
try:
    exec(door)
except (FeatureStoreError, ClickException) as error:
    print(json.dumps(str(error)))
"""


def told(missing: str, door: str, folder: Path) -> str:
    """Returns the error at a door, in a process that lacks packages."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("FEATURE_STORE_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, missing, door],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_extra_is_looked_at():
    assert set(DOORS) == set(EXTRAS)


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "missing", "door"), CASES)
def test_a_missing_package_is_named_with_its_extra(extra, missing, door, tmp_path):
    error = told(missing, door, tmp_path)
    assert f"pip install 'feature-store[{extra}]'" in error
    # The registry takes either driver, and names none.
    assert missing == "psycopg psycopg2" or repr(missing) in error


@pytest.mark.slow
def test_no_extra_is_named_for_a_driver_of_the_users_own(tmp_path):
    error = told("mine", "SqlSource(**SQL, driver='mine.dbapi').scan(DAY).collect()", tmp_path)
    assert "'mine'" in error
    assert "feature-store[" not in error


def written() -> dict[str, list[str]]:
    """Returns the extras that are named anywhere, by file."""
    places = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile"]
    for folder in ("docs", "deploy", "feature_store", "dagster_feature_store", "feature_assets"):
        places += [path for path in (ROOT / folder).rglob("*") if path.suffix in {".md", ".py", ".toml", ".yaml", ""}]
    found = {}
    for path in filter(Path.is_file, places):
        names = re.findall(r"feature-store\[([a-z0-9, -]+)\]", path.read_text(errors="ignore"))
        names += re.findall(r"extras? `([a-z0-9-]+)`", path.read_text(errors="ignore"))
        if names:
            found[str(path.relative_to(ROOT))] = [name.strip() for text in names for name in text.split(",")]
    return found


def test_the_extras_that_are_named_are_there():
    found = written()
    assert {
        "docs/spark.md",
        "docs/dagster.md",
        "docs/serving.md",
        "feature_store/scaffold/project/pyproject.toml",
    } <= set(found)
    assert {place: names for place, names in found.items() if not set(names) <= set(EXTRAS)} == {}
