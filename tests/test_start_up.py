"""What a process that only starts does not import: a code location is loaded by every step, the command line by hand.

How long a start takes is a matter of the machine; which modules it waits for is not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What only computing, validating, storing or serving needs, and takes a twentieth of a second or more to import.
HEAVY = (
    *("pandas", "pandera", "duckdb", "numpy", "pyarrow", "redis", "httpx", "rich", "pyspark"),
    *("alembic", "boto3", "botocore", "obstore", "deltalake", "pyiceberg", "dagster_aws", "dagster_duckdb"),
    *("confluent_kafka", "fastavro", "prometheus_client", "starlette", "uvicorn"),
)
OF_DAGSTER = ("dagster._core.execution.backfill", "dagster._core.workspace.context")
OURS = (
    *("feature_store.changes.write_path", "feature_store.offline.store", "feature_store.online.store"),
    *("feature_store.registry.registry", "feature_store.transform.materialization", "feature_store.monitoring.checks"),
)
LOCATION = (*HEAVY, *OF_DAGSTER, *OURS, "sqlalchemy")
COMMAND = (*(name for name in HEAVY if name != "rich"), "polars", "dagster")


def imported(program: str, among: tuple[str, ...], *arguments: str) -> set[str]:
    """Returns which modules a new process has imported at the end of a program."""
    code = f"import sys\n{program}\nprint('imported:', *{set(among)!r} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("imported:")[2].split())


def test_a_code_location_loads_without_what_its_runs_need():
    assert imported("import feature_assets.definitions", LOCATION) == set()


@pytest.mark.usefixtures("registered")
def test_a_list_needs_the_registry_alone():
    program = """
from feature_store.cli.app import cli
try:
    cli(["list"])
except SystemExit as end:
    assert end.code == 0
"""
    assert imported(program, COMMAND) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("import dagster, feature_store.definitions.schema_library", "pandera"),
        ("import dagster_feature_store.compat_backfills", OF_DAGSTER[0]),
        ("import feature_store.store.writes", "feature_store.changes.write_path"),
    ],
)
def test_an_import_is_seen(program, module):
    assert module in imported(program, LOCATION)


@pytest.fixture
def registered(tmp_path, monkeypatch, store):
    """A registry that has been applied, which the settings of a process name."""
    from tests.orders import Orders, some_orders, spending

    store.apply([spending(Orders(some_orders()))])
    monkeypatch.setenv("FEATURE_STORE_REGISTRY", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setenv("FEATURE_STORE_OFFLINE", str(tmp_path / "offline"))
