"""The same code location on servers: Dagster's records and the registry in PostgreSQL, history in S3."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import yaml
from dagster_duckdb import DuckDBResource

from dagster_feature_store import feature_store_definitions
from dagster_feature_store.resources.feature_store import FeatureStoreResource
from tests.dagster.test_feature_group_assets import RANGE, materializations, run
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import BUCKET

SETTINGS = Path(__file__).parents[2] / "deploy" / "dagster.yaml"


def test_a_range_runs_on_postgresql_and_s3(domain, postgres: PostgresServer, s3_root, redis_url, tmp_path, monkeypatch):
    url = postgres.create_database().replace("postgresql://", "postgresql+psycopg2://")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    monkeypatch.setenv("DAGSTER_LOGS_BUCKET", BUCKET)
    monkeypatch.setenv("FEATURE_STORE_OFFLINE", s3_root)
    resource = FeatureStoreResource(
        overrides={"online": redis_url, "registry": postgres.create_database(), "clock": "2024-03-10T00:00:00Z"},
        duckdb=DuckDBResource(database=":memory:"),
    )
    defs = feature_store_definitions(domain, resources={"feature_store": resource})
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(SETTINGS.read_text())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = run(defs, instance, tags=RANGE)
        assert result.success
        assert {check.check_name for check in result.get_asset_check_evaluations()} >= {"schema", "row_count"}
        assert run(defs, instance, job="feature_store_purchase_training_set").success
    with dg.DagsterInstance.from_config(str(home)) as another_process:
        assert type(another_process.run_storage).__name__ == "PostgresRunStorage"
        assert len(materializations(another_process)) == 9
    with resource.open() as store:
        assert store.explain("c1", "amount_3d").status in {"present", "expired"}
        assert store.open_training_set("purchase").rows > 0
        assert str(store.offline.root) == s3_root
    assert not list(tmp_path.glob("**/*.parquet"))


def test_the_settings_need_nothing_but_the_environment():
    settings = yaml.safe_load(SETTINGS.read_text())
    assert settings["storage"]["postgres"]["postgres_url"] == {"env": "DAGSTER_POSTGRES_URL"}
    assert settings["compute_logs"]["config"]["bucket"] == {"env": "DAGSTER_LOGS_BUCKET"}
