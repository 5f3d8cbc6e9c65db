"""The feature store is added to a project of others: it takes nothing over, and both run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).with_name("foreign_project")
ROOT = PROJECT.parents[2]
COMPONENT = """\
type: dagster_feature_store.FeatureStoreComponent

attributes:
  module: features
  asset_key_prefix: [shop]
"""
LOOK = """
import dagster as dg
import definitions, resources, sensors
repository = definitions.defs.get_repository_def()
assert resources.WAREHOUSE == "the project's"
assert repository.get_job("features").executor_def.name == "multiprocess"
assert repository.get_job("freshness").executor_def.name == "multiprocess"
assert repository.get_job("shop_features").executor_def.name == "in_process"
ours = {name for name in repository.job_names if name.startswith("shop_")}
assert set(repository.job_names) - ours == {"features", "freshness", "__ASSET_JOB"}
assert {s.name for s in repository.sensor_defs if not s.name.startswith("shop_")} == {"landing_sensor"}
keys = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
assert keys == {"raw_purchases", "report", "shop/shop_alerts", "shop/spending"}, keys
assert repository.asset_graph.get(dg.AssetKey(["shop", "spending"])).parent_keys == {dg.AssetKey("raw_purchases")}
groups = {node.group_name for node in repository.asset_graph.asset_nodes}
assert groups == {"default", "shop_features", "shop_monitoring"}, groups
ops = {op.name for job in repository.get_all_jobs() for op in job.all_node_defs}
assert {op for op in ops if not op.startswith("shop_")} == {"look", "raw_purchases", "report"}, ops
added = definitions.added()
assert set(added.resources) == {"shop", "shop_alerts"}
assert added.executor is None and not added.loggers
"""


@pytest.fixture
def project(tmp_path: Path, redis_url: str):
    """Runs words in the project's folder, on stores of its own; checks their exit code."""
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__init__.py", "__pycache__"))
    (tmp_path / "home").mkdir()
    settings = {
        "FEATURE_STORE_OFFLINE": str(tmp_path / "offline"),
        "FEATURE_STORE_ONLINE": redis_url,
        "FEATURE_STORE_REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
        "FEATURE_STORE_CLOCK": "2024-03-08T00:00:00Z",
        "FEATURE_STORE_DEFINITIONS": "features",
        "DAGSTER_HOME": str(tmp_path / "home"),
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FEATURE_STORE_")}

    def run(*words: str) -> str:
        program = Path(sys.executable).with_name(words[0])
        # What the checkout has in its own folder must not be found: the project's modules have the same names.
        env = {**inherited, **settings, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": ""}
        done = subprocess.run([program, *words[1:]], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run.folder = folder
    return run


def test_it_takes_nothing_over(project):
    project("python", "-c", LOOK)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_both_run(project):
    materialize = ["dagster", "asset", "materialize", "-f", "definitions.py", "--select"]
    project(*materialize, "raw_purchases,shop/spending", "--partition-range", "2024-03-01...2024-03-07")
    project(*materialize, "report", "--partition", "2024-03-05")
    assert (project.folder / "texts" / "report-2024-03-05").read_text() == "2"
    assert "amount_2d" in project("feature-store", "get", "ann", "spending")


@pytest.mark.slow
def test_a_component_in_a_defs_folder(project):
    folder = project.folder
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1"\n\n'
        '[tool.dg]\ndirectory_type = "project"\n\n'
        '[tool.dg.project]\nroot_module = "shop"\npython_environment = "active"\n'
    )
    defs = folder / "src" / "shop" / "defs" / "features"
    defs.mkdir(parents=True)
    (defs / "defs.yaml").write_text(COMPONENT)
    (folder / "src" / "shop" / "__init__.py").touch()
    (folder / "src" / "shop" / "definitions.py").write_text(
        "from pathlib import Path\n\nimport dagster as dg\n\n\n"
        "@dg.definitions\ndef defs():\n    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    script = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from shop.definitions import defs\n"
        "keys = {key.to_user_string() for key in defs().get_repository_def().asset_graph.get_all_asset_keys()}\n"
        "assert keys == {'shop/purchases', 'shop/feature_store_alerts', 'shop/spending'}, keys\n"
    )
    project("python", "-c", script)
