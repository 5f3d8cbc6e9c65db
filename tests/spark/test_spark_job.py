"""A group's asset on Spark: the run launches a job through Pipes, and reports what the job has written."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import boto3
import dagster as dg
import polars as pl
import pytest
from dagster_aws.pipes import PipesS3ContextInjector, PipesS3MessageReader
from dagster_duckdb import DuckDBResource

from dagster_feature_store import feature_store_definitions
from dagster_feature_store.resources.feature_store import FeatureStoreResource
from dagster_feature_store.resources.spark import SparkJobsResource
from feature_store.offline.footers import file_metadata
from tests.cli import shop
from tests.servers.s3 import BUCKET, S3Server
from tests.spark import refused_shop

CONF = (
    "spark.master=local[2] spark.ui.enabled=false spark.driver.bindAddress=127.0.0.1 spark.driver.host=127.0.0.1 "
    "spark.sql.shuffle.partitions=2"
)

pytestmark = [
    pytest.mark.needs_spark,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java"),
]


@pytest.fixture
def resources(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setenv("FEATURE_STORE_ENGINE", "spark")
    return {
        "feature_store": FeatureStoreResource(
            overrides={
                "offline": str(tmp_path / "offline"),
                "online": redis_url,
                "registry": f"sqlite:///{tmp_path / 'registry.db'}",
                "clock": "2024-03-10T00:00:00Z",
            },
            duckdb=DuckDBResource(database=":memory:"),
        ),
    }


class ThroughS3(SparkJobsResource):
    """As a launcher for a service does: what is told, and what is reported, goes through a bucket."""

    def launch(self, context, module, environment, extras):
        s3 = boto3.client("s3")
        client = dg.PipesSubprocessClient(
            env={**environment, "FEATURE_STORE_SPARK_CONF": self.conf},
            context_injector=PipesS3ContextInjector(bucket=BUCKET, client=s3),
            message_reader=PipesS3MessageReader(bucket=BUCKET, client=s3, interval=1),
        )
        return client.run(context=context, command=[sys.executable, "-m", module], extras=extras)


def run(
    domain: ModuleType,
    resources: dict[str, object],
    instance: dg.DagsterInstance,
    launcher: type[SparkJobsResource] = SparkJobsResource,
) -> dg.ExecuteInProcessResult:
    jobs = launcher(conf=CONF, definitions=domain.__name__)
    defs = feature_store_definitions(domain, resources={**resources, "feature_store_spark": jobs})
    tags = {"dagster/asset_partition_range_start": "2024-03-03", "dagster/asset_partition_range_end": "2024-03-06"}
    return defs.resolve_job_def("feature_store_features").execute_in_process(
        instance=instance, tags=tags, asset_selection=[dg.AssetKey("spending")], raise_on_error=False
    )


def test_a_run_reports_each_partition_that_its_spark_job_has_written(tmp_path, resources, capfd):
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        result = run(shop, resources, instance)
        assert result.success
        records = instance.fetch_materializations(dg.AssetKey("spending"), limit=10).records
        by_key = {record.partition_key: record.asset_materialization.metadata for record in records}
        checks = [event for event in result.all_events if event.event_type_value == "ASSET_CHECK_EVALUATION"]
        logs = "\n".join(event.user_message for event in instance.all_logs(result.run_id))
    assert sorted(by_key) == ["2024-03-03", "2024-03-04", "2024-03-05", "2024-03-06"]
    for key, metadata in by_key.items():
        file = tmp_path / "offline" / "spending" / f"date={key}" / "batch.parquet"
        assert metadata["dagster/partition_row_count"].value == pl.read_parquet(file).height > 0
        assert file_metadata(file)["run_id"] == result.run_id
    assert checks
    assert "spending: 2024-03-03 to 2024-03-06 on Spark" in logs
    resource = resources["feature_store"]
    assert isinstance(resource, FeatureStoreResource)
    with resource.open() as store:
        assert store.get_online_features("c1", ["last_amount"])["last_amount"] is not None


@pytest.mark.long
def test_refused_rows_fail_the_run_and_name_the_partition(tmp_path, resources):
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        result = run(refused_shop, resources, instance)
        errors = "\n".join(str(event.event_specific_data) for event in result.all_events if event.is_step_failure)
    assert not result.success
    assert "partition 2024-03-05, were refused" in errors


@pytest.mark.long
def test_a_launcher_may_send_and_receive_through_s3(tmp_path, resources, monkeypatch):
    with S3Server() as s3, dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        result = run(shop, resources, instance, ThroughS3)
        assert result.success
        assert len(instance.fetch_materializations(dg.AssetKey("spending"), limit=10).records) == 4
